//! `/v1/dlq`: what was buried, and trying it again, for operators.
//!
//! Owns: the words of the query and of the body, and how many letters one call may redrive. One reading at a time: callers wait for each other,
//! and who leaves ends his. Neighbours: `replay` reads and writes, `cli` asks for the same.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Method, StatusCode};
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};
use tidings_core::ids::UserId;
use tidings_core::record::letter::LetterId;
use tidings_core::record::request::Fault;
use tidings_core::selection::LetterFilter;
use tidings_core::time::Timestamp;
use utoipa::ToSchema;

use super::endpoint::{Answered, Asked, Endpoint, invalid};
use super::reading::{Reading, unread};
use super::{Rest, json, query};
use crate::config::{Edition, HttpConfig, RulesSource};
use crate::http::guard::Needed;
use crate::http::openapi::{Description, instant, text, whole};
use crate::http::problem::Problem;
use crate::replay::{
    Again, DeadLetters, GroupBy, Listing, Mode, Part, PartEnd, Redrive, ReplayError, Report, ShownLetter, Trial, Wanted, Watch,
};
use crate::telemetry::Metrics;

const LIST: &str = "/v1/dlq";
const ONE: &str = "/v1/dlq/{id}";
const REDRIVE: &str = "/v1/dlq/redrive";
/// The most letters that are named beside the groups.
const MOST_NEWEST: u32 = 1_000;

/// Dead letters, and who looks at them.
pub(super) struct Dlq {
    letters: Reading<DeadLetters>,
    rules: RulesSource,
    /// The most that one redrive may mean: it keeps a place of each.
    most: NonZeroUsize,
    oversized: Counter,
}

/// What is to be redriven.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Redrive)]
struct Body {
    /// Which letters.
    selection: Selection,
    /// Whether the notifications are sent. If not, what would become of the letters is counted.
    #[serde(default)]
    execute: bool,
    /// Whether letters that were redriven before are taken, too. Their notifications have the same ids.
    #[serde(default)]
    again: bool,
}

/// Which letters: every condition must hold, of several values of one any. Without a condition: all.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = DeadLetterSelection)]
struct Selection {
    /// Those with one of these classes of error.
    reasons: BTreeSet<String>,
    /// Those that one of these rules could not be rendered for.
    rules: BTreeSet<String>,
    /// Those that lay on one of these topics.
    topics: BTreeSet<String>,
    /// These.
    #[schema(value_type = Vec<String>)]
    ids: BTreeSet<LetterId>,
    /// Those buried at this time or later.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Those buried before this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// A letter, and what would become of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetterNow)]
struct LetterNow {
    /// The letter with its bytes.
    letter: ShownLetter,
    /// What would become of it by the rules of now.
    now: Trial,
}

pub(super) fn endpoints() -> [Endpoint; 3] {
    let of_letters = |described: Description| {
        described
            .query("reason", "A class of error; may stand more than once.", text())
            .query("rule", "A rule that could not be rendered; may stand more than once.", text())
            .query("topic", "The topic that the record lay on; may stand more than once.", text())
            .query("id", "A letter; may stand more than once.", text())
            .query("since", "Buried at this time or later.", instant())
            .query("until", "Buried before this time.", instant())
    };
    let list = Description::guarded(Method::GET, LIST, Needed::Admin, "Counts dead letters in groups");
    let list = of_letters(list)
        .query("groupBy", "`reason`, `rule`, `topic` or `time`, several with commas between; `reason`, unless said.", text())
        .query("newest", "How many of the newest are named; 20, unless said.", whole(0, MOST_NEWEST))
        .query("pageToken", "Where to go on: `nextPageToken` of the call before, with the same filters.", text())
        .telling(
            "What has been read in two thirds of `http.request_timeout` is answered, with a `nextPageToken` if there is more.",
        )
        .gives::<Listing>(StatusCode::OK, "What lies in dlq.");
    let one =
        Description::guarded(Method::GET, ONE, Needed::Admin, "A dead letter with its bytes, and what would become of it now")
            .segment("id", "Its partition and offset on dlq, as `2@17`.", text())
            .gives::<LetterNow>(StatusCode::OK, "The letter.")
            .refuses(StatusCode::NOT_FOUND, "No letter lies there any more, or yet.");
    let redrive = Description::guarded(Method::POST, REDRIVE, Needed::Admin, "Decides anew on dead letters, and sends what follows")
        .telling("Each once, in the order of their records, by the rules of this process's folder as they are now. Without `execute` nothing is written. The topic `audit` tells who did it and how far it came; who leaves stops it. What was sent in two thirds of `http.request_timeout` is answered, with `more` if that was not all: the next call leaves alone what was sent. A dry run, one of which nothing was sent by then, and one with `again` that did not come to its end is refused: it would begin anew each time. So is one that means more letters than `http.redrive_letters` (422).")
        .takes::<Body>()
        .gives::<Report>(StatusCode::OK, "What became of them, or would.");
    [
        Endpoint::new(list, |rest, asked| Box::pin(async move { rest.dead_letters(&asked.query).await })),
        Endpoint::new(one, |rest, asked| Box::pin(async move { rest.dead_letter(asked.segment("id")).await })),
        Endpoint::new(redrive, |rest, asked| Box::pin(async move { rest.redrive(asked).await })),
    ]
}

impl Dlq {
    pub(super) fn new(letters: DeadLetters, rules: RulesSource, (config, metrics): (&HttpConfig, &Metrics)) -> Self {
        let oversized = Counter::default();
        let told = "Redrives of dead letters that were refused, because they meant more than `http.redrive_letters`";
        super::register(metrics, &[("oversized_redrives", told, &oversized)]);
        let letters = Reading::new(letters, "the dead letters", config.request_timeout.0);
        Self { letters, rules, most: config.redrive_letters, oversized }
    }

    /// Reads when it is its turn.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DeadLetters, &mut Watch<'_>) -> Result<T, ReplayError> + Send + 'static,
    ) -> Result<T, Problem> {
        let reading = self.letters.run(move |letters, stop| work(letters, &mut Watch { stop, progress: &mut |_| {} }));
        reading.await?.map_err(|error| {
            if matches!(error, ReplayError::TooMany { .. }) {
                self.oversized.inc();
            }
            unread(error)
        })
    }

    /// The rules as they are now.
    async fn edition(&self) -> Result<Edition, Problem> {
        let source = self.rules.clone();
        let reading = tokio::task::spawn_blocking(move || Edition::read(&source));
        let why = match reading.await {
            Ok(Ok(edition)) => return Ok(edition),
            Ok(Err(error)) => format!("{:#}", anyhow::Error::from(error)),
            Err(panicked) => panicked.to_string(),
        };
        tracing::error!(why, "dead letters cannot be decided on: the rules cannot be used");
        let problem = Problem::of("rules-refused", StatusCode::SERVICE_UNAVAILABLE, format!("the rules cannot be used: {why}"));
        Err(problem.with(RETRY_AFTER, HeaderValue::from_static("60")))
    }
}

impl Rest {
    async fn dead_letters(&self, query: &str) -> Answered {
        let filter = of_query(query)?;
        let by = query::parameter::<String>(query, "groupBy", "names what letters are grouped by")?;
        let by = by.as_deref().unwrap_or("reason").split(',').map(str::parse).collect::<Result<Vec<GroupBy>, _>>();
        let by = by.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the parameter `groupBy`: {error}")))?;
        let allowed = "is a number from 0 to 1000";
        let newest = query::parameter::<u32>(query, "newest", allowed)?.unwrap_or(20);
        if newest > MOST_NEWEST {
            return Err(Problem::new(StatusCode::BAD_REQUEST, format!("the parameter `newest` {allowed}")));
        }
        let behind = query::parameter::<PartEnd>(query, "pageToken", "is `nextPageToken` of the answer before, as it was given")?;
        let part = Part { behind, until: Some(self.dlq.letters.until(self.clock)) };
        let wanted = Wanted { filter, part, by, letters: newest as usize };
        let listing = self.dlq.run(move |letters, watch| letters.list(&wanted, watch)).await?;
        json(StatusCode::OK, &listing)
    }

    async fn dead_letter(&self, id: &str) -> Answered {
        let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy().parse::<LetterId>();
        let id = id.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        let edition = self.dlq.edition().await?;
        let found = self.dlq.run(move |letters, watch| {
            let (letter, shown) = letters.one(id, watch)?;
            let now = letters.trial(&letter, &edition, watch)?;
            Ok(LetterNow { letter: shown, now })
        });
        json(StatusCode::OK, &found.await?)
    }

    async fn redrive(&self, mut asked: Asked) -> Answered {
        let Body { selection, execute, again } = asked.body().await?;
        let filter = LetterFilter::from(selection);
        if let Err(error) = filter.check() {
            return Err(invalid(Fault { pointer: "/selection".to_owned(), detail: error.to_string() }));
        }
        let who: UserId = asked.caller.user;
        if execute {
            tracing::info!(%who, %filter, "an operator redrives dead letters");
        }
        let mode = if execute { Mode::Execute { who } } else { Mode::Try };
        let again = if again { Again::Include } else { Again::Skip };
        let until = Some(self.dlq.letters.until(self.clock));
        let wanted = Redrive { filter, edition: self.dlq.edition().await?, mode, again, until, most: Some(self.dlq.most) };
        let report = self.dlq.run(move |letters, watch| letters.redrive(&wanted, watch)).await?;
        json(StatusCode::OK, &report)
    }
}

impl From<Selection> for LetterFilter {
    fn from(selection: Selection) -> Self {
        let Selection { reasons, rules, topics, ids, since, until } = selection;
        Self { reasons, rules, topics, ids, since, until }
    }
}

fn of_query(query: &str) -> Result<LetterFilter, Problem> {
    let texts = |name: &str| query::all(query, name).map(std::borrow::Cow::into_owned).collect();
    let time = |name: &str| query::parameter::<Timestamp>(query, name, "is a time as `2026-01-31T12:00:00Z`");
    let ids = query::all(query, "id").map(|id| id.parse::<LetterId>()).collect::<Result<_, _>>();
    let filter = LetterFilter {
        reasons: texts("reason"),
        rules: texts("rule"),
        topics: texts("topic"),
        ids: ids.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the parameter `id`: {error}")))?,
        since: time("since")?,
        until: time("until")?,
    };
    filter.check().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(filter)
}
