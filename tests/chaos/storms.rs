//! A storm of rebalances: members of every group join and leave every second, properly or by SIGKILL.

use crate::crew::WHOLE;
use crate::harness::world::World;
use crate::load::{hurried, with_rules};
use crate::trial::{Trial, rounds};

const JOINS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_join_and_leave_every_second_cost_no_event() {
    let mut trial = Trial::begin("a storm of rebalances", with_rules(World::with(hurried).await), &[WHOLE]).await;
    let (mut killed, mut left) = (0, 0);
    for number in 0..JOINS * rounds() {
        trial.crew.join(WHOLE);
        trial.pause(500..1_500).await;
        if number % 2 == 1 {
            // The oldest: it had time to get partitions.
            if trial.draw(2) == 0 {
                trial.crew.kill(0);
                killed += 1;
            } else {
                trial.crew.dismiss(0).await;
                left += 1;
            }
        }
    }
    trial.note(format!("{} joined, {left} left, {killed} were killed", JOINS * rounds()));
    trial.crew.until_all_ready().await;
    while trial.crew.len() > 2 {
        trial.crew.dismiss(0).await;
    }
    trial.until_said(30).await;
    trial.settle().await;
}
