//! Delivery: what has been delivered, and what happens to what has not.
//!
//! Owns: stretches (what a device was offered and has acknowledged), ledgers (what an acknowledgement covers), the ladder, and
//! the decision about what is due. Refuses to read topics or clocks. Neighbours: gateway grows stretches, inbox folds them,
//! courier decides by them.

pub mod decide;
pub mod ladder;
pub mod ledger;
pub mod stretch;
