//! How much a user may write over HTTP: a rate for each, on this node.
//!
//! Owns: who has written lately. A user who has not is not remembered, so no more are kept than write within the time in which a burst
//! is forgiven. Refuses to hold services and operators to it: they have a role, and are trusted with it.

use std::collections::HashMap;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tidings_core::ids::UserId;

use crate::clock::rate::{Allowance, Rate};
use crate::config::HttpConfig;
use crate::http::problem::Problem;

/// So many are kept before it is looked for the first time who need not be any more.
const KEPT: usize = 1_024;

/// The rates of all users.
pub(super) struct Rates {
    allowance: Allowance,
    /// Shared by all requests; held for one user, or for looking through all now and then.
    held: Mutex<Held>,
    refused: Counter,
}

struct Held {
    users: HashMap<UserId, Rate>,
    /// With so many it is looked again who need not be kept.
    look_at: usize,
}

impl Rates {
    pub(super) fn new(config: &HttpConfig) -> Self {
        let every = Duration::from_secs(1) / u32::try_from(config.writes_per_second.get()).unwrap_or(u32::MAX);
        let held = Held { users: HashMap::new(), look_at: KEPT };
        Self { allowance: Allowance::new(every, config.writes_burst.get()), held: Mutex::new(held), refused: Counter::default() }
    }

    /// The number of requests that were refused.
    pub(super) fn refused(&self) -> Counter {
        self.refused.clone()
    }

    /// Takes one request of a user that writes, or refuses it.
    pub(super) fn take(&self, user: &UserId, now: Duration) -> Result<(), Problem> {
        if self.held.lock().take(user, self.allowance, now) {
            return Ok(());
        }
        self.refused.inc();
        let detail = "this user writes more than `http.writes_per_second` and `http.writes_burst` allow; nothing was done: send it again in a moment";
        let problem = Problem::of("rate-limited", StatusCode::TOO_MANY_REQUESTS, detail);
        Err(problem.with(RETRY_AFTER, HeaderValue::from_static("1")))
    }
}

impl Held {
    fn take(&mut self, user: &UserId, allowance: Allowance, now: Duration) -> bool {
        if let Some(rate) = self.users.get_mut(user) {
            return rate.take_if_allowed(allowance, now);
        }
        if self.users.len() >= self.look_at {
            self.users.retain(|_, rate| !rate.is_unused(now));
            self.look_at = KEPT.max(self.users.len() * 2);
        }
        self.users.entry(user.clone()).or_default().take_if_allowed(allowance, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_rate_and_who_has_not_written_lately_is_forgotten() {
        let allowance = Allowance::new(Duration::from_millis(100), 2);
        let mut held = Held { users: HashMap::new(), look_at: KEPT };
        let user = |number: usize| format!("u-{number}").parse::<UserId>().unwrap();
        let at = Duration::from_millis;
        let mut take = |number, now| held.take(&user(number), allowance, at(now));
        assert_eq!([take(0, 0), take(0, 0), take(0, 0), take(1, 0)], [true, true, false, true]);
        assert!(take(0, 100), "one more after each interval");
        (2..KEPT).for_each(|number| assert!(take(number, 150)));
        assert!(take(KEPT, 10_000));
        assert_eq!(held.users.len(), 1);
    }
}
