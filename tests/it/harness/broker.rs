//! The broker: the one that `TIDINGS_TEST_BROKERS` names, else one that `dev/kafka` starts for this run; or one of its own
//! for a test that stops it.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use tidings::config::{Config, Scalar};

use super::certificates::{Authority, Pair};

/// The address of the broker that all tests share.
pub(crate) fn shared() -> &'static str {
    static SHARED: OnceLock<String> = OnceLock::new();
    SHARED.get_or_init(|| std::env::var("TIDINGS_TEST_BROKERS").unwrap_or_else(|_| start_until_this_process_ends()))
}

/// A broker of a test's own. Stopped, with its data removed, when dropped.
pub(crate) struct OwnBroker {
    /// Let go before its folder is removed.
    disk: Option<SmallDisk>,
    dir: tempfile::TempDir,
    /// What starts it.
    verb: &'static str,
    pub(crate) brokers: String,
}

impl OwnBroker {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let brokers = dev_kafka("start", dir.path());
        Self { disk: None, dir, verb: "start", brokers }
    }

    /// One whose data lies on a disk of its own of so many MiB; none if this user may not mount one.
    pub(crate) fn on_small_disk(mebibytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(dir.path(), mebibytes)?;
        let brokers = dev_kafka("start", dir.path());
        Some(Self { disk: Some(disk), dir, verb: "start", brokers })
    }

    /// Takes all the room that is left on its disk.
    pub(crate) fn fill_disk(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    /// Gives that room back.
    pub(crate) fn free_disk(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        assert!(self.disk.is_some(), "this would fill the disk of whoever runs the test");
        self.dir.path().join("filler")
    }

    /// Whether its process has not ended.
    pub(crate) fn is_running(&self) -> bool {
        kill(process(self.dir.path()), None).is_ok()
    }

    /// A signal to its process. After SIGKILL its data stays.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(process(self.dir.path()), signal).unwrap();
    }

    /// Three brokers that hold a copy of everything each; a write counts once two have it.
    pub(crate) fn three() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let brokers = dev_kafka("cluster", dir.path());
        Self { disk: None, dir, verb: "cluster", brokers }
    }

    /// Kills one of three, 1 to 3. Its data stays.
    pub(crate) fn kill(&self, number: u8) {
        kill(process(&self.dir.path().join(number.to_string())), Signal::SIGKILL).unwrap();
    }

    /// One that listens with TLS and passwords as well.
    pub(crate) fn start_secure(pair: &Pair) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pem = dir.path().join("broker.pem");
        std::fs::write(&pem, [&pair.key[..], &pair.certificate].concat()).unwrap();
        let brokers = dev_kafka_with("start", dir.path(), &["--secure".as_ref(), pem.as_os_str()]);
        Self { disk: None, dir, verb: "start", brokers }
    }

    /// Where it listens with TLS and passwords.
    pub(crate) fn secure(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("bootstrap.secure")).unwrap().trim().to_owned()
    }

    /// Has tidings come there as its user, with this password, which stands in a file as secrets do.
    pub(crate) fn secured(&self, config: &mut Config, files: &Path, (authority, password): (&Authority, &str)) {
        let (ca, secret) = (files.join("ca.pem"), files.join("password"));
        std::fs::write(&ca, authority.pem()).unwrap();
        std::fs::write(&secret, password).unwrap();
        config.kafka.brokers = self.secure();
        for (name, value) in [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "tidings"),
            ("ssl.ca.location", ca.to_str().unwrap()),
        ] {
            config.kafka.properties.insert(name.into(), Scalar::Text(value.into()));
        }
        config.kafka.property_files.insert("sasl.password".into(), secret.display().to_string());
    }

    /// Stops the broker and keeps its data.
    pub(crate) fn stop(&self) {
        dev_kafka("stop", self.dir.path());
    }

    /// Starts it again, at the same address; of three, those that do not run.
    pub(crate) fn start_again(&self) {
        assert_eq!(dev_kafka(self.verb, self.dir.path()), self.brokers);
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A file system in memory over a folder. Taken away when dropped.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    fn mount(at: &Path, mebibytes: u32) -> Option<Self> {
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self { at: at.to_owned() })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Even if something still has a file open there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

/// The process of the broker in a folder.
fn process(dir: &Path) -> Pid {
    let pid = std::fs::read_to_string(dir.join("pid")).unwrap();
    Pid::from_raw(pid.trim().parse().unwrap())
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/kafka")
}

fn dev_kafka(verb: &str, dir: &Path) -> String {
    dev_kafka_with(verb, dir, &[])
}

fn dev_kafka_with(verb: &str, dir: &Path, options: &[&OsStr]) -> String {
    let output =
        Command::new(script()).arg(verb).arg(dir).args(options).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "dev/kafka {verb} failed");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Nothing runs at the end of a test binary, so a shell waits for its process id and stops the broker then.
#[expect(clippy::zombie_processes, reason = "the shell outlives this process")]
fn start_until_this_process_ends() -> String {
    let dir = tempfile::tempdir().unwrap().keep();
    let brokers = dev_kafka("start", &dir);
    let watch = "while kill -0 \"$1\" 2>/dev/null; do sleep 1; done; \"$2\" stop \"$3\"; rm -rf \"$3\"";
    Command::new("setsid")
        .args(["sh", "-c", watch, "watch", &std::process::id().to_string()])
        .args([script(), dir])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    brokers
}
