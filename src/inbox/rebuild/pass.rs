//! Passes over the log: every epoch from where the last pass ended to the end that it has.
//!
//! Owns: reading by assignment, as a member of no group, and folding in batches. The topics of an epoch are read as they come: what is
//! left is the same in whatever order. What does not read is passed over: it was buried when it came. Neighbours: `batch` decodes.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Message as _};
use tidings_core::record::RecordError;
use tidings_core::record::meta::EpochRecord;
use tidings_core::time::{Delay, Timestamp};
use tokio::runtime::Handle;

use super::{PATIENCE, Progressed, RebuildError};
use crate::clock::Clock;
use crate::config::InboxConfig;
use crate::inbox::batch::{Batch, Topics, Unfit, appended, read};
use crate::inbox::progress::Progress;
use crate::inbox::projector::retention;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::Partition;
use crate::kafka::reader::{Read, Reader};
use crate::store::{Beginning, Extent, Extents, Folded, Retention, Standing, Store};

const BROKER_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// One epoch of the log.
struct Generation {
    epoch: EpochRecord,
    topics: Topics,
    progress: Progress,
    /// Where each partition must be.
    ends: BTreeMap<Partition, i64>,
    beginnings: BTreeMap<Partition, Beginning>,
}

/// Reads the log and folds it.
pub(super) struct Passes<T> {
    reader: Reader,
    generations: Vec<Generation>,
    store: Store,
    runtime: Handle,
    retention: Retention,
    batch_records: usize,
    clock: Clock,
    batch: Batch,
    unreadable: u64,
    tell: T,
}

impl<T: FnMut(&Progressed)> Passes<T> {
    /// Looks where every partition begins and ends, and begins there in the store.
    pub(super) fn new(
        (cluster, rungs, epochs): (&Cluster, &[Delay], &[EpochRecord]),
        config: &InboxConfig,
        (clock, runtime, store): (Clock, Handle, Store),
        tell: T,
    ) -> Result<Self, RebuildError> {
        let reader = Reader::new(cluster, "rebuild")?;
        let mut generations = Vec::with_capacity(epochs.len());
        for epoch in epochs {
            let generation = Generation::look(&reader, (cluster, rungs), epoch)?;
            let standings = generation.ends.keys().map(|partition| Standing {
                topic: partition.topic.clone(),
                partition: partition.number,
                next: generation.beginnings.get(partition).map_or(0, |beginning| beginning.offset),
            });
            runtime.block_on(store.claim(epoch.epoch, &standings.collect::<Vec<_>>()))?;
            generations.push(generation);
        }
        // Receipts may be read before what they speak of.
        let retention = Retention { states_per_user: NonZeroUsize::MAX, ..retention(config) };
        let (retention, batch_records) = (retention, config.batch_records.get());
        Ok(Self {
            reader,
            generations,
            store,
            runtime,
            retention,
            batch_records,
            clock,
            batch: Batch::default(),
            unreadable: 0,
            tell,
        })
    }

    /// What the log has, as far as it was looked at.
    pub(super) fn extents(&self) -> Extents {
        let of = |name: fn(&Topics) -> &std::sync::Arc<str>| {
            let extents = self.generations.iter().map(|generation| generation.extent(name(&generation.topics)));
            extents.filter(|extent| !extent.partitions.is_empty()).collect()
        };
        Extents {
            notifications: of(|topics| &topics.notifications),
            cursors: of(|topics| &topics.cursors),
            receipts: of(|topics| &topics.receipts),
        }
    }

    /// Looks where the log ends now, and says how much of it is left.
    pub(super) fn look_again(&mut self) -> Result<i64, RebuildError> {
        for generation in &mut self.generations {
            let partitions = generation.ends.keys().cloned().collect::<Vec<_>>();
            generation.ends = self.reader.ends(&partitions, BROKER_WAIT)?.into_iter().collect();
        }
        Ok(self.generations.iter().map(Generation::missing).sum())
    }

    /// Folds up to the ends that were seen last.
    pub(super) fn fold(&mut self) -> Result<(), RebuildError> {
        for index in 0..self.generations.len() {
            self.fold_one(index)?;
        }
        self.say();
        Ok(())
    }

    /// Forgets what is too old.
    pub(super) fn trim(&self) -> Result<(), RebuildError> {
        for generation in &self.generations {
            let ours = generation.topics.ours(&generation.progress.partitions());
            while self.runtime.block_on(self.store.trim(generation.epoch.epoch, &self.retention, &ours))?.is_full() {}
        }
        Ok(())
    }

    /// How many offsets were folded or passed over, and how many records did not read.
    pub(super) fn done(&self) -> (i64, u64) {
        (self.generations.iter().map(Generation::read).sum(), self.unreadable)
    }

    fn fold_one(&mut self, index: usize) -> Result<(), RebuildError> {
        let Some(generation) = self.generations.get(index) else { return Ok(()) };
        let mut missing = generation.missing();
        if missing == 0 {
            return Ok(());
        }
        self.reader.start(&generation.starts())?;
        let mut news_at = self.clock.elapsed();
        while missing > 0 {
            if self.step(index)? && !self.batch.is_full(self.batch_records) {
                continue;
            }
            self.store(index)?;
            let left = self.generations.get(index).map_or(0, Generation::missing);
            let before = std::mem::replace(&mut missing, left);
            self.say();
            if missing < before {
                news_at = self.clock.elapsed();
            } else if self.clock.elapsed() > news_at + PATIENCE {
                return Err(RebuildError::Silent { missing });
            }
        }
        Ok(())
    }

    /// Takes what comes next; says whether anything came.
    fn step(&mut self, index: usize) -> Result<bool, RebuildError> {
        let Self { reader, generations, batch, unreadable, .. } = self;
        match (reader.poll(POLL)?, generations.get_mut(index)) {
            (Read::Record(record), Some(generation)) => {
                *unreadable += generation.take(&record, batch)?;
                return Ok(true);
            }
            (Read::OutOfRange, _) => return Err(RebuildError::Lost),
            (Read::Trouble(code), _) => tracing::debug!(%code, "the brokers"),
            (Read::Nothing | Read::Record(_), _) => {}
        }
        Ok(false)
    }

    fn store(&mut self, index: usize) -> Result<(), RebuildError> {
        let Some(generation) = self.generations.get_mut(index) else { return Ok(()) };
        for (partition, next) in self.reader.positions()? {
            generation.progress.read_to(&partition, next);
        }
        let moves = generation.progress.moves();
        if moves.is_empty() {
            return Ok(());
        }
        self.batch.moves(&generation.topics, moves.clone());
        let folding = self.store.fold(generation.epoch.epoch, &self.retention, self.batch.fold());
        if self.runtime.block_on(folding)? == Folded::Moved {
            return Err(RebuildError::Contested);
        }
        generation.progress.moved(&moves);
        self.batch.clear();
        Ok(())
    }

    fn say(&mut self) {
        let offsets = self.generations.iter().map(Generation::read).sum::<i64>();
        let missing = self.generations.iter().map(Generation::missing).sum::<i64>();
        (self.tell)(&Progressed { offsets, of: offsets + missing });
    }
}

impl Generation {
    fn look(reader: &Reader, (cluster, rungs): (&Cluster, &[Delay]), epoch: &EpochRecord) -> Result<Self, RebuildError> {
        let topics = Topics::of_cluster(cluster.clone().of_epoch(epoch).names(), rungs, epoch);
        let mut partitions = Vec::new();
        for topic in topics.names() {
            partitions.extend(reader.partitions_if_there(topic, BROKER_WAIT)?);
        }
        let mut progress = Progress::default();
        let mut beginnings = BTreeMap::new();
        for (partition, offset) in reader.beginnings(&partitions, BROKER_WAIT)? {
            progress.begin(partition.clone(), offset);
            beginnings.insert(partition, Beginning { offset, appended: None });
        }
        let ends = reader.ends(&partitions, BROKER_WAIT)?.into_iter().collect();
        Ok(Self { epoch: epoch.clone(), topics, progress, ends, beginnings })
    }

    fn extent(&self, topic: &std::sync::Arc<str>) -> Extent {
        let partitions = self.beginnings.iter().filter(|(partition, _)| partition.topic == *topic);
        Extent {
            epoch: self.epoch.epoch,
            topic: topic.clone(),
            partitions: partitions.map(|(_, beginning)| *beginning).collect(),
        }
    }

    /// Where reading goes on.
    fn starts(&self) -> Vec<(Partition, i64)> {
        self.progress.iter().map(|(partition, place)| (partition.clone(), place.read)).collect()
    }

    /// Offsets that are not read of those that were seen.
    fn missing(&self) -> i64 {
        self.progress
            .iter()
            .map(|(partition, place)| (self.ends.get(partition).copied().unwrap_or(0) - place.stored).max(0))
            .sum()
    }

    /// Offsets that are.
    fn read(&self) -> i64 {
        let begun = |partition: &Partition| self.beginnings.get(partition).map_or(0, |beginning| beginning.offset);
        self.progress.iter().map(|(partition, place)| place.stored - begun(partition)).sum()
    }

    /// Puts a record into the batch; says how many do not read.
    fn take(&mut self, record: &BorrowedMessage<'_>, batch: &mut Batch) -> Result<u64, RebuildError> {
        let partition = Partition { topic: self.topics.of(record).clone(), number: record.partition() };
        let mut unreadable = 0;
        match read(&self.topics, record) {
            Ok(content) => {
                batch.push(content, record.payload().map_or(0, <[u8]>::len));
                if let Some(appended) = appended(record) {
                    self.saw(&partition, appended);
                }
            }
            Err(Unfit::Unreadable(source @ RecordError::Newer { .. })) => {
                return Err(RebuildError::Newer { partition, offset: record.offset(), source });
            }
            Err(_) => unreadable = 1,
        }
        self.progress.read_to(&partition, record.offset() + 1);
        Ok(unreadable)
    }

    fn saw(&mut self, partition: &Partition, at: Timestamp) {
        self.progress.saw(partition, at);
        if let Some(beginning) = self.beginnings.get_mut(partition) {
            beginning.appended.get_or_insert(at);
        }
    }
}
