//! Every metric of a process with all roles: its name, type, unit, labels and meaning, and where else the names are used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tidings::app::{App, Source};
use tidings::cli::Role;
use tidings::config::Config;
use tidings::telemetry::Described;
use tokio_util::sync::CancellationToken;

use crate::harness::eventually;
use crate::harness::world::{SECRET, await_ready};

/// The last word of a name, `_total` apart: base units, and things that are counted.
const UNITS: [&str; 26] = [
    "seconds",
    "bytes",
    "ratio",
    "attempts",
    "batches",
    "commits",
    "connections",
    "contexts",
    "cursors",
    "deliveries",
    "files",
    "frames",
    "handshakes",
    "lines",
    "messages",
    "notifications",
    "offsets",
    "partitions",
    "records",
    "reloads",
    "requests",
    "spans",
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
    config.store.path = folder.path().join("tidings.db").display().to_string();
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
    let names = names_of(&catalog);
    for (file, used) in uses() {
        assert!(names.contains(&used), "{file} uses {used}, which nothing registers");
    }
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
fn uses() -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["tests/it", "bench"] {
        collect(&top.join(folder), &mut files);
    }
    let rooms = ["pipeline", "gateway", "inbox", "courier", "kafka", "http", "telemetry", "process"];
    let mut uses = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for room in rooms {
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
