//! kill -9 at drawn moments: of each role as a process of its own, and of a process with all roles.

use rand::seq::SliceRandom as _;

use crate::crew::WHOLE;
use crate::harness::world::World;
use crate::load::{hurried, with_rules};
use crate::trial::{Trial, rounds};

const EACH: [&[&str]; 4] = [&["pipeline"], &["gateway"], &["inbox"], &["courier"]];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_is_killed_with_something_in_hand_and_every_event_is_accounted_for() {
    let mut trial = Trial::begin("kill -9 of each role", with_rules(World::with(hurried).await), &EACH).await;
    for _ in 0..rounds() {
        let mut order = EACH;
        order.shuffle(trial.random());
        for roles in order {
            let number = trial.crew.of(roles);
            trial.kill(number).await;
        }
    }
    trial.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_all_roles_is_killed_with_something_in_hand_and_every_event_is_accounted_for() {
    let mut trial = Trial::begin("kill -9 of the whole process", with_rules(World::with(hurried).await), &[WHOLE]).await;
    for _ in 0..3 * rounds() {
        trial.kill(0).await;
    }
    trial.settle().await;
}
