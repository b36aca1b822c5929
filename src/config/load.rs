//! Loading: default, then file, then environment, then every check.
//!
//! Owns: the order of layers and the errors. Neighbours: `origin` tells where a refused key was set. The environment and
//! the file's text are arguments, so tests never touch the process environment.

use serde::de::Error as _;
use toml::{Table, Value};

use super::origin::{Origin, find_line, line_of};
use super::{Config, DEFAULT};

const PREFIX: &str = "TIDINGS_";

/// A configuration that was refused. Lists every problem found, each with the place to mend.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is no TOML.
    #[error("{file}:{line}: {message}")]
    Syntax {
        /// The file as it was named.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What TOML expects there.
        message: String,
    },
    /// Keys that are unknown, of a wrong type, or impossible.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Refusal>),
}

/// One refused key.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: `{key}`: {message}")]
pub struct Refusal {
    origin: Origin,
    key: String,
    message: String,
}

/// Reads the layers: the defaults, `file` (its name and text) over them, `environment` over both.
///
/// # Errors
/// If the file is no TOML, or any key of file or environment is unknown, of a wrong type or impossible.
pub fn load(file: Option<(&str, &str)>, environment: &[(String, String)]) -> Result<Config, ConfigError> {
    let layers = Layers { file, variables: variables(environment) };
    let defaults = parse("default.toml", DEFAULT)?;
    refuse_single_underscores(environment, &defaults)?;
    let mut merged = defaults.clone();
    if let Some((name, text)) = file {
        merge(&mut merged, parse(name, text)?);
    }
    for (path, variable, text) in &layers.variables {
        let value = typed(lookup(&defaults, path), text);
        set(&mut merged, path, value).map_err(|message| {
            ConfigError::Refused(vec![Refusal { origin: Origin::Environment(variable.clone()), key: path.join("."), message }])
        })?;
    }
    let config: Config = serde_path_to_error::deserialize(Value::Table(merged)).map_err(|error| {
        let path = error.path().iter().filter_map(segment).collect::<Vec<_>>();
        ConfigError::Refused(vec![layers.refusal(path, plain(error.inner().message()))])
    })?;
    let refusals = config.refusals().into_iter().map(|(key, allowed)| {
        let path = key.split('.').map(str::to_owned).collect();
        layers.refusal(path, allowed)
    });
    let refusals = refusals.collect::<Vec<_>>();
    if refusals.is_empty() { Ok(config) } else { Err(ConfigError::Refused(refusals)) }
}

struct Layers<'a> {
    file: Option<(&'a str, &'a str)>,
    variables: Vec<(Vec<String>, String, String)>,
}

impl Layers<'_> {
    fn refusal(&self, mut path: Vec<String>, message: String) -> Refusal {
        if let Some(unknown) = message.strip_prefix("unknown key `").and_then(|rest| rest.split('`').next())
            && path.last().is_none_or(|last| last != unknown)
        {
            path.push(unknown.to_owned());
        }
        // Serde repeats the value, which may be a secret that was written without quotes.
        let secret = path.iter().any(|part| part.contains("secret") || part.contains("password"));
        let message =
            if secret && message.starts_with("invalid type") { "must be a text, in quotes".to_owned() } else { message };
        Refusal { origin: self.origin(&path), key: path.join("."), message }
    }

    fn origin(&self, path: &[String]) -> Origin {
        if let Some((_, variable, _)) = self.variables.iter().find(|(set, ..)| path.starts_with(set)) {
            return Origin::Environment(variable.clone());
        }
        self.file
            .and_then(|(file, text)| find_line(text, path).map(|line| Origin::File { file: file.to_owned(), line }))
            .unwrap_or(Origin::Default)
    }
}

fn segment(segment: &serde_path_to_error::Segment) -> Option<String> {
    match segment {
        serde_path_to_error::Segment::Map { key } => Some(key.clone()),
        _ => None,
    }
}

/// `TIDINGS_GATEWAY_PORT` is meant to set something, and would set nothing.
fn refuse_single_underscores(environment: &[(String, String)], defaults: &Table) -> Result<(), ConfigError> {
    let meant = |name: &str| {
        let key = name.strip_prefix(PREFIX)?.to_lowercase();
        let (section, rest) = key.split_once('_')?;
        (!rest.starts_with('_') && defaults.contains_key(section)).then(|| (section.to_owned(), rest.to_owned()))
    };
    let refusals = environment.iter().filter_map(|(name, _)| {
        let (section, rest) = meant(name)?;
        let mended = format!("{PREFIX}{}__{}", section.to_uppercase(), rest.to_uppercase());
        let message = format!("sets nothing: between section and key stand two underscores, as in {mended}");
        Some(Refusal { origin: Origin::Environment(name.clone()), key: format!("{section}.{rest}"), message })
    });
    let refusals = refusals.collect::<Vec<_>>();
    if refusals.is_empty() { Ok(()) } else { Err(ConfigError::Refused(refusals)) }
}

/// Serde's message in words for people who do not write Rust.
fn plain(message: &str) -> String {
    const WORDS: [(&str, &str); 7] = [
        ("unknown field", "unknown key"),
        ("expected one of", "known here are"),
        ("expected a nonzero usize", "expected a whole number from 1"),
        ("expected usize", "expected a whole number from 0"),
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u8", "expected a whole number from 0 to 255"),
        ("expected i32", "expected a whole number"),
    ];
    WORDS.iter().fold(message.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn parse(file: &str, text: &str) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|error: toml::de::Error| ConfigError::Syntax {
        file: file.to_owned(),
        line: error.span().map_or(1, |span| line_of(text, span.start)),
        message: error.message().to_owned(),
    })
}

fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(table)) => merge(inner, table),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// The variables that name a key, as path, name and text, in the order of their names.
fn variables(environment: &[(String, String)]) -> Vec<(Vec<String>, String, String)> {
    let mut found = environment
        .iter()
        .filter_map(|(name, text)| {
            let key = name.strip_prefix(PREFIX)?;
            key.contains("__").then(|| (path_of(key), name.clone(), text.clone()))
        })
        .collect::<Vec<_>>();
    found.sort();
    found
}

/// `KAFKA__PROPERTIES__SASL_PASSWORD` is `kafka`, `properties`, `sasl.password`.
fn path_of(key: &str) -> Vec<String> {
    let mut path = key.to_lowercase().split("__").map(str::to_owned).collect::<Vec<_>>();
    if let [kafka, table, property] = path.as_mut_slice()
        && kafka == "kafka"
        && (table == "properties" || table == "property_files")
    {
        *property = property.replace('_', ".");
    }
    path
}

fn lookup<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(first)?;
    if rest.is_empty() { Some(value) } else { lookup(value.as_table()?, rest) }
}

/// The variable's text as the type that the default has; text where it does not read as that, to be refused later.
fn typed(default: Option<&Value>, text: &str) -> Value {
    let as_toml = || format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    match default {
        Some(Value::Array(_)) if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
        Some(Value::Array(_) | Value::Integer(_) | Value::Boolean(_) | Value::Float(_)) => {
            as_toml().unwrap_or_else(|| Value::String(text.to_owned()))
        }
        _ => Value::String(text.to_owned()),
    }
}

fn set(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    match path {
        [] => Err(toml::de::Error::custom("no key is named").message().to_owned()),
        [last] => {
            table.insert(last.clone(), value);
            Ok(())
        }
        [first, rest @ ..] => match table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => set(inner, rest, value),
            _ => Err(format!("`{first}` is a value, it has no keys of its own")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(file: &str) -> String {
        load(Some(("tidings.toml", file)), &[]).unwrap_err().to_string()
    }

    fn environment(name: &str, value: &str) -> Result<Config, ConfigError> {
        load(None, &[(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn the_defaults_are_accepted_and_name_every_key() {
        let config = load(None, &[]).unwrap();
        let shown = config.shown().unwrap().parse::<Table>().unwrap();
        assert_eq!(shown, DEFAULT.parse::<Table>().unwrap());
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
        let file = "[gateway]\nport = 1\nhost = \"::1\"\n";
        let variables = [("TIDINGS_GATEWAY__PORT".to_owned(), "2".to_owned())];
        let config = load(Some(("tidings.toml", file)), &variables).unwrap();
        assert_eq!((config.gateway.port, config.gateway.host.as_str()), (2, "::1"));
        assert_eq!(config.gateway.path, "/ws");
    }

    #[test]
    fn lists_properties_and_secrets_can_be_set_by_environment() {
        assert_eq!(environment("TIDINGS_PIPELINE__TOPICS", "a, b").unwrap().pipeline.topics, ["a", "b"]);
        let config = environment("TIDINGS_KAFKA__PROPERTIES__SASL_PASSWORD", "12345").unwrap();
        assert_eq!(config.kafka.properties["sasl.password"].to_string(), "12345");
        assert!(!config.shown().unwrap().contains("12345"));
        let secret = "s".repeat(32);
        let config = environment("TIDINGS_AUTH__SECRET", &secret).unwrap();
        assert!(!config.shown().unwrap().contains(&secret) && !format!("{config:?}").contains(&secret));
    }

    /// Every key of a table, as a path, with its value.
    fn keys(table: &Table, above: &[String]) -> Vec<(Vec<String>, Value)> {
        let below = |(key, value): (&String, &Value)| {
            let path = [above, std::slice::from_ref(key)].concat();
            match value {
                Value::Table(inner) => keys(inner, &path),
                other => vec![(path, other.clone())],
            }
        };
        table.iter().flat_map(below).collect()
    }

    #[test]
    fn every_key_can_be_set_by_environment() {
        let all = keys(&DEFAULT.parse().unwrap(), &[]);
        assert!(all.len() > 40, "{} keys", all.len());
        for (path, value) in all {
            let name = format!("{PREFIX}{}", path.join("__").to_uppercase());
            let text = match &value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert!(environment(&name, &text).is_ok(), "{name}={text}");
            let refused = environment(&name, "\u{0} {").map(|config| config.shown().unwrap());
            // What takes any text shows it; everything else refuses it and names the variable.
            match refused {
                Ok(shown) => assert_ne!(shown, load(None, &[]).unwrap().shown().unwrap(), "{name} changes nothing"),
                Err(error) => assert!(error.to_string().contains(&name), "{error}"),
            }
        }
    }

    #[test]
    fn a_device_is_remembered_for_longer_than_the_ladder_lasts() {
        let refused = refusal("[courier]\nladder = [\"10days\", \"20days\"]\n").to_string();
        assert!(refused.contains("inbox.device_retention") && refused.contains("longer than `courier.ack_timeout`"), "{refused}");
        let fine = "[courier]\nladder = [\"10days\", \"20days\"]\n[inbox]\ndevice_retention = \"31days\"\n";
        assert!(crate::config::load(Some(("tidings.toml", fine)), &[]).is_ok());
    }

    #[test]
    fn a_device_that_is_used_is_told_of_at_least_twice_before_it_is_forgotten() {
        let refused = refusal("[gateway]\ndevice_interval = \"16days\"\n").to_string();
        assert!(refused.contains("gateway.device_interval") && refused.contains("`inbox.device_retention`"), "{refused}");
        assert!(crate::config::load(Some(("tidings.toml", "[gateway]\ndevice_interval = \"15days\"\n")), &[]).is_ok());
    }

    #[test]
    fn a_device_is_remembered_in_as_many_channels_as_one_connection_may_have() {
        for refused in [
            "[inbox]\nchannels_per_device = 127\n",
            "[inbox]\nchannels_per_device = 100001\n",
            "[gateway]\nchannels_per_connection = 257\n",
        ] {
            let message = refusal(refused).to_string();
            assert!(message.contains("inbox.channels_per_device") && message.contains("at most 100000"), "{refused}: {message}");
        }
        assert!(crate::config::load(Some(("tidings.toml", "[inbox]\nchannels_per_device = 128\n")), &[]).is_ok());
    }

    #[test]
    fn a_wrong_key_is_refused_with_file_line_and_what_is_allowed() {
        insta::assert_snapshot!("unknown_key", refusal("[gateway]\nport = 1\nprot = 2\n"));
        insta::assert_snapshot!("unknown_section", refusal("# mine\n[gatway]\nport = 1\n"));
        insta::assert_snapshot!("wrong_type", refusal("[gateway]\n\nport = \"http\"\n"));
        insta::assert_snapshot!("out_of_range", refusal("[gateway]\nport = 70000\n"));
        insta::assert_snapshot!("bad_delay", refusal("[courier]\nack_timeout = \"soon\"\n"));
        insta::assert_snapshot!("bad_list_item", refusal("[courier]\nladder = [\n  \"1s\",\n  2,\n]\n"));
        insta::assert_snapshot!("zero", refusal("[pipeline]\nworkers = 0\n"));
        insta::assert_snapshot!("not_toml", refusal("[gateway]\nport = \n"));
        insta::assert_snapshot!(
            "impossible_values",
            refusal(
                "[courier]\nladder = [\"2m\", \"30s\"]\n[auth]\nsecret = \"short\"\n[pipeline]\ntopics = [\"tidings.dlq\"]\n"
            )
        );
        insta::assert_snapshot!("by_environment", environment("TIDINGS_GATEWAY__PORT", "http").unwrap_err());
        insta::assert_snapshot!("single_underscore", environment("TIDINGS_GATEWAY_PORT", "1").unwrap_err());
        insta::assert_snapshot!("reserved_path", refusal("[gateway]\npath = \"/metrics\"\n"));
        insta::assert_snapshot!("secret_without_quotes", refusal("[auth]\nsecret = 1234567890\n"));
        insta::assert_snapshot!(
            "keys",
            refusal("[auth]\nmode = \"none\"\n[[auth.keys]]\nalgorithm = \"HS256\"\n[[auth.keys]]\nalgorithm = \"RS256\"\n")
        );
        insta::assert_snapshot!("algorithm", refusal("[[auth.keys]]\nalgorithm = \"none\"\n"));
        insta::assert_snapshot!("proxy_without_peers", refusal("[auth]\nmode = \"proxy\"\n"));
        insta::assert_snapshot!(
            "none_behind_a_proxy",
            refusal("[auth]\nmode = \"none\"\n[http]\ntrusted_proxies = [\"10.0.0.1\"]\n")
        );
        insta::assert_snapshot!("no_network", refusal("[auth]\nproxies = [\"10.1.2.3/8\"]\n"));
        insta::assert_snapshot!("unknown_by_environment", environment("TIDINGS_GATEWAY__PROT", "1").unwrap_err());
    }
}
