//! A rule's own ladder: the rungs on which its notifications wait, and behind which they end.
//!
//! Owns: the key `ladder`. Refuses rungs that do not climb: where a delivery goes next follows from the rung it lies on. Which rungs there
//! are, the courier's configuration says. Neighbours: `parse` calls it, `delivery::ladder` goes by it.

use std::time::Duration;

use super::problem::{Place, Problem};
use super::table::Table;
use crate::time::Delay;

/// The key of a rule.
const KEY: &str = "ladder";

/// The rungs in their order, each with its line. Without any, nothing is tried again.
#[derive(Debug, Clone)]
pub(super) struct OwnLadder(Vec<(Delay, Place)>);

impl OwnLadder {
    /// Reads the key, if it is there.
    pub(super) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let written = table.list(KEY, problems)?;
        if !["user", "users"].iter().any(|key| table.has(key)) {
            let message = "`ladder` without `user` or `users`: only in mailboxes it is known who has to acknowledge";
            problems.push(table.place_of_key(KEY).problem(message));
        }
        let mut rungs = Vec::<(Delay, Place)>::with_capacity(written.len());
        for (field, written) in written {
            match written.text.parse::<Delay>() {
                Err(error) => problems.push(written.place.problem(format!("`{field}`: {error}"))),
                Ok(delay) => match rungs.last() {
                    Some((before, _)) if *before >= delay => {
                        let message =
                            format!("`{field}`: {delay} comes behind {before}; each rung is longer than the one before it");
                        problems.push(written.place.problem(message));
                    }
                    _ => rungs.push((delay, written.place)),
                },
            }
        }
        Some(Self(rungs))
    }

    /// How long each rung is.
    pub(super) fn delays(&self) -> Vec<Delay> {
        self.0.iter().map(|(delay, _)| *delay).collect()
    }

    /// A problem for each rung that is not among `rungs`.
    pub(super) fn unknown(&self, rungs: &[Delay]) -> impl Iterator<Item = Problem> {
        let known = rungs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let unknown = self.0.iter().filter(|(delay, _)| !rungs.contains(delay));
        unknown.map(move |(delay, place)| {
            place.problem(format!("`{KEY}`: there is no rung of {delay}; `courier.ladder` has {known}"))
        })
    }

    /// A problem for each rung that is only reached when a notification is of no use any more, `end` after its event.
    pub(super) fn behind(&self, end: Delay) -> impl Iterator<Item = Problem> {
        let mut reached = Duration::ZERO;
        let behind = self.0.iter().filter(move |(delay, _)| {
            let is_behind = reached + delay.0 >= end.0;
            reached += delay.0;
            is_behind
        });
        behind.map(move |(delay, place)| {
            let message = format!(
                "`{KEY}`: nothing waits on the rung of {delay} to its end: it has expired before (`expires_after` = {end})"
            );
            place.problem(message).of("rung_unreachable", "leave the rung out, or let it expire later").mild()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{File, Limits, RuleSet};
    use super::*;

    fn parse(ladder: &str) -> Result<RuleSet, Vec<Problem>> {
        let text = format!("[[rule]]\nname = \"a\"\nevent = \"a\"\nuser = \"1\"\ntype = \"t\"\n{ladder}\n");
        RuleSet::parse(&[File { name: "rules/a.toml", text: &text }], Limits::default())
    }

    fn rungs() -> Vec<Delay> {
        [30, 120, 600].map(|seconds| Delay(Duration::from_secs(seconds))).to_vec()
    }

    #[test]
    fn a_ladder_names_rungs_that_there_are_and_may_be_empty() {
        for ladder in ["ladder = []", "ladder = [\"30s\"]", "ladder = [\"30s\", \"10m\"]", "ladder = [\"120s\"]"] {
            assert_eq!(parse(ladder).unwrap().unknown_rungs(&rungs()), [], "{ladder}");
        }
    }

    #[test]
    fn a_rung_that_does_not_exist_is_named_with_its_line_and_those_that_do() {
        let problems = parse("ladder = [\n  \"30s\",\n  \"5m\",\n]").unwrap().unknown_rungs(&rungs());
        let lines = problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(lines, ["rules/a.toml:8: `ladder`: there is no rung of 5m; `courier.ladder` has 30s, 2m, 10m"]);
    }

    #[test]
    fn what_is_no_ladder_is_refused_with_its_line() {
        let refused = |ladder: &str| {
            let problems = parse(ladder).unwrap_err();
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(refused("ladder = \"30s\""), "rules/a.toml:6: `ladder` must be a list of texts");
        assert_eq!(refused("ladder = [30]"), "rules/a.toml:6: `ladder[0]` must be a text in quotes");
        assert!(refused("ladder = [\"soon\"]").starts_with("rules/a.toml:6: `ladder[0]`: a length of time looks like"));
        for falling in ["ladder = [\"2m\", \"30s\"]", "ladder = [\"2m\", \"120s\"]"] {
            assert!(refused(falling).starts_with("rules/a.toml:6: `ladder[1]`: "), "{}", refused(falling));
        }
    }

    #[test]
    fn a_ladder_is_for_mailboxes() {
        let text = "[[rule]]\nname = \"a\"\nevent = \"a\"\neveryone = true\ntype = \"t\"\nladder = [\"30s\"]\n";
        let problems = RuleSet::parse(&[File { name: "rules/a.toml", text }], Limits::default()).unwrap_err();
        assert!(problems[0].to_string().starts_with("rules/a.toml:6: `ladder` without `user` or `users`"), "{problems:?}");
    }
}
