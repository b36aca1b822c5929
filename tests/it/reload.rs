//! Rules and keys that change while the services run.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tidings::cli::Role;
use tidings::config::{KeyAlgorithm, KeyConfig};

use crate::harness::client::{Client, Heard};
use crate::harness::process::Process;
use crate::harness::world::{Running, World, get};
use crate::harness::{eventually, keys};

/// A rule for the world's only event, with one title.
fn rule(title: &str) -> String {
    format!("[[rule]]\nname = \"r\"\nevent = \"a\"\nuser = \"alice\"\ntype = \"t\"\ntitle = \"{title}\"\n")
}

/// A world whose rules lie in a folder of its own, with one file in it.
async fn world() -> (World, PathBuf) {
    let mut world = World::new().await;
    let folder = world.dir.path().join("rules");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.toml"), rule("first")).unwrap();
    world.config.pipeline.rules = folder.display().to_string();
    (world, folder.join("a.toml"))
}

async fn emit(world: &World) {
    world.emit(&serde_json::json!({"type": "a", "data": {}})).await;
}

/// The title of the last of `count` notifications.
async fn title(world: &World, count: usize) -> String {
    let records = world.own_records("notifications", count).await;
    let last = records.iter().max_by_key(|record| record.offset).unwrap();
    last.json()["notification"]["title"].as_str().unwrap().to_owned()
}

/// Waits until this many reloads had this outcome.
async fn reloaded(running: &Running, outcome: &str, times: u32) {
    let line = format!("tidings_pipeline_rules_reloads_total{{outcome=\"{outcome}\"}} {times}");
    eventually(&line, async || running.get("/metrics").await.1.contains(&line).then_some(())).await;
}

fn version(metrics: &str) -> String {
    let lines = metrics.lines().filter(|line| line.starts_with("tidings_pipeline_rules_info{"));
    let [line] = lines.collect::<Vec<_>>().try_into().expect("one version is in force");
    line.split('"').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn a_change_of_the_folder_is_in_force_without_a_restart() {
    let (world, file) = world().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    emit(&world).await;
    assert_eq!(title(&world, 1).await, "first");
    let before = version(&running.get("/metrics").await.1);
    std::fs::write(&file, rule("second")).unwrap();
    reloaded(&running, "loaded", 1).await;
    emit(&world).await;
    assert_eq!(title(&world, 2).await, "second");
    assert_ne!(version(&running.get("/metrics").await.1), before);
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_rule_changes_nothing_and_is_shown_until_it_is_mended() {
    let (world, file) = world().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let before = version(&running.get("/metrics").await.1);
    std::fs::write(&file, rule("{{ second")).unwrap();
    reloaded(&running, "refused", 1).await;
    let (status, health) = running.get("/ready").await;
    let place = format!("{}:6", file.display());
    assert!(status == 200 && health.contains(&place) && health.contains(&before), "{status} {health}");
    assert_eq!(version(&running.get("/metrics").await.1), before);
    emit(&world).await;
    assert_eq!(title(&world, 1).await, "first");
    std::fs::write(&file, rule("third")).unwrap();
    reloaded(&running, "loaded", 1).await;
    let (_, health) = running.get("/ready").await;
    assert!(!health.contains("notes"), "{health}");
    running.stop().await;
}

/// Puts another folder in the place of the one with this file.
fn replace(file: &Path, text: &str) {
    let folder = file.parent().unwrap();
    let (new, old) = (folder.with_extension("new"), folder.with_extension("old"));
    std::fs::create_dir(&new).unwrap();
    std::fs::write(new.join(file.file_name().unwrap()), text).unwrap();
    std::fs::rename(folder, old).unwrap();
    std::fs::rename(new, folder).unwrap();
}

#[tokio::test]
async fn a_folder_that_another_one_took_the_place_of_is_in_force_and_so_is_what_changes_in_it() {
    let (world, file) = world().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    replace(&file, &rule("second"));
    reloaded(&running, "loaded", 1).await;
    std::fs::write(&file, rule("third")).unwrap();
    reloaded(&running, "loaded", 2).await;
    emit(&world).await;
    assert_eq!(title(&world, 1).await, "third");
    running.stop().await;
}

#[tokio::test]
async fn rules_that_are_mounted_from_a_config_map_change_with_the_link_above_them() {
    let (mut world, file) = world().await;
    // As Kubernetes mounts one: files are links into `..data`, which is a link to the version that counts.
    let mount = world.dir.path().join("mount");
    for (version, title) in [("..1", "first"), ("..2", "second")] {
        std::fs::create_dir_all(mount.join(version)).unwrap();
        std::fs::write(mount.join(version).join("a.toml"), rule(title)).unwrap();
    }
    symlink("..1", mount.join("..data")).unwrap();
    symlink("..data/a.toml", mount.join("a.toml")).unwrap();
    // And as deployments have it: the folder itself lies behind a link.
    symlink(file.parent().unwrap(), world.dir.path().join("current")).unwrap();
    world.config.pipeline.rules = world.dir.path().join("current").display().to_string();
    let running = world.start_roles(&[Role::Pipeline]).await;
    let leads_to = |link: &Path, target: &Path| {
        let next = world.dir.path().join("next");
        symlink(target, &next).unwrap();
        std::fs::rename(&next, link).unwrap();
    };
    std::fs::write(mount.join("..1/a.toml"), rule("mounted")).unwrap();
    leads_to(&world.dir.path().join("current"), &mount);
    reloaded(&running, "loaded", 1).await;
    leads_to(&mount.join("..data"), Path::new("..2"));
    reloaded(&running, "loaded", 2).await;
    emit(&world).await;
    assert_eq!(title(&world, 1).await, "second");
    running.stop().await;
}

#[tokio::test]
async fn sighup_reads_the_rules_again_and_says_in_the_log_what_is_wrong_with_them() {
    let (world, file) = world().await;
    let process = Process::spawn(&world);
    process.await_ready().await;
    replace(&file, &rule("{{ second"));
    process.signal(Signal::SIGHUP);
    let place = format!("{}:6", file.display());
    eventually("the log names file and line", async || process.logged().contains(&place).then_some(())).await;
    std::fs::write(&file, rule("third")).unwrap();
    process.signal(Signal::SIGHUP);
    let loaded = "tidings_pipeline_rules_reloads_total{outcome=\"loaded\"}";
    eventually(loaded, async || get(process.address, "/metrics").await.1.contains(loaded).then_some(())).await;
    emit(&world).await;
    assert_eq!(title(&world, 1).await, "third");
}

/// Whether a token is taken.
async fn taken(address: SocketAddr, token: &str) -> bool {
    let Some(mut client) = Client::try_open(address, &format!("token={token}")).await else { return false };
    matches!(client.hear().await, Heard::Frame(_))
}

#[tokio::test]
async fn sighup_reads_the_keys_again_old_tokens_stay_valid_and_a_broken_file_keeps_what_was_there() {
    let mut world = World::new().await;
    let next = world.dir.path().join("next.pem");
    std::fs::copy(keys::file("rsa.pem"), &next).unwrap();
    let named = |file: String| KeyConfig { file, ..keys::key(KeyAlgorithm::Rs256, "", "") };
    world.config.auth.keys = vec![named(keys::file("rsa.pem")), named(next.display().to_string())];
    let [old, new] = ["rsa", "rsa-next"].map(|name| keys::signed_by(name, jsonwebtoken::Algorithm::RS256));
    let process = Process::spawn(&world);
    process.await_ready().await;
    let address = process.address;
    let reloads = async |outcome: &str| {
        let sample = format!("tidings_auth_key_reloads_total{{outcome=\"{outcome}\"}} ");
        let (_, metrics) = get(address, "/metrics").await;
        metrics.lines().find_map(|line| line.strip_prefix(&sample)?.parse::<u64>().ok()).unwrap_or(0)
    };
    // Nothing has changed, so only the signal can be the reason.
    process.signal(Signal::SIGHUP);
    eventually("the keys are read again", async || (reloads("replaced").await == 1).then_some(())).await;
    assert!(taken(address, &old).await && !taken(address, &new).await);

    std::fs::copy(keys::file("rsa-next.pem"), &next).unwrap();
    process.signal(Signal::SIGHUP);
    eventually("the new key is in use", async || taken(address, &new).await.then_some(())).await;
    assert!(taken(address, &old).await, "its key is still there");

    std::fs::write(&next, "no key").unwrap();
    process.signal(Signal::SIGHUP);
    eventually("the file is refused", async || (reloads("kept").await >= 1).then_some(())).await;
    let (status, health) = get(address, "/ready").await;
    assert!(
        status == 200 && health.contains("those from before stay in use") && health.contains("next.pem"),
        "{status} {health}"
    );
    assert!(taken(address, &old).await && taken(address, &new).await);

    std::fs::copy(keys::file("rsa-next.pem"), &next).unwrap();
    process.signal(Signal::SIGHUP);
    eventually("nothing is wrong any more", async || (!get(address, "/ready").await.1.contains("notes")).then_some(())).await;
    assert!(taken(address, &new).await);
}
