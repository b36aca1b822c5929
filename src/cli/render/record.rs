//! The record that is rendered: made of a sample, or read from the brokers.
//!
//! Owns: where it comes from, and that it is handed to the decision as the pipeline hands it. Neighbours: `kafka::scan` reads, `config::Topics` decides.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::message::{BorrowedMessage, Message as _};
use tidings_core::event::{Explained, SourceHeader, SourceRecord};
use tidings_core::rules::{Burial, RuleSet, Verdict, check, shipped_schemas};
use tidings_core::stretch::Stretch;
use tidings_core::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Topics;
use crate::config::folder::Folder;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::legible_end;
use crate::kafka::scan::{Scan, Scanned};
use crate::registry::Registry;

const WAIT: Duration = Duration::from_millis(200);

/// Where a record lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    topic: String,
    partition: i32,
    offset: i64,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let mut parts = text.rsplitn(3, ':');
            let (offset, partition, topic) = (parts.next()?, parts.next()?, parts.next()?);
            let place = Self { topic: topic.to_owned(), partition: partition.parse().ok()?, offset: offset.parse().ok()? };
            (!topic.is_empty() && place.partition >= 0 && place.offset >= 0).then_some(place)
        };
        read().ok_or_else(|| "the place of a record is TOPIC:PARTITION:OFFSET, for instance payments:0:1042".to_owned())
    }
}

/// A record that nobody else has to keep.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) topic: String,
    partition: i32,
    offset: i64,
    timestamp: Timestamp,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    /// Whether the name of a header cannot be read, which is reason enough to bury it.
    is_illegible: bool,
}

impl Taken {
    /// One that lies nowhere, said now.
    pub(super) fn made(topic: &str, value: Vec<u8>, headers: &[(String, String)], timestamp: Timestamp) -> Self {
        let headers = headers.iter().map(|(name, value)| (name.clone(), Some(value.as_bytes().to_vec()))).collect();
        Self {
            topic: topic.to_owned(),
            partition: 0,
            offset: 0,
            timestamp,
            key: None,
            value: Some(value),
            headers,
            is_illegible: false,
        }
    }

    /// The record at a place.
    pub(super) fn from_brokers(cluster: &Cluster, place: &Place, clock: Clock) -> anyhow::Result<Self> {
        let Place { topic, partition, offset } = place;
        let mut scan = Scan::open(cluster, topic, clock)?;
        let bounds = scan.bounds();
        let Some(bound) = bounds.get(partition) else {
            anyhow::bail!(
                "{topic} has the partitions 0 to {}, and no {partition}",
                bounds.keys().last().copied().unwrap_or_default()
            );
        };
        if !(bound.from..bound.to).contains(offset) {
            let has = if bound.is_empty() {
                "is empty".to_owned()
            } else {
                format!("has the offsets {} to {}", bound.from, bound.to - 1)
            };
            anyhow::bail!("nothing lies at offset {offset} of {topic}[{partition}]: it {has}");
        }
        scan.begin(&BTreeMap::from([(*partition, Stretch { from: *offset, to: offset + 1 })]))?;
        loop {
            match scan.step(WAIT)? {
                Scanned::Record(record) => return Ok(Self::of(&record)),
                Scanned::Nothing => {}
                Scanned::End => {
                    anyhow::bail!(
                        "no record lies at offset {offset} of {topic}[{partition}]: it was compacted away, or is a marker of a transaction"
                    )
                }
            }
        }
    }

    fn of(record: &BorrowedMessage<'_>) -> Self {
        let (headers, unread) = record.headers().map(legible_end).unwrap_or_default();
        Self {
            topic: record.topic().to_owned(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp: Timestamp::from_millis(record.timestamp().to_millis().unwrap_or(0)),
            key: record.key().map(<[u8]>::to_vec),
            value: record.payload().map(<[u8]>::to_vec),
            headers: headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
            is_illegible: unread > 0,
        }
    }

    /// What becomes of it, as if it were decided on when it was written.
    pub(super) fn decided(&self, rules: &RuleSet, (topics, registry): (&Topics, &Registry)) -> anyhow::Result<Verdict> {
        if self.is_illegible {
            return Ok(Verdict::Bury(Burial::illegible()));
        }
        let headers = self.headers.iter().map(|(name, value)| SourceHeader { name, value: value.as_deref() }).collect::<Vec<_>>();
        let record = SourceRecord {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
        };
        let settings = topics.of(&self.topic);
        let explained = match settings.has_events() {
            // Who does not want to wait ends the command.
            true => registry
                .explained(&record, settings.reading(), &CancellationToken::new())
                .map_err(|error| anyhow::anyhow!("{}", error.in_full()))?,
            false => Ok(Explained::default()),
        };
        let explained = match explained {
            Ok(explained) => explained,
            Err(burial) => return Ok(Verdict::Bury(burial)),
        };
        let verdict = settings.decide(rules, (&record, explained), self.timestamp);
        verdict.map_err(|newer| anyhow::anyhow!("only a later release of tidings can read it: {}", newer.in_full()))
    }
}

/// The value in a file, or on standard input.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut value = Vec::new();
        io::stdin().lock().read_to_end(&mut value).context("could not read standard input")?;
        return Ok(value);
    }
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

/// The value of a record with the first sample of the events of type `kind`.
pub(super) fn sample(schemas: Option<&Path>, kind: &str) -> anyhow::Result<Vec<u8>> {
    let schemas = Folder::or_shipped(schemas, "json", shipped_schemas())?;
    let sample = check::sample(&schemas.files(), kind);
    sample.with_context(|| {
        format!("no schema of `{kind}` with a sample; `tidings check` says what is wrong with one, and --sample takes a file")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_from_its_end() {
        let place = Place { topic: "a.b:c".into(), partition: 3, offset: 42 };
        assert_eq!("a.b:c:3:42".parse(), Ok(place));
        for text in ["", "a", "a:1", ":1:2", "a:x:2", "a:1:-2"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_type_without_a_sample_is_refused_with_what_to_do() {
        assert_eq!(sample(None, "user:logged_in").unwrap().first(), Some(&b'{'));
        let error = sample(None, "user:unknown").unwrap_err();
        insta::assert_snapshot!(error, @"no schema of `user:unknown` with a sample; `tidings check` says what is wrong with one, and --sample takes a file");
    }
}
