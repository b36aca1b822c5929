//! A letter as people and tools see it: bytes exactly, and nothing lost.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use tidings_core::record::letter::{Letter, LetterId};
use tidings_core::record::notified::NotificationRecord;
use tidings_core::rules::Verdict;
use tidings_core::selection::{LetterFilter, unfit};
use tidings_core::time::Timestamp;
use utoipa::ToSchema;

use super::audit::Done;
use super::letters::{places, read, spans};
use super::{DeadLetters, ReplayError, Undecided, Watch, going};
use crate::config::Edition;
use crate::kafka::scan::Scan;

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetter)]
pub struct ShownLetter {
    /// Where it lies on `dlq`: partition and offset, as `2@17`.
    #[schema(value_type = String)]
    pub id: LetterId,
    /// When it was buried.
    #[schema(value_type = String, format = DateTime)]
    pub buried_at: Timestamp,
    /// Whether it has been redriven.
    pub redriven: bool,
    /// Where the record lay.
    pub original: ShownPlace,
    /// The step that failed.
    pub stage: String,
    /// The kind of failure.
    pub cause: String,
    /// A short name of it, by which letters are chosen.
    pub reason: String,
    /// What was wrong.
    pub message: String,
    /// The rule that could not be rendered, if it was one.
    pub rule: Option<String>,
    /// The line of that rule, as it was then.
    pub line: Option<String>,
    /// The process that buried it.
    pub node: String,
    /// How often its delivery was tried, if it is one.
    pub attempt: Option<u32>,
    /// There if the brokers did not take all of it.
    pub truncated: Option<ShownStub>,
    /// The record itself; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<ShownRecord>,
}

/// The coordinates of a record.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = DeadLetterOriginal)]
pub struct ShownPlace {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, if it had one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub timestamp: Option<Timestamp>,
}

/// What is known of a value of which only the beginning is there.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = DeadLetterStub)]
pub struct ShownStub {
    /// How large it was.
    pub bytes: Option<u64>,
    /// Its SHA-256.
    pub sha256: Option<String>,
}

/// The bytes of a record.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterRecord)]
pub struct ShownRecord {
    /// Its key in base64, if it had one.
    pub key_base64: Option<String>,
    /// Its value in base64, if it had one.
    pub value_base64: Option<String>,
    /// Its headers, in order.
    pub headers: Vec<ShownHeader>,
    /// How many headers stood in front of those and cannot be read, for the name of one is not UTF-8.
    pub unread_headers: usize,
}

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterHeader)]
pub struct ShownHeader {
    /// Its name.
    pub name: String,
    /// Its value in base64, if it had one.
    pub value_base64: Option<String>,
}

/// What would become of a letter by the rules of now.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterTrial)]
pub struct Trial {
    /// The version of those rules.
    pub rules: String,
    /// `notify`, `ignore`, `bury`, or `skip` if it cannot be decided on.
    pub verdict: &'static str,
    /// Why it gives no notification, as a short name.
    pub reason: Option<String>,
    /// The same in words.
    pub message: Option<String>,
    /// The line of the rule to go to.
    pub line: Option<String>,
    /// The notifications.
    #[schema(value_type = Vec<Object>)]
    pub notifications: Vec<NotificationRecord>,
}

impl ShownLetter {
    /// Without its bytes; whether it was redriven is for the caller to say.
    pub(super) fn brief(letter: &Letter) -> Self {
        let Letter { original, diagnosis, truncated, .. } = letter;
        let original = ShownPlace {
            topic: original.topic.clone(),
            partition: original.partition,
            offset: original.offset,
            timestamp: original.timestamp,
        };
        let stub = truncated.as_ref().map(|stub| ShownStub { bytes: stub.bytes, sha256: stub.sha256.clone() });
        Self {
            id: letter.id,
            buried_at: letter.buried_at,
            redriven: false,
            original,
            stage: diagnosis.stage.clone(),
            cause: diagnosis.cause.clone(),
            reason: diagnosis.class.clone(),
            message: diagnosis.message.clone(),
            rule: diagnosis.rule.clone(),
            line: diagnosis.line.clone(),
            node: letter.node.clone(),
            attempt: letter.attempt,
            truncated: stub,
            record: None,
        }
    }

    fn whole(letter: &Letter) -> Self {
        let encoded = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
        let headers = letter.headers.iter();
        let headers = headers.map(|(name, value)| ShownHeader { name: name.clone(), value_base64: encoded(value) });
        let record = ShownRecord {
            key_base64: encoded(&letter.key),
            value_base64: encoded(&letter.value),
            headers: headers.collect(),
            unread_headers: letter.unread_headers,
        };
        Self { record: Some(record), ..Self::brief(letter) }
    }
}

impl Trial {
    fn new(rules: &str, verdict: &'static str) -> Self {
        let rules = rules.to_owned();
        Self { rules, verdict, reason: None, message: None, line: None, notifications: Vec::new() }
    }

    fn because(self, reason: &str, message: Option<String>) -> Self {
        Self { reason: Some(reason.to_owned()), message, ..self }
    }
}

impl DeadLetters {
    /// One letter, with its bytes.
    ///
    /// # Errors
    /// If it is not there, is none, or the brokers do not answer.
    pub fn one(&self, id: LetterId, watch: &mut Watch<'_>) -> Result<(Letter, ShownLetter), ReplayError> {
        let mut scan = self.scan()?;
        if let Some(why) = absent(&scan, id) {
            return Err(ReplayError::Gone { id, why });
        }
        let mut found = None;
        read(&mut scan, &places(&[id]), (watch, "reading dlq"), |record| found = Some(record))?;
        let gone = || ReplayError::Gone { id, why: "no record lies at that offset".to_owned() };
        let found = found.ok_or_else(gone)?;
        let letter = found.letter.map_err(|error| ReplayError::Broken { id, why: error.to_string() })?;
        let redriven =
            self.marks(Some(found.buried_at), || going(watch.stop))?.of(id.partition, found.buried_at).contains(id.offset);
        let shown = ShownLetter { redriven, ..ShownLetter::whole(&letter) };
        Ok((letter, shown))
    }

    /// What would become of a letter by other rules. Nothing is written.
    ///
    /// # Errors
    /// If the caller stopped it.
    pub fn trial(&self, letter: &Letter, edition: &Edition, watch: &Watch<'_>) -> Result<Trial, ReplayError> {
        let trial = |verdict| Trial::new(&edition.version, verdict);
        if let Some(unfit) = unfit(letter, |topic| self.site.is_source(topic)) {
            return Ok(trial("skip").because(unfit.class(), Some(unfit.to_string())));
        }
        Ok(match self.decide(&edition.rules, letter, watch.stop) {
            Ok(Verdict::Notify(notifications)) => Trial { notifications, ..trial("notify") },
            Ok(Verdict::Ignore(reason)) => trial("ignore").because(reason.name(), None),
            Ok(Verdict::Bury(burial)) => {
                let line = burial.rule.map(|blamed| blamed.line);
                Trial { line, ..trial("bury").because(burial.class, Some(burial.message)) }
            }
            Err(Undecided::Stopped) => return Err(ReplayError::Stopped),
            Err(error) => trial("skip").because(error.class(), Some(error.in_full())),
        })
    }

    /// Hands every letter that is meant to `each`, with its bytes; a record that is no letter as what is wrong with it.
    ///
    /// # Errors
    /// If no letter can be meant, or the brokers do not answer.
    pub fn export(&self, filter: &LetterFilter, watch: &mut Watch<'_>, mut each: impl FnMut(&Value)) -> Result<(), ReplayError> {
        filter.check()?;
        let mut done = Done::new(self.marks(filter.since, || going(watch.stop))?);
        let mut scan = self.scan()?;
        let spans = spans(&scan, filter)?;
        read(&mut scan, &spans, (watch, "reading dlq"), |found| {
            let redriven = done.holds((found.id.partition, found.id.offset), found.buried_at);
            match found.letter {
                Ok(letter) if filter.holds(&letter) => each(&json!(ShownLetter { redriven, ..ShownLetter::whole(&letter) })),
                Err(error) if filter.may_hold(found.id, found.buried_at) => {
                    each(&json!({ "id": found.id, "broken": error.class(), "why": error.to_string() }));
                }
                _ => {}
            }
        })
    }
}

fn absent(scan: &Scan, id: LetterId) -> Option<String> {
    match scan.bounds().get(&id.partition) {
        None => Some(format!("dlq has the partitions 0 to {}", scan.bounds().len().saturating_sub(1))),
        Some(span) if id.offset < span.from => {
            Some(format!("retention has removed it; that partition begins at {}@{}", id.partition, span.from))
        }
        Some(span) if id.offset >= span.to => Some(format!("that partition ends before {}@{}", id.partition, span.to)),
        Some(_) => None,
    }
}
