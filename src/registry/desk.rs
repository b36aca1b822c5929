//! The desk: a thread that asks the registry for what records wait for.
//!
//! Owns: the thread, and how often and how long it is asked. Away, too busy, broken: asked again after a growing pause with jitter, or when
//! the registry says, for as long as it takes. Schema unknown: asked again for `unknown_wait`. Refuses to give schemas of strangers a
//! worker's thread: they are made ready here, on stacks of their own. At most so many requests are under way.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tidings_core::fate::Fate;
use tidings_core::schema::{Schema, SchemaError, SchemaId};
use tidings_core::time::Delay;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::RegistryConfig;
use crate::kafka::dispatch::Awaited;
use crate::telemetry::{Complaints, Said};
use crate::worker::{Worker, WorkerError};

use super::client::{Client, Missed};
use super::error::RegistryError;
use super::meters::Meters;
use super::shelf::{Found, Room, Shelf};

/// Schemas that may be asked for at a time, and requests that may be under way.
const LIMIT_ASKED: usize = 4096;
const LIMIT_REQUESTS: usize = 4;
/// The pause before it is asked again, and the longest one.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(10);
/// The longest pause that the registry may ask for.
const PAUSE_ASKED_LONGEST: Duration = Duration::from_secs(60);
/// What a schema may need to be made ready, however it nests.
const STACK_BYTES: usize = 16 << 20;

type Ask = (SchemaId, Awaited);

/// How long somebody waits who has nothing else to do.
pub(super) struct Waiting {
    clock: Clock,
    until: Duration,
}

impl Waiting {
    pub(super) fn is_over(&self) -> bool {
        self.clock.elapsed() >= self.until
    }
}

pub(super) struct Desk {
    shelf: Arc<Shelf>,
    asks: mpsc::Sender<Ask>,
    clock: Clock,
    patience: Duration,
    stop: CancellationToken,
    /// Taken by whoever awaits its end.
    thread: Mutex<Option<Worker<RegistryError>>>,
}

impl Desk {
    pub(super) fn start(config: &RegistryConfig, clock: Clock, meters: Meters) -> Result<Self, RegistryError> {
        let client = Client::new(config)?;
        let room = Room { count: config.schemas.get(), bytes: config.kept_bytes.get() };
        let shelf = Arc::new(Shelf::new(room, meters.clone()));
        let (asks, asked) = mpsc::channel(LIMIT_ASKED);
        let errand = Errand {
            client,
            shelf: Arc::clone(&shelf),
            clock,
            meters,
            requests: Semaphore::new(LIMIT_REQUESTS),
            complaints: Complaints::new("registry", clock),
            unknown_wait: config.unknown_wait.0,
            failure_retention: config.failure_retention.0,
        };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().thread_stack_size(STACK_BYTES).max_blocking_threads(2);
        let runtime = runtime.build().map_err(|source| WorkerError::Start { name: "registry".to_owned(), source })?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        // It also ends when the queue is closed, which is when nobody is there any more who reads records.
        let thread = Worker::start("registry".to_owned(), move || {
            runtime.block_on(stopped.run_until_cancelled(serve(&errand, asked)));
            Ok(())
        })?;
        // As long as it takes to know that a schema is unknown, and a last answer.
        let patience = config.unknown_wait.0 + config.request_timeout.0 * 2;
        Ok(Self { shelf, asks, clock, patience, stop, thread: Mutex::new(Some(thread)) })
    }

    /// Stops the thread when it is told to, and waits for its end. What is awaited then is not fetched any more.
    pub(super) async fn served(&self, stop: CancellationToken) -> Result<(), RegistryError> {
        let Some(mut thread) = self.thread.lock().take() else { return Ok(()) };
        tokio::select! {
            ended = thread.ended() => return ended,
            () = stop.cancelled() => self.stop.cancel(),
        }
        thread.ended().await
    }

    pub(super) fn waiting(&self) -> Waiting {
        Waiting { clock: self.clock, until: self.clock.elapsed() + self.patience }
    }

    pub(super) fn find(&self, id: SchemaId) -> Found {
        self.shelf.find(id, self.clock.elapsed(), |awaited| self.asks.try_send((id, awaited)).is_ok())
    }
}

async fn serve(errand: &Errand, mut asked: mpsc::Receiver<Ask>) {
    let mut fetching = FuturesUnordered::new();
    loop {
        tokio::select! {
            // Beyond that they stay in the queue, and when that is full whoever asks is to look again.
            ask = asked.recv(), if fetching.len() < LIMIT_ASKED => match ask {
                Some((id, awaited)) => fetching.push(errand.run(id, awaited)),
                None => return,
            },
            Some(()) = fetching.next() => {}
        }
    }
}

/// For how long a registry that answers has said that it does not know a schema. While it is away it says nothing, so that this time does not
/// count.
#[derive(Default)]
struct Unknown {
    waited: Duration,
    last: Option<Duration>,
}

impl Unknown {
    /// It says so, now; for how long by then.
    fn again(&mut self, now: Duration) -> Duration {
        if let Some(last) = self.last.replace(now) {
            self.waited += now.saturating_sub(last);
        }
        self.waited
    }

    fn interrupted(&mut self) {
        self.last = None;
    }
}

/// What is needed to get schemas.
struct Errand {
    client: Client,
    shelf: Arc<Shelf>,
    clock: Clock,
    meters: Meters,
    requests: Semaphore,
    complaints: Complaints,
    unknown_wait: Duration,
    failure_retention: Duration,
}

impl Errand {
    /// Asks for a schema until it is there, or is known not to come.
    async fn run(&self, id: SchemaId, awaited: Awaited) {
        let (mut pause, mut unknown, mut troubled) = (PAUSE_FIRST, Unknown::default(), false);
        let outcome = loop {
            let outcome = self.fetch(id).await;
            let (error, asked, longest) = match outcome {
                Ok(schema) => break Ok(schema),
                Err(Missed::Unknown(told)) => {
                    let waited = unknown.again(self.clock.elapsed());
                    self.meters.fetched("schema_unknown");
                    let error = RegistryError::Unknown { id, waited: Delay(rounded(waited)), told };
                    if waited >= self.unknown_wait {
                        break Err(error);
                    }
                    (error, None, (self.unknown_wait - waited).max(PAUSE_FIRST))
                }
                Err(Missed::Failed(error)) => {
                    self.meters.fetched(error.class());
                    let RegistryError::Away { again, .. } = &error else { break Err(error) };
                    unknown.interrupted();
                    let again = *again;
                    (error, again, PAUSE_ASKED_LONGEST)
                }
            };
            self.complain(id, &error);
            awaited.troubled(error.in_full());
            troubled = true;
            // Within half of it, so that many who wait for the same do not come back together.
            let jittered = pause.mul_f64(rand::random_range(0.5..1.0));
            let next = asked.map_or(jittered, |asked| asked.clamp(jittered, PAUSE_ASKED_LONGEST));
            tokio::time::sleep(next.min(longest)).await;
            pause = (pause * 2).min(PAUSE_LONGEST);
        };
        match &outcome {
            Ok(_) => {
                self.meters.fetched("fetched");
                if troubled {
                    tracing::info!(schema = %id, "the schema registry has given the schema that was waited for");
                }
            }
            Err(error) => self.complain(id, error),
        }
        self.shelf.settle(id, outcome, self.clock.elapsed() + self.failure_retention);
    }

    async fn fetch(&self, id: SchemaId) -> Result<Schema, Missed> {
        let definition = {
            // Never closed.
            let _turn = self.requests.acquire().await;
            self.client.fetch(id).await?
        };
        let format = definition.format;
        let compiled = tokio::task::spawn_blocking(move || Schema::compile(&definition)).await;
        let schema = compiled.unwrap_or_else(|_| Err(SchemaError::unusable(format, "reading it panicked, which is a bug")));
        schema.map_err(|source| Missed::Failed(RegistryError::Misread { id, source }))
    }

    fn complain(&self, id: SchemaId, error: &RegistryError) {
        let (class, fate) = (error.class(), error.cause().fate());
        let said = self.complaints.how(class, "");
        let error = error.in_full();
        match said {
            Said::Softly => tracing::debug!(schema = %id, class, error, "no schema"),
            Said::First | Said::Again(_) if fate == Fate::RetryInPlace => {
                tracing::warn!(schema = %id, class, error, "records wait for a schema");
            }
            Said::First | Said::Again(_) => {
                tracing::error!(schema = %id, class, error, "there is no such schema for records that name it")
            }
        }
    }
}

/// To tenths of a second, for people.
fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis() / 100 * 100).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_the_registry_is_away_no_time_passes_for_what_it_does_not_know() {
        let at = Duration::from_secs;
        let mut unknown = Unknown::default();
        assert_eq!(unknown.again(at(10)), at(0));
        assert_eq!(unknown.again(at(12)), at(2));
        unknown.interrupted();
        unknown.interrupted();
        assert_eq!(unknown.again(at(3_600)), at(2));
        assert_eq!(unknown.again(at(3_603)), at(5));
    }

    #[tokio::test]
    async fn who_stops_the_desk_waits_until_its_thread_holds_nothing_any_more() {
        let mut config = crate::config::load(None, &[]).unwrap().registry;
        // Nobody listens there, so that what is asked for stays under way.
        config.urls = vec!["http://127.0.0.1:9".to_owned()];
        let desk = Desk::start(&config, Clock::start(), Meters::default()).unwrap();
        let Found::Awaited(awaited) = desk.find(SchemaId::Number(1)) else { panic!("nothing is known of it") };
        while awaited.trouble().is_none() {
            tokio::task::yield_now().await;
        }
        let stop = CancellationToken::new();
        stop.cancel();
        desk.served(stop).await.unwrap();
        assert_eq!(Arc::strong_count(&desk.shelf), 1);
        let Found::Awaited(awaited) = desk.find(SchemaId::Number(2)) else { panic!("nobody fetches it") };
        assert!(awaited.is_over(), "who waits is to look again");
    }
}
