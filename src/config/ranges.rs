//! Ranges: values that have the right type and still make no sense.
//!
//! Owns: what is allowed for each key, and the sentence that says so. Neighbours: `sections` has the types, `load` finds the
//! place to mend. Long because the ranges of all sections stand together.

use std::time::Duration;

use tidings_core::delivery::ladder::JITTER_LIMIT;
use tidings_core::time::Delay;

use super::pattern::{INTERNAL, is_topic_byte};
use super::{AuthMode, GroupProtocol, KeyAlgorithm, ProxyProtocol, TopicConfig, registry_url};

/// A key of a section, and why its value is refused.
pub(super) type Refused = (&'static str, String);

/// Topics of tidings' own, of this release and of those to come, without their prefix. The rungs are in the ladder.
const OWN_TOPICS: [&str; 10] =
    ["notifications", "requests", "cursors", "receipts", "undelivered", "dlq", "signals", "audit", "meta", "retry.30s"];
/// Properties that follow from keys of ours.
const OWN_PROPERTIES: [&str; 2] = ["group.protocol", "group.instance.id"];
/// Properties that only members of classic groups may have.
const CLASSIC_PROPERTIES: [&str; 5] =
    ["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy", "group.protocol.type", "topic.blacklist"];
const SECRET_BYTES: usize = 32;
/// The least that hyper reads a request's header with.
const HEADER_BYTES: usize = 8192;
/// How long `signals` is kept.
const LONGEST_LEASE_SECONDS: u64 = 600;
/// What `http` answers itself.
const RESERVED_PATHS: [&str; 5] = ["/health", "/ready", "/metrics", "/console", "/v1"];

impl super::Config {
    /// Every key whose value has the right type but makes no sense, with what would.
    pub(super) fn refusals(&self) -> Vec<Refused> {
        let mut refused = Vec::new();
        self.refuse_names(&mut refused);
        self.refuse_numbers(&mut refused);
        self.refuse_recovery(&mut refused);
        self.refuse_presence(&mut refused);
        self.refuse_delays(&mut refused);
        self.refuse_retention(&mut refused);
        self.refuse_secrets(&mut refused);
        self.refuse_edges(&mut refused);
        self.refuse_store(&mut refused);
        self.refuse_registry(&mut refused);
        refused
    }

    fn refuse_names(&self, refused: &mut Vec<Refused>) {
        if self.node.id.len() > 64 || self.node.id.chars().any(char::is_control) {
            refused.push(("node.id", "must be at most 64 bytes without control characters".into()));
        }
        if let Err(error) = self.log.level.parse::<tracing_subscriber::filter::EnvFilter>() {
            refused.push(("log.level", format!("must be a level (error, warn, info, debug, trace) or a filter; {error}")));
        }
        let brokers_fine = self.kafka.brokers.split(',').all(|broker| broker.trim().rsplit_once(':').is_some_and(is_address));
        if !brokers_fine {
            refused.push(("kafka.brokers", "must be a list of `host:port`, separated by commas".into()));
        }
        let prefix = self.kafka.topic_prefix.as_str();
        if !(1..=200).contains(&prefix.len()) || !prefix.bytes().all(is_topic_byte) {
            refused.push(("kafka.topic_prefix", "must be 1 to 200 letters, digits, `.`, `_` and `-`".into()));
        }
        if prefix.starts_with(INTERNAL) {
            refused
                .push(("kafka.topic_prefix", format!("must not begin with `{INTERNAL}`, as the names of Kafka's own topics do")));
        }
        self.refuse_topics(refused);
        self.refuse_groups(refused);
        if self.gateway.host.parse::<std::net::IpAddr>().is_err() {
            refused.push(("gateway.host", "must be an address such as `0.0.0.0`, `127.0.0.1` or `::`".into()));
        }
        let segments = self.gateway.path.strip_prefix('/').unwrap_or("");
        if segments.is_empty() || !segments.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            refused.push(("gateway.path", "must be `/` and one segment of letters, digits, `-` and `_`".into()));
        }
        if RESERVED_PATHS.contains(&self.gateway.path.as_str()) {
            refused.push(("gateway.path", format!("must not be one of {}", RESERVED_PATHS.join(", "))));
        }
    }

    fn refuse_topics(&self, refused: &mut Vec<Refused>) {
        let typeless = |topic: &TopicConfig| topic.type_header.as_ref().is_some_and(String::is_empty);
        if self.pipeline.per_topic.values().any(typeless) {
            refused.push(("pipeline.per_topic", "`type_header` must name a header".into()));
        }
        if self.pipeline.topics.is_empty() {
            refused.push(("pipeline.topics", "must name at least one topic".into()));
        }
        let prefix = self.kafka.topic_prefix.as_str();
        let rungs = self.courier.ladder.iter().map(|rung| format!("retry.{rung}"));
        let own = OWN_TOPICS.iter().map(|name| (*name).to_owned()).chain(rungs).map(|name| format!("{prefix}{name}"));
        let own = own.collect::<Vec<_>>();
        for pattern in &self.pipeline.topics {
            let meant = own.iter().find(|topic| pattern.matches(topic));
            let named = pattern.name().is_some_and(|name| name.starts_with(prefix));
            if let Some(topic) = meant.map(String::as_str).or(pattern.name().filter(|_| named)) {
                let message = format!("`{pattern}` means `{topic}`, a topic of tidings' own; name only domain topics");
                refused.push(("pipeline.topics", message));
            }
        }
    }

    fn refuse_groups(&self, refused: &mut Vec<Refused>) {
        let id = self.node.id.as_str();
        if self.kafka.static_membership && (id.is_empty() || !id.bytes().all(is_topic_byte)) {
            let message = "needs a `node.id` of letters, digits, `.`, `_` and `-`, which stays the same over restarts";
            refused.push(("kafka.static_membership", message.into()));
        }
        if !(100..=600_000).contains(&self.kafka.refusal_pause.0.as_millis()) {
            refused.push(("kafka.refusal_pause", "must be from `100ms` to `10m`".into()));
        }
        let set = |name: &&&str| self.kafka.properties.contains_key(**name);
        if let Some(name) = OWN_PROPERTIES.iter().find(set) {
            let message = format!("`{name}` is set by `kafka.group_protocol` and `kafka.static_membership`");
            refused.push(("kafka.properties", message));
        }
        if self.kafka.group_protocol == GroupProtocol::Consumer
            && let Some(name) = CLASSIC_PROPERTIES.iter().find(set)
        {
            let message = format!("`{name}` is the brokers' to say with `group_protocol = \"consumer\"`: remove it");
            refused.push(("kafka.properties", message));
        }
    }

    fn refuse_recovery(&self, refused: &mut Vec<Refused>) {
        if self.gateway.device_interval.0 > self.inbox.device_retention.0 / 2 {
            let message = "must be half of `inbox.device_retention` at most, or devices in daily use are forgotten";
            refused.push(("gateway.device_interval", message.into()));
        }
        let (of_connection, of_device) = (self.gateway.channels_per_connection, self.inbox.channels_per_device);
        if !(of_connection.get()..=100_000).contains(&of_device.get()) {
            let message = "must be at least `gateway.channels_per_connection`, or channels of one connection push each other out, and at most 100000";
            refused.push(("inbox.channels_per_device", message.into()));
        }
        let reads = [
            ("gateway.recovery.start_reads", self.gateway.recovery.start_reads),
            ("gateway.recovery.page_reads", self.gateway.recovery.page_reads),
            ("gateway.lookup_reads", self.gateway.lookup_reads),
        ];
        for (key, _) in reads.into_iter().filter(|(_, reads)| reads.get() > 1024) {
            refused.push((key, "must be 1 to 1024".into()));
        }
        if self.gateway.recovery.frames_per_second.get() > 1_000_000 {
            refused.push(("gateway.recovery.frames_per_second", "must be 1 to 1000000".into()));
        }
        if self.gateway.counts.batch_users.get() > 10_000 {
            refused.push(("gateway.counts.batch_users", "must be 1 to 10000".into()));
        }
        if self.gateway.counts.users.get() > 10_000_000 {
            refused.push(("gateway.counts.users", "must be 1 to 10000000".into()));
        }
        if self.gateway.once_per_user.get() > 10_000 {
            refused.push(("gateway.once_per_user", "must be 1 to 10000".into()));
        }
        if self.gateway.recovery.page_records.get() > 10_000 {
            refused.push(("gateway.recovery.page_records", "must be 1 to 10000".into()));
        }
    }

    fn refuse_presence(&self, refused: &mut Vec<Refused>) {
        let presence = &self.gateway.presence;
        if presence.lease.0.as_secs() > LONGEST_LEASE_SECONDS || presence.lease.0.as_millis() < 100 {
            refused.push(("gateway.presence.lease", "must be from `100ms` to `10m`: `signals` is kept no longer".into()));
        }
        if presence.pause.0 > presence.lease.0 / 4 {
            refused.push(("gateway.presence.pause", "must be a quarter of `lease` at most, or nodes are taken for gone".into()));
        }
        if presence.grace.0.as_secs() > LONGEST_LEASE_SECONDS {
            refused.push(("gateway.presence.grace", "must be at most `10m`".into()));
        }
        if presence.record_devices.get() > 2_000 {
            refused.push(("gateway.presence.record_devices", "must be 1 to 2000: a record must fit into its topic".into()));
        }
        if presence.page_users.get() > 1_000 {
            refused.push(("gateway.presence.page_users", "must be 1 to 1000".into()));
        }
        if presence.questions_per_second.get() > 100_000 {
            refused.push(("gateway.presence.questions_per_second", "must be 1 to 100000".into()));
        }
    }

    fn refuse_numbers(&self, refused: &mut Vec<Refused>) {
        if !(0.0..=1.0).contains(&self.telemetry.otlp.ratio) {
            refused.push(("telemetry.otlp.ratio", "must be from 0.0 to 1.0".into()));
        }
        let endpoint = self.telemetry.otlp.endpoint.as_str();
        if !endpoint.is_empty() && endpoint.strip_prefix("http://").is_none_or(str::is_empty) {
            refused.push((
                "telemetry.otlp.endpoint",
                "must begin with `http://`; a collector beside this process speaks TLS".into(),
            ));
        }
        if !(1..=10_000).contains(&self.kafka.topics.partitions) {
            refused.push(("kafka.topics.partitions", "must be 1 to 10000".into()));
        }
        if self.kafka.topics.replication_factor != -1 && !(1..=99).contains(&self.kafka.topics.replication_factor) {
            refused.push(("kafka.topics.replication_factor", "must be -1 (the broker's default), or 1 to 99".into()));
        }
        if self.pipeline.workers.get() > 64 {
            refused.push(("pipeline.workers", "must be 1 to 64".into()));
        }
        if self.pipeline.breaker.window_records.get() > 1_000_000 {
            refused.push(("pipeline.breaker.window_records", "must be 1 to 1000000".into()));
        }
        if self.pipeline.breaker.buried_percent > 100 {
            refused.push(("pipeline.breaker.buried_percent", "must be 0 to 100".into()));
        }
        if self.gateway.shards > 256 {
            refused.push(("gateway.shards", "must be 0 to 256".into()));
        }
        if self.gateway.frame_bytes.get() < 1024 {
            refused.push(("gateway.frame_bytes", "must be at least 1024".into()));
        }
        if !(512..=65_536).contains(&self.gateway.auth_frame_bytes.get()) {
            refused.push(("gateway.auth_frame_bytes", "must be 512 to 65536: one token must fit".into()));
        }
        if self.gateway.frames_per_second.get() > 1_000_000 {
            refused.push(("gateway.frames_per_second", "must be 1 to 1000000".into()));
        }
        if self.gateway.outbox_bytes.get() < 65_536 {
            refused.push(("gateway.outbox_bytes", "must be at least 65536: one notification must fit".into()));
        }
        if self.courier.ladder.is_empty() || self.courier.ladder.len() > 16 {
            refused.push(("courier.ladder", "must be 1 to 16 rungs".into()));
        }
        if !self.courier.ladder.is_sorted_by(|a, b| a < b) {
            refused
                .push(("courier.ladder", "must be each rung longer than the one before it: a rung is a topic of its own".into()));
        }
        if self.courier.jitter_percent > 100 {
            refused.push(("courier.jitter_percent", "must be 0 to 100".into()));
        }
    }

    fn refuse_delays(&self, refused: &mut Vec<Refused>) {
        if self.gateway.linger >= self.shutdown.drain_timeout {
            refused.push(("shutdown.drain_timeout", "must be longer than `gateway.linger`, which a drain waits for".into()));
        }
        let positive = [
            ("pipeline.commit_interval", self.pipeline.commit_interval),
            ("pipeline.breaker.pause", self.pipeline.breaker.pause),
            ("gateway.heartbeat_interval", self.gateway.heartbeat_interval),
            ("gateway.idle_timeout", self.gateway.idle_timeout),
            ("gateway.frame_timeout", self.gateway.frame_timeout),
            ("gateway.bad_frame_interval", self.gateway.bad_frame_interval),
            ("gateway.auth_timeout", self.gateway.auth_timeout),
            ("gateway.write_timeout", self.gateway.write_timeout),
            ("gateway.header_timeout", self.gateway.header_timeout),
            ("gateway.tls.handshake_timeout", self.gateway.tls.handshake_timeout),
            ("http.request_timeout", self.http.request_timeout),
            ("http.broker_timeout", self.http.broker_timeout),
            ("http.wait_limit", self.http.wait_limit),
            ("gateway.linger", self.gateway.linger),
            ("gateway.mailbox_cursor_interval", self.gateway.mailbox_cursor_interval),
            ("gateway.other_cursor_interval", self.gateway.other_cursor_interval),
            ("gateway.device_interval", self.gateway.device_interval),
            ("gateway.recovery.wait", self.gateway.recovery.wait),
            ("gateway.recovery.device_wait", self.gateway.recovery.device_wait),
            ("gateway.presence.pause", self.gateway.presence.pause),
            ("gateway.presence.grace", self.gateway.presence.grace),
            ("gateway.presence.wait", self.gateway.presence.wait),
            ("gateway.presence.keep", self.gateway.presence.keep),
            ("gateway.receipt_timeout", self.gateway.receipt_timeout),
            ("gateway.counts.interval", self.gateway.counts.interval),
            ("gateway.counts.wait", self.gateway.counts.wait),
            ("store.busy_timeout", self.store.busy_timeout),
            ("store.answer_timeout", self.store.answer_timeout),
            ("inbox.batch_interval", self.inbox.batch_interval),
            ("inbox.retention", self.inbox.retention),
            ("inbox.device_retention", self.inbox.device_retention),
            ("inbox.receipt_retention", self.inbox.receipt_retention),
            ("telemetry.otlp.interval", self.telemetry.otlp.interval),
            ("telemetry.otlp.timeout", self.telemetry.otlp.timeout),
            ("courier.ack_timeout", self.courier.ack_timeout),
            ("courier.give_up_after", self.courier.give_up_after),
            ("courier.poll_interval", self.courier.poll_interval),
            ("courier.transaction_timeout", self.courier.transaction_timeout),
            ("shutdown.drain_timeout", self.shutdown.drain_timeout),
        ];
        let rungs = self.courier.ladder.iter().map(|rung| ("courier.ladder", *rung));
        for (key, delay) in positive.into_iter().chain(rungs).chain(self.registry_delays()) {
            if delay.0.as_millis() == 0 || delay.0.as_secs() > 31 * 86_400 {
                refused.push((key, "must be from `1ms` to `31days`".into()));
            }
        }
    }

    /// What a device acknowledged is the courier's evidence until the ladder ends. How long topics keep what is folded or waits, `kafka`'s
    /// topics see to.
    fn refuse_retention(&self, refused: &mut Vec<Refused>) {
        let courier = &self.courier;
        let waits =
            |rung: &Delay| rung.0.saturating_add((rung.0 / 100).saturating_mul(courier.jitter_percent.into()).min(JITTER_LIMIT));
        let all = courier.ladder.iter().fold(courier.ack_timeout.0, |sum, rung| sum.saturating_add(waits(rung)));
        let last = courier.ladder.last().map_or(Duration::ZERO, waits);
        if self.inbox.device_retention.0 <= all.max(courier.give_up_after.0.saturating_add(last)) {
            let message = "must be longer than `courier.ack_timeout` and all rungs of `courier.ladder` together, and than `courier.give_up_after` \
                           with the last rung: until then it counts what a device has acknowledged";
            refused.push(("inbox.device_retention", message.into()));
        }
    }

    fn refuse_secrets(&self, refused: &mut Vec<Refused>) {
        let auth = &self.auth;
        if !auth.secret.is_empty() && !auth.secret_file.is_empty() {
            refused.push(("auth.secret_file", "set either `secret` or `secret_file`, not both".into()));
        }
        if !auth.secret.is_empty() && auth.secret.len() < SECRET_BYTES {
            refused.push(("auth.secret", format!("must be at least {SECRET_BYTES} bytes: HS256 is as strong as its secret")));
        }
        if auth.user_claim.is_empty() || auth.roles_claim.is_empty() {
            refused.push(("auth.user_claim", "`user_claim` and `roles_claim` must name a claim".into()));
        }
        let place = |index: usize, message: &str| ("auth.keys", format!("entry {}: {message}", index + 1));
        for (index, key) in auth.keys.iter().enumerate() {
            match key.algorithm {
                KeyAlgorithm::Hs256 if key.secret.is_empty() == key.file.is_empty() => {
                    refused.push(place(index, "HS256 needs either `secret` or `file`"));
                }
                KeyAlgorithm::Rs256 | KeyAlgorithm::Es256 | KeyAlgorithm::EdDsa
                    if key.file.is_empty() || !key.secret.is_empty() =>
                {
                    let message = format!("{} needs the `file` of a public key, and no `secret`", key.algorithm.name());
                    refused.push(place(index, &message));
                }
                _ => {}
            }
        }
        self.refuse_modes(refused);
    }

    fn refuse_modes(&self, refused: &mut Vec<Refused>) {
        let auth = &self.auth;
        let loopback = self.gateway.host.parse::<std::net::IpAddr>().is_ok_and(|host| host.is_loopback());
        if auth.mode == AuthMode::None && !loopback {
            refused.push(("auth.mode", "`none` needs `gateway.host` to be a loopback address: anybody may be anybody".into()));
        }
        let proxied = !self.http.trusted_proxies.is_empty() || self.http.proxy_protocol == ProxyProtocol::Required;
        if auth.mode == AuthMode::None && proxied {
            let told = "`none` goes with no `http.trusted_proxies` or `http.proxy_protocol`: a proxy lets everybody be anybody";
            refused.push(("auth.mode", told.into()));
        }
        if auth.mode == AuthMode::Proxy && auth.proxies.is_empty() {
            refused.push(("auth.proxies", "must name the proxies whose headers count, if `mode` is `proxy`".into()));
        }
        if auth.user_header == auth.roles_header {
            refused.push(("auth.roles_header", "must be another header than `user_header`".into()));
        }
    }

    fn refuse_store(&self, refused: &mut Vec<Refused>) {
        if self.store.readers.get() > 1_000 {
            refused.push(("store.readers", "must be 1 to 1000".into()));
        }
        if !self.store.password.is_empty() && !self.store.password_file.is_empty() {
            refused.push(("store.password_file", "set either `password` or `password_file`, not both".into()));
        }
    }

    fn registry_delays(&self) -> [(&'static str, Delay); 3] {
        [
            ("registry.connect_timeout", self.registry.connect_timeout),
            ("registry.request_timeout", self.registry.request_timeout),
            ("registry.unknown_wait", self.registry.unknown_wait),
        ]
    }

    fn refuse_registry(&self, refused: &mut Vec<Refused>) {
        let registry = &self.registry;
        for url in &registry.urls {
            if let Err(why) = registry_url(url) {
                refused.push(("registry.urls", why));
            }
        }
        let set = [&registry.password, &registry.password_file, &registry.token, &registry.token_file];
        if set.into_iter().filter(|secret| !secret.is_empty()).count() > 1 {
            let message = "set one of `password`, `password_file`, `token` and `token_file`: it knows us by one of them";
            refused.push(("registry.password", message.into()));
        }
        let has_token = !registry.token.is_empty() || !registry.token_file.is_empty();
        if has_token && !registry.user.is_empty() {
            refused.push(("registry.user", "goes with a password, and not with a token".into()));
        }
        // Who waits for an answer finds it on the shelf: it has to lie there until then, and that of the key beside that of the value.
        if !(1..=31 * 86_400).contains(&registry.failure_retention.0.as_secs()) {
            refused.push(("registry.failure_retention", "must be from `1s` to `31days`".into()));
        }
        if !(2..=1_000_000).contains(&registry.schemas.get()) {
            refused.push(("registry.schemas", "must be 2 to 1000000".into()));
        }
        if registry.kept_bytes.get() < 1 << 20 {
            refused.push(("registry.kept_bytes", format!("must be at least {}", 1 << 20)));
        }
        if registry.schema_bytes.get() > 64 << 20 {
            refused.push(("registry.schema_bytes", format!("must be 1 to {}", 64 << 20)));
        }
    }

    fn refuse_edges(&self, refused: &mut Vec<Refused>) {
        if self.http.writes_per_second.get() > 1_000_000 {
            refused.push(("http.writes_per_second", "must be 1 to 1000000".into()));
        }
        if self.http.retries_per_second.get() > 10_000 {
            refused.push(("http.retries_per_second", "must be 1 to 10000".into()));
        }
        if self.http.redrive_letters.get() > 10_000_000 {
            refused.push(("http.redrive_letters", "must be 1 to 10000000".into()));
        }
        let tls = &self.gateway.tls;
        if tls.certificate.is_empty() != tls.key.is_empty() {
            let set = if tls.key.is_empty() { "gateway.tls.certificate" } else { "gateway.tls.key" };
            refused.push((set, "certificate and key belong together: set both, or neither".into()));
        }
        if !(HEADER_BYTES..=1 << 20).contains(&self.http.header_bytes.get()) {
            refused.push(("http.header_bytes", format!("must be {HEADER_BYTES} to {}", 1 << 20)));
        }
        if self.http.page_notifications.get() > 1_000 {
            refused.push(("http.page_notifications", "must be 1 to 1000".into()));
        }
        if self.http.waiting_requests.get() > 100_000 {
            refused.push(("http.waiting_requests", "must be 1 to 100000".into()));
        }
        if self.http.wait_limit.0 + self.http.broker_timeout.0 >= self.http.request_timeout.0 {
            let message =
                "must be shorter than `http.request_timeout`, together with `broker_timeout`: the caller is told in time";
            refused.push(("http.wait_limit", message.into()));
        }
        if self.http.broker_timeout >= self.http.request_timeout {
            refused
                .push(("http.broker_timeout", "must be shorter than `http.request_timeout`: the caller is told in time".into()));
        }
        if self.http.proxy_protocol == ProxyProtocol::Required && self.http.trusted_proxies.is_empty() {
            refused.push(("http.proxy_protocol", "needs `trusted_proxies`: only their headers are believed".into()));
        }
        for (key, role) in [("http.service_role", &self.http.service_role), ("http.admin_role", &self.http.admin_role)] {
            if role.is_empty() {
                refused.push((key, "must name a role".into()));
            }
        }
    }
}

fn is_address((host, port): (&str, &str)) -> bool {
    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
}
