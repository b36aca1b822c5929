//! What a team does before production: `tidings check` in its CI, and `tidings render` on what lies on its topic.
//! Long because each command is given what teams give it, in three formats.

use std::fs;
use std::path::Path;

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::{Value, json};

use crate::harness::command::{json as told, printed, run};
use crate::harness::eventually;
use crate::harness::log::Seen;
use crate::harness::registry;
use crate::harness::world::{World, payment};
use crate::registry::{WORDS, said};

fn shipped(folder: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).display().to_string()
}

/// A folder with the shipped schema of payments, changed.
fn changed(world: &World, name: &str, change: impl Fn(&mut Value)) -> String {
    let text = fs::read_to_string(shipped("schemas/events/payment.due.json")).unwrap();
    let mut schema = serde_json::from_str::<Value>(&text).unwrap();
    change(&mut schema);
    let folder = world.dir.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("payment.due.json"), serde_json::to_string_pretty(&schema).unwrap()).unwrap();
    folder.display().to_string()
}

/// The class of each problem, where it lies and what it reads.
fn problems(report: &Value) -> Vec<String> {
    let of_payments = |problem: &&Value| problem["file"].as_str().unwrap().ends_with("payment.toml");
    let problems = report["problems"].as_array().unwrap().iter().filter(of_payments);
    let line = |problem: &Value| {
        for part in ["message", "help", "text"] {
            assert!(problem[part].as_str().is_some_and(|text| !text.is_empty()), "{problem} has no {part}");
        }
        format!("{} {}", problem["class"].as_str().unwrap(), problem["line"])
    };
    problems.map(line).collect()
}

#[tokio::test]
async fn a_team_learns_in_its_own_ci_which_rules_a_change_of_its_events_breaks() {
    let world = World::new().await;
    let (rules, before) = (shipped("rules"), shipped("schemas/events"));
    let check = async |code: i32, schemas: &str| {
        let args = ["check", "--rules", &rules, "--schemas", schemas, "--before", &before];
        told(&world, code, &args).await
    };
    assert_eq!(check(0, &before).await["problems"], json!([]));

    let removed = changed(&world, "removed", |schema| {
        schema["properties"].as_object_mut().unwrap().remove("dueDate");
        schema["required"] = json!(["userId", "paymentId", "amount"]);
    });
    assert_eq!(problems(&check(1, &removed).await), ["field_removed 9"]);
    let optional = changed(&world, "optional", |schema| schema["required"] = json!(["paymentId", "amount", "dueDate"]));
    assert_eq!(problems(&check(1, &optional).await), ["field_made_optional 6"]);
    let retyped = changed(&world, "retyped", |schema| schema["properties"]["amount"]["type"] = json!(["number", "object"]));
    assert_eq!(problems(&check(1, &retyped).await), ["field_type_changed 9"]);

    let output = run(&world, &["check", "--rules", &rules, "--schemas", &removed, "--before", &before]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("rules/payment.toml:9: error: `message` reads `dueDate`, which "), "{text}");
    let empty = changed(&world, "empty", |schema| schema["properties"]["userId"] = json!({"type": "string"}));
    let only = world.dir.path().join("rules");
    fs::create_dir_all(&only).unwrap();
    fs::copy(shipped("rules/payment.toml"), only.join("payment.toml")).unwrap();
    let args = ["check", "--rules", only.to_str().unwrap(), "--schemas", &empty];
    assert_eq!(problems(&told(&world, 0, &args).await), ["audience_empty 6"], "a warning fails nothing");
    let strict = args.iter().copied().chain(["--strict"]).collect::<Vec<_>>();
    told(&world, 1, &strict).await;
}

#[tokio::test]
async fn a_record_on_the_brokers_is_rendered_as_the_pipeline_would() {
    let world = World::new().await;
    let topic = &world.topic;
    let (partition, offset) = world.emit(&payment("1", "alice")).await;
    let place = format!("{topic}:{partition}:{offset}");
    let shown = told(&world, 0, &["render", "payment-due", "--from", &place]).await;
    assert_eq!(shown["verdict"], "notify");
    let one = &shown["notifications"][0];
    assert_eq!((&one["channel"], &one["rule"]), (&json!("user-alice"), &json!("payment-due")));

    // What a server makes of such a record is the same, word for word.
    let running = world.start().await;
    let (partition, offset) = world.emit(&payment("2", "alice")).await;
    let sent = eventually("it is notified", async || {
        let records = world.log.records(&world.own("notifications")).await;
        records.iter().map(Seen::json).find(|record| record["notification"]["eventId"] == "2")
    });
    let sent = sent.await;
    running.stop().await;
    let place = format!("{topic}:{partition}:{offset}");
    let rendered = told(&world, 0, &["render", "--from", &place]).await;
    assert_eq!(rendered["notifications"][0]["notification"], sent["notification"]);

    let other = told(&world, 0, &["render", "user-logged-in", "--from", &place]).await;
    assert!(other["silent"].as_str().unwrap().contains("no_rule"), "{other}");
}

#[tokio::test]
async fn what_is_ignored_buried_or_not_there_says_why() {
    let world = World::new().await;
    let topic = &world.topic;
    let headers = OwnedHeaders::new().insert(Header { key: "event-type", value: Some("payment:due") });
    let (partition, offset) = world.log.produce_with(topic, None, br#"{"userId":"alice"}"#, headers).await;
    let buried = told(&world, 1, &["render", "payment-due", "--from", &format!("{topic}:{partition}:{offset}")]).await;
    assert_eq!((&buried["verdict"], &buried["class"]), (&json!("bury"), &json!("template_undefined")));
    assert!(buried["line"].as_str().unwrap().contains("rules/payment.toml:"), "{buried}");
    let (partition, offset) = world.log.produce(topic, None, br#"{"type":"payment:lost","data":{}}"#).await;
    let text = printed(&world, 0, &["render", "--from", &format!("{topic}:{partition}:{offset}")]).await;
    assert_eq!(text, "ignored: no_rule: no rule is for events of this type\n");
    for (place, why) in [
        (format!("{topic}:{partition}:999"), "nothing lies at offset 999"),
        (format!("{topic}:99:0"), "has the partitions 0 to"),
        (format!("{topic}-lost:0:0"), "there is no topic"),
    ] {
        let output = run(&world, &["render", "--from", &place]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(why), "{place}: {error}");
    }
}

#[tokio::test]
async fn the_shipped_schemas_are_put_into_a_registry_once_and_compared_with_what_is_there() {
    let (world, url) = (World::new().await, registry::shared());
    let subject = format!("{}-value", world.topic);
    let ask = async |code: i32, verb: &str| {
        let args = ["schemas", verb, "--registry", &url, "--topic", &world.topic, "--type", "payment:due", "--format", "avro"];
        let mut told = told(&world, code, &args).await;
        let row = told["subjects"][0].take();
        assert_eq!(row["subject"], subject);
        row
    };
    assert_eq!(ask(1, "diff").await["state"], "absent");
    let registered = ask(0, "register").await;
    assert_eq!(registered["state"], "registered");
    for verb in ["register", "diff"] {
        let again = ask(0, verb).await;
        assert_eq!((&again["state"], &again["id"], &again["version"]), (&json!("same"), &registered["id"], &json!(1)), "{verb}");
    }
    // Somebody has registered another version since.
    let path = Path::new(&shipped("schemas/events")).join("payment.due.avsc");
    let mut schema = serde_json::from_str::<Value>(&fs::read_to_string(path).unwrap()).unwrap();
    schema["fields"].as_array_mut().unwrap().retain(|field| field["name"] != "dueDate");
    let candidate = world.dir.path().join("payment.avsc");
    fs::write(&candidate, schema.to_string()).unwrap();
    let rules = shipped("rules");
    let args = ["check", "--rules", &rules, "--registry", &url, "--subject", &subject, "--type", "payment:due"];
    let is_told =
        |report: &Value| problems(report).into_iter().filter(|problem| !problem.starts_with("audience")).collect::<Vec<_>>();
    assert_eq!(is_told(&told(&world, 0, &args).await), Vec::<String>::new());
    let with_candidate = [&args[..], &["--schema", candidate.to_str().unwrap()]].concat();
    assert_eq!(is_told(&told(&world, 1, &with_candidate).await), ["field_removed 9"], "before it is registered");
    let posted =
        reqwest::Client::new().post(format!("{url}/subjects/{subject}/versions")).json(&json!({"schema": schema.to_string()}));
    assert!(posted.send().await.unwrap().status().is_success());
    assert_eq!(is_told(&told(&world, 1, &args).await), ["field_removed 9"], "its latest version is held against the one before");
    let row = ask(1, "diff").await;
    assert_eq!((&row["state"], &row["version"]), (&json!("differs"), &json!(2)));
    assert!(
        row["difference"]
            .as_array()
            .unwrap()
            .iter()
            .any(|line| line.as_str().unwrap().starts_with("+ ") && line.as_str().unwrap().contains("dueDate")),
        "{row}"
    );
}

#[tokio::test]
async fn a_registry_that_cannot_be_asked_says_where_why_and_what_to_do() {
    let (world, url) = (World::new().await, registry::shared());
    let refuses = |status| registry::Chosen::answering(move |_| registry::Answer(status, "", "nobody knows you".to_owned()));
    let (locked, other) = (refuses(401).await, refuses(404).await);
    let lost = format!("{}-lost", world.topic);
    for (url, why) in [
        (url.as_str(), [format!("has no subject {lost}: it has "), String::new()]),
        (
            "http://127.0.0.1:9",
            ["127.0.0.1:9".to_owned(), "see that it runs, and what --registry or `registry.urls` names".to_owned()],
        ),
        (&locked.url, ["401: nobody knows you".to_owned(), "see `registry.user`".to_owned()]),
        (&other.url, ["it does not answer as a registry: 404".to_owned(), other.url.clone()]),
    ] {
        let output = run(&world, &["check", "--registry", url, "--subject", &lost]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(&lost) && why.iter().all(|part| error.contains(part)), "{url}: {error}");
        assert!(!error.contains("asking again"), "nobody does: {error}");
    }
    // It would be told our credentials, so it is held to what `registry.urls` is held to.
    for command in [&["schemas", "diff"][..], &["check", "--subject", "a"], &["render", "payment-due"]] {
        for url in ["registry.example.com", "ftp://127.0.0.1:9", "http://me:secret@127.0.0.1:9", "http://127.0.0.1:9?a=b"] {
            let output = run(&world, &[command, &["--registry", url]].concat()).await;
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(
                output.status.code() == Some(2) && error.contains("without user, query and fragment"),
                "{command:?}: {error}"
            );
        }
    }
    let output = run(&world, &["schemas", "diff"]).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && error.contains("name one (--registry URL), or configure `registry.urls`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_record_in_avro_is_rendered_by_its_schema_in_the_registry() {
    let url = registry::shared();
    let world = World::with(|config| config.registry.urls = vec![url.clone()]).await;
    let mut service = registry::Producer::start(&world.config.kafka.brokers, &url);
    let (partition, offset) = service.produce(&said("avro", &world.topic, "p-1"));
    let place = format!("{}:{partition}:{offset}", world.topic);
    let shown = told(&world, 0, &["render", "payment-due", "--from", &place]).await;
    assert_eq!(shown["notifications"][0]["notification"]["message"], WORDS, "{shown}");
}

/// What `tidings check` says, on either stream, if it ends with 1.
async fn refused(world: &World, args: &[&str]) -> String {
    let output = run(world, &[&["check"], args].concat()).await;
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn whatever_a_team_gives_by_mistake_is_told_by_its_name_and_line_with_what_to_do() {
    let world = World::with(|config| config.registry.schema_bytes = std::num::NonZeroUsize::new(10_000).unwrap()).await;
    let dir = world.dir.path().to_owned();
    let given = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let folder = |name: &str| dir.join(name).display().to_string();
    given("yaml/rules.yaml", b"rule:\n  - name: a\n");
    let file = given("broken/a.toml", b"[[rule]]\nname = \"a\"\nevent = payment:due\n");
    given("binary/a.toml", b"[[rule]]\n\x00\xff");
    given("samples/a.json", b"{\"type\": \"payment:due\",\n \"data\": {\"userId\": \"1\", \"paymentId\": \"p\", \"amount\": [],\n \"dueDate\": \"d\"}}");
    let avro = given("new.avsc", b"{\"type\": \"record\",\n \"name\": \"A\"\n \"fields\": []}");
    let list = given("list.json", b"[]");
    let image = given("image.avsc", b"\x89PNG\r\n\xff");
    let huge = given("huge.json", format!("{{\"title\": \"{}\"}}", "x".repeat(20_000)).as_bytes());
    let unruled = given("unruled.avsc", br#"{"type": "record", "name": "Lost", "namespace": "acme", "fields": []}"#);
    for (args, told) in [
        (["--rules", &folder("yaml")], vec!["there are no *.toml files in", "it has rules.yaml"]),
        (["--rules", &file], vec!["is no folder: name the one that its *.toml files lie in"]),
        (["--rules", &folder("broken")], vec!["broken/a.toml:3: error: ", "    event = payment:due", "    → "]),
        (["--rules", &folder("binary")], vec!["binary/a.toml:2: what stands there is no UTF-8"]),
        (["--schemas", &folder("none")], vec!["could not read", "none", "No such file"]),
        (["--samples", &folder("samples")], vec!["samples/a.json:2: error: this sample does not satisfy", "[sample_invalid]"]),
        (
            ["--schema", &avro],
            vec!["new.avsc:3: error: the Avro schema is no JSON", "    \"fields\": []}", "    → ", "[schema_invalid]"],
        ),
        (["--schema", &list], vec!["list.json:1: error: ", "[schema_invalid]"]),
        (["--schema", &image], vec!["image.avsc is no text in UTF-8, so it is no schema"]),
        (["--schema", &huge], vec!["huge.json has 20013 bytes", "`registry.schema_bytes`"]),
        (
            ["--schema", &unruled],
            vec!["unruled.avsc:1: error: no rule is for events of the type `acme.Lost`", "--type payment:due"],
        ),
    ] {
        let said = refused(&world, &args).await;
        assert!(told.iter().all(|part| said.contains(part)), "{args:?}: {said}");
    }
    // Each of them may be as large as it is, but not both: a pipeline counts a schema with all that it refers to.
    let note = format!("// {}\n", "x".repeat(6_000));
    let person = format!("{note}syntax = \"proto3\"; package acme; message Person {{ string name = 1; }}");
    let due = format!("{note}syntax = \"proto3\"; import \"person.proto\"; message Due {{ acme.Person payer = 1; }}");
    let bytes = person.len() + due.len();
    let (person, due) = (given("person.proto", person.as_bytes()), given("due.proto", due.as_bytes()));
    let said = refused(&world, &["--schema", &due, "--reference", &format!("person.proto={person}")]).await;
    assert!(said.contains(&format!("due.proto has {bytes} bytes with all that it refers to")), "{said}");
}

#[tokio::test]
async fn a_registry_that_goes_away_while_schemas_are_compared_does_not_take_back_what_was_told() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let chosen = registry::Chosen::answering(move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => registry::Answer(404, "", json!({"error_code": 40401, "message": "Subject not found"}).to_string()),
        _ => registry::Answer(503, "", "gone".to_owned()),
    });
    let (world, chosen) = (World::new().await, chosen.await);
    let output = run(&world, &["schemas", "diff", "--registry", &chosen.url, "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let told = serde_json::from_slice::<Value>(&output.stdout).unwrap();
    let [row] = told["subjects"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert_eq!(row["state"], "absent");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("503: gone") && error.contains("see that it runs"), "{error}");
}

/// The shipped schema of payments in a format, without the day on which they are due.
fn without_due_date(format: &str) -> (&'static str, String) {
    let read = |file: &str| fs::read_to_string(Path::new(&shipped("schemas/events")).join(file)).unwrap();
    match format {
        "avro" => {
            let mut schema = serde_json::from_str::<Value>(&read("payment.due.avsc")).unwrap();
            schema["fields"].as_array_mut().unwrap().retain(|field| field["name"] != "dueDate");
            ("avsc", schema.to_string())
        }
        "protobuf" => {
            let text = read("payment.due.proto");
            ("proto", text.lines().filter(|line| !line.contains("due_date")).collect::<Vec<_>>().join("\n"))
        }
        _ => {
            let mut schema = serde_json::from_str::<Value>(&read("payment.due.json")).unwrap();
            schema["properties"].as_object_mut().unwrap().remove("dueDate");
            schema["required"].as_array_mut().unwrap().retain(|name| name != "dueDate");
            ("json", schema.to_string())
        }
    }
}

#[tokio::test]
async fn a_new_version_in_any_format_is_held_against_the_one_that_the_registry_has() {
    let (world, url, rules) = (World::new().await, registry::shared(), shipped("rules"));
    for format in ["avro", "protobuf", "json-schema"] {
        let topic = format!("{}.{format}", world.topic);
        let args = ["schemas", "register", "--registry", &url, "--topic", &topic, "--type", "payment:due", "--format", format];
        assert_eq!(told(&world, 0, &args).await["subjects"][0]["state"], "registered");
        let (extension, text) = without_due_date(format);
        let file = world.dir.path().join(format!("new.{extension}"));
        fs::write(&file, text).unwrap();
        let subject = format!("{topic}-value");
        let args = ["check", "--rules", &rules, "--registry", &url, "--subject", &subject, "--type", "payment:due"];
        assert_eq!(told(&world, 0, &args).await["errors"], 0, "{format}: what is there");
        let with_new = [&args[..], &["--schema", file.to_str().unwrap()]].concat();
        let report = told(&world, 1, &with_new).await;
        assert!(problems(&report).contains(&"field_removed 9".to_owned()), "{format}: {report}");
    }
}

#[tokio::test]
async fn a_schema_in_files_is_checked_with_the_files_that_it_refers_to() {
    let (world, rules) = (World::new().await, shipped("rules"));
    let given = |name: &str, text: &str| {
        let path = world.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let person = given("person.proto", "syntax = \"proto3\"; package acme; message Person { string name = 1; }");
    let due = given(
        "due.proto",
        "syntax = \"proto3\";\nimport \"acme/person.proto\";\nmessage Due { acme.Person payer = 1; string user_id = 2;\n\
         string payment_id = 3; string amount = 4; string due_date = 5; }",
    );
    let args = ["--rules", &rules, "--schema", &due, "--type", "payment:due"];
    let said = refused(&world, &args).await;
    assert!(said.contains("acme/person.proto") && said.contains("--reference NAME=FILE"), "{said}");
    let by_name = format!("acme/person.proto={person}");
    let whole = [&["check"], &args[..], &["--reference", &by_name]].concat();
    assert_eq!(told(&world, 0, &whole).await["errors"], 0);
    let said = refused(&world, &[&args[..], &["--reference", "acme/person.proto=none.proto"]].concat()).await;
    assert!(said.contains("could not read none.proto"), "{said}");
}

#[tokio::test]
async fn all_shipped_schemas_are_registered_and_one_that_the_registry_does_not_take_says_why() {
    let (world, url) = (World::new().await, registry::shared());
    let states = async |code: i32, verb: &str| {
        let told = told(&world, code, &["schemas", verb, "--registry", &url]).await;
        let rows = told["subjects"].as_array().unwrap().clone();
        rows.iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let registered = states(0, "register").await;
    assert!(registered.len() == 15 && registered.iter().all(|state| state == "registered" || state == "same"), "{registered:?}");
    assert!(states(0, "diff").await.iter().all(|state| state == "same"));

    // Another team's schema stands there, and the registry's operators want versions to be compatible.
    let subject = format!("{}-value", world.topic);
    let other = json!({"type": "record", "name": "PaymentDue", "namespace": "tidings.events", "fields": [{"name": "userId", "type": "int"}]});
    let client = reqwest::Client::new();
    let posted = client.post(format!("{url}/subjects/{subject}/versions")).json(&json!({"schema": other.to_string()}));
    assert!(posted.send().await.unwrap().status().is_success());
    let set = client.put(format!("{url}/config/{subject}")).json(&json!({"compatibility": "FULL"}));
    assert!(set.send().await.unwrap().status().is_success());
    let args = ["schemas", "register", "--registry", &url, "--topic", &world.topic, "--type", "payment:due", "--format", "avro"];
    let told = told(&world, 1, &args).await;
    let row = &told["subjects"][0];
    assert_eq!(row["state"], "refused");
    assert!(row["message"].as_str().is_some_and(|why| !why.is_empty()), "{row}");
}

#[tokio::test]
async fn a_record_in_each_format_is_rendered_by_a_registry_that_the_command_names_in_the_language_of_who_reads_it() {
    let (world, url) = (World::new().await, registry::shared());
    let rules = world.dir.path().join("rules");
    fs::create_dir_all(&rules).unwrap();
    let text = fs::read_to_string(Path::new(&shipped("rules")).join("payment.toml")).unwrap();
    fs::write(rules.join("payment.toml"), text + "\n[rule.locales.fr]\nmessage = \"{{ amount }} dû le {{ dueDate }}.\"\n")
        .unwrap();
    let mut service = registry::Producer::start(&world.config.kafka.brokers, &url);
    for format in ["avro", "protobuf", "json"] {
        let topic = format!("{}.{format}", world.topic);
        world.log.create(&topic, 1, &[]).await;
        let (partition, offset) = service.produce(&said(format, &topic, "p-1"));
        let place = format!("{topic}:{partition}:{offset}");
        let args = ["render", "payment-due", "--rules", rules.to_str().unwrap(), "--registry", &url, "--from", &place];
        let message = async |args: &[&str]| told(&world, 0, args).await["notifications"][0]["notification"]["message"].clone();
        assert_eq!(message(&args).await, WORDS, "{format}");
        let french = [&args[..], &["--locale", "fr-CA"]].concat();
        assert_eq!(message(&french).await, "120.50 dû le 2026-02-01.", "{format}");
    }
}
