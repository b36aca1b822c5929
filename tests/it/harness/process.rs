//! A process of its own: what is killed, and what gets signals.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::world::{World, await_ready};
use super::{HANG, eventually};

/// A running `tidings serve`. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Where it writes its log.
    pub(crate) log: std::path::PathBuf,
}

impl Process {
    /// Starts `serve` with the world's configuration in a file, on a free port.
    pub(crate) fn spawn(world: &World) -> Self {
        Self::spawn_by(world, Command::new(env!("CARGO_BIN_EXE_tidings")))
    }

    /// Some roles only.
    pub(crate) fn spawn_roles(world: &World, roles: &[&str]) -> Self {
        Self::spawn_with(world, Command::new(env!("CARGO_BIN_EXE_tidings")), roles)
    }

    /// The same where no file may grow beyond `bytes`, as on a full disk, until [`Process::lift_file_limit`].
    pub(crate) fn spawn_with_files_of(world: &World, bytes: u64) -> Self {
        let mut shell = Command::new("sh");
        // A write beyond the limit is to fail, not to end the process.
        let script = format!("trap '' XFSZ; exec prlimit --fsize={bytes}:unlimited \"$@\"");
        shell.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_tidings")]);
        Self::spawn_by(world, shell)
    }

    /// Some roles only, where no more than `files` may be open.
    pub(crate) fn spawn_with_files(world: &World, files: u32, roles: &[&str]) -> Self {
        let mut limited = Command::new("prlimit");
        limited.args([&format!("--nofile={files}"), env!("CARGO_BIN_EXE_tidings")]);
        Self::spawn_with(world, limited, roles)
    }

    fn spawn_by(world: &World, command: Command) -> Self {
        Self::spawn_with(world, command, &[])
    }

    fn spawn_with(world: &World, mut command: Command, roles: &[&str]) -> Self {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let mut config = world.config.clone();
        config.gateway.port = port;
        let file = world.dir.path().join(format!("tidings-{port}.toml"));
        std::fs::write(&file, toml::to_string(&config).unwrap()).unwrap();
        let log = world.dir.path().join(format!("log-{}", uuid::Uuid::new_v4()));
        let child = command
            .args(["--config".as_ref(), file.as_os_str(), "serve".as_ref()])
            .args(roles.iter().flat_map(|role| ["--role", role]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)), log }
    }

    /// There is room again.
    pub(crate) fn lift_file_limit(&self) {
        let lifted = Command::new("prlimit").args(["--fsize=unlimited", "--pid", &self.child.id().to_string()]).status();
        assert!(lifted.unwrap().success());
    }

    pub(crate) async fn await_ready(&self) {
        await_ready(self.address).await;
    }

    /// SIGKILL: no destructor, no handler, nothing flushed.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9), "it had ended before it was killed: {}", self.logged());
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// How it ended, if it has.
    pub(crate) fn try_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually(&format!("the process ends within {HANG:?}"), async || self.try_ended()).await
    }

    pub(crate) fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the process at {} wrote:\n{}", self.address, self.logged());
        }
        // Already gone after `kill` and `ended`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
