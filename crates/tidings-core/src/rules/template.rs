//! Templates: texts and expressions over an event's data, compiled once, within limits.
//!
//! Owns: the MiniJinja environment and what may be printed. A missing variable is an error, and so is printing null, a list or
//! an object: nobody is to read "Welcome back, none". Integers print as they are, fractions at their shortest (120.50 as
//! `120.5`, 120.0 as `120.0`; the filter `format` does more), booleans as `true` and `false`. Nothing is escaped, the texts
//! are not HTML. Long because what may be printed, and how, is held beside it by tests.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;

use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};

/// How deep a template may call and include.
const LIMIT_DEPTH: usize = 50;
/// What a receiver's name may take in JSON, in bytes: an id of 128 bytes, quotes and a comma, or the same escaped for the most part.
const RECEIVER_BYTES: usize = 256;

/// What one field of one notification may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most it may hold, in bytes; rendering stops where it would grow beyond.
    pub output_bytes: usize,
    /// The most instructions of the template engine it may take.
    pub fuel: u64,
    /// The most receivers one event may have, over all rules.
    pub receivers: usize,
}

impl Default for Limits {
    /// 16 KiB, 20,000 instructions, 10,000 receivers.
    fn default() -> Self {
        Self { output_bytes: 16 * 1024, fuel: 20_000, receivers: 10_000 }
    }
}

/// Why a field could not be rendered. Lines are those of the template, from 1.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It reads a variable that the event does not have.
    #[error("{what}, line {line} of the template")]
    Undefined {
        /// Which variable.
        what: String,
        /// Where it is read.
        line: usize,
    },
    /// It prints a value that is no text.
    #[error("{found} cannot be printed, line {line} of the template; {allowed}")]
    Unprintable {
        /// What the value is.
        found: &'static str,
        /// What it should be.
        allowed: &'static str,
        /// Where it is printed.
        line: usize,
    },
    /// It took too many instructions.
    #[error("it needs more than {limit} instructions")]
    Fuel {
        /// The most that are allowed.
        limit: u64,
    },
    /// It wrote too much.
    #[error("its output is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The most that is allowed, in bytes.
        limit_bytes: usize,
    },
    /// Anything else: a filter that does not fit the value, for instance.
    #[error("{source}")]
    Failed {
        /// What the engine says.
        source: Error,
    },
}

impl TemplateError {
    /// The line of the template, from 1.
    pub(super) fn line(&self) -> usize {
        match self {
            Self::Undefined { line, .. } | Self::Unprintable { line, .. } => *line,
            Self::Failed { source } => source.line().unwrap_or(1),
            Self::Fuel { .. } | Self::TooLarge { .. } => 1,
        }
    }

    /// A short name, stable across releases, for headers and metrics.
    pub(super) fn class(&self) -> &'static str {
        match self {
            Self::Undefined { .. } => "template_undefined",
            Self::Unprintable { .. } => "template_unprintable",
            Self::Fuel { .. } => "template_fuel",
            Self::TooLarge { .. } => "output_too_large",
            Self::Failed { .. } => "template_failed",
        }
    }
}

/// What a printed value is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// To be read: texts, numbers and booleans.
    Text,
    /// To name a receiver: texts and integers.
    Receiver,
    /// To be a value, of any type.
    Value,
}

impl Use {
    /// What the field of a rule is for.
    pub(super) fn of(field: &str) -> Self {
        match field.split(['[', '.']).next() {
            Some("user" | "role" | "channel") => Self::Receiver,
            Some("when" | "users" | "data") => Self::Value,
            _ => Self::Text,
        }
    }

    /// The same by the name of a template.
    fn of_template(name: &str) -> Self {
        name.split_once('/').map_or(Self::Text, |(_, field)| Self::of(field))
    }
}

/// A value that is not printed; carried through the engine as an error's source.
#[derive(Debug, thiserror::Error)]
#[error("{found} cannot be printed")]
pub(super) struct Unprintable {
    found: &'static str,
    allowed: &'static str,
}

impl Unprintable {
    pub(super) fn at(&self, line: usize) -> TemplateError {
        TemplateError::Unprintable { found: self.found, allowed: self.allowed, line }
    }
}

/// All templates of a set of rules, by name: `rule/field`.
#[derive(Debug, Clone)]
pub(super) struct Templates {
    environment: Environment<'static>,
    limits: Limits,
}

impl Templates {
    pub(super) fn new(limits: Limits) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|name| {
            if Use::of_template(name) == Use::Value { AutoEscape::Json } else { AutoEscape::None }
        });
        environment.set_formatter(print);
        environment.set_fuel(Some(limits.fuel));
        environment.set_recursion_limit(LIMIT_DEPTH);
        // Without it an error does not name the variable that is missing.
        environment.set_debug(true);
        Self { environment, limits }
    }

    /// Compiles a text.
    pub(super) fn add(&mut self, name: &str, source: &str) -> Result<(), Error> {
        self.environment.add_template_owned(name.to_owned(), source.to_owned())
    }

    /// Compiles an expression. Its value is printed as JSON and read back: so it keeps its type and has the limits of a text.
    pub(super) fn add_expression(&mut self, name: &str, source: &str) -> Result<(), Error> {
        self.environment.compile_expression_owned(source.to_owned())?;
        self.add(name, &format!("{{{{ ({source}) }}}}"))
    }

    /// Renders a text.
    pub(super) fn render(&self, name: &str, context: &Value) -> Result<String, TemplateError> {
        let mut output = Bounded::new(self.limits_of(name).output_bytes);
        self.environment
            .get_template(name)
            .and_then(|template| template.render_captured_to(context, &mut output).map(drop))
            .map_err(|error| self.explain(name, error))?;
        // The engine writes nothing but text.
        Ok(String::from_utf8(output.bytes).unwrap_or_default())
    }

    /// Evaluates an expression.
    pub(super) fn evaluate(&self, name: &str, context: &Value) -> Result<serde_json::Value, TemplateError> {
        let json = self.render(name, context)?;
        serde_json::from_str(&json).map_err(|error| TemplateError::Failed {
            source: Error::new(ErrorKind::BadSerialization, "the value is no JSON").with_source(error),
        })
    }

    /// The variables a template reads and does not set itself, with their paths: `vehicle.name`.
    pub(super) fn variables(&self, name: &str) -> BTreeSet<String> {
        let Ok(template) = self.environment.get_template(name) else { return BTreeSet::new() };
        let globals: BTreeSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        template.undeclared_variables(true).into_iter().filter(|path| !globals.contains(path.as_str())).collect()
    }

    /// A template as it was added; of an expression, with braces around it.
    pub(super) fn source(&self, name: &str) -> Option<String> {
        self.environment.get_template(name).ok().map(|template| template.source().to_owned())
    }

    /// What one field may cost.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// A list of receivers may be longer than any text.
    fn limits_of(&self, name: &str) -> Limits {
        let output_bytes = if name.ends_with("/users") {
            self.limits.receivers.saturating_mul(RECEIVER_BYTES)
        } else {
            self.limits.output_bytes
        };
        Limits { output_bytes, ..self.limits }
    }

    fn explain(&self, name: &str, error: Error) -> TemplateError {
        let line = error.line().unwrap_or(1);
        let refused = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Unprintable>());
        if let Some(refused) = refused {
            return refused.at(line);
        }
        match error.kind() {
            ErrorKind::UndefinedError => {
                TemplateError::Undefined { what: error.detail().unwrap_or("a variable is undefined").to_owned(), line }
            }
            ErrorKind::OutOfFuel => TemplateError::Fuel { limit: self.limits.fuel },
            ErrorKind::WriteFailure => TemplateError::TooLarge { limit_bytes: self.limits_of(name).output_bytes },
            _ => TemplateError::Failed { source: error },
        }
    }
}

/// Prints one value where a template says so: as JSON where a value is wanted, else as a text.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if *state.auto_escape() == AutoEscape::Json {
        // The engine would print a string marked as safe as if it were JSON.
        return match value.as_str() {
            Some(text) => Ok(write!(out, "{}", serde_json::Value::from(text))?),
            None => minijinja::escape_formatter(out, state, value),
        };
    }
    match text(value, Use::of_template(state.name())) {
        Ok(text) => Ok(out.write_str(&text)?),
        Err(refused) => Err(Error::new(ErrorKind::InvalidOperation, "not printable").with_source(refused)),
    }
}

/// The text of a value.
pub(super) fn text(value: &Value, purpose: Use) -> Result<Cow<'_, str>, Unprintable> {
    let found = match value.kind() {
        ValueKind::String => return Ok(value.as_str().unwrap_or_default().into()),
        ValueKind::Number if purpose == Use::Text || value.is_integer() => return Ok(value.to_string().into()),
        ValueKind::Bool if purpose == Use::Text => return Ok(if value.is_true() { "true" } else { "false" }.into()),
        // An `if` without `else` whose condition is false prints nothing.
        ValueKind::Undefined => return Ok("".into()),
        ValueKind::Number => "a number with a fraction",
        ValueKind::Bool => "a boolean",
        ValueKind::None => "null",
        ValueKind::Seq | ValueKind::Iterable => "a list",
        ValueKind::Map => "an object",
        _ => "this value",
    };
    let allowed = match purpose {
        Use::Text | Use::Value => "a string, a number or a boolean can",
        Use::Receiver => "a string or an integer names a receiver",
    };
    Err(Unprintable { found, allowed })
}

/// A buffer that refuses to grow beyond its limit.
pub(super) struct Bounded {
    bytes: Vec<u8>,
    limit_bytes: usize,
}

impl Bounded {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { bytes: Vec::new(), limit_bytes }
    }
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit_bytes {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, limits: Limits) -> Result<String, TemplateError> {
        let mut templates = Templates::new(limits);
        templates.add("rule/message", source).unwrap();
        let name = Value::from("Ada <ada@example.org>");
        let context = Value::from_pairs([("name", name), ("none", Value::from(())), ("amount", Value::from(120.5))]);
        templates.render("rule/message", &context)
    }

    fn class(source: &str, limits: Limits) -> &'static str {
        render(source, limits).unwrap_err().class()
    }

    #[test]
    fn nothing_is_escaped() {
        assert_eq!(render("{{ name }} owes ${{ amount }}", Limits::default()).unwrap(), "Ada <ada@example.org> owes $120.5");
    }

    #[test]
    fn what_is_missing_or_no_text_is_never_printed() {
        assert_eq!(class("{{ nmae }}", Limits::default()), "template_undefined");
        assert_eq!(class("{{ name.first }}", Limits::default()), "template_undefined");
        for source in ["{{ none }}", "{{ [name] }}", "{{ {'a': 1} }}", "{{ range }}"] {
            assert_eq!(class(source, Limits::default()), "template_unprintable", "{source}");
        }
        assert_eq!(render("{{ name if false }}{{ nmae | default('nobody') }}", Limits::default()).unwrap(), "nobody");
    }

    #[test]
    fn a_template_that_runs_for_long_is_stopped() {
        let source = "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
        assert_eq!(class(source, Limits::default()), "template_fuel");
    }

    #[test]
    fn output_stops_at_the_limit_and_not_behind_it() {
        let limits = Limits { output_bytes: 10, ..Limits::default() };
        assert_eq!(render("0123456789", limits).unwrap(), "0123456789");
        assert_eq!(class("0123456789!", limits), "output_too_large");
        assert_eq!(class("{% for a in range(9) %}{{ name }}{% endfor %}", limits), "output_too_large");
    }

    #[test]
    fn a_template_that_calls_itself_is_stopped() {
        let source = "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}";
        assert_eq!(class(source, Limits::default()), "template_failed");
    }
}
