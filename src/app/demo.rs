//! `tidings demo`: everything in one process, with sample events, to see what it does.
//!
//! Owns: the samples' flow and what a newcomer is told. The services are the real ones, on an embedded cluster and a database in a
//! temporary folder; ladders are short, so that retries can be watched.
