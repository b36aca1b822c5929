//! The protocol between client and gateway: JSON text frames and close codes.
//!
//! Owns: what a client may say, what the gateway answers, and what each close code asks of the client. Refuses to know
//! sockets, what a token says, and clocks. Fields and frame types may be added, never changed. Neighbours: `gateway`, and `tail`.

pub mod bearer;
pub mod client;
pub mod close;
pub mod server;
pub mod since;
