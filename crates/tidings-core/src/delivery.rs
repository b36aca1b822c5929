//! Delivery: what has been delivered, and what happens to what has not.
//!
//! Owns: ledgers (what an acknowledgement covers), the ladder, the decision about what is due, and how attempts are told. Refuses to read topics or
//! clocks. Neighbours: `stretch` has the sets of offsets that all of it is about; gateway grows them, inbox folds them, courier
//! decides by them.

pub mod decide;
pub mod history;
pub mod ladder;
pub mod ledger;
pub use crate::stretch;
