//! The cluster: how every client of this process reaches it.
//!
//! Owns: the properties common to all clients and what the configuration may override. Refuses to let a property break a
//! promise: those that order, acknowledgement or commits rest on are set last. Long because the properties of all kinds of clients, which must
//! go together, stand side by side.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rdkafka::ClientConfig;
use tidings_core::ids::NodeId;
use tidings_core::record::meta::EpochRecord;

use super::doom::Doom;
use super::statistics::Gauges;
use super::topic::TopicNames;
use crate::config::{GroupProtocol, INTERNAL, KafkaConfig};
use crate::telemetry::Metrics;

/// The largest `message.max.bytes` that librdkafka allows.
const LARGEST_RECORD: &str = "1000000000";
/// How often a client tells what it measures.
const STATISTICS_INTERVAL_MS: &str = "5000";
/// The service whose work grows with the partitions of one of its topics, not with all. What counts partitions of any topic alike may give
/// one member all of `notifications`; by range each member has the same partitions of every topic.
const EVEN_BY_TOPIC: &str = "inbox";
/// Services that read topics of one epoch. Those of the next are read by another group, beside the one that finishes these.
const READS_ONE_EPOCH: [&str; 2] = ["courier", "inbox"];

/// Second names that librdkafka has for properties which are set here, and the names they are set by. Of a client's two names for one
/// property it would be drawn which counts.
const ALIASES: [(&str, &str); 7] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("compression.codec", "compression.type"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
];

/// A property file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("`kafka.property_files`: the value of `{property}` could not be read from {file}")]
pub struct PropertyFileError {
    property: String,
    file: String,
    #[source]
    source: std::io::Error,
}

/// Which cluster, and as whom.
#[derive(Debug, Clone)]
pub struct Cluster {
    brokers: String,
    group_prefix: String,
    /// What the names of groups that read one epoch end with.
    group_suffix: String,
    /// What the names of clients begin with, behind `tidings-`.
    client_prefix: &'static str,
    names: TopicNames,
    properties: BTreeMap<String, String>,
    flavour: Flavour,
    group_protocol: GroupProtocol,
    static_membership: bool,
    refusal_pause: Duration,
    /// The name under which members of groups are known over restarts.
    instance: Option<String>,
    statistics: Gauges,
    doom: Doom,
}

/// What stands behind the brokers' addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Brokers as they are in production.
    Brokers,
    /// librdkafka's mock cluster in this process, whose limits `embedded` names.
    Embedded,
}

impl Cluster {
    /// The cluster of the configuration.
    ///
    /// # Errors
    /// If a property file cannot be read.
    pub fn new(config: &KafkaConfig) -> Result<Self, PropertyFileError> {
        let mut properties: BTreeMap<_, _> =
            config.properties.iter().map(|(name, value)| (canonical(name), value.to_string())).collect();
        for (property, file) in &config.property_files {
            let value = std::fs::read_to_string(Path::new(file)).map_err(|source| PropertyFileError {
                property: property.clone(),
                file: file.clone(),
                source,
            })?;
            properties.insert(canonical(property), value.trim_end_matches(['\r', '\n']).to_owned());
        }
        Ok(Self {
            brokers: config.brokers.clone(),
            group_prefix: config.group_prefix.clone(),
            group_suffix: String::new(),
            client_prefix: "",
            names: TopicNames::new(&config.topic_prefix),
            properties,
            flavour: Flavour::Brokers,
            group_protocol: config.group_protocol,
            static_membership: config.static_membership,
            refusal_pause: config.refusal_pause.0,
            instance: None,
            statistics: Gauges::default(),
            doom: Doom::default(),
        })
    }

    /// The same configuration, for members of groups in the process `node`.
    #[must_use]
    pub fn of_node(mut self, node: &NodeId) -> Self {
        self.instance = self.static_membership.then(|| node.to_string());
        self
    }

    /// The same configuration, for those who read and write the topics of an epoch.
    #[must_use]
    pub fn of_epoch(mut self, epoch: &EpochRecord) -> Self {
        self.names = self.names.of_epoch(epoch);
        self.group_suffix.clone_from(&epoch.suffix);
        self
    }

    /// The same configuration, for those who finish an epoch that is over: their clients have names of their own, in metrics and in the
    /// brokers' logs, for others of the same service work beside them.
    #[must_use]
    pub fn of_earlier(mut self, epoch: &EpochRecord) -> Self {
        self.client_prefix = "earlier-";
        self.of_epoch(epoch)
    }

    /// The same configuration, pointed at an embedded cluster.
    #[must_use]
    pub fn embedded_at(mut self, brokers: String) -> Self {
        self.brokers = brokers;
        self.flavour = Flavour::Embedded;
        self.group_protocol = GroupProtocol::Classic;
        self
    }

    /// The same configuration with a service's own default for a property, which the configuration still overrides.
    #[must_use]
    pub fn preferring(mut self, property: &str, value: &str) -> Self {
        self.properties.entry(property.to_owned()).or_insert_with(|| value.to_owned());
        self
    }

    /// The same configuration, whose clients tell what they measure.
    #[must_use]
    pub fn measured(mut self, metrics: &Metrics) -> Self {
        self.statistics = Gauges::register(metrics);
        self
    }

    /// Where one more client tells what it measures.
    pub(super) fn statistics(&self) -> Gauges {
        self.statistics.for_one_more()
    }

    /// Hears of producers of this process that have failed for good.
    #[must_use]
    pub fn doom(&self) -> Doom {
        self.doom.clone()
    }

    /// What stands behind the addresses.
    #[must_use]
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// The addresses, `host:port` separated by commas.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The longest that a topic which refuses is left alone.
    #[must_use]
    pub fn refusal_pause(&self) -> Duration {
        self.refusal_pause
    }

    /// The names of tidings' own topics.
    #[must_use]
    pub fn names(&self) -> &TopicNames {
        &self.names
    }

    /// The name of a service's consumer group, also the stem of its transactional ids.
    #[must_use]
    pub fn group(&self, service: &str) -> String {
        let suffix = if READS_ONE_EPOCH.contains(&service) { &self.group_suffix } else { "" };
        self.of_all_epochs(service) + suffix
    }

    /// The stem of a service's transactional ids where one writes for all epochs.
    #[must_use]
    pub fn of_all_epochs(&self, service: &str) -> String {
        format!("{}{service}", self.group_prefix)
    }

    /// Properties for any client; `client_id` shows in the brokers' logs and metrics.
    #[must_use]
    pub fn client(&self, client_id: &str) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("client.id", format!("tidings-{}{client_id}", self.client_prefix));
        client.set("log.connection.close", "false");
        client.set("reconnect.backoff.max.ms", "2000");
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        client.set("bootstrap.servers", &self.brokers);
        client
    }

    /// Properties for a reader that commits nothing by itself and is told when an offset does not exist. A reader without a
    /// group of its own takes `service`'s name and never commits.
    #[must_use]
    pub fn consumer(&self, service: &str) -> ClientConfig {
        let mut client = self.client(service);
        // The mock cluster answers a fetch without news only after the whole wait.
        let fetch_wait_ms = if self.flavour == Flavour::Embedded { "5" } else { "100" };
        self.prefer(
            &mut client,
            &[
                ("fetch.wait.max.ms", fetch_wait_ms),
                ("topic.metadata.refresh.interval.ms", "10000"),
                ("statistics.interval.ms", STATISTICS_INTERVAL_MS),
            ],
        );
        client.set("group.id", self.group(service));
        client.set("enable.auto.commit", "false");
        client.set("enable.auto.offset.store", "false");
        client.set("auto.offset.reset", "error");
        client.set("enable.partition.eof", "false");
        client.set("isolation.level", "read_committed");
        client
    }

    /// Properties for a member of the group of `service`; else as [`Cluster::consumer`].
    #[must_use]
    pub fn member(&self, service: &str) -> ClientConfig {
        let mut client = self.consumer(service);
        match self.group_protocol {
            GroupProtocol::Classic => {
                let strategy = if service == EVEN_BY_TOPIC { "range" } else { "cooperative-sticky" };
                let defaults = [("partition.assignment.strategy", strategy), ("session.timeout.ms", "30000")];
                self.prefer(&mut client, &defaults);
                // With the brokers' protocol they judge expressions, and a client that does not see a topic of its own assignment waits
                // for it; there the pipeline passes over what it is given and does not mean.
                let hidden = client.get("topic.blacklist").map_or_else(String::new, |more| format!("{more},"));
                client.set("topic.blacklist", format!("{hidden}^{INTERNAL}.*"));
            }
            // How long a session lasts is the brokers' to say, and so is who has which partition.
            GroupProtocol::Consumer => {
                client.set("group.protocol", "consumer");
            }
        }
        if let Some(instance) = &self.instance {
            client.set("group.instance.id", instance);
        }
        client
    }

    /// Whether members of groups are known over restarts.
    #[must_use]
    pub fn has_static_members(&self) -> bool {
        self.instance.is_some()
    }

    fn prefer(&self, client: &mut ClientConfig, defaults: &[(&str, &str)]) {
        for (name, value) in defaults {
            if !self.properties.contains_key(*name) {
                client.set(*name, *value);
            }
        }
    }

    /// Properties for a producer that keeps order and never gives up: what was handed to it is written once, in order, however
    /// long the brokers are away.
    #[must_use]
    pub fn producer(&self, client_id: &str) -> ClientConfig {
        let mut client = self.client(client_id);
        self.prefer(
            &mut client,
            &[
                // What gathers while two requests are on their way is the next batch: light load waits for nothing, heavy load makes
                // batches of its own. A broker answers the requests of a connection one after the other, so more of them in flight
                // gain only travel time; and while a partition has one in flight and more to send, librdkafka polls without a pause
                // unless the connection's limit holds it back.
                ("linger.ms", "0"),
                ("max.in.flight.requests.per.connection", "2"),
                ("compression.type", "lz4"),
                // How large a record may be, the topic says. A lower limit here would cut a dead letter that its topic takes.
                ("message.max.bytes", LARGEST_RECORD),
                ("statistics.interval.ms", STATISTICS_INTERVAL_MS),
            ],
        );
        client.set("enable.idempotence", "true");
        client.set("acks", "all");
        client.set("message.timeout.ms", "0");
        client.set("partitioner", "murmur2_random");
        // Without a report of its success, no record would ever count as written.
        client.set("delivery.report.only.error", "false");
        // Two producers of one id take it from each other; who runs transactions sets an id of its own.
        client.remove("transactional.id");
        client
    }
}

/// The name by which this room sets a property.
fn canonical(name: &str) -> String {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, set)| set).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Scalar;

    #[test]
    fn a_second_name_of_a_property_counts_as_the_first() {
        let mut config = crate::config::load(None, &[]).unwrap().kafka;
        let given = [
            ("delivery.timeout.ms", "100"),
            ("metadata.broker.list", "elsewhere:9092"),
            ("request.required.acks", "0"),
            ("queue.buffering.max.ms", "7"),
            ("max.in.flight", "5"),
            ("compression.codec", "zstd"),
        ];
        for (name, value) in given {
            config.properties.insert(name.to_owned(), Scalar::Text(value.to_owned()));
        }
        let cluster = Cluster::new(&config).unwrap();
        let producer = cluster.producer("test");
        assert_eq!(given.map(|(name, _)| producer.get(name)), [None; 6]);
        let names = [
            "message.timeout.ms",
            "bootstrap.servers",
            "acks",
            "linger.ms",
            "max.in.flight.requests.per.connection",
            "compression.type",
        ];
        assert_eq!(names.map(|name| producer.get(name).unwrap()), ["0", cluster.brokers(), "all", "7", "5", "zstd"]);
    }

    #[test]
    fn a_configured_property_breaks_no_promise_of_a_producer() {
        let mut config = crate::config::load(None, &[]).unwrap().kafka;
        for (name, value) in [("transactional.id", "twin"), ("delivery.report.only.error", "true"), ("acks", "1")] {
            config.properties.insert(name.to_owned(), Scalar::Text(value.to_owned()));
        }
        let producer = Cluster::new(&config).unwrap().producer("test");
        assert_eq!(producer.get("transactional.id"), None);
        assert_eq!(producer.get("delivery.report.only.error"), Some("false"));
        assert_eq!(producer.get("acks"), Some("all"));
        assert_eq!(producer.get("message.max.bytes"), Some(LARGEST_RECORD));
    }

    #[test]
    fn partitions_of_each_topic_are_shared_evenly_by_those_who_fold_them() {
        let config = crate::config::load(None, &[]).unwrap().kafka;
        let strategy = |service: &str| {
            Cluster::new(&config).unwrap().member(service).get("partition.assignment.strategy").map(str::to_owned)
        };
        assert_eq!(["inbox", "pipeline"].map(strategy), [Some("range".to_owned()), Some("cooperative-sticky".to_owned())]);
    }

    #[test]
    fn members_of_classic_groups_do_not_see_kafkas_own_topics_and_those_of_the_brokers_protocol_must() {
        let mut config = crate::config::load(None, &[]).unwrap().kafka;
        let hidden =
            |config: &KafkaConfig| Cluster::new(config).unwrap().member("test").get("topic.blacklist").map(str::to_owned);
        assert_eq!(hidden(&config).as_deref(), Some("^__.*"));
        config.properties.insert("topic.blacklist".into(), Scalar::Text("^secret".into()));
        assert_eq!(hidden(&config).as_deref(), Some("^secret,^__.*"));
        config.properties.clear();
        config.group_protocol = GroupProtocol::Consumer;
        assert_eq!(hidden(&config), None);
    }
}
