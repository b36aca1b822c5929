//! `tidings topics`: making and checking tidings' own topics.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Subcommand;

use crate::clock::Clock;
use crate::config::Config;
use crate::kafka::cluster::Cluster;
use crate::kafka::topics::{self, Made, Plan};

/// Arguments of `topics`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make every topic of tidings' own that is not there. Touches none that is.
    Create {
        /// Make the domain topics of `pipeline.topics` too, as the brokers' defaults have it. For trying: they belong to the
        /// services that write them.
        #[arg(long)]
        domain: bool,
    },
    /// Say what is missing or not as it must be.
    Check,
}

/// Runs the command.
///
/// # Errors
/// If the brokers do not answer or refuse, or something is missing or wrong.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::new(&config.kafka)?;
    let plan = Plan::new(&config.kafka, &config.pipeline, &config.courier);
    match args.command {
        Command::Create { domain } => {
            let mut report = topics::create(&cluster, &plan, Clock::start().now()).await?;
            if domain {
                report.extend(topics::create_domain(&cluster, &plan).await?);
            }
            let mut out = std::io::stdout().lock();
            for (topic, made) in report {
                let done = match made {
                    Made::Created => "created",
                    Made::Kept => "kept   ",
                };
                writeln!(out, "{done} {} ({} partitions)", topic.name, topic.partitions)?;
            }
        }
        Command::Check => {
            let epoch = topics::check(&cluster, &plan).await?;
            writeln!(std::io::stdout().lock(), "all topics are as they must be; epoch {}", epoch.epoch)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
