//! Takes a world's topics from the shared broker when its test is over. A broker that keeps those of all tests comes to have more files
//! open than a process may, and halts.

use std::io::Write as _;
use std::thread;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use super::log::config;
use super::{HANG, broker};

/// The topics whose names hold a world's, which are gone from the shared broker once this is dropped. A broker of a test's own goes as a
/// whole.
pub(crate) struct Leavings {
    brokers: String,
    /// Nobody else's topics hold it.
    name: String,
}

impl Leavings {
    pub(crate) fn new(brokers: &str, name: &str) -> Self {
        Self { brokers: brokers.to_owned(), name: name.to_owned() }
    }
}

impl Drop for Leavings {
    fn drop(&mut self) {
        if self.brokers != broker::shared() {
            return;
        }
        let (brokers, name) = (std::mem::take(&mut self.brokers), std::mem::take(&mut self.name));
        // The test's own runtime may not wait for another future.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ended = thread::spawn(move || runtime.block_on(take_away(&brokers, &name))).join();
        // What is left behind is no fault of the test.
        if let Ok(Err(error)) = ended {
            let _ = writeln!(std::io::stderr().lock(), "topics of this test stay on the broker: {error}");
        }
    }
}

async fn take_away(brokers: &str, name: &str) -> Result<(), String> {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create().map_err(|error| error.to_string())?;
    let metadata = admin.inner().fetch_metadata(None, HANG).map_err(|error| error.to_string())?;
    let topics = metadata.topics().iter().map(|topic| topic.name()).filter(|topic| topic.contains(name)).collect::<Vec<_>>();
    if topics.is_empty() {
        return Ok(());
    }
    let deleted = admin.delete_topics(&topics, &AdminOptions::new()).await.map_err(|error| error.to_string())?;
    deleted.into_iter().find_map(Result::err).map_or(Ok(()), |(topic, error)| Err(format!("{topic}: {error}")))
}
