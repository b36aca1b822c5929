//! `tidings breaker`: topics that are not read because too much of them was buried.
//!
//! Owns: the words. Neighbours: `replay` tells the nodes, `pipeline` hears of it.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Subcommand;
use tidings_core::ids::UserId;

use super::progress::stoppable;
use crate::config::Config;
use crate::kafka::cluster::Cluster;
use crate::kafka::topics::{self, Plan};
use crate::replay::reset_breaker;

/// Arguments of `breaker`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Have every process read a topic again now that its breaker stopped, or all such topics. What made it open should be mended by
    /// then: the breaker opens again when it is not.
    Reset(ResetArgs),
}

#[derive(Debug, clap::Args)]
struct ResetArgs {
    /// The topic [default: every topic that is not read for this reason]
    topic: Option<String>,
    /// Whose name stands on the topic audit.
    #[arg(long = "as", value_name = "WHO", env = "USER", hide_env_values = true, default_value = "operator")]
    who: UserId,
}

/// Runs the command.
///
/// # Errors
/// If the topic is none that the pipeline reads, tidings' own topics are not there, or the brokers do not take the word.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let Command::Reset(ResetArgs { topic, who }) = args.command;
    let cluster = Cluster::new(&config.kafka)?;
    let requests = cluster.names().requests();
    if let Some(topic) = &topic
        && *topic != requests
        && !config.pipeline.topics.iter().any(|source| source.matches(topic))
    {
        anyhow::bail!("the topic `{topic}` is none of `pipeline.topics`, so it has no breaker: mend its name; nothing was said");
    }
    let plan = Plan::new(&config.kafka, &config.pipeline, &config.courier, &config.inbox);
    topics::check(&cluster, &plan).await?;
    let node = config.node.name()?;
    stoppable(move |stop| {
        let id = reset_breaker(&cluster, (who, node), topic.clone(), stop)?;
        let which = topic.map_or_else(|| "every topic that a breaker stopped".to_owned(), |topic| format!("topic {topic}"));
        writeln!(
            std::io::stdout().lock(),
            "reset {id}: every process that runs now is told to read {which} again. `/ready` of each says what it does"
        )?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}
