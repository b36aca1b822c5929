//! What is for one device of each person, acknowledged by a device that has no connection.
//!
//! Owns: finding those among what was acknowledged, and that they are withdrawn before the device's cursor says that it has them. A
//! connection's shard remembers what it sent; here the store says what there is. Neighbours: `shard::once` does it for connections.

use std::ops::Range;

use tidings_core::channel::Channel;
use tidings_core::ids::NotificationId;
use tidings_core::position::Position;
use tidings_core::record::receipt::{ReceiptRecord, Source, WithdrawalCause};
use tidings_core::stretch::Stretches;

use super::Unwritten;
use crate::gateway::desk::Desk;
use crate::store::PageSize;

/// What is looked at in one read.
const PAGE: PageSize = PageSize { records: 100, bytes: 1 << 20 };

/// Why it is not known to be withdrawn what one device has handled for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsettled {
    /// Nobody says what there is.
    #[error("the store is away or slow: ask again")]
    Store,
    /// It is perhaps not on the log.
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
}

/// That a notification of a mailbox is withdrawn, for one device has acknowledged it.
pub(super) fn withdrawal(channel: Channel, (id, position): (NotificationId, Position), source: Option<Source>) -> ReceiptRecord {
    ReceiptRecord::Withdrawn { channel, id, position: Some(position), cause: WithdrawalCause::Once, source }
}

impl Desk {
    /// Withdraws from the user's other devices what one has handled of a mailbox at these offsets, and is meant to be handled once.
    /// The store must have folded them.
    ///
    /// # Errors
    /// If the store gives no answer, or the brokers do not confirm it in time: to say it again does no harm.
    pub async fn withdraw_once(&self, mailbox: &Channel, handled: &Stretches) -> Result<(), Unsettled> {
        for stretch in handled.as_slice() {
            let mut from = Some(stretch.from);
            while let Some(start) = from {
                from = self.withdraw_page(mailbox, start..stretch.to).await?;
            }
        }
        Ok(())
    }

    /// Gives where the next page begins.
    async fn withdraw_page(&self, mailbox: &Channel, offsets: Range<i64>) -> Result<Option<i64>, Unsettled> {
        let (shared, course) = (&self.shared, self.shared.course(mailbox));
        let gap = shared.reads.look_up(shared, async |store| store.gap(&course, offsets.clone(), PAGE).await).await;
        let gap = gap.ok_or(Unsettled::Store)?;
        for one in gap.records.iter().filter(|one| one.record.notification.once) {
            let place = (one.record.notification.id, Position::after(shared.epoch, one.offset));
            shared.receipts.write(shared, &withdrawal(mailbox.clone(), place, None)).await?;
        }
        Ok(gap.next)
    }
}
