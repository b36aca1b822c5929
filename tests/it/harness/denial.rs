//! An authorizer that denies: topics that the user of tidings may read and not write to.

use std::process::{Child, Command, Stdio};

use super::broker::OwnBroker;

/// The user of tidings on a broker with passwords.
const USER: &str = "User:tidings";

/// Has the broker's authorizer refuse what it writes to these topics; everything else it may still do.
pub(crate) fn deny_writes(broker: &OwnBroker, topics: &[String]) {
    // Where anything is denied, only what is allowed may be done.
    let allowing = acl(broker, &["--add", "--allow-principal", USER, "--operation", "All"], topics);
    let denying = acl(broker, &["--add", "--deny-principal", USER, "--operation", "Write"], topics);
    [allowing, denying].into_iter().for_each(ended);
}

/// It may write there again.
pub(crate) fn take_denial_back(broker: &OwnBroker, topics: &[String]) {
    ended(acl(broker, &["--remove", "--force", "--deny-principal", USER, "--operation", "Write"], topics));
}

fn acl(broker: &OwnBroker, options: &[&str], topics: &[String]) -> Child {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dev/kafka"));
    command.args(["tool", "org.apache.kafka.tools.AclCommand", "--bootstrap-server", &broker.brokers]).args(options);
    command.args(topics.iter().flat_map(|topic| ["--topic", topic]));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(tool: Child) {
    let output = tokio::task::block_in_place(|| tool.wait_with_output().unwrap());
    assert!(output.status.success(), "{output:?}");
}
