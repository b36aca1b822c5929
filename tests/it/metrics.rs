//! Every metric of a process with all roles: its name, type, unit, labels and meaning, and where else the names are used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tidings::app::{App, Source};
use tidings::cli::Role;
use tidings::config::{Config, Scalar};
use tidings::telemetry::Described;
use tokio_util::sync::CancellationToken;

use crate::harness::world::{PARTITIONS, Running, SECRET, World, await_ready, payment};
use crate::harness::{HANG, eventually};

/// The last word of a name, `_total` apart: base units, and things that are counted.
const UNITS: [&str; 44] = [
    "seconds",
    "bytes",
    "ratio",
    "answers",
    "attempts",
    "batches",
    "brokers",
    "commits",
    "conflicts",
    "connections",
    "contexts",
    "cursors",
    "deliveries",
    "devices",
    "files",
    "frames",
    "handshakes",
    "interests",
    "limits",
    "lines",
    "messages",
    "nodes",
    "notifications",
    "offsets",
    "partitions",
    "positions",
    "questions",
    "reads",
    "rebalances",
    "receipts",
    "records",
    "recoveries",
    "redrives",
    "reloads",
    "requests",
    "schemas",
    "signals",
    "spans",
    "states",
    "subscriptions",
    "topics",
    "transactions",
    "trips",
    "upgrades",
];

/// What a process with all roles registers. It needs no broker: the cluster is in the process.
async fn catalog() -> Vec<Described> {
    let folder = tempfile::tempdir().unwrap();
    let mut config: Config = tidings::config::load(None, &[]).unwrap();
    config.gateway.host = "127.0.0.1".into();
    config.gateway.port = 0;
    config.auth.secret = SECRET.into();
    config.store.url = tidings::config::Database::Sqlite(folder.path().join("tidings.db"));
    let roles = [Role::Pipeline, Role::Gateway, Role::Inbox, Role::Courier];
    let app = App::prepare(config, &roles, Source::Embedded).await.unwrap();
    let (address, metrics, stop) = (app.address(), app.metrics(), CancellationToken::new());
    let running = tokio::spawn(app.run(stop.clone()));
    await_ready(address).await;
    stop.cancel();
    eventually("the process has ended", async || running.is_finished().then_some(())).await;
    running.await.unwrap().unwrap();
    metrics.catalog()
}

fn table(catalog: &[Described]) -> String {
    let row = |metric: &Described| {
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" ");
        let unit = metric.unit.as_deref().unwrap_or_default();
        format!("| `{}` | {} | {unit} | {labels} | {} |", metric.name, metric.kind, metric.help)
    };
    let rows = catalog.iter().map(row).collect::<Vec<_>>().join("\n");
    format!("| metric | type | unit | labels | what it says |\n|---|---|---|---|---|\n{rows}")
}

#[tokio::test]
async fn a_process_with_all_roles_registers_these_metrics() {
    let catalog = catalog().await;
    insta::assert_snapshot!("catalog", table(&catalog));
    let mut seen = BTreeMap::new();
    for metric in &catalog {
        let Described { name, unit, help, .. } = metric;
        assert_eq!(seen.insert(name, metric), None, "{name} is registered twice");
        assert!(name.ends_with("_info") || UNITS.contains(&unit.as_deref().unwrap()), "{name} ends with no known unit");
        assert!(!help.ends_with('.') && help.starts_with(char::is_uppercase), "{name}: {help}");
    }
    hold_the_dashboard(&catalog);
    hold_the_alarms(&catalog);
    let names = names_of(&catalog);
    for (file, used) in uses(&names) {
        assert!(names.contains(&used), "{file} uses {used}, which nothing registers");
    }
}

/// What the dashboard need not show.
const NOT_SHOWN: [&str; 6] = [
    "tidings_http_certificate_expiry_timestamp_seconds",
    "tidings_pipeline_halted_since_timestamp_seconds",
    "tidings_pipeline_rules_info",
    "tidings_pipeline_rules_loaded_timestamp_seconds",
    "tidings_process_build_info",
    "tidings_process_start_time_seconds",
];

/// Every name in the dashboard exists, and every metric is in it.
fn hold_the_dashboard(catalog: &[Described]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/tidings.json");
    let board: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(board["schemaVersion"].as_u64() >= Some(39));
    assert_eq!(board["templating"]["list"][0]["type"], "datasource");
    let mut shown = BTreeSet::new();
    let panels = board["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    for panel in panels {
        let title = &panel["title"];
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let used = names_in(target["expr"].as_str().unwrap());
            assert!(!used.is_empty(), "{title} asks for nothing of ours");
            shown.extend(used);
        }
    }
    let names = names_of(catalog);
    assert_eq!(shown.difference(&names).collect::<Vec<_>>(), [""; 0], "the dashboard asks for what nothing registers");
    for metric in catalog.iter().filter(|metric| !NOT_SHOWN.contains(&metric.name.as_str())) {
        let bucket = format!("{}_bucket", metric.name);
        assert!(shown.contains(&metric.name) || shown.contains(&bucket), "the dashboard does not show {}", metric.name);
    }
}

/// Every name and label in the alarms exists, and the page for operators says of each alarm what to do.
fn hold_the_alarms(catalog: &[Described]) {
    let read = |file: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let (rules, page) = (read("deploy/prometheus/alerts.yml"), read("docs/operations.md"));
    let of = |key: &str| {
        let values = rules.lines().filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix(key));
        values.map(|value| value.trim().to_owned()).collect::<Vec<_>>()
    };
    let (alarms, queries) = (of("alert:"), of("expr:"));
    assert!(alarms.len() > 10 && alarms.len() == queries.len(), "{alarms:?}");
    let told = page.lines().filter_map(|line| line.strip_prefix("| `Tidings")?.split('`').next());
    assert_eq!(told.map(|name| format!("Tidings{name}")).collect::<Vec<_>>(), alarms, "the page has the same, in this order");
    let names = names_of(catalog);
    for query in &queries {
        let used = names_in(query);
        assert!(!used.is_empty() || query.starts_with("up{"), "{query} asks for nothing of ours");
        for name in used {
            assert!(names.contains(&name), "an alarm asks for {name}, which nothing registers");
            let labels = &catalog.iter().find(|metric| metric.name == name).unwrap().labels;
            let mark = format!("{name}{{");
            let selectors = query.split(&mark).skip(1).filter_map(|rest| rest.split('}').next());
            for label in selectors.flat_map(|all| all.split(',')).filter_map(|one| one.split(['=', '!']).next()) {
                assert!(labels.iter().any(|known| *known == label.trim()), "{name} has no label {label}");
            }
        }
    }
}

/// The names of our metrics in a query.
fn names_in(query: &str) -> Vec<String> {
    let words = query.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    words.filter(|word| word.starts_with("tidings_")).map(str::to_owned).collect()
}

/// The lines of a metric's samples.
async fn samples(running: &Running, name: &str) -> Vec<String> {
    let (_, text) = running.get("/metrics").await;
    let of = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    text.lines().filter(of).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_way_of_an_event_is_measured_from_its_topic_to_the_socket() {
    let world = World::with(|config| {
        config.kafka.properties.insert("statistics.interval.ms".into(), Scalar::Number(100));
    })
    .await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    world.log.produce(&world.topic, Some("k"), payment("1", "alice").to_string().as_bytes()).await;
    world.log.produce(&world.topic, Some("k"), b"no event").await;
    alice.frame("notification:new").await;
    world.own_records("dlq", 1).await;
    eventually("the way to the socket is timed", async || {
        (running.metric("tidings_gateway_event_to_socket_seconds_count").await == 1.0).then_some(())
    })
    .await;
    assert!(running.metric("tidings_gateway_event_to_socket_seconds_sum").await < HANG.as_secs_f64());
    // The first record of a partition is one of those that are timed.
    assert_eq!(running.metric("tidings_pipeline_decide_seconds_count").await, 1.0);
    eventually("the write is timed", async || {
        (running.metric("tidings_pipeline_write_seconds_count").await == 1.0).then_some(())
    })
    .await;
    let labels = r#"{cause="poison",fate="dead_letter",class="not_json"}"#;
    eventually("what was buried is counted, and nothing else", async || {
        let buried = samples(&running, "tidings_pipeline_failed_records_total").await;
        (buried == [format!("tidings_pipeline_failed_records_total{labels} 1")]).then_some(())
    })
    .await;
    eventually("librdkafka has told that all was read", async || {
        let lags = samples(&running, "tidings_kafka_lag_records").await;
        let of_topic = format!("client=\"pipeline\",topic=\"{}\"", world.topic);
        let mine = lags.iter().filter(|line| line.contains(&of_topic)).collect::<Vec<_>>();
        (mine.len() == PARTITIONS as usize && mine.iter().all(|line| line.ends_with(" 0"))).then_some(())
    })
    .await;
    eventually("librdkafka has told how it gets on with the brokers", async || {
        let trip = running.metric("tidings_kafka_round_trip_seconds").await;
        (trip > 0.0 && running.metric("tidings_kafka_connected_brokers").await >= 1.0).then_some(())
    })
    .await;
    running.stop().await;
}

/// Every name that a query or a test may use.
fn names_of(catalog: &[Described]) -> BTreeSet<String> {
    let of = |metric: &Described| match metric.kind {
        "histogram" => ["_bucket", "_sum", "_count"].iter().map(|suffix| format!("{}{suffix}", metric.name)).collect(),
        _ => vec![metric.name.clone()],
    };
    catalog.iter().flat_map(of).collect()
}

/// Names in tests and benches: one that does not exist would make its test wait for ever.
fn uses(names: &BTreeSet<String>) -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["tests/it", "bench"] {
        collect(&top.join(folder), &mut files);
    }
    let rooms = names.iter().filter_map(|name| name.split('_').nth(1)).collect::<BTreeSet<_>>();
    let mut uses = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for room in &rooms {
            let mark = format!("\"tidings_{room}_");
            for (start, _) in text.match_indices(&mark) {
                let name = text[start + 1..].split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap();
                uses.push((file.clone(), name.to_owned()));
            }
        }
    }
    assert!(uses.len() > 3, "the tests' uses are found");
    uses
}

fn collect(folder: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("metrics.rs") {
            files.push(path.display().to_string());
        }
    }
}
