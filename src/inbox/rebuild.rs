//! Rebuilding: the whole log folded once more, into tables beside those that are in use.
//!
//! Owns: the order of it. Every epoch that is still there is folded, the earliest first, up to the ends that it had when it was asked; what
//! came meanwhile follows, the last of it while nobody else writes, and then the tables are swapped. Refuses to fold what a later release
//! wrote, and to leave out what retention takes meanwhile. Neighbours: `pass` reads, `store::Shadow` holds the tables.

mod pass;

use std::time::Duration;

use tidings_core::position::Epoch;
use tidings_core::record::RecordError;
use tidings_core::record::meta::EpochRecord;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::config::InboxConfig;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::Partition;
use crate::kafka::topics::{self, Plan, TopicsError};
use crate::store::{Shadow, StoreError, Swapped};
use crate::worker::{Worker, WorkerError};
use pass::Passes;

/// How long brokers may bring nothing new.
const PATIENCE: Duration = Duration::from_secs(60);
/// What others may have to wait for: so little of the log is left when they are held.
const LITTLE: i64 = 5_000;
/// How often it is tried to come so near to the end.
const ROUNDS: usize = 10;

/// Why tables were not rebuilt. Those in use are as they were.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The brokers.
    #[error("the log could not be read: look at the brokers, and run it again")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The topics are not as they must be.
    #[error("the topics cannot be folded")]
    Topics(#[from] TopicsError),
    /// The tables beside, or those in use.
    #[error("the database did not take what was folded")]
    Store(#[from] StoreError),
    /// The thread.
    #[error("the rebuilding ended")]
    Worker(#[from] WorkerError),
    /// Something cannot be folded by this release.
    #[error("{partition} at offset {offset} cannot be folded: run `tidings inbox rebuild` of the release that wrote it")]
    Newer {
        /// Where it lies.
        partition: Partition,
        /// Where it lies there.
        offset: i64,
        /// What is wrong with it.
        #[source]
        source: RecordError,
    },
    /// The log changed under us.
    #[error("retention took records while they were read: run it again")]
    Lost,
    /// Another generation has begun.
    #[error("epoch {epoch} has begun meanwhile: run it again")]
    Grown {
        /// Which.
        epoch: Epoch,
    },
    /// Nothing came for long.
    #[error("the brokers brought nothing for {PATIENCE:?}, {missing} offsets before the end: look at them, and run it again")]
    Silent {
        /// What was still to come.
        missing: i64,
    },
    /// Somebody else writes the tables beside.
    #[error("somebody else has folded into the tables beside those in use: no two may rebuild at once")]
    Contested,
}

/// What rebuilding needs.
pub struct RebuildParts {
    /// The cluster.
    pub cluster: Cluster,
    /// What topics there must be.
    pub plan: Plan,
    /// The section of the inbox: what is kept for how long.
    pub config: InboxConfig,
    /// The clock.
    pub clock: Clock,
    /// Empty tables.
    pub shadow: Shadow,
    /// Whether what the log has lost is taken over.
    pub heirlooms: Heirlooms,
}

/// What becomes of what only the tables in use still know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heirlooms {
    /// It is taken over.
    Kept,
    /// Nothing but the log counts.
    Dropped,
}

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progressed {
    /// Offsets that were folded or passed over.
    pub offsets: i64,
    /// Offsets that there are.
    pub of: i64,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The epochs that were folded.
    pub epochs: Vec<Epoch>,
    /// Offsets that were folded or passed over.
    pub offsets: i64,
    /// Records that do not read.
    pub unreadable: u64,
    /// Rows that only the old tables still knew.
    pub inherited: u64,
    /// Notifications before and after.
    pub swapped: Swapped,
}

/// Folds the whole log into the shadow, tells now and then how far it is, and puts it in the place of the tables in use.
///
/// # Errors
/// If it cannot be done; then nothing has changed.
pub async fn rebuild(parts: RebuildParts, tell: impl FnMut(&Progressed) + Send + 'static) -> Result<Rebuilt, RebuildError> {
    let (runtime, (sent, done)) = (Handle::current(), std::sync::mpsc::sync_channel(1));
    let body = move || {
        let rebuilt = run(parts, runtime, tell)?;
        // Whoever asked waits for the thread's end first.
        let _ = sent.send(rebuilt);
        Ok::<_, RebuildError>(())
    };
    Worker::start("rebuild".into(), body)?.ended().await?;
    done.recv().map_err(|_| RebuildError::Worker(WorkerError::Panicked { name: "rebuild".to_owned() }))
}

fn run(parts: RebuildParts, runtime: Handle, tell: impl FnMut(&Progressed)) -> Result<Rebuilt, RebuildError> {
    let RebuildParts { cluster, plan, config, clock, mut shadow, heirlooms } = parts;
    let epochs = runtime.block_on(topics::epochs(&cluster, &plan))?;
    let mut passes =
        Passes::new((&cluster, plan.rungs(), &epochs), &config, (clock, runtime.clone(), shadow.store().clone()), tell)?;
    let inherits = heirlooms == Heirlooms::Kept;
    let outcome = (|| {
        let mut inherited = 0;
        if inherits {
            inherited += runtime.block_on(shadow.inherit_notifications(&passes.extents()))?;
        }
        passes.fold()?;
        for _ in 0..ROUNDS {
            if passes.look_again()? <= LITTLE {
                break;
            }
            passes.fold()?;
        }
        if inherits {
            inherited += runtime.block_on(shadow.inherit_receipts(&passes.extents()))?;
        }
        passes.trim()?;
        Ok(inherited)
    })();
    let inherited = match outcome {
        Ok(inherited) => inherited,
        Err(error) => {
            runtime.block_on(shadow.discard());
            return Err(error);
        }
    };
    let locked = runtime.block_on(shadow.lock())?;
    if let Err(error) = finish(&mut passes, &runtime, (&cluster, &plan, &epochs)) {
        runtime.block_on(locked.discard());
        return Err(error);
    }
    let swapped = runtime.block_on(locked.swap())?;
    let (offsets, unreadable) = passes.done();
    Ok(Rebuilt { epochs: epochs.iter().map(|epoch| epoch.epoch).collect(), offsets, unreadable, inherited, swapped })
}

/// Nobody else writes: folds the rest of the log. Who wrote until now may have stood there, but no further.
fn finish(
    passes: &mut Passes<impl FnMut(&Progressed)>,
    runtime: &Handle,
    (cluster, plan, epochs): (&Cluster, &Plan, &[EpochRecord]),
) -> Result<(), RebuildError> {
    passes.look_again()?;
    passes.fold()?;
    passes.trim()?;
    let now = runtime.block_on(topics::epochs(cluster, plan))?;
    match now.last().filter(|now| epochs.last().map(|then| then.epoch) != Some(now.epoch)) {
        Some(EpochRecord { epoch, .. }) => Err(RebuildError::Grown { epoch: *epoch }),
        None => Ok(()),
    }
}
