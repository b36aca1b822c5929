//! What a notification is to a user, as lists and services are told it.

use serde::Serialize;
use tidings_core::time::Timestamp;
use utoipa::ToSchema;

use crate::store::ItemState;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NotificationState)]
pub(super) struct StateTold {
    /// Seen, also by being read or dismissed.
    seen: bool,
    /// Read.
    read: bool,
    /// When it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    read_at: Option<Timestamp>,
    /// Put away.
    dismissed: bool,
}

impl From<ItemState> for StateTold {
    fn from(ItemState { seen, read, read_at, dismissed }: ItemState) -> Self {
        Self { seen, read, read_at, dismissed }
    }
}
