//! Rules: which events become which notifications, for whom, in which words.
//!
//! Owns: the rules that people write in `rules/*.toml`, how an event selects them, and the verdict on each record. Refuses
//! rules with any problem, and names all of them with file and line. Neighbours: `event` reads records, `pipeline` carries
//! out verdicts, `cli` checks and previews.

mod audience;
pub mod check;
mod condition;
mod context;
mod own_ladder;
mod parse;
mod path;
mod problem;
mod requested;
mod rule;
mod shipped;
mod table;
mod template;
mod verdict;
mod wording;

use std::collections::HashMap;

use globset::GlobSet;

use crate::event::Event;
use crate::record::context::Blamed;
use crate::record::notified::NotificationRecord;
use crate::time::Delay;

pub use condition::{Condition, ConditionError, Unjudged};
pub use problem::{File, Problem, Severity};
pub use requested::decide_request;
pub use rule::{RenderError, Rule};
pub use shipped::{ShippedDefinition, shipped, shipped_definitions, shipped_schemas};
pub use template::{Limits, TemplateError};
pub use verdict::{Burial, IgnoreReason, Terms, Verdict, decide, decide_explained, decide_if};

/// All rules, ready to be matched and rendered.
///
/// Share it between threads or give each a clone: clones share the compiled templates and differ in that they do not
/// contend for the short lock that the template engine takes to look one up.
#[derive(Debug, Clone)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// The rules whose `event` is a type, by it.
    exact: HashMap<String, Vec<usize>>,
    /// The rules whose `event` is a glob, and their patterns in the same order.
    globbed: Vec<usize>,
    globs: GlobSet,
    templates: template::Templates,
}

impl RuleSet {
    /// Reads rules from the texts of their files.
    ///
    /// # Errors
    /// All problems of all files, in the order of the files and their lines.
    pub fn parse(files: &[File<'_>], limits: Limits) -> Result<Self, Vec<Problem>> {
        let (rules, problems) = parse::parse(files, limits);
        if problems.is_empty() { Ok(rules) } else { Err(problems) }
    }

    /// All rules, in the order in which they were written.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule of that name as if there were no other; none if it is not there.
    #[must_use]
    pub fn only(&self, name: &str) -> Option<Self> {
        let kept = self.rules.iter().position(|rule| rule.name() == name)?;
        let rules = vec![self.rules.get(kept)?.clone()];
        let exact =
            self.exact.iter().filter(|(_, indexes)| indexes.contains(&kept)).map(|(kind, _)| (kind.clone(), vec![0])).collect();
        // The patterns stay, and lead nowhere but for its own.
        let globbed = self.globbed.iter().map(|index| if *index == kept { 0 } else { usize::MAX }).collect();
        Some(Self { rules, exact, globbed, globs: self.globs.clone(), templates: self.templates.clone() })
    }

    /// A problem for each rung of a rule's own ladder that is not among `rungs`.
    #[must_use]
    pub fn unknown_rungs(&self, rungs: &[Delay]) -> Vec<Problem> {
        self.rules.iter().filter_map(|rule| rule.ladder.as_ref()).flat_map(|ladder| ladder.unknown(rungs)).collect()
    }

    /// The rules for events of type `kind`: those that name it, then those whose glob matches it.
    pub fn select(&self, kind: &str) -> impl Iterator<Item = &Rule> {
        let exact = self.exact.get(kind).map_or(&[][..], Vec::as_slice);
        // Nothing is allocated as long as no rule has a glob.
        let globs = if self.globbed.is_empty() { Vec::new() } else { self.globs.matches(kind) };
        let globbed = globs.into_iter().filter_map(|glob| self.globbed.get(glob));
        exact.iter().chain(globbed).filter_map(|index| self.rules.get(*index))
    }

    /// Whether a rule is for events of type `kind`.
    pub(crate) fn is_for(&self, rule: &Rule, kind: &str) -> bool {
        self.select(kind).any(|selected| selected.name() == rule.name())
    }

    /// Which rule could not be rendered, and the line to go to.
    pub(crate) fn blamed(&self, error: &RenderError) -> Option<Blamed> {
        let rule = self.rules.iter().find(|rule| rule.name() == error.place().0)?;
        Some(Blamed { rule: rule.name().to_owned(), line: rule.line_of(error) })
    }

    /// What all rules for the event make of it.
    ///
    /// # Errors
    /// If any of the rules cannot be rendered: there is one verdict for one record.
    pub(crate) fn render(&self, event: &Event, terms: &Terms<'_>) -> Result<Rendered, RenderError> {
        let mut selected = self.select(&event.kind).peekable();
        if selected.peek().is_none() {
            return Ok(Rendered::Nothing(IgnoreReason::NoRule));
        }
        let age = terms.now.since(event.time);
        let pass = rule::Pass::new(&self.templates, event);
        let mut notifications = Vec::with_capacity(2);
        let mut nothing = IgnoreReason::NoRule;
        for rule in selected {
            if rule.max_age(terms).is_some_and(|limit| age > limit) {
                nothing = nothing.or(IgnoreReason::TooOld);
            } else if !rule.holds(&pass)? {
                nothing = nothing.or(IgnoreReason::ConditionFalse);
            } else {
                let before = notifications.len();
                notifications.extend(rule.render(&pass)?);
                if notifications.len() == before {
                    nothing = nothing.or(IgnoreReason::AudienceEmpty);
                }
            }
        }
        Ok(if notifications.is_empty() { Rendered::Nothing(nothing) } else { Rendered::Notifications(notifications) })
    }
}

/// What the rules make of an event.
pub(crate) enum Rendered {
    /// At least one.
    Notifications(Vec<NotificationRecord>),
    /// None, and why.
    Nothing(IgnoreReason),
}
