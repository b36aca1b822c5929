//! Parsing: from the text of rule files to rules, or to all that is wrong with them.
//!
//! Owns: the keys of a rule and what each may hold. A rule with a problem is left out, and the rest is still read, so that
//! one run names everything.

use std::collections::HashMap;

use globset::{Glob, GlobSetBuilder};

use super::RuleSet;
use super::audience::{self, Audience, Target};
use super::own_ladder::OwnLadder;
use super::path::Path;
use super::problem::{File, Place, Problem};
use super::rule::{Body, Rule, Text, WHEN, locale_field};
use super::table::{self, Table, Written};
use super::template::{Limits, Templates};
use super::wording::{self, Wording};
use crate::channel::Channel;
use crate::ids::{self, UserId};
use crate::locale::Locale;
use crate::notification::Priority;
use crate::time::Delay;

const KEYS: [&str; 20] = [
    "name",
    "event",
    "when",
    "user",
    "users",
    "role",
    "channel",
    "everyone",
    "type",
    "title",
    "message",
    "data",
    "priority",
    "action_url",
    "category",
    "expires_after",
    "max_age",
    "once",
    "ladder",
    "locales",
];
const PRIORITIES: [(&str, Priority); 4] =
    [("low", Priority::Low), ("medium", Priority::Medium), ("high", Priority::High), ("urgent", Priority::Urgent)];
const LIMIT_NAME_BYTES: usize = 100;

/// Reads all files: the rules without problems, and all problems in the order of the files and their lines.
pub(super) fn parse(files: &[File<'_>], limits: Limits) -> (RuleSet, Vec<Problem>) {
    let mut parser = Parser {
        templates: Templates::new(limits),
        rules: Vec::new(),
        names: HashMap::new(),
        globs: Vec::new(),
        problems: Vec::new(),
    };
    let mut problems = Vec::new();
    for file in files {
        for table in table::rules(*file, &mut parser.problems) {
            parser.rule(&table);
        }
        parser.problems.sort_by_key(|problem| problem.line);
        problems.append(&mut parser.problems);
    }
    (parser.finish(&mut problems), problems)
}

struct Parser {
    templates: Templates,
    rules: Vec<Rule>,
    names: HashMap<String, Place>,
    /// The rules that have a glob, and it.
    globs: Vec<(usize, Glob)>,
    problems: Vec<Problem>,
}

impl Parser {
    fn rule(&mut self, table: &Table<'_>) {
        let before = self.problems.len();
        table.refuse_unknown(&KEYS, &mut self.problems);
        let name = self.name(table);
        let owner = name.as_deref().unwrap_or("?");
        let event = table.required("event", &mut self.problems);
        let glob = event.as_ref().and_then(|event| self.event(event));
        let when = self.when(table, owner);
        let audience = self.audience(table, owner);
        let kind = table.required("type", &mut self.problems).and_then(|kind| self.literal("type", kind));
        let wording = self.wording(table, owner, str::to_owned);
        let locales = self.locales(table, owner, &wording);
        let data = self.data(table, owner);
        let priority = self.priority(table);
        let category = table.text("category", &mut self.problems).and_then(|text| self.literal("category", text));
        let [expires_after, max_age] = ["expires_after", "max_age"].map(|key| self.delay(table, key));
        let once = self.once(table);
        let ladder = OwnLadder::read(table, &mut self.problems);
        let (Some(name), Some(event), Some(audience), Some(kind)) = (name, event, audience, kind) else { return };
        if self.problems.len() > before {
            return;
        }
        if let Some(glob) = glob {
            self.globs.push((self.rules.len(), glob));
        }
        let Written { text: event, place } = event;
        let rule = Rule {
            name,
            event,
            when,
            audience,
            kind,
            wording,
            locales,
            data,
            priority,
            category,
            expires_after,
            max_age,
            once,
            ladder,
            place,
        };
        self.rules.push(rule);
    }

    fn name(&mut self, table: &Table<'_>) -> Option<String> {
        let Written { text: name, place } = table.required("name", &mut self.problems)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > LIMIT_NAME_BYTES || !name.bytes().all(allowed) {
            let message =
                format!("`name` is made of letters, digits, `-`, `_` and `.`, at most {LIMIT_NAME_BYTES}, not {name:?}");
            self.problems.push(place.problem(message));
            return None;
        }
        if let Some(first) = self.names.get(&name) {
            let message = format!("the name `{name}` is taken by the rule at {}:{}", first.file, first.line);
            self.problems.push(place.problem(message));
            return None;
        }
        self.names.insert(name.clone(), place);
        Some(name)
    }

    /// The pattern, if the event is one; a problem if it can match nothing.
    fn event(&mut self, event: &Written) -> Option<Glob> {
        if let Err(error) = ids::check("type", &event.text, ids::LIMIT_TYPE_BYTES) {
            self.problems.push(event.place.problem(format!("`event`: {error}")));
            return None;
        }
        if !is_glob(&event.text) {
            return None;
        }
        let glob = Glob::new(&event.text);
        glob.map_err(|error| self.problems.push(event.place.problem(format!("`event` is no pattern: {}", error.kind())))).ok()
    }

    fn when(&mut self, table: &Table<'_>, owner: &str) -> Option<Text> {
        let written = table.text(WHEN, &mut self.problems)?;
        self.expression(owner, WHEN, written)
    }

    fn audience(&mut self, table: &Table<'_>, owner: &str) -> Option<Audience> {
        if !audience::KEYS.iter().any(|key| table.has(key)) {
            let keys = audience::KEYS.map(|key| format!("`{key}`")).join(", ");
            self.problems.push(table.place.problem(format!("a rule has at least one of {keys}: whom it tells")));
            return None;
        }
        let before = self.problems.len();
        let mut targets = Vec::new();
        for key in ["user", "role", "channel"] {
            for (field, written) in table.one_or_more(key, &mut self.problems) {
                let target = self.target(key, &format!("{owner}/{field}"), &field, written);
                targets.extend(target.map(|target| (field, target)));
            }
        }
        if let Some(written) = table.text("users", &mut self.problems) {
            // People write it like `user`, in braces; a list it must be, and no text.
            let bare = written.text.trim().strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
            let bare = bare.filter(|text| !text.contains("{{")).map(|text| text.trim().to_owned());
            let written = Written { text: bare.unwrap_or(written.text), place: written.place };
            targets.extend(self.expression(owner, "users", written).map(|text| ("users".to_owned(), Target::Users(text))));
        }
        if table.is_true("everyone", &mut self.problems) {
            targets.push(("everyone".to_owned(), Target::Everyone));
        }
        (self.problems.len() == before).then_some(Audience(targets))
    }

    fn target(&mut self, key: &str, name: &str, field: &str, written: Written) -> Option<Target> {
        let text = self.template(name, field, written)?;
        match key {
            "user" => self.named(field, &text, |name| name.parse::<UserId>().map(drop)).map(|()| Target::User(text)),
            "role" => self.named(field, &text, |name| Channel::role(name).map(drop)).map(|()| Target::Role(text)),
            _ => self.named(field, &text, |name| name.parse::<Channel>().map(drop)).map(|()| Target::Channel(text)),
        }
    }

    /// Checks a receiver that is the same for every event.
    fn named(&mut self, key: &str, text: &Text, check: impl Fn(&str) -> Result<(), ids::IdError>) -> Option<()> {
        let Body::Literal(name) = &text.body else { return Some(()) };
        check(name).map_err(|error| self.problems.push(text.place.problem(format!("`{key}`: {error}")))).ok()
    }

    fn literal(&mut self, key: &'static str, written: Written) -> Option<String> {
        let checked = ids::check(key, &written.text, LIMIT_NAME_BYTES);
        checked.map_err(|error| self.problems.push(written.place.problem(format!("`{key}`: {error}")))).ok()?;
        Some(written.text)
    }

    fn template(&mut self, name: &str, key: &str, written: Written) -> Option<Text> {
        let Written { text, place } = written;
        if !["{{", "{%", "{#"].iter().any(|opening| text.contains(opening)) {
            return Some(Text { body: Body::Literal(text), place });
        }
        if let Some(path) = Path::of_template(&text) {
            return Some(Text { body: Body::Path(path), place });
        }
        let added = self.templates.add(name, &text);
        added.map_err(|error| self.problems.push(syntax(key, &place, &error))).ok()?;
        Some(Text { body: Body::Template(name.to_owned()), place })
    }

    /// The texts of a table, each called in problems as `field` calls its key.
    fn wording(&mut self, table: &Table<'_>, owner: &str, field: impl Fn(&str) -> String) -> Wording {
        let [title, message, action_url] = wording::KEYS.map(|key| {
            let written = table.text(key, &mut self.problems)?;
            let field = field(key);
            self.template(&format!("{owner}/{field}"), &field, written)
        });
        Wording { title, message, action_url }
    }

    fn locales(&mut self, table: &Table<'_>, owner: &str, default: &Wording) -> Vec<(Locale, Wording)> {
        let mut locales: Vec<(Locale, Wording)> = Vec::new();
        for (key, inner) in table.tables("locales", &mut self.problems) {
            let locale = match key.text.parse::<Locale>() {
                Ok(locale) => locale,
                Err(error) => {
                    self.problems.push(key.place.problem(format!("`locales`: {error}")));
                    continue;
                }
            };
            if locales.iter().any(|(taken, _)| *taken == locale) {
                self.problems.push(key.place.problem(format!("`locales.{locale}` is there already; case does not matter")));
            }
            inner.refuse_unknown(&wording::KEYS, &mut self.problems);
            let wording = self.wording(&inner, owner, |text| locale_field(&locale, text));
            for (text, _) in wording.texts().filter(|(text, _)| default.texts().all(|(known, _)| known != *text)) {
                let field = locale_field(&locale, text);
                let message = format!("`{field}` without `{text}`, which is for those who read no locale of the rule");
                self.problems.push(key.place.problem(message));
            }
            locales.push((locale, wording));
        }
        locales
    }

    fn data(&mut self, table: &Table<'_>, owner: &str) -> Vec<(String, Text)> {
        let written = table.texts("data", &mut self.problems);
        let named = |(field, written): (String, Written)| {
            let text = self.expression(owner, &format!("data.{field}"), written)?;
            Some((field, text))
        };
        written.into_iter().filter_map(named).collect()
    }

    fn expression(&mut self, owner: &str, field: &str, Written { text, place }: Written) -> Option<Text> {
        if let Some(path) = Path::of_expression(&text) {
            return Some(Text { body: Body::Path(path), place });
        }
        let name = format!("{owner}/{field}");
        let added = self.templates.add_expression(&name, &text);
        added.map_err(|error| self.problems.push(syntax(field, &place, &error))).ok()?;
        Some(Text { body: Body::Template(name), place })
    }

    fn priority(&mut self, table: &Table<'_>) -> Priority {
        let Some(written) = table.text("priority", &mut self.problems) else { return Priority::default() };
        let known = PRIORITIES.iter().find(|(name, _)| *name == written.text);
        if known.is_none() {
            let names = PRIORITIES.map(|(name, _)| name).join(", ");
            self.problems.push(written.place.problem(format!("`priority` is one of {names}, not {:?}", written.text)));
        }
        known.map(|(_, priority)| *priority).unwrap_or_default()
    }

    /// Whether it is for one device of each person; a problem if it tells no person.
    fn once(&mut self, table: &Table<'_>) -> bool {
        let once = table.is_true("once", &mut self.problems);
        if once && !["user", "users"].iter().any(|key| table.has(key)) {
            let message = "`once` without `user` or `users`: it is about the devices of one person";
            self.problems.push(table.place_of_key("once").problem(message));
        }
        once
    }

    fn delay(&mut self, table: &Table<'_>, key: &str) -> Option<Delay> {
        let written = table.text(key, &mut self.problems)?;
        let parsed = written.text.parse();
        parsed.map_err(|error| self.problems.push(written.place.problem(format!("`{key}`: {error}")))).ok()
    }

    fn finish(self, problems: &mut Vec<Problem>) -> RuleSet {
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, rule) in self.rules.iter().enumerate().filter(|(_, rule)| !is_glob(&rule.event)) {
            exact.entry(rule.event.clone()).or_default().push(index);
        }
        let mut builder = GlobSetBuilder::new();
        for (_, glob) in &self.globs {
            builder.add(glob.clone());
        }
        let globs = builder.build().unwrap_or_else(|error| {
            let places = self.globs.iter().filter_map(|(index, _)| self.rules.get(*index));
            problems.extend(places.map(|rule| rule.place.problem(format!("`event` is no pattern: {}", error.kind()))));
            globset::GlobSet::empty()
        });
        let globbed = self.globs.into_iter().map(|(index, _)| index).collect();
        RuleSet { rules: self.rules, exact, globbed, globs, templates: self.templates }
    }
}

pub(super) fn is_glob(event: &str) -> bool {
    event.contains(['*', '?', '[', '{'])
}

fn syntax(key: &str, place: &Place, error: &minijinja::Error) -> Problem {
    let what = error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
    place.inside(error.line().unwrap_or(1)).problem(format!("`{key}`: {what}"))
}

#[cfg(test)]
mod tests;
