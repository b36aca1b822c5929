//! Dead letters for who cannot wait: lists and redrives over HTTP end with their time, and the next call goes on.

use std::time::Duration;

use rdkafka::message::OwnedHeaders;
use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::clock::Clock;
use tidings::config::{Edition, RulesSource};
use tidings::kafka::cluster::Cluster;
use tidings::replay::{Again, DeadLetters, GroupBy, Mode, Part, Progress, Redrive, ReplayError, Report, Wanted, Watch};
use tidings_core::selection::LetterFilter;
use tokio_util::sync::CancellationToken;

use crate::dlq::{acts, bury, mended, ops, relabelled, undated};
use crate::harness::log::Seen;
use crate::harness::world::World;

/// More than two parts have, of which each ends where progress is told next, or behind a batch.
const MANY: u64 = 2_500;
/// For so long a part is read before its time is over.
const TIME: Duration = Duration::from_secs(2);

/// One real letter, and many more that tell of records of their own, in one partition.
async fn many(world: &World) -> Seen {
    some(world, MANY, |number| undated(&number.to_string())).await
}

/// The same of so many with other values.
async fn some(world: &World, count: u64, value: impl Fn(u64) -> Value) -> Seen {
    let dead = bury(world, &[undated("0").to_string().as_bytes()]).await.remove(0);
    let numbers = (1..count).collect::<Vec<_>>();
    for numbers in numbers.chunks(250) {
        let put = numbers.iter().map(async |number| {
            let mut original = dead.clone();
            original.partition = dead.header("tidings-original-partition").parse().unwrap();
            original.offset = i64::try_from(*number).unwrap();
            let headers: OwnedHeaders = relabelled(&dead, &original);
            let value = value(*number).to_string();
            world.log.produce_to((&world.own("dlq"), dead.partition), "k", value.as_bytes(), headers).await;
        });
        futures_util::future::join_all(put).await;
    }
    dead
}

/// Dead letters as a process has them, and its clock.
fn letters(world: &World) -> (DeadLetters, Clock) {
    let (cluster, clock) = (Cluster::new(&world.config.kafka).unwrap(), Clock::start());
    (DeadLetters::new(cluster, &world.config.pipeline, "node-1".parse().unwrap(), clock), clock)
}

/// Asks until there is an answer within the time: on a machine that pauses, what must be read first may take it all.
fn in_time<T>(clock: Clock, mut ask: impl FnMut(Duration, &mut Watch<'_>) -> Result<T, ReplayError>) -> T {
    loop {
        let until = clock.elapsed() + TIME;
        // Whoever is told how far it is takes the rest of the time.
        let mut linger = |progress: Progress| {
            if progress.what != "fetching" && (progress.done < progress.all || progress.what == "redriving") {
                std::thread::sleep(until.saturating_sub(clock.elapsed()));
            }
        };
        match ask(until, &mut Watch { stop: &CancellationToken::new(), progress: &mut linger }) {
            Ok(answer) => return answer,
            Err(ReplayError::Late) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_list_that_takes_longer_than_its_time_is_told_in_parts_and_each_letter_is_counted_once() {
    let world = World::new().await;
    many(&world).await;
    let (letters, clock) = letters(&world);
    let reading = move || {
        let (mut parts, mut counted, mut in_groups, mut behind) = (0, 0, 0, None);
        loop {
            let listing = in_time(clock, |until, watch| {
                let part = Part { behind: behind.clone(), until: Some(until) };
                letters.list(&Wanted { filter: LetterFilter::default(), part, by: vec![GroupBy::Reason], letters: 3 }, watch)
            });
            parts += 1;
            counted += listing.letters;
            in_groups += listing.groups.iter().map(|group| group.letters).sum::<u64>();
            assert!(listing.letters <= 1_024 && listing.newest.len() as u64 == listing.letters.min(3), "{listing:?}");
            let Some(next) = listing.next_page_token else { return (parts, counted, in_groups) };
            behind = Some(next.parse().unwrap());
        }
    };
    let (parts, counted, in_groups) = tokio::task::spawn_blocking(reading).await.unwrap();
    assert!(parts >= 3, "a machine that pauses needs more than three: {parts}");
    assert_eq!((counted, in_groups), (MANY, MANY));
}

#[tokio::test]
async fn a_redrive_that_takes_longer_than_its_time_says_so_and_the_next_one_sends_the_rest() {
    let world = World::new().await;
    many(&world).await;
    let rules = mended(&world);
    let source = RulesSource::new(&world.config.pipeline, &world.config.courier).or_of(Some(rules.into()));
    let (letters, clock) = letters(&world);
    let reading = move || {
        let mut reports = Vec::<Report>::new();
        loop {
            let report = in_time(clock, |until, watch| {
                let (edition, mode) = (Edition::read(&source).unwrap(), Mode::Execute { who: "ops".parse().unwrap() });
                let filter = LetterFilter::default();
                let wanted = Redrive { filter, edition, mode, again: Again::Skip, until: Some(until), most: None };
                // All of `dlq` has to be read first: lingering there would take the time.
                let (stop, progress) = (watch.stop, &mut *watch.progress);
                let mut redriving = |told: Progress| {
                    if told.what == "redriving" {
                        progress(told)
                    }
                };
                letters.redrive(&wanted, &mut Watch { stop, progress: &mut redriving })
            });
            let is_more = report.more;
            reports.push(report);
            if !is_more {
                return reports;
            }
        }
    };
    let reports = tokio::task::spawn_blocking(reading).await.unwrap();
    let sent = reports.iter().map(|report| report.tally.notified).collect::<Vec<_>>();
    assert!(sent.len() >= 3 && sent.iter().all(|sent| (1..=1_000).contains(sent)), "at most a batch each: {sent:?}");
    assert_eq!(sent.iter().sum::<u64>(), MANY, "each once");
    let before = sent.iter().scan(0, |all, sent| Some(std::mem::replace(all, *all + sent))).collect::<Vec<_>>();
    assert_eq!(reports.iter().map(|report| report.redriven_before).collect::<Vec<_>>(), before);
    let acts = acts(&world).await;
    let ends = acts.iter().filter(|act| act["step"]["kind"] == "ended").map(|act| act["step"]["outcome"].clone());
    // On a machine that pauses one that could not read in its time has failed, and was asked for again.
    let ends = ends.filter(|outcome| outcome != "failed").collect::<Vec<_>>();
    let ["paused", .., "done"] = ends.iter().map(|end| end.as_str().unwrap()).collect::<Vec<_>>()[..] else { panic!("{ends:?}") };
    assert_eq!(ends.len(), sent.len());
}

#[tokio::test]
async fn a_page_token_says_where_a_list_goes_on_and_one_that_is_none_is_refused() {
    let world = World::new().await;
    let dead = bury(&world, &[b"1", b"2", b"3"]).await;
    let running = world.start_roles(&[Role::Gateway]).await;
    let (status, whole) = ops(&running, Method::GET, "/v1/dlq", None).await;
    assert_eq!((status, &whole["letters"], whole.get("nextPageToken")), (200, &json!(3), None), "{whole}");
    // All have one key, so they lie in one partition.
    let token = format!("0.{}-{}", dead[0].partition, dead[1].offset);
    let (_, rest) = ops(&running, Method::GET, &format!("/v1/dlq?pageToken={token}"), None).await;
    assert_eq!((&rest["letters"], &rest["groups"][0]["firstId"]), (&json!(2), &json!(token[2..].replace('-', "@"))), "{rest}");
    for token in ["7-", "", "z", "0.0--1"] {
        let (status, problem) = ops(&running, Method::GET, &format!("/v1/dlq?pageToken={token}"), None).await;
        assert!(status == 400 && problem["detail"].as_str().unwrap().contains("`pageToken`"), "{token}: {problem}");
    }
    running.stop().await;
}

/// Tells all whom an event names.
const TO_CROWDS: &str =
    "[[rule]]\nname = \"crowd\"\nevent = \"crowd\"\nusers = \"{{ members }}\"\ntype = \"t\"\nmessage = \"{{ number }}\"\n";
/// A letter of the pipeline's, and the others tell a crowd each.
const COUNT: u64 = 4;
const CROWD: usize = 5;

/// The world with such letters, and rules by which each is sent.
async fn crowds() -> (World, RulesSource) {
    let world = World::new().await;
    let members = (0..CROWD).map(|member| format!("member-{member}")).collect::<Vec<_>>();
    let crowd = |number: u64| json!({"type": "crowd", "id": number.to_string(), "data": {"number": number, "members": members}});
    some(&world, COUNT, crowd).await;
    let rules = mended(&world);
    std::fs::write(world.dir.path().join("mended/crowd.toml"), TO_CROWDS).unwrap();
    let source = RulesSource::new(&world.config.pipeline, &world.config.courier).or_of(Some(rules.into()));
    (world, source)
}

/// Redrives all; the time is over once the values of the letters are there. One that has not come so far is asked for again, with more time.
fn out_of_time(
    (letters, clock): (&DeadLetters, Clock),
    source: &RulesSource,
    (mode, again): (Mode, Again),
) -> Result<Report, ReplayError> {
    for time in (0..8).map(|doubled| Duration::from_millis(500 << doubled)) {
        let (until, mut has_come) = (clock.elapsed() + time, false);
        let mut linger = |progress: Progress| {
            if progress.what == "fetching" && progress.done == progress.all && clock.elapsed() < until {
                has_come = true;
                std::thread::sleep(until.saturating_sub(clock.elapsed()));
            }
        };
        let (edition, filter) = (Edition::read(source).unwrap(), LetterFilter::default());
        let wanted = Redrive { filter, edition, mode: mode.clone(), again, until: Some(until), most: None };
        let redriven = letters.redrive(&wanted, &mut Watch { stop: &CancellationToken::new(), progress: &mut linger });
        if has_come {
            return redriven;
        }
        // Nothing is sent by one that did not come so far, or it had nothing to send.
        assert!(matches!(redriven, Err(ReplayError::Late) | Ok(Report { letters: 0, .. })), "{redriven:?}");
        if let Ok(report) = redriven {
            return Ok(report);
        }
    }
    panic!("the letters were not read in any time");
}

#[tokio::test]
async fn a_redrive_looks_at_its_time_behind_each_letter_and_calls_send_the_rest_once_and_a_dry_run_is_too_much() {
    let (world, source) = crowds().await;
    let (letters, clock) = letters(&world);
    let reading = move || {
        let dry = out_of_time((&letters, clock), &source, (Mode::Try, Again::Skip));
        assert!(matches!(dry, Err(ReplayError::Late)), "a dry run is whole or none: {dry:?}");
        let executing = || Mode::Execute { who: "ops".parse().unwrap() };
        let mut reports = Vec::<Report>::new();
        while reports.last().is_none_or(|report| report.more) {
            reports.push(out_of_time((&letters, clock), &source, (executing(), Again::Skip)).unwrap());
            assert!(reports.len() <= COUNT as usize, "{reports:?}");
        }
        reports
    };
    let reports = tokio::task::spawn_blocking(reading).await.unwrap();
    let told = reports.iter().map(|report| (report.redriven_before, report.letters, report.more)).collect::<Vec<_>>();
    assert_eq!(told, [(0, 4, true), (1, 3, true), (2, 2, true), (3, 1, false)], "one letter with each call");
    assert_eq!(sent(&world).await, all_once());
}

#[tokio::test]
async fn a_redrive_of_what_was_redriven_before_that_takes_longer_than_its_time_is_refused_since_the_next_would_begin_anew() {
    let (world, source) = crowds().await;
    let (letters, clock) = letters(&world);
    let reading =
        move || out_of_time((&letters, clock), &source, (Mode::Execute { who: "ops".parse().unwrap() }, Again::Include));
    let refused = tokio::task::spawn_blocking(reading).await.unwrap();
    assert!(matches!(refused, Err(ReplayError::Unfinished { done: 1, all: COUNT })), "{refused:?}");
    let acts = acts(&world).await;
    assert_eq!(
        acts.last().unwrap()["step"]["outcome"],
        "failed",
        "what was sent stands there, and that it was not all: {acts:?}"
    );
}

/// The events and channels of the notifications on the log.
async fn sent(world: &World) -> Vec<(String, String)> {
    let records = world.log.records(&world.own("notifications")).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |record: &Seen| (text(&record.json()["notification"]["eventId"]), text(&record.json()["channel"]));
    let mut sent = records.iter().map(of).collect::<Vec<_>>();
    sent.sort();
    sent
}

/// Those of all letters, each once.
fn all_once() -> Vec<(String, String)> {
    let of_crowds = (1..COUNT).flat_map(|number| (0..CROWD).map(move |member| (number, format!("user-member-{member}"))));
    let of_crowds = of_crowds.map(|(number, channel)| (number.to_string(), channel));
    [("0".to_owned(), "user-alice".to_owned())].into_iter().chain(of_crowds).collect()
}

#[tokio::test]
async fn a_redrive_over_http_of_more_letters_than_are_kept_in_mind_is_refused_and_counted_and_a_narrower_one_goes_on() {
    let mut world = World::with(|config| config.http.redrive_letters = std::num::NonZeroUsize::new(3).unwrap()).await;
    let events = (0..4).map(|number| undated(&number.to_string()).to_string()).collect::<Vec<_>>();
    let dead = bury(&world, &events.iter().map(String::as_bytes).collect::<Vec<_>>()).await;
    world.config.pipeline.rules = mended(&world);
    let running = world.start_roles(&[Role::Gateway]).await;
    for execute in [false, true] {
        let (status, problem) =
            ops(&running, Method::POST, "/v1/dlq/redrive", Some(json!({"selection": {}, "execute": execute}))).await;
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!((status, &problem["type"]), (422, &json!("urn:tidings:problem:too-many")), "{problem}");
        assert!(
            detail.contains("more than 3 letters") && detail.contains("`since`") && detail.contains("tidings dlq redrive"),
            "{detail}"
        );
    }
    assert!((running.metric("tidings_http_oversized_redrives_total").await - 2.0).abs() < f64::EPSILON);
    assert!(acts(&world).await.is_empty(), "nothing was written");
    let id = |dead: &Seen| format!("{}@{}", dead.partition, dead.offset);
    let selection = json!({"ids": dead[..3].iter().map(id).collect::<Vec<_>>()});
    let (status, report) =
        ops(&running, Method::POST, "/v1/dlq/redrive", Some(json!({"selection": selection, "execute": true}))).await;
    assert_eq!((status, &report["notified"]), (200, &json!(3)), "{report}");
    // Those that were redriven before take no room.
    let (status, report) = ops(&running, Method::POST, "/v1/dlq/redrive", Some(json!({"selection": {}, "execute": true}))).await;
    assert_eq!((status, &report["notified"], &report["redrivenBefore"]), (200, &json!(1), &json!(3)), "{report}");
    running.stop().await;
}
