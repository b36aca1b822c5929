//! Close codes: why a connection ends, and whether the client should come back.
//!
//! Owns: the codes the gateway sends, and the rule for all others: below 4500 a client comes back with backoff, from 4500 to
//! 4999 it never does. Codes of RFC 6455, section 7.4.1, keep their meaning.

/// Why the gateway closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseCode {
    /// 1000: the client said goodbye.
    Normal,
    /// 1002: the bytes were no WebSocket frame.
    Protocol,
    /// 1003: a binary frame.
    Binary,
    /// 1007: a text frame that is not UTF-8.
    NotText,
    /// 1008: the client's budget of bad frames is spent.
    BadFrames,
    /// 1009: a frame larger than the gateway takes.
    TooLarge,
    /// 1012: the process is draining.
    Draining,
    /// 4000: a promise of our own code is broken.
    Internal,
    /// 4001: no token.
    MissingCredentials,
    /// 4002: a token that is forged, malformed or expired.
    InvalidToken,
    /// 4003: `userId` is not whom the token names.
    UserMismatch,
    /// 4008: the client reads slower than it is written to.
    SlowConsumer,
    /// 4009: nothing was heard from the client.
    NothingHeard,
    /// 4010: the user has as many connections or devices as one may have.
    TooMany,
    /// 4029: the client sends more frames than it may.
    RateLimited,
    /// 4500: an operator ended it.
    Disconnected,
}

/// What a client does after its connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comeback {
    /// It stays away.
    Never,
    /// It gets a fresh token first.
    FreshToken,
    /// It comes back, waiting longer after each failure.
    WithBackoff,
}

impl CloseCode {
    /// Every code.
    pub const ALL: [Self; 16] = [
        Self::Normal,
        Self::Protocol,
        Self::Binary,
        Self::NotText,
        Self::BadFrames,
        Self::TooLarge,
        Self::Draining,
        Self::Internal,
        Self::MissingCredentials,
        Self::InvalidToken,
        Self::UserMismatch,
        Self::SlowConsumer,
        Self::NothingHeard,
        Self::TooMany,
        Self::RateLimited,
        Self::Disconnected,
    ];

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Protocol => 1002,
            Self::Binary => 1003,
            Self::NotText => 1007,
            Self::BadFrames => 1008,
            Self::TooLarge => 1009,
            Self::Draining => 1012,
            Self::Internal => 4000,
            Self::MissingCredentials => 4001,
            Self::InvalidToken => 4002,
            Self::UserMismatch => 4003,
            Self::SlowConsumer => 4008,
            Self::NothingHeard => 4009,
            Self::TooMany => 4010,
            Self::RateLimited => 4029,
            Self::Disconnected => 4500,
        }
    }

    /// The reason on the wire; at most 123 bytes.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "Goodbye",
            Self::Protocol => "Not a WebSocket frame",
            Self::Binary => "Binary frames are not supported",
            Self::NotText => "Text that is not UTF-8",
            Self::BadFrames => "Too many bad frames",
            Self::TooLarge => "Frame too large",
            Self::Draining => "Draining",
            Self::Internal => "Internal server error",
            Self::MissingCredentials => "Missing authentication credentials",
            Self::InvalidToken => "Invalid or expired token",
            Self::UserMismatch => "User ID mismatch",
            Self::SlowConsumer => "Slow consumer",
            Self::NothingHeard => "Nothing heard",
            Self::TooMany => "Too many connections",
            Self::RateLimited => "Rate limited",
            Self::Disconnected => "Disconnected by an operator",
        }
    }

    /// What the client does next.
    #[must_use]
    pub fn comes_back(self) -> Comeback {
        comes_back(self.code())
    }
}

/// What a client does after a close with `code`, known or not.
#[must_use]
pub fn comes_back(code: u16) -> Comeback {
    match code {
        1000 | 1003 | 1008 | 1009 | 4001 | 4003 | 4500..=4999 => Comeback::Never,
        4002 => Comeback::FreshToken,
        _ => Comeback::WithBackoff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_tells_whether_to_come_back() {
        let table: Vec<String> =
            CloseCode::ALL.iter().map(|code| format!("{} {} -> {:?}", code.code(), code.reason(), code.comes_back())).collect();
        insta::assert_snapshot!(table.join("\n"));
    }

    #[test]
    fn a_code_that_is_not_known_yet_is_judged_by_its_range() {
        assert_eq!(comes_back(4499), Comeback::WithBackoff);
        assert_eq!(comes_back(4011), Comeback::WithBackoff);
        assert_eq!(comes_back(1006), Comeback::WithBackoff);
        assert_eq!(comes_back(4500), Comeback::Never);
        assert_eq!(comes_back(4999), Comeback::Never);
    }

    #[test]
    fn every_reason_fits_a_close_frame() {
        for code in CloseCode::ALL {
            assert!(code.reason().len() <= 123);
        }
    }
}
