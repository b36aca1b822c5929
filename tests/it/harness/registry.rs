//! Schema registries: a real one, and one whose answers a test chooses; and a service in Python that uses them as its makers mean it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A real registry of a test's own. Stopped, with what it knows removed, when dropped.
pub(crate) struct Registry {
    dir: tempfile::TempDir,
    pub(crate) url: String,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = dev_registry("start", dir.path());
        Self { dir, url }
    }

    pub(crate) fn stop(&self) {
        dev_registry("stop", self.dir.path());
    }

    /// Starts it with what it knew, at the same address.
    pub(crate) fn start_again(&self) {
        assert_eq!(dev_registry("start", self.dir.path()), self.url);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The real registry that tests share: the one of `TIDINGS_TEST_REGISTRY`, or in the folder `TIDINGS_TEST_REGISTRY_DIR`, where the first test that
/// needs it starts it.
pub(crate) fn shared() -> String {
    if let Ok(url) = std::env::var("TIDINGS_TEST_REGISTRY") {
        return url;
    }
    let dir = std::env::var("TIDINGS_TEST_REGISTRY_DIR").expect("TIDINGS_TEST_REGISTRY names a registry: run this by dev/test");
    dev_registry("start", Path::new(&dir))
}

fn dev_registry(verb: &str, dir: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/registry");
    let output = Command::new(script).arg(verb).arg(dir).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "dev/registry {verb} failed");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A service in Python.
pub(crate) struct Producer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Producer {
    pub(crate) fn start(brokers: &str, registry: &str) -> Self {
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"), PathBuf::from);
        let python = cache.join("tidings/tools/python/bin/python");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/registry/produce.py");
        let mut command = Command::new(&python);
        command.arg("-W").arg("ignore").arg(script).args([brokers, registry]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{}: {error}; `dev/setup test` makes it", python.display()));
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    /// Writes a record; gives its partition and offset.
    pub(crate) fn produce(&mut self, record: &Value) -> (i32, i64) {
        writeln!(self.input, "{record}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let place =
            line.trim().split_once(' ').and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
        place.unwrap_or_else(|| panic!("{record}: {line}"))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer of a chosen registry: its status, further headers, and its body.
pub(crate) struct Answer(pub(crate) u16, pub(crate) &'static str, pub(crate) String);

type Answers = dyn Fn(&str) -> Answer + Send + Sync;

/// A registry that answers as a test wants it, and counts what it was asked.
pub(crate) struct Chosen {
    pub(crate) url: String,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Chosen {
    /// Answers each path as the function says.
    pub(crate) async fn answering(answers: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, answers) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(answers));
        tokio::spawn(accept(listener, Arc::clone(&asked), answers));
        Self { url, asked }
    }

    /// How often it was asked for a path.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().get(path).copied().unwrap_or(0)
    }

    /// What it was asked for.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().keys().cloned().collect()
    }
}

async fn accept(listener: TcpListener, asked: Arc<Mutex<BTreeMap<String, usize>>>, answers: Arc<Answers>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (asked, answers) = (Arc::clone(&asked), Arc::clone(&answers));
        tokio::spawn(async move {
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let mut chunk = [0; 4096];
                match stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => request.extend_from_slice(&chunk[..read]),
                }
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let path = text.split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned();
            *asked.lock().unwrap().entry(path.clone()).or_insert(0) += 1;
            let Answer(status, headers, body) = answers(&path);
            let head =
                format!("HTTP/1.1 {status} Chosen\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(body.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}
