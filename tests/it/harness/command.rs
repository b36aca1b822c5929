//! Commands of the binary, as somebody types them.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::world::World;

/// `tidings` with the world's configuration in a file.
pub(crate) fn command(world: &World, args: &[&str]) -> Command {
    let file = world.dir.path().join("command.toml");
    if !file.exists() {
        std::fs::write(&file, toml::to_string(&world.config).unwrap()).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.arg("--config").arg(file).args(args).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) async fn run(world: &World, args: &[&str]) -> Output {
    let mut command = command(world, args);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// What it prints if it ends with `code`.
pub(crate) async fn printed(world: &World, code: i32, args: &[&str]) -> String {
    let output = run(world, args).await;
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The JSON that it prints if it ends with `code`.
pub(crate) async fn json(world: &World, code: i32, args: &[&str]) -> Value {
    let args = args.iter().copied().chain(["--json"]).collect::<Vec<_>>();
    serde_json::from_str(&printed(world, code, &args).await).unwrap()
}

/// Something that a test needs is not installed here: it is left out, and says so. In CI nothing is left out (`dev/setup test` installs it).
pub(crate) fn missing(what: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{what}: `dev/setup test` installs it");
    println!("SKIPPED: {what}");
}
