//! Faults, each under load, and behind each a ledger in which every event that was said is accounted for.
//!
//! `make test` runs the short form: each kind of fault once. `make chaos` runs all of them, several rounds each (`TIDINGS_CHAOS_ROUNDS`), and
//! prints the ledgers. Moments, members and users are drawn from the seed that is printed; `TIDINGS_TEST_SEED` gives it back. The harness
//! is that of `tests/it`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "these are tests")]

#[allow(dead_code, reason = "`tests/it` uses the rest of it")]
#[path = "../it"]
mod it {
    pub(crate) mod harness;
}

use it::harness;

mod crew;
mod devices;
mod evidence;
mod ledger;
mod load;
mod trial;

mod brokers;
mod clocks;
mod kills;
mod peers;
mod refusals;
mod stores;
mod storms;
