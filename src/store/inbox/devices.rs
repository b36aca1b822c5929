//! Devices: which of a user's are kept, when each was last used, and whether all is kept that one said.

use tidings_core::ids::{DeviceId, UserId};
use tidings_core::time::Timestamp;

use crate::store::connection::run;
use crate::store::{Store, StoreError};

/// A device of a user, as its cursors tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// When it last wrote a cursor.
    pub used_at: Timestamp,
}

impl Store {
    /// The devices of a user, the latest used first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn devices_of(&self, user: &UserId) -> Result<Vec<Device>, StoreError> {
        let rows: Vec<(String, i64)> = self
            .answered(async {
                Ok(run!(&mut self.reader().await?, |it| {
                    sqlx::query_as(
                        "SELECT device_id, used_at FROM devices WHERE user_id = $1 AND device_id <> '' ORDER BY used_at DESC, device_id",
                    )
                    .bind(user.as_str())
                    .fetch_all(it)
                    .await
                })?)
            })
            .await?;
        let device = |(id, used_at): (String, i64)| {
            let id = id.parse().map_err(|source| StoreError::unreadable("devices", source))?;
            Ok(Device { id, used_at: Timestamp::from_millis(used_at) })
        };
        rows.into_iter().map(device).collect()
    }

    /// Whether a device was forgotten in a channel of its own choice, as it has spoken of too many others since.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn has_lapsed(&self, (user, device): (&UserId, &DeviceId)) -> Result<bool, StoreError> {
        self.answered(async {
            let lapsed: Option<i32> = run!(&mut self.reader().await?, |it| {
                sqlx::query_scalar("SELECT has_lapsed FROM devices WHERE user_id = $1 AND device_id = $2")
                    .bind(user.as_str())
                    .bind(device.as_str())
                    .fetch_optional(it)
                    .await
            })?;
            Ok(lapsed.is_some_and(|lapsed| lapsed != 0))
        })
        .await
    }
}
