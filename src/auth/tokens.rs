//! Tokens (JWT, RFC 7519): verifying them with the keys of the moment, and making them for development.
//!
//! Owns: the keys, which are read again while the process runs. A reading that fails keeps those that were there.

use std::path::PathBuf;
use std::time::Duration;

use arc_swap::ArcSwap;
use tidings_core::ids::UserId;
use tidings_core::time::Timestamp;

use super::claims::Claims;
use super::keys::{Keys, Signer};
use super::{Identity, KeyError, TokenError};
use crate::config::{AuthConfig, Look};

/// Verifies tokens.
pub struct Tokens {
    config: AuthConfig,
    claims: Claims,
    /// Shared: every connection reads them, a reload replaces them.
    keys: ArcSwap<Keys>,
    /// What the files were like just before the first keys were read from them.
    first_look: Look,
}

impl Tokens {
    /// Tokens of the configured keys.
    ///
    /// # Errors
    /// If no key is configured, or one cannot be read, is of a wrong kind or too weak.
    pub fn new(config: &AuthConfig) -> Result<Self, KeyError> {
        let first_look = Look::at_files(files(config));
        let keys = ArcSwap::from_pointee(Keys::load(config)?);
        Ok(Self { config: config.clone(), claims: Claims::new(config), keys, first_look })
    }

    /// What the files were like just before the first keys were read from them: a later look that differs has seen a change,
    /// however long it took until somebody looked.
    pub(super) fn first_look(&self) -> Look {
        self.first_look.clone()
    }

    /// The files that keys are read from.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        files(&self.config)
    }

    /// Reads every key file again, and gives how many keys there are.
    ///
    /// # Errors
    /// As [`Tokens::new`]; the keys then stay as they were.
    pub fn reload(&self) -> Result<usize, KeyError> {
        let keys = Keys::load(&self.config)?;
        let count = keys.len();
        self.keys.store(keys.into());
        Ok(count)
    }

    /// Whom `token` names at `now`.
    ///
    /// # Errors
    /// If it is forged, not valid at this time, meant for somebody else, or lacks a claim.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Identity, TokenError> {
        self.claims.identity(&self.keys.load().claims(token)?, now)
    }
}

fn files(config: &AuthConfig) -> Vec<PathBuf> {
    let listed = config.keys.iter().map(|key| &key.file);
    std::iter::once(&config.secret_file).chain(listed).filter(|file| !file.is_empty()).map(PathBuf::from).collect()
}

/// A token for `user` holding `roles`, valid from `now` for `lifetime`, signed with the configured secret.
///
/// # Errors
/// If no secret is configured.
pub fn sign(
    config: &AuthConfig,
    user: &UserId,
    roles: &[String],
    (now, lifetime): (Timestamp, Duration),
) -> Result<String, SignError> {
    let claims = Claims::new(config).of(user, roles, (now, lifetime));
    Ok(Signer::load(config)?.sign(&claims)?)
}

/// Why a token was not made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// There is nothing to sign with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The library cannot sign, which a secret of any length can not cause.
    #[error("the token could not be signed")]
    Signature(#[from] jsonwebtoken::errors::Error),
}
