//! The breaker: when it opens, what a trial decides, and records whose outcome turns.

use proptest::prelude::*;

use super::*;

fn limits(in_a_row: u32, window: u32, share_percent: u8, trial: u32) -> Limits {
    let number = |number| NonZeroU32::new(number).unwrap();
    Limits { in_a_row: number(in_a_row), window: number(window), share_percent, trial: number(trial) }
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (1..20_u32, 1..200_u32, 0..=100_u8, 1..12_u32).prop_map(|(row, window, share, trial)| limits(row, window, share, trial))
}

fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    let outcome = |weight| prop_oneof![weight => Just(Outcome::Buried), 10 => Just(Outcome::Fine)];
    (1..200_u32).prop_flat_map(move |weight| prop::collection::vec(outcome(weight), 1..500))
}

fn buried(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| **outcome == Outcome::Buried).count()
}

/// Whether the last of `outcomes` is too much, by definition.
fn is_too_much(limits: &Limits, outcomes: &[Outcome]) -> bool {
    let row = outcomes.iter().rev().take_while(|outcome| **outcome == Outcome::Buried).count();
    let window = limits.window.get() as usize;
    let last = outcomes.len().checked_sub(window).map(|from| &outcomes[from..]);
    row >= limits.in_a_row.get() as usize
        || last.is_some_and(|last| buried(last) * 100 > window * usize::from(limits.share_percent))
}

proptest! {
    #[test]
    fn it_opens_at_the_first_outcome_that_is_too_much_and_not_before(limits in any_limits(), outcomes in outcomes()) {
        let mut breaker = Breaker::new(limits);
        for count in 1..=outcomes.len() {
            let trip = breaker.note(outcomes[count - 1]);
            prop_assert_eq!(trip.is_some(), is_too_much(&limits, &outcomes[..count]), "after {} of {:?}", count, outcomes);
            if trip.is_some() {
                prop_assert_eq!(breaker.phase(), Phase::Open);
                break;
            }
        }
    }

    #[test]
    fn outcomes_that_are_known_late_open_it_for_the_same_share(limits in any_limits(), outcomes in outcomes()) {
        // Not for a row: what is known late has a row of its own.
        let limits = Limits { in_a_row: NonZeroU32::MAX, ..limits };
        let (mut early, mut late) = (Breaker::new(limits), Breaker::new(limits));
        for outcome in outcomes {
            let expected = early.note(outcome);
            // Enough may be known already when it is expected.
            let trip = late.expect().or_else(|| late.settle(outcome));
            prop_assert_eq!(trip.is_some(), expected.is_some());
            if trip.is_some() {
                break;
            }
            prop_assert_eq!(late.window.buried, early.window.buried);
        }
    }

    #[test]
    fn good_outcomes_of_calm_times_count_as_if_each_was_noted(limits in any_limits(), calm in 0..1_000_u64, outcomes in outcomes()) {
        let (mut each, mut together) = (Breaker::new(limits), Breaker::new(limits));
        for _ in 0..calm {
            prop_assert!(each.is_calm());
            prop_assert_eq!(each.note(Outcome::Fine), None);
        }
        together.note_calm(calm);
        for outcome in outcomes {
            prop_assert_eq!(together.note(outcome), each.note(outcome));
            prop_assert_eq!(together.is_calm(), each.is_calm());
        }
    }

    #[test]
    fn while_it_is_open_nothing_counts(limits in any_limits(), outcomes in outcomes()) {
        let mut breaker = Breaker { phase: Phase::Open, ..Breaker::new(limits) };
        for outcome in outcomes {
            prop_assert_eq!(breaker.note(outcome), None);
            prop_assert_eq!(breaker.phase(), Phase::Open);
        }
    }

    #[test]
    fn a_trial_ends_within_its_outcomes_and_closes_only_if_few_enough_were_buried(
        limits in any_limits(),
        outcomes in outcomes(),
    ) {
        let mut breaker = Breaker { phase: Phase::Open, ..Breaker::new(limits) };
        breaker.try_again();
        let trial = limits.trial.get() as usize;
        let mut used = 0;
        for outcome in outcomes.iter().take(trial) {
            used += 1;
            breaker.note(*outcome);
            if breaker.phase() != Phase::Trial {
                break;
            }
        }
        let bad = buried(&outcomes[..used]);
        match breaker.phase() {
            Phase::Trial => prop_assert!(used < trial),
            Phase::Closed => {
                prop_assert_eq!(used, trial);
                prop_assert!(bad * 100 <= trial * usize::from(limits.share_percent) && bad < trial);
            }
            Phase::Open => prop_assert!(bad * 100 > trial * usize::from(limits.share_percent) || bad == trial),
        }
    }
}

#[test]
fn after_a_good_trial_it_begins_to_count_anew() {
    let mut breaker = Breaker::new(limits(3, 4, 50, 2));
    let note = |breaker: &mut Breaker, outcomes: &[Outcome]| outcomes.iter().find_map(|outcome| breaker.note(*outcome));
    use Outcome::{Buried, Fine};
    assert_eq!(note(&mut breaker, &[Buried; 3]), Some(Trip::InARow { buried: 3 }));
    breaker.try_again();
    assert_eq!(note(&mut breaker, &[Buried, Buried]), Some(Trip::Trial { buried: 2, of: 2 }));
    breaker.try_again();
    assert_eq!(note(&mut breaker, &[Fine, Buried, Buried, Fine, Fine, Buried]), None);
    assert_eq!(note(&mut breaker, &[Buried, Fine, Buried]), Some(Trip::Share { buried: 3, of: 4 }));
}

#[test]
fn records_that_are_refused_behind_each_other_open_it_though_all_of_them_were_taken_for_fine() {
    let mut breaker = Breaker::new(limits(3, 1_000, 50, 2));
    for _ in 0..20 {
        assert_eq!(breaker.expect(), None);
    }
    use Outcome::{Buried, Fine};
    let trips = [Buried, Buried, Fine, Buried, Buried].map(|outcome| breaker.settle(outcome));
    assert_eq!(trips, [None; 5]);
    assert!(!breaker.is_calm());
    assert_eq!(breaker.settle(Buried), Some(Trip::InARow { buried: 3 }));
    breaker.try_again();
    assert_eq!((breaker.expect(), breaker.expect(), breaker.phase()), (None, None, Phase::Trial), "nothing is known yet");
    assert_eq!((breaker.settle(Fine), breaker.settle(Fine), breaker.phase()), (None, None, Phase::Closed));
}

#[test]
fn why_it_opened_reads_as_a_sentence() {
    let trips = [Trip::InARow { buried: 5 }, Trip::Share { buried: 6, of: 10 }, Trip::Trial { buried: 2, of: 3 }];
    insta::assert_snapshot!(trips.map(|trip| trip.to_string()).join("\n"), @r"
    5 records in a row were buried
    6 of the last 10 records were buried
    2 of 3 records that were tried were buried again
    ");
}
