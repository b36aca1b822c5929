//! The sites of a registry: its URLs, which are asked one after the other until one has an answer.
//!
//! Owns: whose answer counts (decisions 41 and 45). What the registry itself says is the answer, also that it does not have a schema; one that is
//! away or busy, or is no registry, is passed over, and so is one that does not let us in, unless all say so: who is away may let us in once
//! it is back. Who answered last is asked first. Refuses to wait: `desk` asks again. Neighbour: `client`, which knows what is asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::SrSettings;
use schema_registry_converter::error::SRCError;

use super::super::error::RegistryError;
use super::Missed;

/// One URL.
pub(super) struct Site {
    pub(super) url: String,
    pub(super) settings: SrSettings,
}

pub(super) struct Sites {
    sites: Vec<Site>,
    /// Who has answered last. Shared by all requests that are under way.
    first: AtomicUsize,
}

/// What those have said that were passed over.
#[derive(Default)]
struct Passed {
    forbidden: Vec<(String, Forbidden)>,
    away: Vec<(String, String)>,
    again: Option<Duration>,
}

struct Forbidden {
    status: u16,
    told: String,
}

impl Sites {
    pub(super) fn new(sites: Vec<Site>) -> Self {
        Self { sites, first: AtomicUsize::new(0) }
    }

    /// The answer of the first site that has one; `means` says what a failure is.
    pub(super) async fn ask<T>(
        &self,
        call: impl AsyncFn(&SrSettings) -> Result<T, SRCError>,
        means: impl Fn(&SRCError) -> Missed,
    ) -> Result<T, Missed> {
        let first = self.first.load(Ordering::Relaxed);
        let mut passed = Passed::default();
        for turn in 0..self.sites.len() {
            let at = (first + turn) % self.sites.len();
            let site = &self.sites[at];
            let missed = match call(&site.settings).await {
                Ok(found) => {
                    self.answered(at, &passed);
                    return Ok(found);
                }
                Err(error) => means(&error),
            };
            let Some(answer) = passed.over(&site.url, missed) else { continue };
            // One that does not have it may only be behind: it is not the first that is asked the next time.
            if !matches!(answer, Missed::Unknown(_)) {
                self.answered(at, &passed);
            }
            return Err(answer);
        }
        Err(Missed::Failed(passed.summed()))
    }

    fn answered(&self, at: usize, passed: &Passed) {
        self.first.store(at, Ordering::Relaxed);
        for (refusing, Forbidden { status, told }) in &passed.forbidden {
            let url = &self.sites[at].url;
            tracing::warn!(
                status,
                told,
                refusing,
                answered = url,
                "one URL of the schema registry does not let us in; another one answers"
            );
        }
    }
}

impl Passed {
    /// Notes what a site says; gives it back if that is the answer.
    fn over(&mut self, url: &str, missed: Missed) -> Option<Missed> {
        match missed {
            Missed::Failed(RegistryError::Forbidden { status, told }) => {
                self.forbidden.push((url.to_owned(), Forbidden { status, told }));
            }
            Missed::Failed(RegistryError::Away { why, again }) => {
                self.again = [self.again, again].into_iter().flatten().min();
                self.away.push((url.to_owned(), why));
            }
            answer => return Some(answer),
        }
        None
    }

    /// What it comes to if nobody has an answer.
    fn summed(mut self) -> RegistryError {
        if self.away.is_empty() && !self.forbidden.is_empty() {
            let (url, Forbidden { status, told }) = self.forbidden.swap_remove(0);
            return RegistryError::Forbidden { status, told: format!("{told} ({url})") };
        }
        let refusing =
            |(url, Forbidden { status, told }): &(String, Forbidden)| format!("{url}: refuses us with {status}: {told}");
        let named = self.away.iter().map(|(url, why)| format!("{url}: {why}")).chain(self.forbidden.iter().map(refusing));
        let why = match (self.away.as_slice(), self.forbidden.as_slice()) {
            // Which one that is nobody asks where there is only one.
            ([(_, why)], []) => why.clone(),
            _ => named.collect::<Vec<_>>().join("; "),
        };
        RegistryError::Away { why, again: self.again }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(again: Option<u64>) -> Missed {
        Missed::Failed(RegistryError::Away { why: "503".to_owned(), again: again.map(Duration::from_secs) })
    }

    fn forbidden() -> Missed {
        Missed::Failed(RegistryError::Forbidden { status: 403, told: "not you".to_owned() })
    }

    #[test]
    fn an_answer_of_the_registry_counts_whoever_is_away() {
        let mut passed = Passed::default();
        assert!(passed.over("a", away(None)).is_none());
        let unknown = passed.over("b", Missed::Unknown("no such schema".to_owned()));
        assert!(matches!(unknown, Some(Missed::Unknown(_))));
        let refused = passed.over("c", Missed::Failed(RegistryError::TooLarge { limit: 1 }));
        assert!(matches!(refused, Some(Missed::Failed(RegistryError::TooLarge { .. }))));
    }

    #[test]
    fn who_does_not_let_us_in_counts_only_if_nobody_is_away_who_may() {
        for order in [[true, false], [false, true]] {
            let mut passed = Passed::default();
            for is_forbidden in order {
                assert!(passed.over("http://a", if is_forbidden { forbidden() } else { away(Some(3)) }).is_none());
            }
            let RegistryError::Away { why, again } = passed.summed() else { panic!("one of them may answer later") };
            assert_eq!(why, "http://a: 503; http://a: refuses us with 403: not you");
            assert_eq!(again, Some(Duration::from_secs(3)));
        }
        let mut passed = Passed::default();
        for url in ["http://a", "http://b"] {
            assert!(passed.over(url, forbidden()).is_none());
        }
        let RegistryError::Forbidden { status, told } = passed.summed() else { panic!("nobody lets us in") };
        assert_eq!((status, told.as_str()), (403, "not you (http://a)"));
    }

    #[test]
    fn of_several_that_are_away_each_is_named_and_the_earliest_hour_counts() {
        let mut passed = Passed::default();
        for (url, again) in [("http://a", Some(9)), ("http://b", None), ("http://c", Some(4))] {
            assert!(passed.over(url, away(again)).is_none());
        }
        let RegistryError::Away { why, again } = passed.summed() else { panic!("all are away") };
        assert_eq!((why.as_str(), again), ("http://a: 503; http://b: 503; http://c: 503", Some(Duration::from_secs(4))));
    }
}
