//! Identity: who a client is, by a token, by the word of an authenticating proxy, or, on one machine, by its own.
//!
//! Owns: keys, tokens and their claims, and what a request may present. Refuses tokens without expiry, and never shows one in an
//! error or a log line. Time is an argument. Neighbours: `gateway` and `http` admit by it, `cli` makes tokens.

mod claims;
mod keys;
mod presented;
mod rotation;
mod tokens;

use std::path::PathBuf;

use tidings_core::fate::Cause;
use tidings_core::ids::UserId;
use tidings_core::time::Timestamp;

pub use self::keys::KeyError;
pub use self::presented::{Presented, Unidentified};
use self::presented::{Proxy, by_word};
pub use self::rotation::Rotation;
pub use self::tokens::{SignError, Tokens, sign};
use crate::config::{AuthConfig, AuthMode, Look};

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// The user's roles.
    pub roles: Vec<String>,
    /// When the proof ends, if it is one that does.
    pub expiry: Option<Expiry>,
}

/// When a token ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// What it says.
    pub at: Timestamp,
    /// From this instant on it is no longer taken: its expiry and the leeway behind it.
    pub ends_at: Timestamp,
}

/// Why a token is not taken. Says nothing of the token's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token of these keys.
    #[error("the token's form or signature is wrong")]
    Forged,
    /// Too late.
    #[error("the token has expired")]
    Expired,
    /// Too early.
    #[error("the token is not valid yet")]
    Early,
    /// For another service.
    #[error("the token's `aud` is not one of this service's")]
    Audience,
    /// By another issuer.
    #[error("the token's `iss` is not one that is trusted here")]
    Issuer,
    /// A claim that is needed is missing or of a wrong type.
    #[error("the claim `{claim}` is missing or of a wrong type")]
    Claim {
        /// Which.
        claim: String,
    },
    /// Clients are not known by tokens here.
    #[error("no tokens are taken here")]
    Untaken,
}

impl TokenError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause::Refused
    }
}

/// How clients are known, as configured.
pub struct Auth(Way);

enum Way {
    Tokens(Box<Tokens>),
    Proxy(Proxy),
    Word,
}

impl Auth {
    /// The configured way.
    ///
    /// # Errors
    /// If it is by token and a key is missing, unreadable, of a wrong kind or too weak.
    pub fn new(config: &AuthConfig) -> Result<Self, KeyError> {
        Ok(Self(match config.mode {
            AuthMode::Jwt => Way::Tokens(Box::new(Tokens::new(config)?)),
            AuthMode::Proxy => Way::Proxy(Proxy::new(config)),
            AuthMode::None => Way::Word,
        }))
    }

    /// Who sent a request, at `now`.
    ///
    /// # Errors
    /// If it presents nothing, or what it presents is not taken.
    pub fn identify(&self, presented: &Presented<'_>, now: Timestamp) -> Result<Identity, Unidentified> {
        match &self.0 {
            Way::Tokens(tokens) => Ok(tokens.verify(&presented.token().ok_or(Unidentified::Missing)?, now)?),
            Way::Proxy(proxy) => proxy.identify(presented),
            Way::Word => by_word(presented),
        }
    }

    /// Whom `token` names at `now`.
    ///
    /// # Errors
    /// If it is not taken, or none are.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Identity, TokenError> {
        match &self.0 {
            Way::Tokens(tokens) => tokens.verify(token, now),
            Way::Proxy(_) | Way::Word => Err(TokenError::Untaken),
        }
    }

    /// Whether clients are known by tokens, which they may then send later than with their request.
    #[must_use]
    pub fn takes_tokens(&self) -> bool {
        matches!(self.0, Way::Tokens(_))
    }

    /// What the files of keys were like just before the first keys were read from them.
    fn first_look(&self) -> Look {
        match &self.0 {
            Way::Tokens(tokens) => tokens.first_look(),
            Way::Proxy(_) | Way::Word => Look::at_files([]),
        }
    }

    /// The files that keys are read from.
    fn files(&self) -> Vec<PathBuf> {
        match &self.0 {
            Way::Tokens(tokens) => tokens.files(),
            Way::Proxy(_) | Way::Word => Vec::new(),
        }
    }

    /// Reads every key file again, and gives how many keys there are. Connections that are open stay until their tokens end.
    ///
    /// # Errors
    /// If a key is missing, unreadable, of a wrong kind or too weak; the keys then stay as they were.
    pub fn reload(&self) -> Result<usize, KeyError> {
        match &self.0 {
            Way::Tokens(tokens) => tokens.reload(),
            Way::Proxy(_) | Way::Word => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests;
