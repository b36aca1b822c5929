//! What acknowledgements cover, case by case and against a plain model.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const NAMES: usize = 8;
/// Where the ledger of the property begins.
const FROM: i64 = 5;

fn id(number: i64) -> NotificationId {
    NotificationId(Uuid::from_u128(number.unsigned_abs().into()))
}

fn sent(offsets: &[i64]) -> Ledger {
    let mut ledger = Ledger::new(10);
    for offset in offsets {
        ledger.sent(id(*offset), *offset, NAMES);
    }
    ledger
}

/// The offsets that an acknowledgement of one id delivers, if it is known.
fn acknowledge(ledger: &mut Ledger, id: NotificationId) -> Option<Stretches> {
    let (known, delivered) = ledger.acknowledge(&BTreeSet::from([id]));
    known.contains(&id).then_some(delivered)
}

fn pairs(stretches: &Stretches) -> Vec<(i64, i64)> {
    stretches.as_slice().iter().map(|stretch| (stretch.from, stretch.to)).collect()
}

#[test]
fn everything_before_a_position_but_the_exceptions_is_acknowledged() {
    let mut ledger = sent(&[11, 14, 17]);
    assert_eq!(pairs(&ledger.acknowledge_below(18, &[id(14)]).unwrap()), [(10, 14), (15, 18)]);
    assert_eq!(pairs(&acknowledge(&mut ledger, id(14)).unwrap()), [(14, 15)]);
}

#[test]
fn what_is_sent_after_a_probe_can_still_be_acknowledged_by_its_id() {
    let mut ledger = sent(&[11]);
    assert!(ledger.probe());
    ledger.sent(id(14), 14, NAMES);
    assert_eq!(pairs(&ledger.answered()), [(10, 12)]);
    assert_eq!(pairs(&acknowledge(&mut ledger, id(14)).unwrap()), [(14, 15)]);
}

#[test]
fn beyond_what_was_sent_nothing_is_acknowledged() {
    let mut ledger = sent(&[11]);
    assert_eq!(ledger.acknowledge_below(13, &[]), Err(AckError::Beyond { offset: 13, next: 12 }));
}

#[test]
fn an_unknown_exception_refuses_the_whole_acknowledgement() {
    let mut ledger = sent(&[11, 14]);
    assert_eq!(ledger.acknowledge_below(12, &[id(14)]), Err(AckError::Unknown { id: id(14) }));
    assert!(acknowledge(&mut ledger, id(11)).is_some());
}

#[test]
fn a_position_that_was_reached_without_a_notification_can_be_acknowledged() {
    let mut ledger = sent(&[11]);
    ledger.reached(20);
    ledger.reached(15);
    assert_eq!(ledger.next(), 20);
    assert_eq!(pairs(&ledger.acknowledge_below(20, &[]).unwrap()), [(10, 20)]);
    assert!(!ledger.probe());
    ledger.reached(30);
    assert!(!ledger.probe(), "who has handled everything has nothing to answer for");
}

#[test]
fn an_acknowledgement_that_goes_back_is_ignored() {
    let mut ledger = sent(&[11, 14]);
    ledger.acknowledge_below(15, &[]).unwrap();
    assert!(ledger.acknowledge_below(12, &[]).unwrap().is_empty());
}

#[test]
fn a_repeated_record_is_covered_by_the_acknowledgement_before_it() {
    let mut ledger = sent(&[11]);
    ledger.repeated(id(11), 13, NAMES);
    ledger.sent(id(16), 16, NAMES);
    assert_eq!(pairs(&ledger.acknowledge_below(12, &[]).unwrap()), [(10, 16)]);
}

#[test]
fn a_repeated_record_behind_everything_sent_is_covered_too() {
    let mut ledger = sent(&[11]);
    ledger.repeated(id(11), 13, NAMES);
    assert_eq!(pairs(&ledger.acknowledge_below(12, &[]).unwrap()), [(10, 14)]);
}

#[test]
fn a_redelivered_one_is_acknowledged_by_id_and_moves_no_position() {
    let mut ledger = sent(&[]);
    ledger.sent_again(id(3), 3);
    assert_eq!(ledger.next(), 10);
    assert_eq!(pairs(&acknowledge(&mut ledger, id(3)).unwrap()), [(3, 4)]);
    assert_eq!(acknowledge(&mut ledger, id(3)), None);
}

#[test]
fn ids_are_acknowledged_together_and_unknown_ones_left_out() {
    let mut ledger = sent(&[11, 14, 17]);
    let (known, delivered) = ledger.acknowledge(&[17, 3, 11].map(id).into());
    assert_eq!(known, [11, 17].map(id).into());
    assert_eq!(pairs(&delivered), [(11, 12), (17, 18)]);
}

#[test]
fn what_is_forgotten_can_be_acknowledged_by_its_position_only() {
    let mut ledger = sent(&[11, 14]);
    ledger.forget_oldest();
    assert_eq!(ledger.named(), 1);
    assert_eq!(acknowledge(&mut ledger, id(11)), None);
    assert_eq!(pairs(&ledger.acknowledge_below(12, &[]).unwrap()), [(10, 14)]);
}

#[test]
fn an_answer_covers_what_was_sent_before_the_question_only() {
    let mut ledger = sent(&[11]);
    ledger.sent_again(id(3), 3);
    assert!(ledger.probe());
    ledger.sent(id(14), 14, NAMES);
    assert_eq!(pairs(&ledger.answered()), [(3, 4), (10, 12)]);
    assert!(ledger.answered().is_empty());
    assert!(ledger.probe());
}

#[test]
fn an_answer_covers_no_redelivery_behind_the_question_whatever_was_acknowledged_meanwhile() {
    let mut ledger = sent(&[]);
    ledger.sent_again(id(3), 3);
    assert!(ledger.probe());
    assert!(acknowledge(&mut ledger, id(3)).is_some());
    ledger.sent_again(id(4), 4);
    assert!(!ledger.answered().contains(4));
    assert!(ledger.probe());
    assert_eq!(pairs(&ledger.answered()), [(4, 5)]);
}

#[test]
fn nothing_is_kept_once_everything_is_acknowledged() {
    let mut ledger = sent(&[11, 14]);
    ledger.acknowledge_below(15, &[]).unwrap();
    assert!(ledger.open.is_none());
    assert!(!ledger.probe());
}

#[test]
fn what_was_offered_reaches_from_joining_to_the_last_one_sent_whatever_comes_again() {
    let mut ledger = sent(&[11, 14]);
    ledger.sent(id(12), 12, NAMES);
    assert_eq!((ledger.from(), ledger.offered(), ledger.named()), (10, Stretch { from: 10, to: 15 }, 2));
}

#[test]
fn as_many_as_allowed_are_known_by_their_ids_and_the_oldest_are_not() {
    let mut ledger = sent(&[11, 12, 13, 14, 15, 16, 17, 18]);
    assert_eq!(ledger.named(), NAMES);
    ledger.sent(id(19), 19, NAMES);
    assert_eq!((ledger.named(), acknowledge(&mut ledger, id(11))), (NAMES, None));
    (0..=1024).for_each(|number| ledger.sent_again(id(number + 100), number));
    assert_eq!(acknowledge(&mut ledger, id(100)), None);
    assert!(acknowledge(&mut ledger, id(101)).is_some());
}

#[test]
fn the_same_position_again_acknowledges_what_was_excepted_before() {
    let mut ledger = sent(&[11, 14]);
    ledger.acknowledge_below(15, &[id(11)]).unwrap();
    assert!(ledger.acknowledge_below(15, &[]).unwrap().contains(11));
}

#[test]
fn what_was_sent_before_a_gap_can_be_acknowledged_behind_it_and_the_gap_itself_never() {
    let renewed = || {
        let mut ledger = sent(&[11, 14]);
        ledger.renew(30);
        ledger.sent(id(33), 33, NAMES);
        assert_eq!(ledger.offered(), Stretch { from: 30, to: 34 });
        ledger
    };
    assert_eq!(pairs(&acknowledge(&mut renewed(), id(14)).unwrap()), [(14, 15)]);
    let mut by_position = renewed();
    assert_eq!(pairs(&by_position.acknowledge_below(12, &[]).unwrap()), [(10, 14)]);
    assert_eq!(pairs(&by_position.acknowledge_below(34, &[id(14)]).unwrap()), [(10, 14), (30, 34)]);
    assert_eq!(pairs(&acknowledge(&mut by_position, id(14)).unwrap()), [(14, 15)]);
    assert!(by_position.open.is_none() && !by_position.probe());
    let mut by_answer = sent(&[11, 14]);
    by_answer.probe();
    by_answer.renew(30);
    by_answer.sent(id(33), 33, NAMES);
    assert_eq!(pairs(&by_answer.answered()), [(10, 15)], "the probe was before the gap");
    assert!(by_answer.probe());
    assert!(by_answer.answered().contains(33));
    assert!(by_answer.open.is_none() && !by_answer.probe());
}

#[test]
fn who_had_handled_everything_before_a_gap_has_nothing_to_answer_for() {
    let mut ledger = sent(&[11]);
    ledger.acknowledge_below(12, &[]).unwrap();
    ledger.renew(30);
    assert!(!ledger.probe() && ledger.open.is_none());
    let mut ledger = sent(&[11]);
    ledger.renew(30);
    assert_eq!(pairs(&ledger.acknowledge_below(30, &[]).unwrap()), [(10, 12)], "the position behind the gap");
    assert!(!ledger.probe() && ledger.open.is_none());
}

#[test]
fn a_ledger_that_goes_back_lets_what_comes_again_be_named_once() {
    let mut ledger = sent(&[11, 14]);
    ledger.renew(13);
    ledger.sent(id(14), 14, NAMES);
    assert_eq!(ledger.named(), 2);
    assert_eq!(pairs(&ledger.acknowledge_below(15, &[]).unwrap()), [(10, 15)]);
}

#[derive(Debug, Clone)]
enum Step {
    Send(i64),
    Renew(i64),
    Repeat(i64),
    Below {
        back: usize,
        except: usize,
    },
    ById(usize),
    /// Of what was sent before the connection.
    Again(i64),
    Probe,
    Answer,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..4_i64).prop_map(Step::Send),
        (1..4_i64).prop_map(Step::Repeat),
        (1..4_i64).prop_map(Step::Renew),
        (0..4_usize, 0..9_usize).prop_map(|(back, except)| Step::Below { back, except }),
        (0..9_usize).prop_map(Step::ById),
        (0..FROM).prop_map(Step::Again),
        Just(Step::Probe),
        Just(Step::Answer),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    /// What the client was shown is delivered exactly if the client said so.
    #[test]
    fn delivered_is_exactly_what_was_shown_and_acknowledged(steps in steps()) {
        let mut ledger = Ledger::new(FROM);
        let (mut shown, mut again) = (Vec::<i64>::new(), BTreeSet::<i64>::new());
        let (mut asked, mut said, mut delivered) = (None, BTreeSet::<i64>::new(), Stretches::new());
        let mut holes = BTreeSet::new();
        for step in steps {
            match step {
                Step::Send(gap) => {
                    let offset = ledger.next() + gap - 1;
                    ledger.sent(id(offset), offset, NAMES);
                    shown.push(offset);
                }
                Step::Renew(gap) => {
                    holes.extend(ledger.next()..ledger.next() + gap);
                    ledger.renew(ledger.next() + gap);
                }
                Step::Repeat(gap) => {
                    let Some(first) = shown.last() else { continue };
                    ledger.repeated(id(*first), ledger.next() + gap - 1, NAMES);
                }
                Step::Below { back, except } => {
                    let Some(index) = shown.len().checked_sub(back + 1) else { continue };
                    let exception = shown.get(except).copied();
                    let except = exception.map(id).into_iter().collect::<Vec<_>>();
                    let position = shown[index] + 1;
                    let answer = ledger.acknowledge_below(position, &except);
                    if let Ok(stretches) = answer {
                        if !stretches.is_empty() {
                            said.extend(shown.iter().filter(|offset| **offset < position && Some(**offset) != exception));
                        }
                        delivered.merge(&stretches);
                    }
                }
                Step::ById(index) => {
                    let Some(offset) = again.iter().chain(&shown).nth(index).copied() else { continue };
                    if let Some(stretches) = acknowledge(&mut ledger, id(offset)) {
                        said.insert(offset);
                        delivered.merge(&stretches);
                    }
                }
                Step::Again(offset) => {
                    ledger.sent_again(id(offset), offset);
                    again.insert(offset);
                }
                Step::Probe => {
                    if ledger.probe() {
                        asked = Some(shown.iter().chain(&again).copied().collect::<Vec<_>>());
                    }
                }
                Step::Answer => {
                    said.extend(asked.take().into_iter().flatten());
                    delivered.merge(&ledger.answered());
                }
            }
        }
        for hole in holes {
            prop_assert!(!delivered.contains(hole), "never sent: {}", hole);
        }
        for offset in again.into_iter().chain(shown) {
            prop_assert_eq!(delivered.contains(offset), said.contains(&offset), "offset {}", offset);
        }
        prop_assert!(delivered.end().is_none_or(|end| end <= ledger.next()));
    }
}
