//! Reading a request: from any bytes to a request, or to all that is wrong with them.
//!
//! A field that is `null` is the same as one left out. Every fault is found in one reading, so that a client's author need not
//! ask again and again.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Asked, AskedEvent, Audience, DEFAULT_TYPE, Fault, LIMIT_LOCALES, LIMIT_TEXT_BYTES, LIMIT_USERS, LIMIT_WORDS_BYTES,
    RequestError, RequestRecord, Words,
};
use crate::channel::Channel;
use crate::ids::{self, EventId, LIMIT_TYPE_BYTES, UserId};
use crate::locale::Locale;
use crate::notification::{Priority, Texts};
use crate::record::notified::LIMIT_EXCLUDED;
use crate::time::Timestamp;

const LIMIT_NAME_BYTES: usize = 100;
const AUDIENCES: [&str; 5] = ["user", "users", "role", "channel", "everyone"];
/// What belongs to a notification in its request's own words, and not beside an event.
const WORDS: [&str; 11] =
    ["to", "type", "title", "message", "data", "priority", "actionUrl", "source", "category", "expiresAt", "locales"];

/// Reads a request.
///
/// # Errors
/// If the bytes are no JSON, or with everything that departs from what a request is.
pub fn read(value: &[u8]) -> Result<RequestRecord, RequestError> {
    from_json(serde_json::from_slice(value)?).map_err(RequestError::Invalid)
}

pub(super) fn from_json(value: Value) -> Result<RequestRecord, Vec<Fault>> {
    let mut faults = Vec::new();
    let request = match value {
        Value::Object(fields) => request(&mut Fields { fields, at: String::new(), faults: &mut faults }),
        other => {
            faults.push(fault("", format!("must be an object, this is {}", describe(&other))));
            None
        }
    };
    match request {
        Some(request) if faults.is_empty() => Ok(request),
        _ => Err(faults),
    }
}

fn request(fields: &mut Fields<'_>) -> Option<RequestRecord> {
    let id = fields.id("id");
    let exclude = fields.users("exclude", LIMIT_EXCLUDED).unwrap_or_default();
    let asked = match fields.take("event") {
        Some(event) => {
            for field in WORDS {
                if fields.take(field).is_some() {
                    fields.fault::<()>(field, "must not stand beside `event`: the rules say who is told what".into());
                }
            }
            Asked::Event { event: fields.within("event", event, event_of)? }
        }
        None => Asked::Words(Box::new(words(fields)?)),
    };
    Some(RequestRecord { id, exclude, asked })
}

fn words(fields: &mut Fields<'_>) -> Option<Words> {
    let to = match fields.take("to") {
        Some(to) => fields.within("to", to, audience),
        None => fields.fault("to", format!("is missing: an object with one of {}", listed(&AUDIENCES))),
    };
    let (kind, title, message) = (fields.name("type"), fields.text("title"), fields.text("message"));
    if kind.is_none() && title.is_none() && message.is_none() && fields.faults.is_empty() {
        fields
            .whole::<()>("says nothing: give at least one of `title`, `message` and `type`, or an `event` for the rules".into());
    }
    let words = Words {
        kind: kind.unwrap_or_else(|| DEFAULT_TYPE.to_owned()),
        title,
        message,
        data: fields.object("data").unwrap_or_default(),
        priority: fields.priority("priority"),
        action_url: fields.text("actionUrl"),
        source: fields.name("source"),
        category: fields.name("category"),
        expires_at: fields.instant("expiresAt"),
        locales: fields.locales("locales"),
        to: to?,
    };
    let bytes = shown_bytes(&words);
    if bytes > LIMIT_WORDS_BYTES {
        return fields
            .whole(format!("is too large: what is shown has at most {LIMIT_WORDS_BYTES} bytes as JSON, this has {bytes}"));
    }
    Some(words)
}

/// The most that is shown to anybody: the default words, and the texts of the largest locale.
fn shown_bytes(words: &Words) -> usize {
    let default = Words { to: Audience::Users(Vec::new()), locales: BTreeMap::new(), ..words.clone() };
    json_bytes(&default) + words.locales.values().map(json_bytes).max().unwrap_or(0)
}

fn json_bytes(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len())
}

fn audience(fields: &mut Fields<'_>) -> Option<Audience> {
    let given = AUDIENCES.into_iter().filter(|field| fields.fields.get(*field).is_some_and(|value| !value.is_null()));
    let given = given.collect::<Vec<_>>();
    let [field] = given[..] else {
        return fields.whole(format!("must have exactly one of {}", listed(&AUDIENCES)));
    };
    match field {
        "user" => fields.parsed("user", str::parse::<UserId>).map(|user| Audience::Users(vec![user])),
        "users" => match fields.users("users", LIMIT_USERS)? {
            users if users.is_empty() => fields.fault("users", "must name at least one user".into()),
            users => Some(Audience::Users(users)),
        },
        "role" => fields.parsed("role", Channel::role).map(Audience::Channel),
        "channel" => fields.parsed("channel", str::parse::<Channel>).map(Audience::Channel),
        _ => match fields.take("everyone") {
            Some(Value::Bool(true)) => Some(Audience::Channel(Channel::everyone())),
            _ => fields.fault("everyone", "must be `true`".into()),
        },
    }
}

fn event_of(fields: &mut Fields<'_>) -> Option<AskedEvent> {
    let missing = |fields: &Fields<'_>, field: &str| fields.fields.get(field).is_none_or(Value::is_null);
    for (field, what) in [("type", "a text"), ("data", "an object")] {
        if missing(fields, field) {
            fields.fault::<()>(field, format!("is missing: {what}"));
        }
    }
    let kind = fields.checked("type", |text| ids::check("type", text, LIMIT_TYPE_BYTES).map(|()| text.to_owned()));
    let (data, id, time) = (fields.object("data"), fields.id("id"), fields.instant("time"));
    Some(AskedEvent { kind: kind?, data: data?, id, time })
}

/// An object that is being read, and what was wrong so far.
struct Fields<'a> {
    fields: Map<String, Value>,
    /// Its own pointer.
    at: String,
    faults: &'a mut Vec<Fault>,
}

impl Fields<'_> {
    /// Takes a field out, unless it is absent or null.
    fn take(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field).filter(|value| !value.is_null())
    }

    /// Says what is wrong with a field.
    fn fault<T>(&mut self, field: &str, detail: String) -> Option<T> {
        self.faults.push(fault(&format!("{}/{}", self.at, escaped(field)), detail));
        None
    }

    /// Says what is wrong with the object.
    fn whole<T>(&mut self, detail: String) -> Option<T> {
        self.faults.push(fault(&self.at, detail));
        None
    }

    fn wrong<T>(&mut self, field: &str, found: &Value, expected: &str) -> Option<T> {
        self.fault(field, format!("must be {expected}, this is {}", describe(found)))
    }

    /// Reads an object that stands in a field.
    fn within<T>(&mut self, field: &str, value: Value, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Option<T> {
        match value {
            Value::Object(fields) => {
                read(&mut Fields { fields, at: format!("{}/{}", self.at, escaped(field)), faults: self.faults })
            }
            other => self.wrong(field, &other, "an object"),
        }
    }

    fn checked<T, E: std::fmt::Display>(&mut self, field: &str, check: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        match self.take(field)? {
            Value::String(text) => check(&text).map_err(|error| self.fault::<()>(field, format!("cannot be used: {error}"))).ok(),
            other => self.wrong(field, &other, "a text"),
        }
    }

    /// A text or whole number that is an id or a name: producers write both.
    fn parsed<T, E: std::fmt::Display>(&mut self, field: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let value = self.take(field)?;
        let Some(text) = id_text(&value) else { return self.wrong(field, &value, "a text or a whole number") };
        parse(&text).map_err(|error| self.fault::<()>(field, format!("cannot be used: {error}"))).ok()
    }

    fn id(&mut self, field: &str) -> Option<EventId> {
        self.parsed(field, str::parse)
    }

    fn name(&mut self, field: &'static str) -> Option<String> {
        self.checked(field, |text| ids::check(field, text, LIMIT_NAME_BYTES).map(|()| text.to_owned()))
    }

    fn text(&mut self, field: &str) -> Option<String> {
        self.checked(field, |text| match text.len() {
            1..=LIMIT_TEXT_BYTES => Ok(text.to_owned()),
            bytes => Err(format!("it has 1 to {LIMIT_TEXT_BYTES} bytes, this one has {bytes}")),
        })
    }

    fn object(&mut self, field: &str) -> Option<Map<String, Value>> {
        match self.take(field)? {
            Value::Object(object) => Some(object),
            other => self.wrong(field, &other, "an object"),
        }
    }

    fn instant(&mut self, field: &str) -> Option<Timestamp> {
        self.checked(field, str::parse)
    }

    fn priority(&mut self, field: &str) -> Priority {
        let Some(value) = self.take(field) else { return Priority::default() };
        serde_json::from_value(value).unwrap_or_else(|_| {
            self.fault::<()>(field, "must be `low`, `medium`, `high` or `urgent`".into());
            Priority::default()
        })
    }

    fn locales(&mut self, field: &str) -> BTreeMap<Locale, Texts> {
        let Some(given) = self.object(field) else { return BTreeMap::new() };
        if given.len() > LIMIT_LOCALES {
            self.fault::<()>(field, format!("must have at most {LIMIT_LOCALES} locales, this has {}", given.len()));
            return BTreeMap::new();
        }
        let mut fields = Fields { fields: Map::new(), at: format!("{}/{}", self.at, escaped(field)), faults: self.faults };
        let mut locales = BTreeMap::new();
        for (name, value) in given {
            let locale = name.parse::<Locale>().map_err(|error| fields.fault::<()>(&name, format!("cannot be used: {error}")));
            let texts = fields.within(&name, value, |texts| {
                let [title, message, action_url] = ["title", "message", "actionUrl"].map(|field| texts.text(field));
                Some(Texts { title, message, action_url })
            });
            if let (Ok(locale), Some(texts)) = (locale, texts)
                && locales.insert(locale, texts).is_some()
            {
                fields.fault::<()>(&name, "stands twice: locales that differ only in case are the same".into());
            }
        }
        locales
    }

    /// A list of users, each once.
    fn users(&mut self, field: &str, limit: usize) -> Option<Vec<UserId>> {
        let items = match self.take(field)? {
            Value::Array(items) if items.len() <= limit => items,
            Value::Array(items) => {
                return self.fault(field, format!("must name at most {limit} users, this names {}", items.len()));
            }
            other => return self.wrong(field, &other, "a list of users"),
        };
        let mut seen = HashSet::with_capacity(items.len());
        let mut users = Vec::with_capacity(items.len());
        let list = Value::Array(items);
        for (index, item) in list.as_array().into_iter().flatten().enumerate() {
            let pointer = format!("{}/{}/{index}", self.at, escaped(field));
            match id_text(item).map(|text| text.parse::<UserId>()) {
                Some(Ok(user)) if seen.insert(user.clone()) => users.push(user),
                Some(Ok(_)) => {}
                Some(Err(error)) => self.faults.push(fault(&pointer, format!("cannot be used: {error}"))),
                None => {
                    let detail = format!("must be a text or a whole number, this is {}", describe(item));
                    self.faults.push(fault(&pointer, detail));
                }
            }
        }
        Some(users)
    }
}

/// The text of an id; a whole number is the same id as its digits.
fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

fn fault(pointer: &str, detail: String) -> Fault {
    Fault { pointer: pointer.to_owned(), detail }
}

/// A name as a JSON pointer writes it ([RFC 6901, section 3](https://www.rfc-editor.org/rfc/rfc6901#section-3)).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What a JSON value is, with its article.
fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
