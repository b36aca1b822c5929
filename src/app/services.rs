//! The running services: who they are, and the order in which they end.
//!
//! Owns: every service's task and the tokens that stop them. A service that ends by itself, well or badly, is fatal for the
//! process. Refuses to know what a service does.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// When a service stops during a drain; the earlier ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Reads work in: pipeline and courier finish what they have read.
    Intake,
    /// Faces clients: the gateway tells them to come back.
    Door,
    /// Folds what the others wrote: the inbox.
    Fold,
    /// Lets others look: the listener and the probe.
    Watch,
}

/// All services of the process.
#[derive(Default)]
pub(super) struct Services {
    tasks: JoinSet<anyhow::Result<()>>,
    running: HashMap<Id, (&'static str, Stage)>,
    intake: CancellationToken,
    door: CancellationToken,
    fold: CancellationToken,
    watch: CancellationToken,
}

impl Services {
    /// Starts a service, given the token that will stop it.
    pub(super) fn start<F, E>(&mut self, name: &'static str, stage: Stage, service: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error> + Send + 'static,
    {
        let running = service(self.token(stage).clone());
        let task = self.tasks.spawn(async move { running.await.map_err(Into::into) });
        self.running.insert(task.id(), (name, stage));
    }

    /// Waits for a service to end although nobody asked it to, and says why. Without any service, waits for ever.
    pub(super) async fn failure(&mut self) -> anyhow::Error {
        match self.next_end().await {
            Some((name, Err(error))) => error.context(format!("the {name} failed")),
            Some((name, Ok(()))) => anyhow::anyhow!("the {name} ended although nothing stopped it"),
            None => std::future::pending().await,
        }
    }

    /// Stops everything within `limit` in all, stage by stage. A stage that is not done after half of the time that is left goes
    /// on while the next ones are stopped.
    pub(super) async fn drain(mut self, limit: Duration) -> anyhow::Result<()> {
        let clock = Clock::start();
        let mut outcome = Ok(());
        for stage in [Stage::Intake, Stage::Door, Stage::Fold, Stage::Watch] {
            self.token(stage).cancel();
            // With brokers away the intake may need all its time, and clients must be told to come back nevertheless.
            let share = limit.saturating_sub(clock.elapsed()) / 2;
            if timeout(share, self.ended(|running| running == stage, &mut outcome)).await.is_err() {
                tracing::warn!(?stage, "not finished in its share of the drain; the next stage is stopped meanwhile");
            }
        }
        let left = limit.saturating_sub(clock.elapsed());
        if timeout(left, self.ended(|_| true, &mut outcome)).await.is_ok() {
            return outcome;
        }
        let late = self.running.values().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        Err(anyhow::anyhow!("not finished within {limit:?}: {late}; what was open is read again at the next start"))
    }

    /// Waits until every service of these stages has ended, and keeps the first failure.
    async fn ended(&mut self, of: impl Fn(Stage) -> bool, outcome: &mut anyhow::Result<()>) {
        while self.running.values().any(|(_, stage)| of(*stage)) {
            let Some((name, end)) = self.next_end().await else { break };
            if let Err(error) = end {
                tracing::error!(service = name, error = format!("{error:#}"), "did not end well");
                if outcome.is_ok() {
                    *outcome = Err(error.context(format!("the {name} did not end well")));
                }
            }
        }
    }

    async fn next_end(&mut self) -> Option<(&'static str, anyhow::Result<()>)> {
        let (id, end) = match self.tasks.join_next_with_id().await? {
            Ok((id, end)) => (id, end),
            Err(error) => (error.id(), Err(panicked(error))),
        };
        let (name, _) = self.running.remove(&id)?;
        Some((name, end))
    }

    fn token(&self, stage: Stage) -> &CancellationToken {
        match stage {
            Stage::Intake => &self.intake,
            Stage::Door => &self.door,
            Stage::Fold => &self.fold,
            Stage::Watch => &self.watch,
        }
    }
}

fn panicked(error: JoinError) -> anyhow::Error {
    let said = error.try_into_panic().map(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
    });
    anyhow::anyhow!("{}", said.unwrap_or_else(|error| error.to_string())).context("a panic: this is a bug of tidings")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_that_ends_or_panics_is_a_failure_with_its_name() {
        let mut services = Services::default();
        services.start("inbox", Stage::Fold, |_| async { Ok::<_, anyhow::Error>(()) });
        assert!(services.failure().await.to_string().contains("the inbox ended"));
        services.start("courier", Stage::Intake, |_| async {
            if std::hint::black_box(true) {
                panic!("for the test");
            }
            Ok::<_, anyhow::Error>(())
        });
        let failure = format!("{:#}", services.failure().await);
        assert!(failure.contains("courier") && failure.contains("for the test"), "{failure}");
    }

    #[tokio::test]
    async fn a_drain_stops_the_stages_one_after_the_other() {
        let mut services = Services::default();
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        for (name, stage) in [("fold", Stage::Fold), ("intake", Stage::Intake), ("door", Stage::Door)] {
            let said = said.clone();
            services.start(name, stage, |stop| async move {
                stop.cancelled().await;
                tokio::task::yield_now().await;
                said.send(name).map_err(anyhow::Error::from)
            });
        }
        services.drain(Duration::from_secs(60)).await.unwrap();
        let order = [heard.recv().await, heard.recv().await, heard.recv().await];
        assert_eq!(order, [Some("intake"), Some("door"), Some("fold")]);
    }

    #[tokio::test]
    async fn a_stuck_intake_keeps_neither_door_nor_fold_from_being_stopped() {
        let mut services = Services::default();
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        services.start("pipeline", Stage::Intake, |_| std::future::pending::<anyhow::Result<()>>());
        for (name, stage) in [("fold", Stage::Fold), ("door", Stage::Door)] {
            let said = said.clone();
            services.start(name, stage, |stop| async move {
                stop.cancelled().await;
                said.send(name).map_err(anyhow::Error::from)
            });
        }
        let error = services.drain(Duration::from_millis(200)).await.unwrap_err().to_string();
        assert_eq!([heard.try_recv(), heard.try_recv()], [Ok("door"), Ok("fold")]);
        assert!(error.contains("pipeline") && !error.contains("door"), "{error}");
    }

    #[tokio::test]
    async fn an_intake_that_is_late_is_still_collected() {
        let mut services = Services::default();
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        services.start("pipeline", Stage::Intake, |_| async move { told.await.map_err(anyhow::Error::from) });
        services.start("gateway", Stage::Door, |stop| async move {
            stop.cancelled().await;
            tell.send(()).map_err(|()| anyhow::anyhow!("the intake is gone"))
        });
        services.drain(Duration::from_millis(400)).await.unwrap();
    }

    #[tokio::test]
    async fn a_drain_gives_up_after_its_limit() {
        let mut services = Services::default();
        services.start("stuck", Stage::Intake, |_| std::future::pending::<anyhow::Result<()>>());
        assert!(services.drain(Duration::from_millis(10)).await.is_err());
    }
}
