//! The programs of docs/events.md, run as they stand: what each writes becomes Alice's notification. A language that is not installed is named and
//! left out, but not in CI.

use std::process::Command;

use tidings::cli::Role;

use crate::harness::command::{json, missing};
use crate::harness::registry;
use crate::harness::world::World;
use crate::registry::{WORDS, with_registry};

mod emit;
mod registered;

const DOCUMENT: &str = include_str!("../../docs/events.md");
/// The exit code of `dev/emit` where a language is not installed.
const UNAVAILABLE: i32 = 3;
const FORMATS: [&str; 3] = ["avro", "protobuf", "json-schema"];

/// A program of the document.
#[derive(Clone, Copy)]
struct Program {
    language: &'static str,
    /// What its block is called.
    block: &'static str,
    file: &'static str,
}

const PYTHON: Program = Program { language: "python", block: "python", file: "emit.py" };
const NODE: Program = Program { language: "node", block: "js", file: "emit.js" };
const GO: Program = Program { language: "go", block: "go", file: "emit.go" };
const JAVA: Program = Program { language: "java", block: "java", file: "Emit.java" };

/// The text of a block of the document.
fn block(name: &str) -> &'static str {
    let (_, rest) = DOCUMENT.split_once(&format!("\n```{name}\n")).unwrap_or_else(|| panic!("no program in {name}"));
    rest.split_once("```").unwrap().0
}

impl Program {
    /// Runs its text with these arguments; whether the language is there.
    async fn run(self, (world, topic): (&World, &str), (text, args): (&str, &[&str]), environment: &[(&str, &str)]) -> bool {
        let path = world.dir.path().join(self.file);
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dev/emit"));
        command.arg(self.language).arg(&path).args(args).env("BROKERS", &world.log.brokers).env("TOPIC", topic);
        command.envs(environment.iter().copied());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(UNAVAILABLE) {
            missing(&said);
            return false;
        }
        assert!(output.status.success(), "{}: {args:?}: {said}{}", self.language, String::from_utf8_lossy(&output.stdout));
        true
    }

    async fn emits_an_event(self) {
        let world = World::new().await;
        if self.run((&world, &world.topic), (block(self.block), &[]), &[]).await {
            is_notified(&world, self.language).await;
        }
    }

    async fn emits_an_event_in_each_format(self) {
        let world = Registered::new().await;
        let text = block(&format!("{} registry", self.block));
        // Apicurio's own serializers ask its own API.
        let url = if self.language == "java" { world.url.replace("ccompat/v7", "registry/v3") } else { world.url.clone() };
        for (format, topic) in FORMATS.into_iter().zip(&world.topics) {
            if !self.run((&world.world, topic), (text, &[format]), &[("REGISTRY", &url)]).await {
                return;
            }
        }
        world.is_notified(self.language).await;
    }
}

/// What lies on the topic is what the document promises.
async fn is_notified(world: &World, language: &str) {
    let records = world.log.records(&world.topic).await;
    let [record] = records.as_slice() else { panic!("{language}: {} records", records.len()) };
    assert_eq!(record.key.as_deref(), Some(&b"alice"[..]), "{language}");
    let place = format!("{}:{}:{}", world.topic, record.partition, record.offset);
    let shown = json(world, 0, &["render", "payment-due", "--from", &place]).await;
    let one = &shown["notifications"][0];
    assert_eq!(one["channel"], "user-alice", "{language}: {shown}");
    assert_eq!(one["notification"]["message"], WORDS, "{language}");
}

/// A world with a topic for each format, whose schemas a registry has.
struct Registered {
    world: World,
    url: String,
    topics: Vec<String>,
}

impl Registered {
    async fn new() -> Self {
        let (url, mut topics) = (registry::shared(), Vec::new());
        let world = World::with(|config| {
            with_registry(config, &url);
            let topic = config.pipeline.topics[0].to_string();
            topics = FORMATS.map(|format| format!("{topic}.{format}")).to_vec();
            config.pipeline.topics.extend(topics.iter().map(|topic| topic.parse().unwrap()));
        })
        .await;
        for (format, topic) in FORMATS.into_iter().zip(&topics) {
            world.log.create(topic, 1, &[]).await;
            let args = ["schemas", "register", "--registry", &url, "--topic", topic, "--type", "payment:due", "--format", format];
            assert_eq!(json(&world, 0, &args).await["subjects"][0]["state"], "registered");
        }
        Self { world, url, topics }
    }

    /// Each of them became the notification that the document promises, and an event that is known by its id.
    async fn is_notified(&self, language: &str) {
        let running = self.world.start_roles(&[Role::Pipeline]).await;
        for record in self.world.own_records("notifications", FORMATS.len()).await {
            let notified = record.json();
            assert_eq!(record.key.as_deref(), Some(&b"user-alice"[..]), "{language}: {notified}");
            assert_eq!(notified["notification"]["message"], WORDS, "{language}: {notified}");
            assert_eq!(notified["notification"]["eventId"], format!("e-{language}"), "{notified}");
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn the_program_in_python_emits_an_event() {
    PYTHON.emits_an_event().await;
}

#[tokio::test]
async fn the_program_in_node_emits_an_event() {
    NODE.emits_an_event().await;
}

#[tokio::test]
async fn the_program_in_go_emits_an_event() {
    GO.emits_an_event().await;
}

#[tokio::test]
async fn the_program_in_java_emits_an_event() {
    JAVA.emits_an_event().await;
}

#[tokio::test]
async fn the_program_in_rust_emits_an_event() {
    // Behind the comment of its module.
    assert!(include_str!("emitting/emit.rs").ends_with(block("rust")), "the document and tests/it/emitting/emit.rs are the same");
    let world = World::new().await;
    emit::emit(&world.log.brokers, &world.topic).await.unwrap();
    is_notified(&world, "rust").await;
}

#[tokio::test]
async fn the_program_in_python_emits_an_event_in_each_format_of_a_registry() {
    PYTHON.emits_an_event_in_each_format().await;
}

#[tokio::test]
async fn the_program_in_node_emits_an_event_in_each_format_of_a_registry() {
    NODE.emits_an_event_in_each_format().await;
}

#[tokio::test]
async fn the_program_in_go_emits_an_event_in_each_format_of_a_registry() {
    GO.emits_an_event_in_each_format().await;
}

#[tokio::test]
async fn the_program_in_java_emits_an_event_in_each_format_of_a_registry() {
    JAVA.emits_an_event_in_each_format().await;
}

#[tokio::test]
async fn the_program_in_rust_emits_an_event_in_each_format_of_a_registry() {
    assert!(
        include_str!("emitting/registered.rs").ends_with(block("rust registry")),
        "the document and tests/it/emitting/registered.rs are the same"
    );
    let world = Registered::new().await;
    for (format, topic) in FORMATS.into_iter().zip(&world.topics) {
        registered::emit(format, (&world.world.log.brokers, &world.url), topic).await.unwrap();
    }
    world.is_notified("rust").await;
}

/// What stands for Python in a test of `dev/emit`: it makes environments, and ends whoever installs into them as long as a file is there.
const STAND_IN: &str = r#"#!/usr/bin/env bash
case "$1 $2" in
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/pip" ;;
  "-m pip" | "install "*)
    if [[ " $* " != *" --require-hashes "* ]]; then exit 1; fi
    if [[ -e $INTERRUPTING ]]; then kill -9 "$PPID"; fi
    ;;
  "-m grpc_tools.protoc") ;;
  *) echo "ran" ;;
esac
"#;

#[tokio::test]
async fn an_installation_that_was_interrupted_is_made_anew_and_not_taken_for_a_whole_one() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let python = dir.path().join("python3");
    std::fs::write(&python, STAND_IN).unwrap();
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    let interrupting = dir.path().join("interrupting");
    let program = dir.path().join("emit.py");
    for file in [&interrupting, &program] {
        std::fs::write(file, "").unwrap();
    }
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let emit = || {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dev/emit"));
        command.arg("python").arg(&program).env("PATH", &path).env("XDG_CACHE_HOME", dir.path());
        command.env("INTERRUPTING", &interrupting).output().unwrap()
    };
    assert!(!emit().status.success(), "it was killed while it installed");
    std::fs::remove_file(&interrupting).unwrap();
    let output = emit();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ran\n", "{}", String::from_utf8_lossy(&output.stderr));
    let made = std::fs::read_dir(dir.path().join("tidings/emit")).unwrap().map(|entry| entry.unwrap().path());
    let made = made.filter(|path| path.is_dir()).collect::<Vec<_>>();
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(made[0].join("generated").is_dir());
}
