//! The inlet of a shard: three bounded queues, and the waking of its thread.
//!
//! Owns: what may be said to a shard. A full queue holds the sender up: the feed reads slower, a client's frames are read
//! slower. Nothing is dropped but a cursor or a withdrawal that could not be written (their notifications are then tried again).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::thread::Thread;
use std::time::Duration;

use tidings_core::channel::Channel;
use tidings_core::ids::{ConnectionId, DeviceId, NotificationId, UserId};
use tidings_core::locale::Locale;
use tidings_core::position::Position;
use tidings_core::presence::Change;
use tidings_core::protocol::close::CloseCode;
use tidings_core::protocol::server::Counts as Unread;
use tidings_core::record::cursor::CursorRecord;
use tidings_core::record::receipt::ReceiptRecord;
use tidings_core::record::retry::Delivery;
use tidings_core::record::signal::nodes::OpenConnection;
use tidings_core::record::trace::TraceContext;
use tidings_core::recovery::Start;
use tidings_core::time::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::desk::Counts;
use super::fed::Fed;
use super::outbox::Outbox;
use super::reads::Reply;
use super::receipts::Withdrawal;
use super::wording::Again;
use crate::auth::Identity;

const CONTROLS: usize = 4096;

/// Something for every shard.
pub(super) enum Broadcast {
    /// A record of a channel that is no mailbox.
    New(Arc<Fed>),
    /// A notification of such a channel is withdrawn.
    Withdrawn(Arc<Withdrawn>),
}

/// A notification that nobody is to see any more.
pub(super) struct Withdrawn {
    pub(super) channel: Channel,
    pub(super) id: NotificationId,
    /// The connection that acknowledged it, which knows.
    pub(super) by: Option<ConnectionId>,
}

/// Something for one user.
pub(super) enum Mail {
    /// A record of the user's mailbox.
    New(Arc<Fed>),
    /// A delivery that is tried again.
    Again { delivery: Box<Delivery>, again: Again, trace: Option<TraceContext> },
    /// What the user has done with notifications, or what is withdrawn from the mailbox, and its offset.
    Receipt(Box<ReceiptRecord>, i64),
}

/// When a notification counts as handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AckMode {
    /// When the client says so.
    Client,
    /// When the client has answered a ping that was written behind it.
    Written,
}

/// Who gave a device its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedBy {
    Client,
    /// Drawn for one connection: nobody comes back with it.
    Server,
}

/// A connection that comes in.
pub(super) struct Join {
    pub(super) outbox: Arc<Outbox>,
    pub(super) connection: ConnectionId,
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    pub(super) named_by: NamedBy,
    pub(super) mode: AckMode,
    pub(super) locale: Option<Locale>,
    /// What it is subscribed to from the start, each from where it begins.
    pub(super) channels: Vec<(Channel, Start)>,
    /// When the client's proof ends, if it does.
    pub(super) ends_at: Option<Timestamp>,
    pub(super) address: IpAddr,
    pub(super) since: Timestamp,
    /// What is unread, if that was known in time.
    pub(super) counts: Option<Unread>,
    /// The `messageId` of the client's `auth`, if it came in by one.
    pub(super) reply_to: Option<String>,
    /// Told the connection's number within the shard, or why it is refused.
    pub(super) joined: oneshot::Sender<Result<u32, CloseCode>>,
}

/// What a client acknowledges.
pub(super) enum Ack {
    Below { channel: Channel, position: Position, except: Vec<NotificationId> },
    Ids { channel: Option<Channel>, ids: Vec<NotificationId> },
}

/// A word to a shard.
pub(super) enum Control {
    /// The next offset of each partition, and what was withdrawn before and is not folded yet; before any connection joins.
    Begin(Arc<[i64]>, Arc<[NotificationId]>),
    Join(Box<Join>),
    /// The last word of a connection.
    Leave(u32),
    /// Another token of the same user, with its roles.
    Refresh {
        member: u32,
        identity: Box<Identity>,
        /// The channels of roles that it may not have had before.
        gained: Vec<(Channel, Start)>,
        reply_to: Option<String>,
    },
    Subscribe {
        member: u32,
        channels: Vec<(Channel, Start)>,
        reply_to: Option<String>,
    },
    Unsubscribe {
        member: u32,
        channels: Vec<Channel>,
        reply_to: Option<String>,
    },
    Ack {
        member: u32,
        ack: Ack,
        reply_to: Option<String>,
    },
    /// What a read of the store brought.
    Found(Box<Reply>),
    /// Count what is here.
    Count(oneshot::Sender<Counts>),
    /// List a user's connections.
    List {
        user: UserId,
        listed: oneshot::Sender<Vec<OpenConnection>>,
    },
    /// Name the users who listen to a channel, once for each of their connections.
    Listeners {
        channel: Channel,
        named: oneshot::Sender<Vec<UserId>>,
    },
    /// Tell users of this shard that devices of theirs have come or gone.
    Statuses(Vec<Change>),
    /// Close a user's connections with 4500, and say how many to who asks.
    Disconnect {
        user: UserId,
        closed: Option<oneshot::Sender<usize>>,
    },
    /// A cursor that the brokers did not take.
    Unwritten(Box<CursorRecord>),
    /// What one device has acknowledged for all is withdrawn on the log.
    Withdrawn(Box<Withdrawal>),
    /// The same, and the brokers did not take it.
    Unwithdrawn(Box<Withdrawal>),
    /// What is unread of a user's mailbox has changed.
    Counted(UserId, Unread),
    /// Tell every connection to come back within this time.
    Reconnect(Duration),
    /// Close every connection with 1012.
    Drain,
    /// Write what is left and end.
    Finish,
}

/// The sending ends.
pub(super) struct Inlet {
    controls: mpsc::Sender<Control>,
    broadcasts: mpsc::Sender<Broadcast>,
    mails: mpsc::Sender<Mail>,
    /// Set by the shard's thread when it starts; before that it sleeps nowhere.
    thread: OnceLock<Thread>,
}

/// The receiving ends.
pub(super) struct Outlet {
    pub(super) controls: mpsc::Receiver<Control>,
    pub(super) broadcasts: mpsc::Receiver<Broadcast>,
    pub(super) mails: mpsc::Receiver<Mail>,
}

/// The shard has ended, which happens only when the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended;

impl Inlet {
    /// Queues for a shard, holding at most `records` each.
    pub(super) fn new(records: usize) -> (Self, Outlet) {
        let (controls, controls_out) = mpsc::channel(CONTROLS);
        let (broadcasts, broadcasts_out) = mpsc::channel(records);
        let (mails, mails_out) = mpsc::channel(records);
        (
            Self { controls, broadcasts, mails, thread: OnceLock::new() },
            Outlet { controls: controls_out, broadcasts: broadcasts_out, mails: mails_out },
        )
    }

    /// Names the calling thread as the shard's.
    pub(super) fn is_mine(&self) {
        let _ = self.thread.set(std::thread::current());
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Hands over a record for everyone; waits while the queue is full. A shard that has ended takes nothing.
    pub(super) fn broadcast(&self, broadcast: Broadcast) {
        let _ = self.broadcasts.blocking_send(broadcast);
        self.wake();
    }

    /// Hands over something for one user; waits while the queue is full. A shard that has ended takes nothing.
    pub(super) fn mail(&self, mail: Mail) {
        let _ = self.mails.blocking_send(mail);
        self.wake();
    }

    /// Says a word; waits while the queue is full.
    pub(super) async fn say(&self, control: Control) -> Result<(), Ended> {
        self.controls.send(control).await.map_err(|_| Ended)?;
        self.wake();
        Ok(())
    }

    /// Says a word from a thread that may wait.
    pub(super) fn say_blocking(&self, control: Control) {
        let _ = self.controls.blocking_send(control);
        self.wake();
    }

    /// Says a word if there is room for it.
    pub(super) fn try_say(&self, control: Control) -> Result<(), Ended> {
        self.controls.try_send(control).map_err(|_| Ended)?;
        self.wake();
        Ok(())
    }
}
