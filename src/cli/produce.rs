//! `tidings produce`: an event onto a domain topic, to try rules and consumers with.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::Context as _;
use tidings_core::record::Header;

use crate::config::Config;
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::{Outgoing, ProduceError, Producer, Ticket, Written};

/// Without an answer for this long, no broker is there.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `produce`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The topic to produce to.
    #[arg(long)]
    topic: String,
    /// The record's key.
    #[arg(long)]
    key: Option<String>,
    /// A header as `NAME=VALUE`; may be given several times.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Make a record of each line, instead of one of everything.
    #[arg(long)]
    lines: bool,
    /// The file that holds the value; `-` or nothing is standard input.
    #[arg(default_value = "-")]
    file: PathBuf,
}

type Outcome = Result<Written, ProduceError>;

struct Told(Sender<Outcome>);

impl Ticket for Told {
    fn settled(self: Box<Self>, outcome: Outcome) {
        // The command may have given up waiting.
        let _ = self.0.send(outcome);
    }
}

/// Produces, and prints where each record was written.
///
/// # Errors
/// If the input cannot be read, or a record was refused or not taken within 30 seconds.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::new(&config.kafka)?;
    tokio::task::spawn_blocking(move || produce(&args, &cluster)).await??;
    Ok(ExitCode::SUCCESS)
}

fn produce(args: &Args, cluster: &Cluster) -> anyhow::Result<()> {
    let input = read(args)?;
    let values = if args.lines {
        input.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect()
    } else {
        vec![input.strip_suffix(b"\n").unwrap_or(&input)]
    };
    let producer = Producer::<Told>::new(cluster, "produce")?;
    let (told, answers) = channel();
    for (number, value) in values.into_iter().enumerate() {
        send(args, &producer, value, &told).with_context(|| format!("record {} of the input", number + 1))?;
        report(args, &answers)?;
    }
    Ok(())
}

fn send(args: &Args, producer: &Producer<Told>, value: &[u8], told: &Sender<Outcome>) -> Result<(), ProduceError> {
    let headers: Vec<Header> = args.headers.iter().map(|(name, value)| (name.clone(), Some(value.as_bytes().to_vec()))).collect();
    let record = Outgoing {
        topic: &args.topic,
        partition: None,
        key: args.key.as_deref().map(str::as_bytes),
        value: Some(value),
        headers: &headers,
    };
    producer.send(record, Box::new(Told(told.clone()))).map_err(|(error, _)| error)
}

fn report(args: &Args, answers: &Receiver<Outcome>) -> anyhow::Result<()> {
    let outcome = answers
        .recv_timeout(PATIENCE)
        .with_context(|| format!("no answer within {PATIENCE:?}: no broker is there, or there is no topic `{}`", args.topic))?;
    let written = outcome?;
    writeln!(std::io::stdout().lock(), "{}[{}]@{}", args.topic, written.partition, written.offset)?;
    Ok(())
}

fn read(args: &Args) -> anyhow::Result<Vec<u8>> {
    let mut input = Vec::new();
    if args.file.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut input).context("standard input could not be read")?;
    } else {
        input = std::fs::read(&args.file).with_context(|| format!("{} could not be read", args.file.display()))?;
    }
    anyhow::ensure!(!input.is_empty(), "there is nothing to produce: the input is empty");
    Ok(input)
}

/// A header from an argument.
pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a header is given as NAME=VALUE")?;
    if name.is_empty() {
        return Err("a header needs a name before the `=`".into());
    }
    Ok((name.to_owned(), value.to_owned()))
}
