//! tidings as a whole, against a real broker and over real sockets. The names of the tests read as the specification.
//!
//! The broker is the one that `TIDINGS_TEST_BROKERS` names, or one that `dev/kafka` starts for the run (`make test`). Tests of PostgreSQL start
//! a server of their own (`dev/postgres`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "these are tests")]

mod harness;

mod admission;
mod asked_for;
mod asyncapi;
mod beginnings;
mod breaker;
mod commands;
mod conformance;
mod contracts;
mod courier;
mod crowds;
mod dead_letters;
mod delivery;
mod dlq;
mod dlq_parts;
mod edge;
mod emitting;
mod envelopes;
mod epochs;
mod fates;
mod gateway;
mod health;
mod hostile;
mod identity;
mod inbox_rest;
mod interrupted;
mod lag;
mod lifecycle;
mod limits;
mod marks;
mod membership;
mod metrics;
mod named;
mod newcomers;
mod newer;
mod notifications;
mod once;
mod openapi;
mod operators;
mod outage;
mod patience;
mod pending;
mod pipeline;
mod poison;
mod positions;
mod postgres;
mod prefix;
mod presence;
mod progress;
mod read_state;
mod rebuild;
mod recovery;
mod refusals;
mod refused;
mod registry;
mod reload;
mod replay;
mod requests;
mod rest;
mod resuming;
mod scale;
mod secure;
mod sizes;
mod strength;
mod tls;
mod tombstones;
mod topics;
mod traces;
mod undelivered;
mod vocabulary;
