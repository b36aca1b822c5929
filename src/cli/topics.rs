//! `tidings topics`: making and checking tidings' own topics.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Subcommand;
use tidings_core::record::meta::EpochRecord;

use crate::clock::Clock;
use crate::config::Config;
use crate::kafka::cluster::Cluster;
use crate::kafka::topics::{self, Made, Plan, Waiting};

/// Arguments of `topics`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make every topic of tidings' own that is not there. Touches none that is.
    Create(CreateArgs),
    /// Say what is missing or not as it must be.
    Check,
}

/// Arguments of `topics create`.
#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// How many partitions they are to have. If those that are there have fewer, the next epoch begins with topics of its own:
    /// running processes stop and are to be started again, and what is not delivered yet is carried over by their couriers.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: Option<i32>,
    /// Make the domain topics of `pipeline.topics` too, as the brokers' defaults have it. For trying: they belong to the
    /// services that write them.
    #[arg(long)]
    domain: bool,
}

/// Runs the command.
///
/// # Errors
/// If the brokers do not answer or refuse, or something is missing or wrong.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::new(&config.kafka)?;
    let plan = Plan::new(&config.kafka, &config.pipeline, &config.courier, &config.inbox);
    match args.command {
        Command::Create(args) => create(&cluster, &plan, &args).await?,
        Command::Check => say_check(&cluster, &plan).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(cluster: &Cluster, plan: &Plan, args: &CreateArgs) -> anyhow::Result<()> {
    let now = Clock::start().now();
    let (mut report, begun) = match args.partitions {
        None => (topics::create(cluster, plan, now).await?, None),
        Some(partitions) => topics::grow(cluster, plan, partitions, now).await?,
    };
    if args.domain {
        report.extend(topics::create_domain(cluster, plan).await?);
    }
    let mut out = std::io::stdout().lock();
    for (topic, made) in report {
        let (done, partitions) = match made {
            Made::Created => ("created", format!(" ({} partitions)", topic.partitions)),
            Made::Kept => ("kept   ", String::new()),
        };
        writeln!(out, "{done} {}{partitions}", topic.name)?;
    }
    if let Some(EpochRecord { epoch, partitions, .. }) = begun {
        writeln!(
            out,
            "epoch {epoch} has begun, with {partitions} partitions: start the processes of tidings again; `tidings topics check` says what \
             of the epoch before is not carried over yet"
        )?;
    }
    Ok(())
}

async fn say_check(cluster: &Cluster, plan: &Plan) -> anyhow::Result<()> {
    let EpochRecord { epoch, partitions, earlier, .. } = topics::check(cluster, plan).await?;
    let waiting = match &earlier {
        None => Vec::new(),
        Some(earlier) => topics::waiting(cluster, plan, earlier).await?,
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "all topics are as they must be; epoch {epoch} with {partitions} partitions")?;
    for Waiting { topic, offsets } in &waiting {
        writeln!(out, "{offsets} offsets of {topic} are not carried over or folded yet")?;
    }
    if let Some(earlier) = earlier.filter(|_| waiting.is_empty()) {
        writeln!(out, "everything of epoch {} is carried over and folded: its topics may be deleted", earlier.epoch)?;
    }
    Ok(())
}
