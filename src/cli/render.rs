//! `tidings render`: what would a record become? The pipeline's own decision, by the configuration in force, without writing anything.

mod record;
mod told;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use tidings_core::event::Envelope;
use tidings_core::locale::Locale;
use tidings_core::rules::{RuleSet, Verdict};

use self::record::{Place, Taken};
use self::told::Told;
use super::produce::header;
use crate::clock::Clock;
use crate::config::{Config, Edition, RulesSource, Topics, registry_url};
use crate::kafka::cluster::Cluster;
use crate::registry::Registry;
use crate::telemetry::Metrics;

/// Show what a record would become: each notification as its receivers get it, or why there is none
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only what this rule makes of it, and why if that is nothing [default: what all rules do]
    #[arg(value_name = "RULE", required_unless_present_any = ["sample", "from", "type"])]
    rule: Option<String>,
    /// A file with the value of one record, as a service would write it to Kafka; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
    /// Take this record from the brokers, decided on as when it was written, for instance payments:0:1042
    #[arg(long, value_name = "TOPIC:PARTITION:OFFSET", conflicts_with = "sample")]
    from: Option<Place>,
    /// Take the first sample of this type of event from the schemas, for instance payment:due [default: the rule's]
    #[arg(long = "type", value_name = "TYPE", conflicts_with_all = ["sample", "from"], id = "type")]
    kind: Option<String>,
    /// A folder of rules (*.toml) [default: `pipeline.rules`]
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// A folder of schemas of events (*.json), for their samples [default: the schemas that tidings ships]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["sample", "from"])]
    schemas: Option<PathBuf>,
    /// The topic that the record is taken to lie on
    #[arg(long, default_value = "sample", conflicts_with = "from")]
    topic: String,
    /// A header of the record, for instance ce_type=payment:due; may be given more than once
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header, conflicts_with = "from")]
    headers: Vec<(String, String)>,
    /// The envelope that the record is in: detect, cloudevents, outbox, plain or flat [default: as the topic is configured]
    #[arg(long, value_parser = envelope)]
    envelope: Option<Envelope>,
    /// The registry that has the record's schema, as `https://registry.example.com`; it is told the credentials of `registry` [default: `registry.urls`]
    #[arg(long, value_name = "URL", value_parser = registry_url)]
    registry: Option<String>,
    /// Show what somebody who reads this locale is shown, for instance fr-CA [default: the texts of the rule itself]
    #[arg(long)]
    locale: Option<Locale>,
    /// Print the verdict as one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints what becomes of the record. The exit code is 1 if it would be buried.
///
/// # Errors
/// If a file or the record cannot be read, the rules have problems, there is no such rule or no sample for it, or the output cannot be written.
pub async fn run(args: Args, mut config: Config) -> anyhow::Result<ExitCode> {
    let edition = Edition::read(&RulesSource::new(&config.pipeline, &config.courier).or_of(args.rules.clone()))?;
    if let Some(name) = &args.rule {
        anyhow::ensure!(edition.rules.only(name).is_some(), unknown_rule(name, &edition.rules));
    }
    let cluster = Cluster::new(&config.kafka)?;
    let requests = cluster.names().requests();
    let taken = {
        let (args, rules) = (args.clone(), edition.rules.clone());
        tokio::task::spawn_blocking(move || take(&args, &rules, &cluster)).await??
    };
    if let Some(envelope) = args.envelope {
        config.pipeline.per_topic =
            std::iter::once((taken.topic.parse().map_err(anyhow::Error::msg)?, envelope_of(envelope))).collect();
    }
    let topics = Topics::new(&config.pipeline, &requests);
    if let Some(url) = &args.registry {
        config.registry.urls = vec![url.clone()];
    }
    let registry = Registry::start(&config.registry, Clock::start(), &Metrics::new())?;
    let verdict = |rules: &RuleSet| taken.decided(rules, (&topics, &registry));
    let whole = verdict(&edition.rules)?;
    let told = match &args.rule {
        None => Told { verdict: whole, alone: None },
        Some(name) => {
            let only = edition.rules.only(name).context("the rule is gone")?;
            Told { verdict: whole, alone: Some((name.clone(), verdict(&only)?)) }
        }
    };
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &told.as_json(args.locale.as_ref()))?;
        writeln!(out)?;
    } else {
        told.print(&mut out, args.locale.as_ref())?;
    }
    Ok(if matches!(told.verdict, Verdict::Bury(_)) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn envelope(text: &str) -> Result<Envelope, serde_json::Error> {
    serde_json::from_value(text.into())
}

fn envelope_of(envelope: Envelope) -> crate::config::TopicConfig {
    crate::config::TopicConfig { envelope, ..Default::default() }
}

fn unknown_rule(name: &str, rules: &RuleSet) -> String {
    let known = rules.rules().iter().map(|rule| rule.name()).collect::<Vec<_>>().join(", ");
    format!("there is no rule `{name}`; there are {known}")
}

/// The record that is meant.
fn take(args: &Args, rules: &RuleSet, cluster: &Cluster) -> anyhow::Result<Taken> {
    let clock = Clock::start();
    if let Some(place) = &args.from {
        return Taken::from_brokers(cluster, place, clock);
    }
    let of_rule = || {
        args.rule
            .as_ref()
            .and_then(|name| rules.rules().iter().find(|rule| rule.name() == name))
            .map(|rule| rule.event().to_owned())
    };
    let value = match &args.sample {
        Some(path) => record::read(path)?,
        None => record::sample(args.schemas.as_deref(), &args.kind.clone().or_else(of_rule).unwrap_or_default())?,
    };
    Ok(Taken::made(&args.topic, value, &args.headers, clock.now()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_record_comes_from_one_place() {
        let parse = |words: &str| Line::try_parse_from(words.split(' ')).map(|line| line.args);
        for fine in [
            "render payment-due",
            "render --type a",
            "render payment-due --sample -",
            "render --from payments:0:7 --locale fr-CA",
            "render --sample - --registry https://registry.example.com:8081/api",
        ] {
            assert!(parse(fine).is_ok(), "{fine}");
        }
        for refused in [
            "render",
            "render --type a --sample -",
            "render --sample - --from a:0:1",
            "render --from a:0",
            "render --from a:-1:2",
            "render --sample - --schemas b",
            "render --sample - --registry registry.example.com",
            "render --sample - --registry file:///etc/passwd",
            "render --sample - --registry https://me:secret@registry.example.com",
            "render --sample - --registry https://registry.example.com?to=other",
        ] {
            assert!(parse(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_rule_that_is_not_there_is_named_with_those_that_are() {
        let rules = RuleSet::parse(tidings_core::rules::shipped(), tidings_core::rules::Limits::default()).unwrap();
        insta::assert_snapshot!(unknown_rule("payment_due", &rules), @"there is no rule `payment_due`; there are user-logged-in, balance-updated, booking-confirmed, booking-confirmed-update, contract-expiring, payment-due");
    }
}
