//! What may happen to connections that recover, one thing at a time.

/// One thing that happens.
#[derive(Debug, Clone)]
pub(in crate::recovery::tests) enum Op {
    /// A record is appended: of the channel, or of another one of its partition.
    Append(Of),
    /// A node goes on with live delivery.
    Deliver {
        node: usize,
        records: i64,
    },
    /// A node's ring gives up its oldest.
    Evict {
        node: usize,
        records: i64,
    },
    /// The projection goes on.
    Project(i64),
    /// Retention removes the oldest of the channel.
    Trim(usize),
    /// A notification is withdrawn: nobody is to see it any more.
    Withdraw(usize),
    Store(Answers),
    Places(Places),
    Pass(u64),
    Connect {
        node: usize,
        with: With,
    },
    /// A connection breaks, and its device comes back with a position that it was given before.
    Reconnect {
        connection: usize,
        node: usize,
        back: i64,
    },
    Acknowledge {
        connection: usize,
        said: Said,
    },
    /// A connection breaks, and its device comes back without a position.
    Return {
        connection: usize,
        node: usize,
        heard: Heard,
    },
    /// A connection takes one step.
    Turn(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::recovery::tests) enum Of {
    Channel,
    Other,
    Withdrawn,
}

/// What the store does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::recovery::tests) enum Answers {
    Pages,
    Errors,
    Never,
}

/// Whether somebody more may ask the store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::recovery::tests) enum Places {
    Free,
    Taken,
}

/// What a device brings.
#[derive(Debug, Clone)]
pub(in crate::recovery::tests) enum With {
    /// This many offsets before the end of the log, or beyond it.
    Position(i64),
    OtherEpoch,
    Nothing,
}

/// What a device acknowledges.
#[derive(Debug, Clone)]
pub(in crate::recovery::tests) enum Said {
    /// Everything before the position that lies this far back.
    Below(i64),
    /// A single one that it was sent, or sent again.
    One(usize),
}

/// What the store has folded of what a device said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::recovery::tests) enum Heard {
    All,
    /// Nothing, and not within the time that it is given.
    Nothing,
}

/// What kind of channel it is. A new device begins at what is pending of its mailbox, and elsewhere at the live end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::recovery::tests) enum Kind {
    Mailbox,
    Other,
}
