//! The pure part of tidings: everything that is *decided*, with no runtime, broker, database, clock, environment or file
//! system. Bytes and the time come in as arguments; decisions go out as values.
//!
//! Rooms, each may use those above it: `ids` `channel` `position` `time` `locale` `fate` `breaker` `offsets` `stretch`, then `notification`,
//! then `record`, `schema` and `event`, then `rules`, `delivery` and `selection`, then `recovery` and `presence`, then `protocol`. ARCHITECTURE.md has the table.

pub mod breaker;
pub mod channel;
pub mod delivery;
pub mod event;
pub mod fate;
pub mod ids;
pub mod locale;
pub mod notification;
pub mod offsets;
pub mod position;
pub mod presence;
pub mod protocol;
pub mod record;
pub mod recovery;
pub mod rules;
pub mod schema;
pub mod selection;
pub mod stretch;
pub mod time;
