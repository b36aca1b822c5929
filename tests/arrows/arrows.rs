//! Says which paths of a file the table of rooms refuses, and holds two promises that hang on a name: outside of tests only
//! `clock` asks for the time, and nobody spawns a task that nobody owns.
//! A path has to name its room: going over the crate's root by a re-export, a glob or another name for it would hide the arrow.

use std::path::Path;

use crate::paths::{Written, paths};
use crate::table::Table;

/// One of the two crates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Krate {
    Core,
    Program,
}

const CLOCKS: [&str; 4] = ["SystemTime", "Instant", "Utc", "Local"];
const SPAWNERS: [&str; 2] = ["tokio", "task"];

impl Krate {
    /// Where its sources are, from the root of the project.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Core => "crates/tidings-core/src",
            Self::Program => "src",
        }
    }

    /// The crate with its sources there.
    pub(crate) fn of_folder(folder: &str) -> Option<Self> {
        [Self::Core, Self::Program].into_iter().find(|it| it.folder() == folder)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Core => "tidings_core",
            Self::Program => "tidings",
        }
    }
}

/// What the file at `place`, seen from its crate's sources, is not allowed to write.
pub(crate) fn violations(table: &Table, krate: Krate, place: &Path, source: &str) -> syn::Result<Vec<String>> {
    let module = module_of(place);
    let room = module.first().map_or("main", String::as_str);
    // The root is assembly: lib.rs and main.rs may name every room.
    let is_root = module.is_empty();
    let mut refused = Vec::new();
    for written in paths(source)? {
        let arrow = if is_root { None } else { arrow(table, krate, &module, &written) };
        let is_test = module.iter().chain(&written.inside).any(|it| it == "tests");
        let call = if is_test { None } else { call(room, &written.names) };
        if let Some(why) = arrow.or(call) {
            refused.push(format!("`{}`: {why}", written.names.join("::")));
        }
    }
    Ok(refused)
}

fn module_of(place: &Path) -> Vec<String> {
    let stem = place.with_extension("");
    let names = stem.iter().map(|it| it.to_string_lossy().into_owned());
    names.filter(|it| !["lib", "main", "mod"].contains(&it.as_str())).collect()
}

fn arrow(table: &Table, krate: Krate, module: &[String], written: &Written) -> Option<String> {
    let path = from_root(krate, module, written)?;
    let room = module.first()?;
    let Some(used) = path.first().filter(|it| *it != "*") else {
        return Some("names the root of the crate; name the room instead".to_owned());
    };
    if !table.knows(krate, used) {
        return Some(format!("{used} is no room of the table; the root of the crate has nothing but rooms"));
    }
    (!table.allows(room, used)).then(|| format!("{room} may not use {used}"))
}

/// The path from the crate's root on; nothing if it leads out of the crate or to a name of its own module.
fn from_root(krate: Krate, module: &[String], written: &Written) -> Option<Vec<String>> {
    let mut names = written.names.as_slice();
    let mut base: Vec<String> = module.iter().chain(&written.inside).cloned().collect();
    match names.first()?.as_str() {
        "self" => names = &names[1..],
        "super" => {}
        first if first == "crate" || first == krate.name() => {
            base.clear();
            names = &names[1..];
        }
        _ => return None,
    }
    while names.first().is_some_and(|it| it == "super") {
        base.pop();
        names = &names[1..];
    }
    base.extend_from_slice(names);
    Some(base)
}

fn call(room: &str, names: &[String]) -> Option<String> {
    let [.., owner, function] = names else {
        return None;
    };
    match function.as_str() {
        "now" if CLOCKS.contains(&owner.as_str()) && room != "clock" => {
            Some("only clock asks for the time; take it as an argument".to_owned())
        }
        "spawn" if SPAWNERS.contains(&owner.as_str()) => {
            Some("a task nobody owns; spawn it on a JoinSet or a TaskTracker".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Krate, violations};
    use crate::table::Table;
    use crate::table::tests::SMALL;

    fn refused(krate: Krate, place: &str, source: &str) -> Vec<String> {
        let table = Table::read(SMALL).expect("a table");
        violations(&table, krate, Path::new(place), source).expect("tokens")
    }

    /// Each of these is an arrow from `store` up to `gateway`, in the file of the room itself.
    const UPWARD: [&str; 17] = [
        "use crate::gateway::Frame;",
        "use crate::gateway;",
        "use super::gateway::Frame;",
        "use self::super::gateway::Frame;",
        "use crate::{clock::Clock, gateway::{Frame}};",
        "use super::{clock, gateway as g};",
        "use crate::r#gateway::Frame;",
        "use ::tidings::gateway::Frame;",
        "pub use crate::gateway::Frame;",
        "pub(crate) use super::gateway::*;",
        "fn f() { crate::gateway::send() }",
        "fn f(_: &[crate::gateway::Frame]) {}",
        "impl From<super::gateway::Frame> for Row {}",
        "mod sqlite { use super::super::gateway::Frame; }",
        "#[cfg(test)] mod tests { fn f() { super::super::gateway::send() } }",
        "fn f() { tokio::select! { frame = crate::gateway::next() => frame } }",
        r#"struct Row { #[serde(with = "crate::gateway::hex")] bytes: Bytes }"#,
    ];

    #[test]
    fn an_arrow_up_is_refused_however_it_is_written() {
        for source in UPWARD {
            let found = refused(Krate::Program, "store.rs", source);
            assert!(found.len() == 1 && found[0].ends_with("store may not use gateway"), "{source}: {found:?}");
        }
    }

    #[test]
    fn an_arrow_up_is_refused_in_a_file_below_the_room() {
        for (place, source) in [
            ("store/sqlite.rs", "use super::super::gateway::Frame;"),
            ("store/sqlite/rows.rs", "use super::super::super::gateway::Frame;"),
            ("store/mod.rs", "use super::gateway::Frame;"),
        ] {
            assert_eq!(refused(Krate::Program, place, source).len(), 1, "{place}: {source}");
        }
    }

    #[test]
    fn services_do_not_use_each_other() {
        assert_eq!(
            refused(Krate::Program, "gateway/feed.rs", "use crate::pipeline::Worker;"),
            ["`crate::pipeline::Worker`: gateway may not use pipeline"]
        );
        assert_eq!(
            refused(Krate::Program, "pipeline.rs", "use crate::gateway::Feed;"),
            ["`crate::gateway::Feed`: pipeline may not use gateway"]
        );
    }

    #[test]
    fn the_core_has_arrows_of_its_own() {
        assert_eq!(refused(Krate::Core, "ids.rs", "use crate::rules::Rule;"), ["`crate::rules::Rule`: ids may not use rules"]);
        assert!(refused(Krate::Core, "rules.rs", "use crate::ids::UserId; use tidings::app;").is_empty());
    }

    #[test]
    fn nothing_hides_behind_the_root_of_the_crate() {
        for source in [
            "use crate::Frame;",
            "use crate::*;",
            "use super::*;",
            "use crate as root;",
            "use crate::{self as root};",
            "use super as up;",
            "extern crate self as me;",
            "fn f() { crate::send() }",
            "macro_rules! m { () => { $crate::send() } }",
        ] {
            assert_eq!(refused(Krate::Program, "store.rs", source).len(), 1, "{source}");
        }
    }

    #[test]
    fn what_the_table_allows_is_not_refused() {
        for (place, source) in [
            (
                "store.rs",
                "use crate::clock::Clock; use super::clock; mod sqlite; pub(crate) use self::sqlite::Sqlite; use sqlite::Row;",
            ),
            ("store/sqlite.rs", "use super::Store; use tidings_core::rules::Rule; #[cfg(test)] mod tests { use super::*; }"),
            ("gateway.rs", "use crate::{clock, store::Store}; pub(in crate::gateway) struct Feed; fn f() { self::g() }"),
            ("app.rs", "use crate::{gateway, pipeline, http}; use crate::main;"),
            ("main.rs", "use tidings::{app, cli}; use tidings::*;"),
            ("lib.rs", "pub mod app; pub use gateway::Frame;"),
        ] {
            assert_eq!(refused(Krate::Program, place, source), Vec::<String>::new(), "{place}: {source}");
        }
    }

    #[test]
    fn only_the_clock_asks_for_the_time() {
        for source in [
            "fn f() { SystemTime::now() }",
            "fn f() { let t = std::time::Instant::now; }",
            "use chrono::Utc; fn f() { Utc::now() }",
        ] {
            assert_eq!(refused(Krate::Program, "store.rs", source).len(), 1, "{source}");
            assert!(refused(Krate::Program, "clock.rs", source).is_empty(), "{source}");
        }
        assert!(refused(Krate::Program, "store.rs", "fn f(clock: &Clock) { clock.now() }").is_empty());
    }

    #[test]
    fn tests_may_ask_for_the_time_and_spawn_but_keep_to_the_table() {
        let calls = "fn f() { tokio::spawn(g(Instant::now())) }";
        assert!(refused(Krate::Program, "store/tests.rs", calls).is_empty());
        assert!(refused(Krate::Program, "store.rs", &format!("#[cfg(test)] mod tests {{ {calls} }}")).is_empty());
        assert_eq!(refused(Krate::Program, "store/tests.rs", "use crate::gateway::Frame;").len(), 1);
    }

    #[test]
    fn no_task_without_an_owner() {
        for source in ["fn f() { tokio::spawn(g()) }", "use tokio::spawn;", "use tokio::task; fn f() { task::spawn(g()) }"] {
            assert_eq!(refused(Krate::Program, "app.rs", source).len(), 1, "{source}");
        }
        assert!(
            refused(Krate::Program, "app.rs", "fn f(set: &mut JoinSet<()>) { set.spawn(g()); std::thread::spawn(h) }").is_empty()
        );
    }
}
