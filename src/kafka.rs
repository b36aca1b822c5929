//! The adapter to Kafka: everything that knows librdkafka.
//!
//! Owns: clients and their properties, the names and making of tidings' own topics, consuming, producing, transactions and
//! the embedded cluster. Refuses to know what a record means. Neighbours: services above, `config` beside.

pub mod cluster;
pub mod consumer;
pub mod dispatch;
pub mod doom;
pub mod embedded;
mod lists;
pub mod made;
pub mod probe;
pub mod producer;
pub mod reader;
pub mod refusals;
pub mod remains;
pub mod said;
pub mod scan;
mod statistics;
pub mod topic;
pub mod topics;
pub mod transaction;
