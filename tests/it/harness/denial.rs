//! An authorizer that denies: topics that the user of tidings may read and not write to.

use std::process::{Command, Stdio};

use super::broker::OwnBroker;

/// The user of tidings on a broker with passwords.
const USER: &str = "User:tidings";

/// Has the broker's authorizer refuse what it writes to these topics; everything else it may still do.
pub(crate) fn deny_writes(broker: &OwnBroker, topics: &[String]) {
    // Where anything is denied, only what is allowed may be done.
    acl(broker, &["--add", "--allow-principal", USER, "--operation", "All"], topics);
    acl(broker, &["--add", "--deny-principal", USER, "--operation", "Write"], topics);
}

/// It may write there again.
pub(crate) fn take_denial_back(broker: &OwnBroker, topics: &[String]) {
    acl(broker, &["--remove", "--force", "--deny-principal", USER, "--operation", "Write"], topics);
}

fn acl(broker: &OwnBroker, options: &[&str], topics: &[String]) {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dev/kafka"));
    command.args(["tool", "org.apache.kafka.tools.AclCommand", "--bootstrap-server", &broker.brokers]).args(options);
    command.args(topics.iter().flat_map(|topic| ["--topic", topic]));
    let output = tokio::task::block_in_place(|| command.stdin(Stdio::null()).output().unwrap());
    assert!(output.status.success(), "{output:?}");
}
