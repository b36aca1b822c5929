//! Arrows between rooms: every path in the sources is held against the table of rooms in ARCHITECTURE.md.
//!
//! `table` reads the table, `paths` finds the paths of one file, `arrows` says which of them the table refuses. The tests of
//! each show it failing on small sources; the ones here hold the project itself.
#![allow(clippy::expect_used, reason = "a test crate: a broken premise is a failed test")]

mod arrows;
mod paths;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use arrows::{Krate, violations};
use table::Table;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn table() -> Table {
    let text = fs::read_to_string(Path::new(ROOT).join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    Table::read(&text).expect("ARCHITECTURE.md has the table of rooms")
}

/// Every `.rs` file below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry of the folder").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The top-level modules of a crate, by their files. `lib` is the list of them, not one of them; `snapshots` holds what tests
/// compare with.
fn rooms_on_disk(krate: Krate) -> BTreeSet<String> {
    let folder = Path::new(ROOT).join(krate.folder());
    let entries = fs::read_dir(folder).expect("a folder of sources").map(|it| it.expect("an entry of the folder").path());
    let named = entries.filter(|it| it.is_dir() || it.extension().is_some_and(|it| it == "rs"));
    let stems = named.filter_map(|it| Some(it.file_stem()?.to_str()?.to_owned()));
    stems.filter(|it| it != "lib" && it != "snapshots").collect()
}

fn hold(krate: Krate) {
    let table = table();
    let folder = Path::new(ROOT).join(krate.folder());
    let mut refused = Vec::new();
    for file in sources(&folder) {
        let text = fs::read_to_string(&file).expect("a source file");
        let place = file.strip_prefix(&folder).expect("a file below the folder");
        let found = violations(&table, krate, place, &text).unwrap_or_else(|error| vec![error.to_string()]);
        refused.extend(found.into_iter().map(|it| format!("{}/{}: {it}", krate.folder(), place.display())));
    }
    assert!(refused.is_empty(), "the table of rooms in ARCHITECTURE.md does not allow:\n{}", refused.join("\n"));
}

#[test]
fn the_core_keeps_to_the_table() {
    hold(Krate::Core);
}

#[test]
fn the_program_keeps_to_the_table() {
    hold(Krate::Program);
}

#[test]
fn every_module_is_a_room_of_the_table_and_every_room_is_there() {
    let table = table();
    for krate in [Krate::Core, Krate::Program] {
        assert_eq!(table.rooms_of(krate), rooms_on_disk(krate), "left: ARCHITECTURE.md, right: {}", krate.folder());
    }
}
