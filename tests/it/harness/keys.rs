//! Key pairs of `tests/keys`, and tokens that they sign.

use std::path::Path;

use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use serde_json::json;
use tidings::config::{KeyAlgorithm, KeyConfig};

use super::world::unix_now;

/// The path of a file there.
pub(crate) fn file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name).display().to_string()
}

/// A public key as the configuration names it.
pub(crate) fn key(algorithm: KeyAlgorithm, kid: &str, name: &str) -> KeyConfig {
    KeyConfig { kid: kid.into(), algorithm, file: file(name), secret: String::new() }
}

/// A token of alice, signed by a private key of `tests/keys`.
pub(crate) fn signed_by(name: &str, algorithm: jsonwebtoken::Algorithm) -> String {
    let pem = std::fs::read_to_string(file(&format!("{name}.private.pem"))).unwrap();
    let key = match algorithm {
        jsonwebtoken::Algorithm::RS256 => {
            let key = rsa::RsaPrivateKey::from_pkcs8_pem(&pem).unwrap();
            jsonwebtoken::EncodingKey::from_rsa_der(key.to_pkcs1_der().unwrap().as_bytes())
        }
        jsonwebtoken::Algorithm::ES256 => {
            let key = p256::SecretKey::from_pkcs8_pem(&pem).unwrap();
            jsonwebtoken::EncodingKey::from_ec_der(key.to_pkcs8_der().unwrap().as_bytes())
        }
        _ => {
            let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&pem).unwrap();
            jsonwebtoken::EncodingKey::from_ed_der(key.to_pkcs8_der().unwrap().as_bytes())
        }
    };
    jsonwebtoken::encode(&jsonwebtoken::Header::new(algorithm), &json!({"sub": "alice", "exp": unix_now() + 60}), &key).unwrap()
}
