//! The table of rooms as ARCHITECTURE.md has it: one row a layer, rooms in backticks in their order.
//! A row whose last cell says "never each other" is closed, one that says "everything" is free; in all others a room may
//! use those to its left, and everybody may use the rows above.

use std::collections::{BTreeMap, BTreeSet};

use crate::arrows::Krate;

/// How the rooms of one row stand to each other.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Among {
    LeftOnly,
    NeverEachOther,
    Everything,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    krate: Krate,
    row: usize,
    column: usize,
    among: Among,
}

/// Who may use whom.
#[derive(Debug)]
pub(crate) struct Table {
    places: BTreeMap<String, Place>,
}

impl Table {
    /// Reads the table whose head begins with `| layer |`. Errors say what is wrong with it.
    pub(crate) fn read(markdown: &str) -> Result<Self, String> {
        let mut lines =
            markdown.lines().skip_while(|it| !it.starts_with("| layer |")).skip(2).take_while(|it| it.starts_with('|'));
        let mut places = BTreeMap::new();
        for (row, line) in lines.by_ref().enumerate() {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [_, folder, rooms, may_use] = cells[..] else {
                return Err(format!("not four cells: {line}"));
            };
            let folder = folder.trim_matches('`');
            let krate = Krate::of_folder(folder).ok_or_else(|| format!("no crate has its sources in {folder}"))?;
            for (column, room) in rooms.split('`').skip(1).step_by(2).enumerate() {
                let place = Place { krate, row, column, among: among(may_use) };
                if places.insert(room.to_owned(), place).is_some() {
                    return Err(format!("the room {room} is named twice"));
                }
            }
        }
        if places.is_empty() { Err("no row below a head that begins with \"| layer |\"".to_owned()) } else { Ok(Self { places }) }
    }

    /// The names of a crate's rooms.
    pub(crate) fn rooms_of(&self, krate: Krate) -> BTreeSet<String> {
        self.places.iter().filter(|(_, place)| place.krate == krate).map(|(room, _)| room.clone()).collect()
    }

    /// Whether the room is one of that crate.
    pub(crate) fn knows(&self, krate: Krate, room: &str) -> bool {
        self.places.get(room).is_some_and(|it| it.krate == krate)
    }

    /// Whether one room may use another. A room the table does not know may use nothing and be used by nobody.
    pub(crate) fn allows(&self, user: &str, used: &str) -> bool {
        let (Some(from), Some(to)) = (self.places.get(user), self.places.get(used)) else {
            return false;
        };
        if user == used || from.among == Among::Everything {
            return true;
        }
        if from.row == to.row { from.among == Among::LeftOnly && to.column < from.column } else { to.row < from.row }
    }
}

fn among(may_use: &str) -> Among {
    if may_use.contains("never each other") {
        Among::NeverEachOther
    } else if may_use.contains("everything") {
        Among::Everything
    } else {
        Among::LeftOnly
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Table;

    pub(crate) const SMALL: &str = "
Text before.

| layer | sources | rooms | may use |
|---|---|---|---|
| core | `crates/tidings-core/src` | `ids` → `rules`, `delivery` | those to their left |
| adapters | `src` | `clock` `store` | the core, those to their left |
| services | `src` | `pipeline` (worker) `gateway` | what is above, never each other |
| edges | `src` | `http` `cli` | all above, those to their left |
| assembly | `src` | `app` `main` | everything |

| another | table |
";

    #[test]
    fn a_room_may_use_those_to_its_left_and_above_only() {
        let table = Table::read(SMALL).expect("a table");
        for (user, used) in
            [("store", "clock"), ("rules", "ids"), ("gateway", "store"), ("cli", "http"), ("main", "app"), ("app", "main")]
        {
            assert!(table.allows(user, used), "{user} may use {used}");
        }
        for (user, used) in [("clock", "store"), ("ids", "rules"), ("store", "gateway"), ("http", "cli"), ("cli", "app")] {
            assert!(!table.allows(user, used), "{user} may not use {used}");
        }
    }

    #[test]
    fn services_never_use_each_other_in_either_direction() {
        let table = Table::read(SMALL).expect("a table");
        assert!(!table.allows("pipeline", "gateway"));
        assert!(!table.allows("gateway", "pipeline"));
    }

    #[test]
    fn an_unknown_room_may_do_nothing() {
        let table = Table::read(SMALL).expect("a table");
        assert!(!table.allows("stranger", "clock"));
        assert!(!table.allows("app", "stranger"));
    }

    #[test]
    fn a_table_that_is_missing_or_broken_is_an_error_and_not_an_empty_table() {
        assert!(Table::read("no table").is_err());
        assert!(Table::read("| layer | sources | rooms | may use |\n|---|\n| core | `src` | `ids` |\n").is_err());
        assert!(Table::read("| layer | sources | rooms | may use |\n|---|\n| core | `elsewhere` | `ids` | x |\n").is_err());
        assert!(Table::read("| layer | sources | rooms | may use |\n|---|\n| core | `src` | `ids` `ids` | x |\n").is_err());
    }
}
