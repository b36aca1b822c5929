//! What ended without success: looked at as a whole and in parts, begun anew at a rate, and the commands by which operators do that.

use std::io::Read as _;
use std::net::TcpListener;

use rdkafka::message::{Header, OwnedHeaders};
use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::command::{json as json_of, printed, run};
use crate::harness::eventually;
use crate::harness::log::Seen;
use crate::harness::rest::{answered, request, token};
use crate::harness::world::{Running, World, ms};

pub(crate) const REDRIVE: &str = "/v1/undelivered/redrive";
/// Its ladder has no rung: it ends when nobody has acknowledged it in time.
const ONCE: &str = "[[rule]]\nname = \"once\"\nevent = \"once\"\nuser = \"{{ userId }}\"\ntype = \"t\"\nladder = []\n";

/// A world in which a notification ends after a moment, and begun anew waits for long.
pub(crate) async fn world(change: impl FnOnce(&mut tidings::config::Config)) -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.toml"), ONCE).unwrap();
    let world = World::with(|config| {
        config.courier.ack_timeout = ms(300);
        config.courier.ladder = vec![ms(60_000)];
        config.pipeline.rules = folder.path().display().to_string();
        change(config);
    })
    .await;
    (world, folder)
}

/// Has so many notifications of users who are not there end.
pub(crate) async fn end(world: &World, count: usize) -> Vec<Seen> {
    for number in 0..count {
        let user = format!("absent-{}", number % 3);
        world.emit(&json!({"type": "once", "id": number.to_string(), "data": {"userId": user}})).await;
    }
    world.own_records("undelivered", count).await
}

fn token_of_ops() -> String {
    token("ops", "admin")
}

pub(crate) async fn asked(running: &Running, body: &Value) -> (u16, Value) {
    let asked = request(running.address, Method::POST, REDRIVE).bearer_auth(token_of_ops());
    answered(asked.header("content-type", "application/json").body(body.to_string())).await
}

pub(crate) fn ids(records: &[Seen], pointer: &str) -> Vec<String> {
    let mut ids =
        records.iter().map(|record| record.json().pointer(pointer).unwrap().as_str().unwrap().to_owned()).collect::<Vec<_>>();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_redrive_that_takes_longer_than_a_request_may_is_answered_in_parts_and_begins_each_ladder_once() {
    const COUNT: usize = 8;
    let (world, _folder) = world(|config| {
        config.http.request_timeout = ms(9_000);
        config.http.wait_limit = ms(1_000);
        config.http.broker_timeout = ms(2_000);
    })
    .await;
    let running = world.start().await;
    let ended = end(&world, COUNT).await;
    // Of one partition alone, the others were read by an earlier part.
    let home = ended[0].partition;
    let rest = (0..4).filter(|partition| *partition != home).map(|partition| format!(".{partition}-1000")).collect::<String>();
    let listed = request(running.address, Method::GET, &format!("/v1/undelivered?pageToken=0{rest}"));
    let (_, listing) = answered(listed.bearer_auth(token_of_ops())).await;
    assert_eq!(listing["undelivered"], ended.iter().filter(|record| record.partition == home).count(), "{listing}");
    // Whether something that is named was met in an earlier part goes with the token.
    let named = json!({"ids": [ended[0].json()["delivery"]["notification"]["id"]]});
    let elsewhere = format!(".{home}-1000");
    for (met, skipped) in [(0, json!({"gone": 1})), (1, json!({}))] {
        let (_, report) = asked(&running, &json!({"selection": named, "pageToken": format!("{met}{elsewhere}")})).await;
        assert_eq!((&report["selected"], &report["skipped"]), (&json!(0), &skipped));
    }

    let (mut parts, mut redriven, mut token) = (0, 0, None::<String>);
    loop {
        // In six seconds, which are two thirds of what a request may take, no more than six have their turn.
        let body = json!({"selection": {}, "execute": true, "rate": 1, "pageToken": token});
        let (status, report) = asked(&running, &body).await;
        assert_eq!(status, 200, "{report}");
        assert!(report["redriven"].as_u64().unwrap() < COUNT as u64, "{report}");
        parts += 1;
        redriven += report["redriven"].as_u64().unwrap();
        assert_eq!(report["skipped"].get("duplicate"), None, "{report}");
        let Some(next) = report["nextPageToken"].as_str() else { break };
        token = Some(next.to_owned());
    }
    assert!(parts > 1, "it was too fast to be asked for in parts");
    assert_eq!(redriven, COUNT as u64);
    let begun = world.own_records("retry.1m", COUNT).await;
    assert_eq!(ids(&begun, "/notification/id"), ids(&ended, "/delivery/notification/id"), "each once");
    let (status, problem) = asked(&running, &json!({"selection": {}, "pageToken": "7-"})).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("#/pageToken")), "{problem}");
    running.stop().await;
}

/// Writes records of `undelivered` once more, as a producer may whose transaction was tried again.
pub(crate) async fn once_more(world: &World, ended: &[Seen]) {
    for one in ended {
        let headers = one.headers.iter();
        let headers = headers.fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value) }));
        let (key, value) = (std::str::from_utf8(one.key.as_deref().unwrap()).unwrap(), one.value.as_deref().unwrap());
        world.log.produce_to((&world.own("undelivered"), one.partition), key, value, headers).await;
    }
}

async fn listed(running: &Running) -> (u64, u64) {
    let listed = request(running.address, Method::GET, "/v1/undelivered").bearer_auth(token_of_ops());
    let (_, listing) = answered(listed).await;
    (listing["undelivered"].as_u64().unwrap(), listing["redriven"].as_u64().unwrap())
}

#[tokio::test]
async fn a_second_record_of_an_end_begins_no_second_ladder_in_whichever_part_it_lies() {
    let (world, _folder) = world(|_| {}).await;
    let running = world.start().await;
    let ended = end(&world, 3).await;
    let all = json!({"selection": {}, "execute": true});
    // In the same part.
    once_more(&world, &ended).await;
    let (_, report) = asked(&running, &all).await;
    assert_eq!((&report["selected"], &report["redriven"], &report["skipped"]), (&json!(6), &json!(3), &json!({"duplicate": 3})));
    // In a later one, which remembers nothing of the part before.
    once_more(&world, &ended).await;
    let (_, report) = asked(&running, &json!({"selection": {}})).await;
    assert_eq!(
        (&report["redriven"], &report["skipped"]["redriven_before"]),
        (&json!(0), &json!(6)),
        "a dry run knows it: {report}"
    );
    let (_, report) = asked(&running, &all).await;
    assert_eq!((&report["redriven"], &report["skipped"]), (&json!(0), &json!({"redriven_before": 6, "duplicate": 3})));
    let (_, report) = asked(&running, &all).await;
    assert_eq!(report["skipped"], json!({"redriven_before": 9}), "they are marked, and looked at no more");
    assert_eq!(listed(&running).await, (9, 9), "nothing is shown as open");
    let begun = world.own_records("retry.1m", 3).await;
    assert_eq!(ids(&begun, "/notification/id"), ids(&ended, "/delivery/notification/id"), "one ladder each");
    running.stop().await;
}

#[tokio::test]
async fn what_was_begun_anew_and_ended_again_is_begun_again_once() {
    let (world, _folder) = world(|config| config.courier.ladder = vec![ms(700)]).await;
    let running = world.start().await;
    let first = end(&world, 1).await;
    let all = json!({"selection": {}, "execute": true});
    let (_, report) = asked(&running, &all).await;
    assert_eq!(report["redriven"], 1, "{report}");
    let both = world.own_records("undelivered", 2).await;
    let again = both.into_iter().find(|one| one.offset != first[0].offset).unwrap();
    assert_eq!(again.json()["delivery"]["attempts"].as_array().unwrap().len(), 1);
    // Of either end another record.
    once_more(&world, &first).await;
    once_more(&world, std::slice::from_ref(&again)).await;
    let (_, report) = asked(&running, &all).await;
    assert_eq!((&report["redriven"], &report["skipped"]), (&json!(1), &json!({"redriven_before": 1, "duplicate": 2})));
    let begun = world.own_records("retry.700ms", 2).await;
    let attempts = begun.iter().map(|one| one.json()["attempts"].as_array().unwrap().len()).collect::<Vec<_>>();
    assert_eq!(attempts, [1, 2]);
    running.stop().await;
}

#[tokio::test]
async fn a_redrive_begins_nothing_while_the_inbox_does_not_know_what_was_begun_before() {
    let (world, _folder) = world(|config| {
        config.http.request_timeout = ms(6_000);
        config.http.wait_limit = ms(1_000);
        config.http.broker_timeout = ms(2_000);
    })
    .await;
    let running = world.start().await;
    end(&world, 1).await;
    running.stop().await;
    // Nobody folds.
    let running = world.start_roles(&[Role::Gateway]).await;
    let all = json!({"selection": {}, "execute": true});
    world.log.produce(&world.own("retry.1m"), Some("user-absent-0"), b"begun by somebody else").await;
    let (status, problem) = asked(&running, &all).await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(status == 503 && detail.contains("the inbox has folded") && detail.contains("retry.1m["), "{problem}");
    assert!(world.log.records(&world.own("audit")).await.is_empty());
    let (status, report) = asked(&running, &json!({"selection": {}})).await;
    assert_eq!((status, &report["redriven"]), (200, &json!(1)), "a dry run needs no proof");
    let inbox = world.start_roles(&[Role::Inbox]).await;
    let (status, report) = asked(&running, &all).await;
    assert_eq!((status, &report["redriven"]), (200, &json!(1)), "{report}");
    inbox.stop().await;
    running.stop().await;
}

#[tokio::test]
async fn what_does_not_read_and_what_is_gone_is_counted_and_the_rest_goes_on() {
    let (world, _folder) = world(|_| {}).await;
    let running = world.start().await;
    let ended = end(&world, 2).await;
    let version = || OwnedHeaders::new().insert(Header { key: "tidings-version", value: Some("1") });
    for key in ["user-a", "user-b"] {
        world.log.produce_with(&world.own("undelivered"), Some(key), b"{\"reason\":", version()).await;
    }
    let gone = "438e828e-0a38-5599-8fb1-76b0e4574c75";
    let (_, report) = asked(&running, &json!({"selection": {}})).await;
    assert_eq!((&report["redriven"], &report["skipped"]), (&json!(2), &json!({"unreadable": 2})));
    let (_, report) = asked(&running, &json!({"selection": {"ids": [gone]}, "execute": true})).await;
    assert_eq!((&report["selected"], &report["skipped"]), (&json!(0), &json!({"gone": 1, "unreadable": 2})));
    // What an earlier part has met of those that are named, and this one meets again, is still one.
    let (nil, there) = ("00000000-0000-0000-0000-000000000000", &ended[0].json()["delivery"]["notification"]["id"]);
    let named = json!({"selection": {"ids": [nil, there]}, "pageToken": "2"});
    assert_eq!(asked(&running, &named).await.1["skipped"], json!({"gone": 1, "unreadable": 2}));
    let listed = request(running.address, Method::GET, "/v1/undelivered").bearer_auth(token_of_ops());
    let (_, listing) = answered(listed).await;
    assert_eq!((&listing["undelivered"], &listing["unreadable"], listing.get("nextPageToken")), (&json!(2), &json!(2), None));
    running.stop().await;
}

#[tokio::test]
async fn what_ended_in_an_earlier_epoch_is_begun_anew_with_its_history_and_is_sent_again_by_who_asks() {
    let (mut world, _folder) = world(|_| {}).await;
    let running = world.start().await;
    let [ended] = end(&world, 1).await.try_into().unwrap();
    let id = ended.json()["delivery"]["notification"]["id"].clone();
    running.stop().await;
    world.grow(8).await.unwrap();
    // So that it waits for as long as it is looked at.
    world.config.courier.ack_timeout = ms(60_000);
    let running = world.start().await;
    let (status, report) = asked(&running, &json!({"selection": {"ids": [id]}, "execute": true})).await;
    assert_eq!((status, &report["redriven"]), (200, &json!(1)), "{report}");
    let [begun] = world.own_records("notifications.e2", 1).await.try_into().unwrap();
    let begun = begun.json();
    assert_eq!(begun["notification"]["id"], id);
    assert_eq!((&begun["attempts"][0]["by"], &begun["attempts"][0]["outcome"]), (&json!("ops"), &json!("offline")));
    let operator = async |method: Method, path: &str| {
        let (status, answer) = answered(request(running.address, method, path).bearer_auth(token_of_ops())).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let one = eventually("it waits in this epoch, with what was tried", async || {
        let page = operator(Method::GET, "/v1/pending").await;
        page["pending"].as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!((&one["id"], &one["attempts"][1]["number"], &one["attempts"][1]["by"]), (&id, &json!(1), &json!("ops")));
    assert!(one["position"].as_str().unwrap().starts_with("2:"), "{one}");
    // Nobody is there: all that is pending of this epoch is counted, and nothing is left out.
    assert_eq!(operator(Method::POST, "/v1/retry-all").await["offline"], 1);
    running.stop().await;
}

#[tokio::test]
async fn the_commands_show_what_is_pending_send_it_again_and_begin_anew_what_ended() {
    let (mut world, _folder) = world(|_| {}).await;
    let running = world.start().await;
    let [ended] = end(&world, 1).await.try_into().unwrap();
    let id = ended.json()["delivery"]["notification"]["id"].as_str().unwrap().to_owned();
    world.config.gateway.port = running.address.port();
    let url = format!("http://{}", running.address);

    let listing = json_of(&world, 0, &["undelivered", "list"]).await;
    assert_eq!((&listing["undelivered"], &listing["newest"][0]["id"]), (&json!(1), &json!(id)));
    assert_eq!(json_of(&world, 0, &["undelivered", "list", "--reason", "unacknowledged"]).await["undelivered"], 0);
    let redrive = |more: &[&'static str]| ["undelivered", "redrive"].into_iter().chain(more.iter().copied()).collect::<Vec<_>>();
    let at = ["--url", &url, "--as", "olga"];
    let with_at =
        |words: Vec<&'static str>| words.into_iter().map(str::to_owned).chain(at.map(str::to_owned)).collect::<Vec<_>>();
    let told = async |code: i32, words: Vec<&'static str>| {
        let words = with_at(words);
        json_of(&world, code, &words.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let tried = told(0, redrive(&["--all"])).await;
    assert_eq!(tried, json!({"executed": false, "selected": 1, "redriven": 1, "skipped": {}}));
    assert!(world.log.records(&world.own("audit")).await.is_empty(), "a dry run writes nothing");
    let refused = run(&world, &["undelivered", "redrive", "--execute"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--all"), "{refused:?}");
    let gone = told(3, redrive(&["--id", "438e828e-0a38-5599-8fb1-76b0e4574c75", "--execute"])).await;
    assert_eq!(gone["skipped"], json!({"gone": 1}));
    let done = told(0, redrive(&["--reason", "offline", "--execute", "--rate", "5"])).await;
    assert_eq!((&done["executed"], &done["redriven"]), (&json!(true), &json!(1)));
    let acts = world.own_records("audit", 1).await;
    assert_eq!(acts[0].json()["who"], "olga");
    assert_eq!(told(0, redrive(&["--all", "--execute"])).await["skipped"], json!({"redriven_before": 1}));
    assert_eq!(json_of(&world, 0, &["undelivered", "list"]).await["redriven"], 1);

    let page = eventually("it waits on the rung", async || {
        let page = told(0, vec!["pending"]).await;
        (!page["pending"].as_array().unwrap().is_empty()).then_some(page)
    })
    .await;
    assert_eq!((&page["pending"][0]["id"], &page["more"], &page["counts"]["offline"]), (&json!(id), &json!(false), &json!(1)));
    assert_eq!(told(0, vec!["pending", "absent-0", "--outcome", "unacknowledged"]).await["pending"], json!([]));
    assert_eq!(told(0, vec!["retry", "--all"]).await, json!({"sent": 0, "offline": 1, "earlier": 0}));
    let mut client = running.connect("absent-0").await;
    let missed = client.frame("notification:new").await;
    assert_eq!(told(0, vec!["retry", "absent-0"]).await, json!({"sent": 1, "offline": 0, "earlier": 0}));
    let again = client.frame("notification:new").await;
    assert_eq!((&again["notification"]["id"], again["redelivery"].as_u64()), (&missed["notification"]["id"], Some(2)));
    let shown = printed(&world, 0, &["pending", "--url", &url]).await;
    assert!(shown.contains(&id) && shown.contains("1 shown; on the rungs wait 1 offline, 0 unacknowledged"), "{shown}");
    running.stop().await;
}

#[tokio::test]
async fn a_command_gives_up_a_process_that_does_not_answer_and_says_so() {
    let (world, _folder) = world(|config| {
        config.http.request_timeout = ms(300);
        config.http.wait_limit = ms(100);
        config.http.broker_timeout = ms(100);
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // It takes the question and says nothing.
    let stalled = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut question = Vec::new();
        let _ = peer.read_to_end(&mut question);
        String::from_utf8(question).unwrap()
    });
    let output = run(&world, &["pending", "--url", &url]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("gave no answer") && told.contains("`http.request_timeout`"), "{told}");
    assert!(stalled.join().unwrap().starts_with("GET /v1/pending"), "it was asked");
}
