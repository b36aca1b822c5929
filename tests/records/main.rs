//! The values of tidings' own topics are a promise. Each type has a JSON Schema in `schemas/records/` and golden files of every
//! released version in `tests/golden/`, and so have the frames of clients and server in `schemas/frames/`. What is held here needs no broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "these are tests")]

mod any;
mod events;
mod frames;
mod golden;
mod headers;
mod kinds;
mod schema;
mod strict;
