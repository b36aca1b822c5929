//! What tidings ships: the files of `rules/` and `schemas/events/` at the top of the repository, found by the build script, so
//! that a new event type touches only those folders.

use super::File;

include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// The shipped rule files.
#[must_use]
pub fn shipped() -> &'static [File<'static>] {
    RULES
}

/// The shipped schemas, one for each type of event.
#[must_use]
pub fn shipped_schemas() -> &'static [File<'static>] {
    SCHEMAS
}

#[cfg(test)]
mod tests;
