//! tidings turns domain events on Kafka into notifications and gets each one to every device of everyone it concerns.
//!
//! The rooms, from the bottom up: adapters (`clock`, `worker`, `telemetry`, `config`, `kafka`, `registry`, `store`, `auth`), services (`pipeline`,
//! `gateway`, `inbox`, `courier`, `replay`, which meet only on the log), edges (`http`, `cli`) and the assembly (`app`).

pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod courier;
pub mod gateway;
pub mod http;
pub mod inbox;
pub mod kafka;
pub mod pipeline;
pub mod registry;
pub mod replay;
pub mod store;
pub mod telemetry;
pub mod worker;
