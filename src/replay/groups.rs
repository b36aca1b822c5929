//! What lies in `dlq`, counted in groups.
//!
//! Owns: the groups and their bound, and the single letters that are named beside them. Refuses to hold values.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use serde::Serialize;
use tidings_core::record::letter::{Letter, LetterId};
use tidings_core::selection::{LetterFilter, unfit};
use tidings_core::time::Timestamp;
use utoipa::ToSchema;

use super::audit::Done;
use super::letters::{FoundLetter, read_part, spans};
use super::part::Part;
use super::shown::ShownLetter;
use super::tally::Skipped;
use super::{DeadLetters, ReplayError, Watch};

/// Who may write to `dlq` can make a group of each record.
const LIMIT_GROUPS: usize = 1_000;
/// The group of what no other has room for.
const OTHERS: &str = "(others)";
/// The group of what is not said, for instance a rule where none is to blame.
const NONE: &str = "-";
const HOUR_MS: i64 = 3_600_000;

/// By what letters are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// The class of error.
    Reason,
    /// The rule that could not be rendered.
    Rule,
    /// The topic that the record lay on.
    Topic,
    /// The hour in which it was buried.
    Time,
}

/// A text that names nothing that letters are grouped by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("letters are grouped by `reason`, `rule`, `topic` or `time`, not by {0:?}")]
pub struct GroupByError(String);

impl FromStr for GroupBy {
    type Err = GroupByError;

    fn from_str(text: &str) -> Result<Self, GroupByError> {
        let all = [Self::Reason, Self::Rule, Self::Topic, Self::Time];
        all.into_iter().find(|by| by.name() == text).ok_or_else(|| GroupByError(text.chars().take(40).collect()))
    }
}

impl GroupBy {
    /// Its name, as it is given and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reason => "reason",
            Self::Rule => "rule",
            Self::Topic => "topic",
            Self::Time => "time",
        }
    }

    fn of(self, letter: &Letter) -> String {
        match self {
            Self::Reason => letter.diagnosis.class.clone(),
            Self::Rule => letter.diagnosis.rule.clone().unwrap_or_else(|| NONE.to_owned()),
            Self::Topic => letter.original.topic.clone(),
            Self::Time => {
                let millis = letter.buried_at.as_millis();
                Timestamp::from_millis(millis - millis.rem_euclid(HOUR_MS)).to_string()
            }
        }
    }
}

/// What is asked of `dlq`.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which letters.
    pub filter: LetterFilter,
    /// Which part of the topic.
    pub part: Part,
    /// In which groups.
    pub by: Vec<GroupBy>,
    /// How many single ones are named, the newest.
    pub letters: usize,
}

/// What lies in `dlq`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetters)]
pub struct Listing {
    /// How many letters are meant.
    pub letters: u64,
    /// How many of those have been redriven.
    pub redriven: u64,
    /// Them in groups, the largest first.
    pub groups: Vec<Group>,
    /// The newest of them, the newest last, without their bytes.
    pub newest: Vec<ShownLetter>,
    /// What lies there and is no letter, by why.
    pub broken: BTreeMap<String, Skipped>,
    /// There if this is not all: the `pageToken` of the next call, whose counts are to be added.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub next_page_token: Option<String>,
}

/// Letters that have something in common.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterGroup)]
pub struct Group {
    /// What they have in common, by what they are grouped by.
    pub of: BTreeMap<String, String>,
    /// How many there are.
    pub letters: u64,
    /// How many of those have been redriven.
    pub redriven: u64,
    /// How many can be decided on again; of others the bytes are not there, or no rules decide.
    pub redrivable: u64,
    /// The first.
    #[schema(value_type = String)]
    pub first_id: LetterId,
    /// When the first was buried.
    #[schema(value_type = String, format = DateTime)]
    pub first_at: Timestamp,
    /// The last.
    #[schema(value_type = String)]
    pub last_id: LetterId,
    /// When the last was buried.
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
    /// What is wrong with the last.
    pub message: String,
    /// The line of the rule to go to, if the last names one.
    pub line: Option<String>,
}

impl DeadLetters {
    /// What lies in `dlq` now.
    ///
    /// # Errors
    /// If no letter can be meant, the brokers do not answer, or the time is too short even to learn what was redriven.
    pub fn list(&self, wanted: &Wanted, watch: &mut Watch<'_>) -> Result<Listing, ReplayError> {
        wanted.filter.check()?;
        let clock = self.site.clock;
        let mut done = Done::new(self.marks(wanted.filter.since, || wanted.part.goes_on(watch, clock))?);
        let mut scan = self.scan()?;
        let spans = spans(&scan, &wanted.filter)?;
        let (mut listing, mut groups) = (Listing::default(), HashMap::<Vec<String>, Group>::new());
        let mut newest = BTreeMap::new();
        let next =
            read_part(&wanted.part, (&mut scan, spans), (watch, "reading dlq"), |FoundLetter { id, buried_at, letter }| {
                let redriven = done.holds((id.partition, id.offset), buried_at);
                let letter = match letter {
                    Ok(letter) if wanted.filter.holds(&letter) => letter,
                    Err(error) if wanted.filter.may_hold(id, buried_at) => {
                        return listing.broken.entry(error.class().to_owned()).or_default().add(&id, &error);
                    }
                    _ => return,
                };
                listing.letters += 1;
                listing.redriven += u64::from(redriven);
                let redrivable = unfit(&letter, |topic| self.site.is_source(topic)).is_none();
                add(&mut groups, &wanted.by, &letter, Standing { redriven, redrivable });
                newest.insert((buried_at, id), ShownLetter { redriven, ..ShownLetter::brief(&letter) });
                if newest.len() > wanted.letters {
                    newest.pop_first();
                }
            })?;
        listing.groups = groups.into_values().collect();
        listing.groups.sort_by(|a, b| b.letters.cmp(&a.letters).then_with(|| a.of.cmp(&b.of)));
        listing.newest = newest.into_values().collect();
        listing.next_page_token = next.map(|next| next.to_string());
        Ok(listing)
    }
}

/// How a letter stands.
struct Standing {
    redriven: bool,
    redrivable: bool,
}

fn add(groups: &mut HashMap<Vec<String>, Group>, by: &[GroupBy], letter: &Letter, standing: Standing) {
    let mut key = by.iter().map(|by| by.of(letter)).collect::<Vec<_>>();
    if groups.len() >= LIMIT_GROUPS && !groups.contains_key(&key) {
        key = by.iter().map(|_| OTHERS.to_owned()).collect();
    }
    let new = || Group {
        of: by.iter().map(|by| by.name().to_owned()).zip(key.iter().cloned()).collect(),
        letters: 0,
        redriven: 0,
        redrivable: 0,
        first_id: letter.id,
        first_at: letter.buried_at,
        last_id: letter.id,
        last_at: letter.buried_at,
        message: String::new(),
        line: None,
    };
    let group = groups.entry(key.clone()).or_insert_with(new);
    group.letters += 1;
    group.redriven += u64::from(standing.redriven);
    group.redrivable += u64::from(standing.redrivable);
    if (letter.buried_at, letter.id) < (group.first_at, group.first_id) {
        (group.first_at, group.first_id) = (letter.buried_at, letter.id);
    }
    if (letter.buried_at, letter.id) >= (group.last_at, group.last_id) {
        (group.last_at, group.last_id) = (letter.buried_at, letter.id);
        group.message.clone_from(&letter.diagnosis.message);
        group.line.clone_from(&letter.diagnosis.line);
    }
}
