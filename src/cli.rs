//! The command line: what can be asked of the binary, and the commands that are clients.
//!
//! Owns: arguments, help, and one file for each command that is not a server. `main` maps `serve` and `demo` onto the
//! assembly. Refuses to hold logic that a room owns.

pub mod breaker;
pub mod check;
pub mod config;
pub mod dlq;
pub mod inbox;
pub mod pending;
pub mod produce;
mod progress;
mod remote;
pub mod render;
pub mod replay;
pub mod retry;
pub mod schemas;
mod shown;
pub mod store;
mod table;
pub mod tail;
pub mod token;
pub mod topics;
pub mod undelivered;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Durable, acknowledged notifications from Kafka events to every device.
#[derive(Debug, Parser)]
#[command(name = "tidings", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file; without one, the defaults and the environment count (`tidings config default`).
    #[arg(long, global = true, env = "TIDINGS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the services until SIGTERM.
    Serve(ServeArgs),
    /// Run everything embedded, with sample events flowing, to try things out.
    Demo(DemoArgs),
    /// Check rules and schemas, and say every problem with its file and line.
    Check(check::Args),
    /// Show what the rules make of a record.
    Render(render::Args),
    /// Make a token to try things with.
    Token(token::Args),
    /// Be a device in a terminal: print notifications as they arrive, and acknowledge them.
    Tail(tail::Args),
    /// Produce an event.
    Produce(produce::Args),
    /// Make or check tidings' own topics.
    Topics(topics::Args),
    /// Look at what was buried, and try it again.
    Dlq(dlq::Args),
    /// Decide once more on records of a domain topic, and send what follows.
    Replay(Box<replay::Args>),
    /// Have topics read again that a breaker stopped.
    Breaker(breaker::Args),
    /// Look at what nobody has acknowledged yet, and what was tried.
    Pending(pending::Args),
    /// Send again what is pending, now, to the devices that are connected.
    Retry(retry::Args),
    /// Look at what ended without success, and begin its ladder anew.
    Undelivered(undelivered::Args),
    /// Compare the shipped schemas of events with those of a registry, or put them there.
    Schemas(schemas::Args),
    /// Bring the database's schema up to date.
    Store(store::Args),
    /// Make the inbox's tables anew from the log.
    Inbox(inbox::Args),
    /// Print the commented default configuration, or the one in force.
    Config(config::Args),
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A service to run; may be given several times. Without it, all run.
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<Role>,
    /// Use an in-memory Kafka cluster inside this process, on the loopback. For trying things: nothing survives the process.
    #[arg(long)]
    pub embedded: bool,
}

/// A service that a process can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Events to notifications.
    Pipeline,
    /// Connections of devices.
    Gateway,
    /// Notifications and acknowledgements to SQL.
    Inbox,
    /// The retry ladder.
    Courier,
}

impl Role {
    /// Its name in `/ready` and in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Gateway => "gateway",
            Self::Inbox => "inbox",
            Self::Courier => "courier",
        }
    }
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The user who is shown notifications.
    #[arg(long, default_value = "alice")]
    pub user: tidings_core::ids::UserId,
    /// How often a sample event is produced.
    #[arg(long, default_value = "3s")]
    pub every: tidings_core::time::Delay,
}

/// Prints a value as one line of JSON.
fn json(out: &mut impl std::io::Write, value: &impl serde::Serialize) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_help_of_every_command() {
        let mut top = Cli::command().term_width(100);
        let mut helps = vec![top.render_long_help().to_string()];
        for command in top.get_subcommands_mut() {
            helps.push(command.render_long_help().to_string());
            helps.extend(command.get_subcommands_mut().map(|inner| inner.render_long_help().to_string()));
        }
        insta::assert_snapshot!(helps.join("\n────\n"));
    }

    #[test]
    fn the_arguments_are_sound() {
        Cli::command().debug_assert();
    }
}
