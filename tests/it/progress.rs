//! How far a command is, on the terminal of who waits for it.

use std::fs::File;
use std::io::Read as _;
use std::process::Stdio;

use nix::pty::{OpenptyResult, openpty};

use crate::harness::command::command;
use crate::harness::world::{World, payment};

const COUNT: usize = 60;
/// So slow that the bar is drawn many times.
const RATE: &str = "20";

#[tokio::test]
async fn a_terminal_shows_a_bar_with_rate_and_estimated_end_and_then_the_report_alone() {
    let world = World::new().await;
    for number in 0..COUNT {
        world.emit(&payment(&number.to_string(), "alice")).await;
    }
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let args = ["replay", "--topic", &world.topic, "--all", "--execute", "--rate", RATE];
    let mut child = command(&world, &args).env("TERM", "xterm").stdout(Stdio::piped()).stderr(slave).spawn().unwrap();
    let reading = move || {
        let mut shown = Vec::new();
        let mut terminal = File::from(master);
        let mut some = [0; 4096];
        // Once nobody writes to it any more, a terminal is an error to read.
        while let Ok(count) = terminal.read(&mut some) {
            shown.extend_from_slice(&some[..count]);
        }
        let mut report = String::new();
        child.stdout.take().unwrap().read_to_string(&mut report).unwrap();
        (child.wait().unwrap(), String::from_utf8_lossy(&shown).into_owned(), report)
    };
    let (status, shown, report) = tokio::task::spawn_blocking(reading).await.unwrap();
    assert!(status.success(), "{shown}");
    let bars = shown.split('\r').filter(|drawn| drawn.contains("replaying [")).collect::<Vec<_>>();
    let bar = bars.last().expect("a bar");
    assert!(bar.contains("/60 (") && bar.contains("/s, ") && bar.contains(" left)"), "{bar}");
    assert!(bars.iter().any(|bar| bar.contains('>')), "it grows: {bars:?}");
    assert!(shown.ends_with("\u{1b}[2K"), "it is taken away: {:?}", shown.split('\r').next_back());
    assert!(report.contains("sent: 60 notifications of 60 events") && !report.contains('\u{1b}'), "{report}");
}
