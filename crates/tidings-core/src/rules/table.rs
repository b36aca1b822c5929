//! Tables: the TOML of a rule file, read key by key so that every problem is found and has its line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{File, Place, Problem};

/// A text as it was written, and the line where it begins.
pub(super) struct Written {
    pub(super) text: String,
    pub(super) place: Place,
}

/// One table of a file.
pub(super) struct Table<'a> {
    file: File<'a>,
    fields: DeTable<'a>,
    /// Where its header stands.
    pub(super) place: Place,
}

/// The `[[rule]]` tables of a file. A file that is no TOML has none, only problems.
pub(super) fn rules<'a>(file: File<'a>, problems: &mut Vec<Problem>) -> Vec<Table<'a>> {
    let (document, errors) = DeTable::parse_recoverable(file.text);
    if !errors.is_empty() {
        let problem = |error: &toml::de::Error| {
            file.place(error.span().map_or(0, |span| span.start)).problem(format!("no TOML: {}", error.message()))
        };
        problems.extend(errors.iter().map(problem));
        return Vec::new();
    }
    let root = Table { file, fields: document.into_inner(), place: file.place(0) };
    root.refuse_unknown(&["rule"], problems);
    let Some(rules) = root.get("rule") else {
        problems.push(root.place.problem("no rules; each begins with a line `[[rule]]`"));
        return Vec::new();
    };
    let DeValue::Array(items) = rules.get_ref() else {
        problems.push(root.place_of(rules).problem("`rule` is written `[[rule]]`: there may be several"));
        return Vec::new();
    };
    items.iter().filter_map(|item| root.table(item, "rule", problems)).collect()
}

impl<'a> Table<'a> {
    /// Names the keys that are not among `allowed`.
    pub(super) fn refuse_unknown(&self, allowed: &[&str], problems: &mut Vec<Problem>) {
        for key in self.fields.keys() {
            if !allowed.contains(&key.get_ref().as_ref()) {
                let message = format!("unknown key `{}`; allowed are {}", key.get_ref(), allowed.join(", "));
                problems.push(self.file.place(key.span().start).problem(message));
            }
        }
    }

    /// Whether there is anything at `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The text at `key`, if it is there.
    pub(super) fn text(&self, key: &str, problems: &mut Vec<Problem>) -> Option<Written> {
        self.written(key, self.get(key)?, problems)
    }

    /// The texts at `key`, which is one or a list, each called as problems call it.
    pub(super) fn one_or_more(&self, key: &str, problems: &mut Vec<Problem>) -> Vec<(String, Written)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            return self.written(key, value, problems).map(|written| (key.to_owned(), written)).into_iter().collect();
        };
        if items.is_empty() {
            problems.push(self.place_of(value).problem(format!("`{key}` is an empty list")));
        }
        self.items(key, items, problems)
    }

    fn items(&self, key: &str, items: &[Spanned<DeValue<'a>>], problems: &mut Vec<Problem>) -> Vec<(String, Written)> {
        let named = |(index, item): (usize, &Spanned<DeValue<'a>>)| {
            let field = format!("{key}[{index}]");
            self.written(&field, item, problems).map(|written| (field, written))
        };
        items.iter().enumerate().filter_map(named).collect()
    }

    /// The texts of the list at `key`, each called as problems call it; none, if there is no list.
    pub(super) fn list(&self, key: &str, problems: &mut Vec<Problem>) -> Option<Vec<(String, Written)>> {
        let value = self.get(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            problems.push(self.place_of(value).problem(format!("`{key}` must be a list of texts")));
            return None;
        };
        Some(self.items(key, items, problems))
    }

    /// Whether `key` is there; a problem if it is anything but `true`.
    pub(super) fn is_true(&self, key: &str, problems: &mut Vec<Problem>) -> bool {
        let Some(value) = self.get(key) else { return false };
        if !matches!(value.get_ref(), DeValue::Boolean(true)) {
            problems.push(self.place_of(value).problem(format!("`{key}` is `true`, or left out")));
        }
        true
    }

    /// The text at `key`; a problem if it is not there.
    pub(super) fn required(&self, key: &str, problems: &mut Vec<Problem>) -> Option<Written> {
        if !self.has(key) {
            problems.push(self.place.problem(format!("a rule without `{key}`")));
        }
        self.text(key, problems)
    }

    /// All texts of the table at `key`, by their own keys.
    pub(super) fn texts(&self, key: &str, problems: &mut Vec<Problem>) -> Vec<(String, Written)> {
        let Some(table) = self.get(key).and_then(|value| self.table(value, key, problems)) else { return Vec::new() };
        let entry = |(name, value): (&Spanned<_>, &Spanned<DeValue<'a>>)| {
            let name = AsRef::<str>::as_ref(name.get_ref());
            Some((name.to_owned(), table.written(&format!("{key}.{name}"), value, problems)?))
        };
        table.fields.iter().filter_map(entry).collect()
    }

    /// All tables of the table at `key`, by their own keys and where these stand.
    pub(super) fn tables(&self, key: &str, problems: &mut Vec<Problem>) -> Vec<(Written, Table<'a>)> {
        let Some(table) = self.get(key).and_then(|value| self.table(value, key, problems)) else { return Vec::new() };
        let entry = |(name, value): (&Spanned<_>, &Spanned<DeValue<'a>>)| {
            let text = AsRef::<str>::as_ref(name.get_ref()).to_owned();
            let inner = table.table(value, &format!("{key}.{text}"), problems)?;
            Some((Written { text, place: self.file.place(name.span().start) }, inner))
        };
        table.fields.iter().filter_map(entry).collect()
    }

    fn get(&self, key: &str) -> Option<&Spanned<DeValue<'a>>> {
        self.fields.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn written(&self, key: &str, value: &Spanned<DeValue<'a>>, problems: &mut Vec<Problem>) -> Option<Written> {
        let DeValue::String(text) = value.get_ref() else {
            problems.push(self.place_of(value).problem(format!("`{key}` must be a text in quotes")));
            return None;
        };
        let raw = self.file.text.get(value.span()).unwrap_or_default();
        let opening = raw.trim_start_matches(['"', '\'']);
        // A line break right behind three quotes is not part of the text.
        let skipped = raw.len() - opening.len() == 3 && opening.starts_with(['\r', '\n']);
        let place = self.place_of(value);
        Some(Written { text: text.to_string(), place: if skipped { place.inside(2) } else { place } })
    }

    fn table(&self, value: &Spanned<DeValue<'a>>, key: &str, problems: &mut Vec<Problem>) -> Option<Table<'a>> {
        let place = self.place_of(value);
        if let DeValue::Table(fields) = value.get_ref() {
            return Some(Table { file: self.file, fields: fields.clone(), place });
        }
        problems.push(place.problem(format!("`{key}` must be a table")));
        None
    }

    /// Where the value of `key` stands, or the table if there is none.
    pub(super) fn place_of_key(&self, key: &str) -> Place {
        self.get(key).map_or_else(|| self.place.clone(), |value| self.place_of(value))
    }

    fn place_of(&self, value: &Spanned<DeValue<'_>>) -> Place {
        self.file.place(value.span().start)
    }
}
