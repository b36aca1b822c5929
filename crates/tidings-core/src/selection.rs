//! Selection: which dead letters somebody means, in which order they are tried again, and which were already.
//!
//! Owns: the filter and its words, the original order, and what `audit` says is done. Refuses to read or to write: `replay` in the
//! program does. Neighbours: `record` has letters and audit records, `rules` decides what becomes of a letter.

mod filter;
mod order;
mod redriven;

pub use filter::{FilterError, LetterFilter};
pub use order::{Ordered, Pick, Picks};
pub use redriven::{Marks, Unfit, unfit};
