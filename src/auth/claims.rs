//! What a verified token claims: who, with which roles, for whom, by whom, and for how long.
//!
//! Owns: the way to a claim (nested ones by a path such as `realm_access.roles`) and the judgement of time, audience and issuer.
//! Refuses tokens without expiry. The time is an argument.

use std::time::Duration;

use serde_json::{Map, Value};
use tidings_core::ids::UserId;
use tidings_core::time::Timestamp;

use super::{Expiry, Identity, TokenError};
use crate::config::AuthConfig;

/// Roles that one caller may have, whoever names them.
pub(super) const ROLES_LIMIT: usize = 64;

/// What is asked of a token's claims.
pub(super) struct Claims {
    user: String,
    roles: String,
    audiences: Vec<String>,
    issuers: Vec<String>,
    leeway: Duration,
}

impl Claims {
    pub(super) fn new(config: &AuthConfig) -> Self {
        Self {
            user: config.user_claim.clone(),
            roles: config.roles_claim.clone(),
            audiences: config.audiences.clone(),
            issuers: config.issuers.clone(),
            leeway: config.leeway.0,
        }
    }

    /// Whom the claims name at `now`.
    pub(super) fn identity(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Identity, TokenError> {
        let at = instant(claims, "exp")?.ok_or_else(|| missing("exp"))?;
        let expiry = Expiry { at, ends_at: at.plus(self.leeway) };
        if expiry.ends_at <= now {
            return Err(TokenError::Expired);
        }
        if instant(claims, "nbf")?.is_some_and(|from| from > now.plus(self.leeway)) {
            return Err(TokenError::Early);
        }
        if !names_one_of(claims.get("aud"), &self.audiences) {
            return Err(TokenError::Audience);
        }
        // An issuer is one text (RFC 7519, section 4.1.1).
        if !names_one_of(claims.get("iss").filter(|issuer| issuer.is_string()), &self.issuers) {
            return Err(TokenError::Issuer);
        }
        Ok(Identity { user: self.user(claims)?, roles: self.roles(claims)?, expiry: Some(expiry) })
    }

    /// The claims of a token that this would accept.
    pub(super) fn of(&self, user: &UserId, roles: &[String], (now, lifetime): (Timestamp, Duration)) -> Map<String, Value> {
        let seconds = |at: Timestamp| Value::from(at.as_millis().div_euclid(1000));
        let mut claims = Map::new();
        claims.insert(self.user.clone(), user.as_str().into());
        claims.insert(self.roles.clone(), roles.into());
        claims.insert("iat".into(), seconds(now));
        claims.insert("exp".into(), seconds(now.plus(lifetime)));
        for (name, expected) in [("aud", self.audiences.first()), ("iss", self.issuers.first())] {
            if let Some(expected) = expected {
                claims.insert(name.into(), expected.as_str().into());
            }
        }
        claims
    }

    fn user(&self, claims: &Map<String, Value>) -> Result<UserId, TokenError> {
        let (claim, value) = find(claims, &self.user)
            .map(|value| (self.user.as_str(), value))
            .or_else(|| claims.get("userId").map(|value| ("userId", value)))
            .ok_or_else(|| missing(&self.user))?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(missing(claim)),
        };
        text.parse().map_err(|_| missing(claim))
    }

    /// A list of texts, or one text of words as in OAuth's `scope`.
    fn roles(&self, claims: &Map<String, Value>) -> Result<Vec<String>, TokenError> {
        let wrong = || missing(&self.roles);
        let roles = match find(claims, &self.roles) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(roles)) => {
                roles.iter().map(|role| role.as_str().map(str::to_owned).ok_or_else(wrong)).collect::<Result<_, _>>()?
            }
            Some(Value::String(roles)) => roles.split_whitespace().map(str::to_owned).collect(),
            Some(_) => return Err(wrong()),
        };
        if roles.len() > ROLES_LIMIT { Err(wrong()) } else { Ok(roles) }
    }
}

/// The claim at a path. A name that holds dots itself, as namespaced claims do, goes before a path.
fn find<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    claims.get(path).or_else(|| {
        let mut dots = path.match_indices('.');
        dots.find_map(|(at, _)| find(claims.get(path.get(..at)?)?.as_object()?, path.get(at + 1..)?))
    })
}

/// Whether the claim, a text or a list of texts, names one of those expected, if any are.
fn names_one_of(claim: Option<&Value>, expected: &[String]) -> bool {
    let is_expected = |value: &Value| value.as_str().is_some_and(|text| expected.iter().any(|expected| expected == text));
    expected.is_empty()
        || match claim {
            Some(Value::Array(values)) => values.iter().any(is_expected),
            Some(value) => is_expected(value),
            None => false,
        }
}

/// A claim that holds seconds since 1970 ([RFC 7519, section 2](https://www.rfc-editor.org/rfc/rfc7519#section-2): a number,
/// possibly with a fraction).
fn instant(claims: &Map<String, Value>, claim: &str) -> Result<Option<Timestamp>, TokenError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite()).ok_or_else(|| missing(claim))?;
    // A float becomes the nearest whole number that fits; an instant is then moved into the years that can be written.
    #[allow(clippy::cast_possible_truncation, reason = "saturates")]
    let millis = (seconds * 1000.0) as i64;
    Ok(Some(Timestamp::from_millis(millis)))
}

fn missing(claim: &str) -> TokenError {
    TokenError::Claim { claim: claim.to_owned() }
}
