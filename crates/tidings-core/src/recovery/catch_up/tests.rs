//! Each step of catching up by itself; all of them together are in `recovery::tests`.

use super::*;

const PATIENCE_MS: u64 = 1_000;

fn reach(ring: i64, live: i64) -> Reach {
    Reach { live, ring, archive: Archive::Store }
}

fn step(catch_up: &mut CatchUp, reach: Reach, now_ms: u64) -> Step {
    catch_up.step(reach, now_ms, PATIENCE_MS)
}

/// Everything up to `to`, of which `last` was the last.
fn page(last: Option<i64>, whole_to: Option<i64>) -> Page {
    Page { last, whole_to }
}

fn lost_in_ring(loss: Loss) -> Step {
    Step::Lose { loss, newest: Newest::Ring }
}

#[test]
fn the_ring_is_taken_as_far_back_as_it_reaches_and_the_store_before_it() {
    let mut catch_up = CatchUp::new(5, 20);
    assert_eq!(step(&mut catch_up, reach(10, 20), 0), Step::Store { from: 5, until: 10 });
    catch_up.asked(10);
    assert_eq!(step(&mut catch_up, reach(10, 20), 0), Step::Wait);
    catch_up.answered(Answer::Page(page(Some(8), Some(12))), 0);
    assert_eq!(step(&mut catch_up, reach(10, 20), 0), Step::Ring { from: 10 });
    catch_up.sent(page(Some(15), None));
    assert_eq!(step(&mut catch_up, reach(10, 20), 0), Step::Ring { from: 16 });
    catch_up.sent(page(None, Some(20)));
    assert_eq!(step(&mut catch_up, reach(10, 20), 0), Step::Level);
    assert_eq!(step(&mut catch_up, reach(10, 21), 0), Step::Ring { from: 20 }, "live delivery went on meanwhile");
}

#[test]
fn a_position_past_the_live_end_of_this_node_is_level_at_once() {
    assert_eq!(step(&mut CatchUp::new(25, 20), reach(10, 20), 0), Step::Level);
}

#[test]
fn what_the_ring_loses_meanwhile_comes_from_the_store() {
    let mut catch_up = CatchUp::new(12, 20);
    assert_eq!(step(&mut catch_up, reach(10, 20), 0), Step::Ring { from: 12 });
    assert_eq!(step(&mut catch_up, reach(13, 30), 0), Step::Store { from: 12, until: 13 });
    let without = Reach { archive: Archive::None, ..reach(13, 30) };
    assert_eq!(step(&mut catch_up, without, 0), lost_in_ring(Loss::Forgotten));
}

#[test]
fn a_store_that_is_needed_has_its_time_from_then_on_whether_or_not_there_is_a_place_to_ask_it() {
    let mut catch_up = CatchUp::new(5, 20);
    assert_eq!(catch_up.deadline_ms(), None);
    for now_ms in [100, 1_099] {
        assert!(matches!(step(&mut catch_up, reach(10, 20), now_ms), Step::Store { .. }), "nobody was asked yet");
        assert_eq!(catch_up.deadline_ms(), Some(1_100));
    }
    assert_eq!(step(&mut catch_up, reach(10, 20), 1_100), lost_in_ring(Loss::Unanswered));
}

#[test]
fn who_waits_in_a_line_that_moves_is_not_given_up_and_who_was_answered_is() {
    let mut catch_up = CatchUp::new(5, 20);
    step(&mut catch_up, reach(10, 20), 100);
    catch_up.queued(900, PATIENCE_MS);
    assert!(matches!(step(&mut catch_up, reach(10, 20), 1_899), Step::Store { .. }));
    assert_eq!(step(&mut catch_up, reach(10, 20), 1_900), lost_in_ring(Loss::Unanswered), "it moves no more");
    let mut behind = CatchUp::new(5, 20);
    step(&mut behind, reach(10, 20), 100);
    behind.answered(Answer::Page(page(None, Some(5))), 200);
    behind.queued(900, PATIENCE_MS);
    assert_eq!(step(&mut behind, reach(10, 20), 1_100), lost_in_ring(Loss::Behind));
}

#[test]
fn a_store_that_hangs_is_given_up_when_its_time_is_over() {
    let mut catch_up = CatchUp::new(5, 20);
    step(&mut catch_up, reach(10, 20), 100);
    catch_up.asked(10);
    catch_up.answered(Answer::Nothing, 1_100);
    assert_eq!(step(&mut catch_up, reach(10, 20), 1_100), lost_in_ring(Loss::Unanswered));
}

#[test]
fn a_projection_that_lags_is_waited_for_and_then_given_up() {
    let mut catch_up = CatchUp::new(5, 20);
    step(&mut catch_up, reach(10, 20), 100);
    catch_up.answered(Answer::Page(page(None, Some(5))), 120);
    assert_eq!(step(&mut catch_up, reach(10, 20), 120 + AGAIN_MS - 1), Step::Wait);
    assert_eq!(step(&mut catch_up, reach(10, 20), 120 + AGAIN_MS), Step::Store { from: 5, until: 10 });
    catch_up.answered(Answer::Page(page(None, Some(3))), 1_099);
    assert_eq!(step(&mut catch_up, reach(10, 20), 1_100), lost_in_ring(Loss::Behind));
}

#[test]
fn a_projection_that_comes_on_is_given_its_time_anew() {
    let mut catch_up = CatchUp::new(5, 20);
    step(&mut catch_up, reach(10, 20), 0);
    catch_up.answered(Answer::Nothing, 0);
    catch_up.answered(Answer::Page(page(None, Some(6))), 900);
    assert_eq!(step(&mut catch_up, reach(10, 20), 1_000), Step::Store { from: 6, until: 10 });
    catch_up.answered(Answer::Nothing, 1_000);
    assert!(matches!(step(&mut catch_up, reach(10, 20), 1_999), Step::Store { from: 6, .. }));
    assert_eq!(step(&mut catch_up, reach(10, 20), 2_000), lost_in_ring(Loss::Unanswered));
}

#[test]
fn an_answer_that_there_was_no_room_for_is_not_held_against_the_store() {
    let mut catch_up = CatchUp::new(5, 20);
    step(&mut catch_up, reach(10, 20), 0);
    catch_up.asked(10);
    catch_up.postponed();
    assert_eq!(step(&mut catch_up, reach(10, 20), 5_000), Step::Store { from: 5, until: 10 });
    assert_eq!(catch_up.deadline_ms(), Some(6_000));
}

#[test]
fn holes_are_told_one_by_one_and_together_at_the_end() {
    let mut catch_up = CatchUp::new(5, 20);
    assert_eq!(catch_up.cut(5), None, "what begins at the edge misses nothing");
    assert_eq!(catch_up.cut(8), Some(Truncated { from: 5, to: 8 }));
    catch_up.answered(Answer::Page(page(Some(9), None)), 0);
    assert_eq!(catch_up.cut(12), Some(Truncated { from: 10, to: 12 }));
    assert_eq!((catch_up.next(), catch_up.truncated()), (12, Some(Truncated { from: 5, to: 12 })));
}

#[test]
fn what_the_store_has_trimmed_is_no_hole_where_the_ring_has_it() {
    let mut catch_up = CatchUp::new(5, 20);
    catch_up.asked(10);
    let hole = catch_up.cut(15);
    assert_eq!(hole.map(|hole| hole.to), Some(10));
    catch_up.answered(Answer::Page(page(None, Some(18))), 0);
    assert_eq!(step(&mut catch_up, reach(10, 20), 0), Step::Ring { from: 10 });
}

#[test]
fn the_store_is_asked_for_the_newest_only_if_it_is_not_what_failed_and_has_time() {
    let newest = |loss| match step(&mut CatchUp::lost(loss, 0), reach(0, 0), 0) {
        Step::Lose { newest, .. } => newest,
        other => panic!("{other:?}"),
    };
    assert_eq!([Loss::Epoch, Loss::Beyond].map(newest), [Newest::Store; 2]);
    assert_eq!([Loss::Forgotten, Loss::Behind, Loss::Unanswered].map(newest), [Newest::Ring; 3]);
    let mut catch_up = CatchUp::lost(Loss::Epoch, 0);
    assert_eq!(step(&mut catch_up, reach(0, 0), 0), Step::Lose { loss: Loss::Epoch, newest: Newest::Store });
    assert_eq!(step(&mut catch_up, reach(0, 0), PATIENCE_MS), lost_in_ring(Loss::Epoch), "there was never a place to ask");
}

#[test]
fn who_lost_its_place_goes_on_where_the_newest_begin_and_lacks_nothing_that_came_since_it_joined() {
    let restarted = |newest, reach| {
        let mut catch_up = CatchUp::lost(Loss::Epoch, 30);
        (catch_up.restart(newest, reach, Loss::Epoch), catch_up.loss())
    };
    let lost = Some(Loss::Epoch);
    assert_eq!(restarted(Some(4), reach(10, 40)), (4, lost), "newest that only the store has");
    assert_eq!(restarted(Some(35), reach(10, 40)), (30, lost), "more than the newest came meanwhile");
    assert_eq!(restarted(None, reach(10, 40)), (30, lost));
    assert_eq!(restarted(None, reach(34, 40)), (34, lost), "the ring has lost some of it");
}

#[test]
fn who_loses_its_place_never_goes_back_behind_what_it_was_sent_and_a_second_time_goes_on_live() {
    let mut catch_up = CatchUp::new(5, 20);
    catch_up.sent(page(Some(25), None));
    assert_eq!(catch_up.restart(Some(20), reach(22, 40), Loss::Behind), 26);
    assert_eq!(catch_up.restart(Some(30), reach(28, 50), Loss::Behind), 50);
}
