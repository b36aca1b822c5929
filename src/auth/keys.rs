//! The keys that tokens are verified with: read from the configuration, chosen by `kid`, else tried.
//!
//! Owns: each key's algorithm, which the configuration fixes and no token changes (RFC 8725, section 3.1). Refuses files that
//! hold a key of another kind, a private key, or one that is too weak. Neighbours: `tokens` asks, `claims` reads what was signed.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rsa::pkcs1::DecodeRsaPublicKey as _;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Map, Value};
use tidings_core::fate::Cause;

use super::TokenError;
use crate::config::{AuthConfig, KeyAlgorithm, KeyConfig};

const SECRET_BYTES: usize = 32;
const RSA_BITS: usize = 2048;

/// Why there is no way to verify or make tokens.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key at all.
    #[error(
        "no key to verify tokens with: set `auth.secret` (TIDINGS_AUTH__SECRET), `auth.secret_file` or `[[auth.keys]]`, or another `auth.mode`"
    )]
    Missing,
    /// None that signs.
    #[error("no secret to sign tokens with: `tidings token` needs `auth.secret`, `auth.secret_file` or a key of HS256")]
    Unsigned,
    /// The file cannot be read.
    #[error("{key}: {file} could not be read")]
    Unreadable {
        /// Where the configuration names it.
        key: String,
        /// The file's name.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The secret is too short.
    #[error("{key}: the secret has {bytes} bytes, HS256 needs at least {SECRET_BYTES}")]
    Short {
        /// Where the configuration names it.
        key: String,
        /// What there is.
        bytes: usize,
    },
    /// The file holds something else.
    #[error("{key}: {file} holds no public key for {algorithm} in PEM (`-----BEGIN PUBLIC KEY-----`){hint}")]
    Kind {
        /// Where the configuration names it.
        key: String,
        /// The file's name.
        file: String,
        /// What it is to be used for.
        algorithm: &'static str,
        /// What may be wrong.
        hint: &'static str,
    },
    /// The key is too weak.
    #[error("{key}: the RSA key in {file} has {bits} bits, at least {RSA_BITS} are needed")]
    Weak {
        /// Where the configuration names it.
        key: String,
        /// The file's name.
        file: String,
        /// What it has.
        bits: usize,
    },
}

impl KeyError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause::Refused
    }
}

/// All keys at one time.
pub(super) struct Keys(Vec<Key>);

struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    verifying: DecodingKey,
    /// Takes this key's algorithm and no other.
    validation: Validation,
}

/// What signs tokens for development.
pub(super) struct Signer {
    header: Header,
    key: EncodingKey,
}

impl Keys {
    /// Reads every configured key.
    pub(super) fn load(config: &AuthConfig) -> Result<Self, KeyError> {
        let simple = simple_secret(config)?.map(|secret| Key::of_secret(None, &secret));
        let listed = config.keys.iter().enumerate().map(|(index, key)| Key::load(&place(index, key), key));
        let keys = simple.into_iter().map(Ok).chain(listed).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(KeyError::Missing) } else { Ok(Self(keys)) }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The claims of a token that one of the keys has signed. A `kid` that names keys leaves no others; one that names none leaves
    /// those without a name.
    pub(super) fn claims(&self, token: &str) -> Result<Map<String, Value>, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Forged)?;
        if header.crit.is_some() {
            // What must be understood (RFC 7515, section 4.1.11) is not.
            return Err(TokenError::Forged);
        }
        let wanted = header.kid.as_ref().filter(|kid| self.0.iter().any(|key| key.kid.as_ref() == Some(kid)));
        let fits = |key: &&Key| key.algorithm == header.alg && (header.kid.is_none() || key.kid.as_ref() == wanted);
        for key in self.0.iter().filter(fits) {
            match jsonwebtoken::decode::<Map<String, Value>>(token, &key.verifying, &key.validation) {
                Ok(token) => return Ok(token.claims),
                // Another key may have signed it.
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(_) => return Err(TokenError::Forged),
            }
        }
        Err(TokenError::Forged)
    }
}

impl Key {
    fn load(place: &str, config: &KeyConfig) -> Result<Self, KeyError> {
        let kid = Some(config.kid.clone()).filter(|kid| !kid.is_empty());
        if config.algorithm == KeyAlgorithm::Hs256 {
            return Ok(Self::of_secret(kid, &secret(place, &config.secret, &config.file)?));
        }
        let pem = read(place, &config.file)?;
        let (algorithm, verifying) = public_key(place, config, &String::from_utf8_lossy(&pem))?;
        Ok(Self::new(kid, algorithm, verifying))
    }

    fn of_secret(kid: Option<String>, secret: &[u8]) -> Self {
        Self::new(kid, Algorithm::HS256, DecodingKey::from_secret(secret))
    }

    fn new(kid: Option<String>, algorithm: Algorithm, verifying: DecodingKey) -> Self {
        let mut validation = Validation::new(algorithm);
        // Time is our argument, not the library's clock; the claims are judged by `claims`.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self { kid, algorithm, verifying, validation }
    }
}

impl Signer {
    /// The simple secret, else the first that is listed.
    pub(super) fn load(config: &AuthConfig) -> Result<Self, KeyError> {
        if let Some(secret) = simple_secret(config)? {
            return Ok(Self { header: Header::new(Algorithm::HS256), key: EncodingKey::from_secret(&secret) });
        }
        let listed = config.keys.iter().enumerate().find(|(_, key)| key.algorithm == KeyAlgorithm::Hs256);
        let (index, key) = listed.ok_or(KeyError::Unsigned)?;
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(key.kid.clone()).filter(|kid| !kid.is_empty());
        Ok(Self { header, key: EncodingKey::from_secret(&secret(&place(index, key), &key.secret, &key.file)?) })
    }

    pub(super) fn sign(&self, claims: &Map<String, Value>) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&self.header, claims, &self.key)
    }
}

/// The key's place in the configuration, for messages.
fn place(index: usize, key: &KeyConfig) -> String {
    if key.kid.is_empty() { format!("`auth.keys`, entry {}", index + 1) } else { format!("`auth.keys`, kid `{}`", key.kid) }
}

fn simple_secret(config: &AuthConfig) -> Result<Option<Vec<u8>>, KeyError> {
    if config.secret.is_empty() && config.secret_file.is_empty() {
        return Ok(None);
    }
    secret("`auth.secret_file`", &config.secret, &config.secret_file).map(Some)
}

/// The secret itself, else what its file holds without the line's end.
fn secret(place: &str, given: &str, file: &str) -> Result<Vec<u8>, KeyError> {
    let mut secret = if given.is_empty() { read(place, file)? } else { given.as_bytes().to_vec() };
    while given.is_empty() && secret.last().is_some_and(|byte| b"\r\n".contains(byte)) {
        secret.pop();
    }
    if secret.len() < SECRET_BYTES { Err(KeyError::Short { key: place.to_owned(), bytes: secret.len() }) } else { Ok(secret) }
}

fn read(place: &str, file: &str) -> Result<Vec<u8>, KeyError> {
    std::fs::read(file).map_err(|source| KeyError::Unreadable { key: place.to_owned(), file: file.to_owned(), source })
}

/// A public key, checked to be one of its algorithm's kind.
fn public_key(place: &str, config: &KeyConfig, pem: &str) -> Result<(Algorithm, DecodingKey), KeyError> {
    let wrong = || KeyError::Kind {
        key: place.to_owned(),
        file: config.file.clone(),
        algorithm: config.algorithm.name(),
        hint: if pem.contains("PRIVATE KEY") { "; it holds a private key, which must stay with who signs" } else { "" },
    };
    match config.algorithm {
        KeyAlgorithm::Rs256 => {
            let key = rsa::RsaPublicKey::from_public_key_pem(pem).or_else(|_| {
                let pkcs1 = rsa::RsaPublicKey::from_pkcs1_pem(pem);
                pkcs1.map_err(|_| wrong())
            })?;
            let bits = key.n().bits();
            if bits < RSA_BITS {
                return Err(KeyError::Weak { key: place.to_owned(), file: config.file.clone(), bits });
            }
            let components = (key.n().to_bytes_be(), key.e().to_bytes_be());
            Ok((Algorithm::RS256, DecodingKey::from_rsa_raw_components(&components.0, &components.1)))
        }
        KeyAlgorithm::Es256 => {
            let key = p256::PublicKey::from_public_key_pem(pem).map_err(|_| wrong())?;
            Ok((Algorithm::ES256, DecodingKey::from_ec_der(&key.to_sec1_bytes())))
        }
        KeyAlgorithm::EdDsa => {
            let key = ed25519_dalek::VerifyingKey::from_public_key_pem(pem).map_err(|_| wrong())?;
            Ok((Algorithm::EdDSA, DecodingKey::from_ed_der(key.as_bytes())))
        }
        KeyAlgorithm::Hs256 => Err(wrong()),
    }
}
