//! Identity: who a token says its bearer is, and tokens for development.
//!
//! Owns: HS256 tokens, their verification and making. Refuses tokens without expiry and never shows one in an error or a
//! log line. Time is an argument. Neighbours: `gateway` admits by it, `cli` makes tokens.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Map, Value};
use tidings_core::fate::Cause;
use tidings_core::ids::UserId;
use tidings_core::time::Timestamp;

use crate::config::AuthConfig;

const SECRET_BYTES: usize = 32;
const ROLES_LIMIT: usize = 64;

/// Who a verified token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// The user's roles.
    pub roles: Vec<String>,
    /// From this instant on the token is no longer taken: its expiry and the leeway behind it.
    pub ends_at: Timestamp,
}

/// Why there is no way to verify or make tokens.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Neither a secret nor a file is configured.
    #[error("no secret to verify tokens with: set `auth.secret` (TIDINGS_AUTH__SECRET) or `auth.secret_file`")]
    Missing,
    /// The file cannot be read.
    #[error("`auth.secret_file`: {file} could not be read")]
    Unreadable {
        /// The file's name.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file holds too little.
    #[error("`auth.secret_file`: {file} holds {bytes} bytes, HS256 needs at least {SECRET_BYTES}")]
    Short {
        /// The file's name.
        file: String,
        /// What it holds.
        bytes: usize,
    },
}

/// Why a token is not taken. Says nothing of the token's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token of this secret.
    #[error("the token's form or signature is wrong")]
    Forged,
    /// Too late.
    #[error("the token has expired")]
    Expired,
    /// Too early.
    #[error("the token is not valid yet")]
    Early,
    /// A claim that is needed is missing or of a wrong type.
    #[error("the claim `{claim}` is missing or of a wrong type")]
    Claim {
        /// Which.
        claim: String,
    },
}

impl TokenError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause::Refused
    }
}

/// Verifies and makes tokens with one secret.
pub struct Tokens {
    verifying: DecodingKey,
    signing: EncodingKey,
    validation: Validation,
    user_claim: String,
    roles_claim: String,
    leeway: Duration,
}

impl Tokens {
    /// Tokens of the configured secret.
    ///
    /// # Errors
    /// If no secret is configured, or its file cannot be read or is too short.
    pub fn new(config: &AuthConfig) -> Result<Self, SecretError> {
        let secret = secret(config)?;
        let mut validation = Validation::new(Algorithm::HS256);
        // Time is our argument, not the library's clock.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Ok(Self {
            verifying: DecodingKey::from_secret(&secret),
            signing: EncodingKey::from_secret(&secret),
            validation,
            user_claim: config.user_claim.clone(),
            roles_claim: config.roles_claim.clone(),
            leeway: config.leeway.0,
        })
    }

    /// Whom `token` names at `now`.
    ///
    /// # Errors
    /// If it is forged, not valid at this time, or lacks a claim.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Identity, TokenError> {
        let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &self.verifying, &self.validation)
            .map_err(|_| TokenError::Forged)?
            .claims;
        let ends_at = instant(&claims, "exp")?.ok_or_else(|| missing("exp"))?.plus(self.leeway);
        if ends_at <= now {
            return Err(TokenError::Expired);
        }
        if instant(&claims, "nbf")?.is_some_and(|from| from > now.plus(self.leeway)) {
            return Err(TokenError::Early);
        }
        Ok(Identity { user: self.user(&claims)?, roles: self.roles(&claims)?, ends_at })
    }

    /// A token for `user` holding `roles`, valid from `now` for `lifetime`.
    ///
    /// # Errors
    /// If the library cannot sign, which a secret of any length can not cause.
    pub fn sign(
        &self,
        user: &UserId,
        roles: &[String],
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let seconds = |at: Timestamp| Value::from(at.as_millis().div_euclid(1000));
        let mut claims = Map::new();
        claims.insert(self.user_claim.clone(), user.as_str().into());
        claims.insert(self.roles_claim.clone(), roles.into());
        claims.insert("iat".into(), seconds(now));
        claims.insert("exp".into(), seconds(now.plus(lifetime)));
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
    }

    fn user(&self, claims: &Map<String, Value>) -> Result<UserId, TokenError> {
        let (claim, value) = claims
            .get_key_value(self.user_claim.as_str())
            .or_else(|| claims.get_key_value("userId"))
            .ok_or_else(|| missing(&self.user_claim))?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(missing(claim)),
        };
        text.parse().map_err(|_| missing(claim))
    }

    fn roles(&self, claims: &Map<String, Value>) -> Result<Vec<String>, TokenError> {
        match claims.get(&self.roles_claim) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(roles)) if roles.len() <= ROLES_LIMIT => {
                roles.iter().map(|role| role.as_str().map(str::to_owned).ok_or_else(|| missing(&self.roles_claim))).collect()
            }
            Some(_) => Err(missing(&self.roles_claim)),
        }
    }
}

fn secret(config: &AuthConfig) -> Result<Vec<u8>, SecretError> {
    if !config.secret.is_empty() {
        return Ok(config.secret.clone().into_bytes());
    }
    if config.secret_file.is_empty() {
        return Err(SecretError::Missing);
    }
    let file = config.secret_file.clone();
    let mut secret = std::fs::read(&file).map_err(|source| SecretError::Unreadable { file: file.clone(), source })?;
    while secret.last().is_some_and(|byte| b"\r\n".contains(byte)) {
        secret.pop();
    }
    if secret.len() < SECRET_BYTES { Err(SecretError::Short { file, bytes: secret.len() }) } else { Ok(secret) }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn tokens(secret: &str) -> Tokens {
        Tokens::new(&AuthConfig {
            secret: secret.into(),
            secret_file: String::new(),
            user_claim: "sub".into(),
            roles_claim: "roles".into(),
            leeway: "30s".parse().unwrap(),
        })
        .unwrap()
    }

    fn ours() -> Tokens {
        tokens("0123456789abcdef0123456789abcdef")
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn signed(claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &ours().signing).unwrap()
    }

    #[test]
    fn a_token_names_its_user_and_roles() {
        let user: UserId = "42".parse().unwrap();
        let token = ours().sign(&user, &["admin".into()], at(NOW), Duration::from_secs(60)).unwrap();
        let identity = ours().verify(&token, at(NOW)).unwrap();
        assert_eq!(identity, Identity { user, roles: vec!["admin".into()], ends_at: at(NOW + 90) });
    }

    #[test]
    fn a_token_is_taken_until_its_expiry_and_the_leeway() {
        let token = signed(&json!({"sub": "42", "exp": NOW}));
        assert!(ours().verify(&token, at(NOW + 29)).is_ok());
        assert_eq!(ours().verify(&token, at(NOW + 30)), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_without_expiry_or_user_is_refused() {
        assert_eq!(ours().verify(&signed(&json!({"sub": "42"})), at(NOW)), Err(missing("exp")));
        assert_eq!(ours().verify(&signed(&json!({"exp": NOW + 9})), at(NOW)), Err(missing("sub")));
        assert_eq!(ours().verify(&signed(&json!({"sub": "\n", "exp": NOW + 9})), at(NOW)), Err(missing("sub")));
        assert_eq!(ours().verify(&signed(&json!({"sub": "42", "exp": "soon"})), at(NOW)), Err(missing("exp")));
    }

    #[test]
    fn user_id_is_looked_at_if_the_subject_is_absent() {
        let token = signed(&json!({"userId": 7, "exp": NOW + 9}));
        assert_eq!(ours().verify(&token, at(NOW)).unwrap().user.as_str(), "7");
    }

    #[test]
    fn a_token_of_another_secret_or_algorithm_is_forged() {
        let foreign = tokens("fedcba9876543210fedcba9876543210");
        let token = foreign.sign(&"42".parse().unwrap(), &[], at(NOW), Duration::from_secs(60)).unwrap();
        assert_eq!(ours().verify(&token, at(NOW)), Err(TokenError::Forged));
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiIsImV4cCI6OTk5OTk5OTk5OX0.";
        assert_eq!(ours().verify(unsigned, at(NOW)), Err(TokenError::Forged));
        assert_eq!(ours().verify("", at(NOW)), Err(TokenError::Forged));
    }

    #[test]
    fn a_token_for_later_is_not_taken_yet() {
        let token = signed(&json!({"sub": "42", "exp": NOW + 900, "nbf": NOW + 60}));
        assert_eq!(ours().verify(&token, at(NOW)), Err(TokenError::Early));
        assert!(ours().verify(&token, at(NOW + 31)).is_ok());
    }
}
