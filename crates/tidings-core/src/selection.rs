//! Selection: which records somebody means, in which order dead letters are tried again, and what was already.
//!
//! Owns: the filters and their words, ranges of offsets, the original order, and what `audit` says is done. Refuses to read or to write:
//! `replay` in the program does. Neighbours: `record` has letters and audit records, `rules` decides what becomes of a record.

mod events;
mod filter;
mod order;
mod range;
mod redriven;
mod undelivered;

pub use events::{EventFilter, EventFilterError};
pub use filter::{FilterError, LetterFilter};
pub use order::{Ordered, Pick, Picks};
pub use range::{PartRange, RangeError, Resolved, resolve};
pub use redriven::{Marks, SKEW, Unfit, unfit};
pub use undelivered::UndeliveredFilter;
