//! Tokens, keys and what requests present, with keys from `tests/keys`. Long because each kind of key and of proof stands beside the
//! harm that is done to it.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use serde_json::{Value, json};

use super::*;
use crate::config::{KeyAlgorithm, KeyConfig};

const NOW: i64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn config(change: impl FnOnce(&mut AuthConfig)) -> AuthConfig {
    let mut config = crate::config::load(None, &[]).unwrap().auth;
    change(&mut config);
    config
}

fn with_secret() -> AuthConfig {
    config(|config| config.secret = SECRET.into())
}

fn ours() -> Tokens {
    Tokens::new(&with_secret()).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn signed(claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name).display().to_string()
}

fn key(algorithm: KeyAlgorithm, kid: &str, name: &str) -> KeyConfig {
    KeyConfig { kid: kid.into(), algorithm, file: file(name), secret: String::new() }
}

fn with_keys(keys: Vec<KeyConfig>) -> Result<Tokens, KeyError> {
    Tokens::new(&config(|config| config.keys = keys))
}

fn alice() -> Value {
    json!({"sub": "alice", "exp": NOW + 60})
}

/// A token of alice, signed by a private key of `tests/keys`.
fn signed_by(name: &str, algorithm: Algorithm, kid: Option<&str>) -> String {
    let pem = std::fs::read_to_string(file(&format!("{name}.private.pem"))).unwrap();
    let key = match algorithm {
        Algorithm::RS256 => {
            let key = rsa::RsaPrivateKey::from_pkcs8_pem(&pem).unwrap();
            EncodingKey::from_rsa_der(key.to_pkcs1_der().unwrap().as_bytes())
        }
        Algorithm::ES256 => {
            let key = p256::SecretKey::from_pkcs8_pem(&pem).unwrap();
            EncodingKey::from_ec_der(key.to_pkcs8_der().unwrap().as_bytes())
        }
        _ => {
            let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&pem).unwrap();
            EncodingKey::from_ed_der(key.to_pkcs8_der().unwrap().as_bytes())
        }
    };
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, &alice(), &key).unwrap()
}

fn missing(claim: &str) -> TokenError {
    TokenError::Claim { claim: claim.to_owned() }
}

#[test]
fn a_token_for_development_names_its_user_and_roles_and_is_taken() {
    let user: UserId = "42".parse().unwrap();
    let config = config(|config| {
        config.secret = SECRET.into();
        config.audiences = vec!["tidings".into()];
        config.issuers = vec!["dev".into()];
    });
    let token = sign(&config, &user, &["admin".into()], (at(NOW), Duration::from_secs(60))).unwrap();
    let identity = Tokens::new(&config).unwrap().verify(&token, at(NOW)).unwrap();
    let expiry = Some(Expiry { at: at(NOW + 60), ends_at: at(NOW + 90) });
    assert_eq!(identity, Identity { user, roles: vec!["admin".into()], expiry });
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
    let foreign = config(|config| config.secret = "fedcba9876543210fedcba9876543210".into());
    let token = sign(&foreign, &"42".parse().unwrap(), &[], (at(NOW), Duration::from_secs(60))).unwrap();
    assert_eq!(ours().verify(&token, at(NOW)), Err(TokenError::Forged));
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiIsImV4cCI6OTk5OTk5OTk5OX0.";
    assert_eq!(ours().verify(unsigned, at(NOW)), Err(TokenError::Forged));
    assert_eq!(ours().verify("", at(NOW)), Err(TokenError::Forged));
}

#[test]
fn a_token_that_demands_an_extension_is_forged() {
    let header = Header { crit: Some(vec!["exp".into()]), ..Header::new(Algorithm::HS256) };
    let token = jsonwebtoken::encode(&header, &alice(), &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    assert_eq!(ours().verify(&token, at(NOW)), Err(TokenError::Forged));
}

#[test]
fn a_token_for_later_is_not_taken_yet() {
    let token = signed(&json!({"sub": "42", "exp": NOW + 900, "nbf": NOW + 60}));
    assert_eq!(ours().verify(&token, at(NOW)), Err(TokenError::Early));
    assert!(ours().verify(&token, at(NOW + 31)).is_ok());
}

#[test]
fn a_token_for_another_audience_or_by_another_issuer_is_refused() {
    let config = config(|config| {
        config.secret = SECRET.into();
        config.audiences = vec!["tidings".into(), "push".into()];
        config.issuers = vec!["https://id.example".into()];
    });
    let tokens = Tokens::new(&config).unwrap();
    let verify = |aud: Value, iss: Value| {
        tokens.verify(&signed(&json!({"sub": "a", "exp": NOW + 9, "aud": aud, "iss": iss})), at(NOW)).err()
    };
    assert_eq!(verify(json!("push"), json!("https://id.example")), None);
    assert_eq!(verify(json!(["shop", "tidings"]), json!("https://id.example")), None);
    for aud in [json!("shop"), json!(["shop"]), json!([]), Value::Null, json!(7)] {
        assert_eq!(verify(aud.clone(), json!("https://id.example")), Some(TokenError::Audience), "{aud}");
    }
    for iss in [json!("https://evil.example"), json!(["https://id.example"]), Value::Null] {
        assert_eq!(verify(json!("push"), iss.clone()), Some(TokenError::Issuer), "{iss}");
    }
    assert_eq!(tokens.verify(&signed(&alice()), at(NOW)), Err(TokenError::Audience));
}

#[test]
fn roles_are_found_at_a_path_as_a_list_or_as_words() {
    let roles = |path: &str, claims: Value| {
        let config = config(|config| {
            config.secret = SECRET.into();
            config.roles_claim = path.into();
        });
        let mut all = alice();
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        Tokens::new(&config).unwrap().verify(&signed(&all), at(NOW)).map(|identity| identity.roles)
    };
    let both = Ok(vec!["a".to_owned(), "b".to_owned()]);
    assert_eq!(roles("realm_access.roles", json!({"realm_access": {"roles": ["a", "b"]}})), both);
    assert_eq!(roles("https://x.example/roles", json!({"https://x.example/roles": ["a", "b"]})), both);
    assert_eq!(roles("https://x.example/app.roles", json!({"https://x.example/app": {"roles": ["a", "b"]}})), both);
    assert_eq!(roles("scope", json!({"scope": "a  b"})), both);
    assert_eq!(roles("realm_access.roles", json!({"realm_access": ["a"]})), Ok(vec![]));
    assert_eq!(roles("roles", json!({"roles": [1]})), Err(missing("roles")));
    assert_eq!(roles("roles", json!({"roles": vec!["r"; 65]})), Err(missing("roles")));
}

#[test]
fn each_algorithm_verifies_with_its_own_kind_of_key() {
    for (algorithm, signing, public) in [
        (KeyAlgorithm::Rs256, Algorithm::RS256, "rsa"),
        (KeyAlgorithm::Es256, Algorithm::ES256, "p256"),
        (KeyAlgorithm::EdDsa, Algorithm::EdDSA, "ed25519"),
    ] {
        let tokens = with_keys(vec![key(algorithm, "", &format!("{public}.pem"))]).unwrap();
        let token = signed_by(public, signing, None);
        assert_eq!(tokens.verify(&token, at(NOW)).unwrap().user.as_str(), "alice", "{public}");
        let (body, signature) = token.rsplit_once('.').unwrap();
        let other = if signature.starts_with('A') { "B" } else { "A" };
        let forged = format!("{body}.{other}{}", &signature[1..]);
        assert_eq!(tokens.verify(&forged, at(NOW)), Err(TokenError::Forged), "{public}");
    }
    let pkcs1 = with_keys(vec![key(KeyAlgorithm::Rs256, "", "rsa.pkcs1.pem")]).unwrap();
    assert!(pkcs1.verify(&signed_by("rsa", Algorithm::RS256, None), at(NOW)).is_ok());
}

#[test]
fn a_token_signed_with_the_text_of_a_public_key_is_forged() {
    for (algorithm, name) in
        [(KeyAlgorithm::Rs256, "rsa.pem"), (KeyAlgorithm::Es256, "p256.pem"), (KeyAlgorithm::EdDsa, "ed25519.pem")]
    {
        // With an HS256 key beside it, so that the algorithm alone is no reason to refuse.
        let hs256 = KeyConfig { secret: SECRET.into(), file: String::new(), ..key(KeyAlgorithm::Hs256, "hs", "") };
        let tokens = with_keys(vec![key(algorithm, "k", name), hs256]).unwrap();
        let pem = std::fs::read(file(name)).unwrap();
        for secret in [pem.as_slice(), pem.trim_ascii_end()] {
            for kid in [None, Some("k"), Some("hs"), Some("other")] {
                let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
                let token = jsonwebtoken::encode(&header, &alice(), &EncodingKey::from_secret(secret)).unwrap();
                assert_eq!(tokens.verify(&token, at(NOW)), Err(TokenError::Forged), "{name} {kid:?}");
            }
        }
    }
}

#[test]
fn a_kid_chooses_among_keys_and_without_one_they_are_tried() {
    let named =
        with_keys(vec![key(KeyAlgorithm::Rs256, "old", "rsa.pem"), key(KeyAlgorithm::Rs256, "new", "rsa-next.pem")]).unwrap();
    let verify = |tokens: &Tokens, kid| tokens.verify(&signed_by("rsa-next", Algorithm::RS256, kid), at(NOW)).is_ok();
    assert!(verify(&named, Some("new")));
    assert!(verify(&named, None));
    assert!(!verify(&named, Some("old")), "the key that the token names did not sign it");
    assert!(!verify(&named, Some("unknown")), "every key has another name");
    let nameless =
        with_keys(vec![key(KeyAlgorithm::Rs256, "old", "rsa.pem"), key(KeyAlgorithm::Rs256, "", "rsa-next.pem")]).unwrap();
    assert!(verify(&nameless, Some("unknown")), "a key without a name may have any");
}

#[test]
fn a_reload_takes_new_keys_and_a_bad_one_keeps_the_old() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("issuer.pem");
    let copy = |name: &str| std::fs::copy(file(name), &path).unwrap();
    copy("rsa.pem");
    let key = KeyConfig { file: path.display().to_string(), ..key(KeyAlgorithm::Rs256, "", "") };
    let tokens = with_keys(vec![key]).unwrap();
    let taken = |name| tokens.verify(&signed_by(name, Algorithm::RS256, None), at(NOW)).is_ok();
    assert_eq!((taken("rsa"), taken("rsa-next")), (true, false));
    copy("rsa-next.pem");
    assert_eq!(tokens.reload().unwrap(), 1);
    assert_eq!((taken("rsa"), taken("rsa-next")), (false, true));
    copy("rsa-1024.pem");
    assert!(matches!(tokens.reload(), Err(KeyError::Weak { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(tokens.reload(), Err(KeyError::Unreadable { .. })));
    assert_eq!((taken("rsa"), taken("rsa-next")), (false, true));
}

#[test]
fn a_first_look_is_older_than_the_keys_it_belongs_to() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let auth = Auth::new(&config(|config| config.secret_file = secret.display().to_string())).unwrap();
    assert_eq!(Look::at_files(auth.files()), auth.first_look());
    // Somebody rotates the secret while the process still waits for its brokers.
    std::fs::write(folder.path().join("next"), format!("{SECRET}-of-tomorrow")).unwrap();
    std::fs::rename(folder.path().join("next"), &secret).unwrap();
    assert_ne!(Look::at_files(auth.files()), auth.first_look());
}

#[test]
fn a_key_that_is_none_of_its_algorithm_or_too_weak_is_refused_with_its_place() {
    let refused = [
        key(KeyAlgorithm::Rs256, "", "p256.pem"),
        key(KeyAlgorithm::Rs256, "weak", "rsa-1024.pem"),
        key(KeyAlgorithm::Rs256, "", "rsa.private.pem"),
        key(KeyAlgorithm::Es256, "", "p384.pem"),
        key(KeyAlgorithm::Es256, "", "rsa.pem"),
        key(KeyAlgorithm::EdDsa, "", "p256.pem"),
        key(KeyAlgorithm::EdDsa, "", "README.md"),
        key(KeyAlgorithm::Hs256, "", "nowhere.txt"),
        KeyConfig { secret: "short".into(), file: String::new(), ..key(KeyAlgorithm::Hs256, "mine", "") },
    ];
    let messages = refused.map(|key| with_keys(vec![key]).err().unwrap().to_string().replace(&file(""), ""));
    insta::assert_snapshot!(messages.join("\n"));
    assert!(matches!(with_keys(Vec::new()), Err(KeyError::Missing)));
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    // Collecting would replace what is repeated.
    pairs.fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    })
}

fn identify(auth: &Auth, pairs: &[(&'static str, &'static str)], (query, peer): (&str, &str)) -> Result<Identity, Unidentified> {
    let peer = peer.parse::<IpAddr>().unwrap();
    auth.identify(&Presented { headers: &headers(pairs), query, peer }, at(NOW))
}

#[test]
fn a_token_may_stand_in_header_subprotocol_or_query() {
    let auth = Auth::new(&with_secret()).unwrap();
    let token: &'static str = signed(&alice()).leak();
    let bearer: &'static str = format!("bEaReR {token}").leak();
    let protocols: &'static str = format!("tidings.v1, bearer.{token}").leak();
    for (pairs, query) in [
        (vec![("authorization", bearer)], String::new()),
        (vec![("sec-websocket-protocol", protocols)], String::new()),
        (vec![("authorization", "Basic YTpi")], format!("x=1&token={token}")),
    ] {
        assert_eq!(identify(&auth, &pairs, (&query, "10.0.0.1")).unwrap().user.as_str(), "alice", "{pairs:?}");
    }
    assert_eq!(identify(&auth, &[], ("token=", "10.0.0.1")), Err(Unidentified::Missing));
    assert_eq!(identify(&auth, &[("x-user-id", "alice")], ("userId=alice", "10.0.0.1")), Err(Unidentified::Missing));
    let wrong = identify(&auth, &[("authorization", "Bearer x")], (&format!("token={token}"), "10.0.0.1"));
    assert_eq!(wrong, Err(Unidentified::Token(TokenError::Forged)), "the header goes first");
}

#[test]
fn a_proxys_headers_count_only_from_listed_peers_and_only_once() {
    let auth = Auth::new(&config(|config| {
        config.mode = AuthMode::Proxy;
        config.proxies = vec!["10.0.0.0/8".parse().unwrap()];
    }))
    .unwrap();
    let both = [("x-user-id", "alice"), ("x-user-roles", "driver, admin,")];
    let identity = identify(&auth, &both, ("", "10.1.2.3")).unwrap();
    assert_eq!((identity.user.as_str(), identity.roles.join("+")), ("alice", "driver+admin".into()));
    assert_eq!(identity.expiry, None);
    assert_eq!(identify(&auth, &both, ("", "192.168.0.1")), Err(Unidentified::Peer));
    let unnamed = Err(Unidentified::Unnamed { name: HeaderName::from_static("x-user-id") });
    assert_eq!(identify(&auth, &[], ("userId=alice", "10.1.2.3")), unnamed);
    let twice = [("x-user-id", "mallory"), ("x-user-id", "alice")];
    assert!(matches!(identify(&auth, &twice, ("", "10.1.2.3")), Err(Unidentified::Header { .. })));
    assert_eq!(auth.verify(&signed(&alice()), at(NOW)), Err(TokenError::Untaken));
}

#[test]
fn without_authentication_the_url_is_believed_on_this_machine_only() {
    let auth = Auth::new(&config(|config| config.mode = AuthMode::None)).unwrap();
    let said = "userId=alice&roles=a,b";
    for host in ["localhost:3007", "127.0.0.1:3007", "[::1]:3007", "LOCALHOST"] {
        let identity = identify(&auth, &[("host", host)], (said, "127.0.0.1")).unwrap();
        assert_eq!((identity.user.as_str(), identity.roles.len()), ("alice", 2), "{host}");
    }
    for host in ["rebound.example:3007", "localhost.example", "10.0.0.1", ""] {
        assert_eq!(identify(&auth, &[("host", host)], (said, "127.0.0.1")), Err(Unidentified::Host), "{host}");
    }
    assert_eq!(identify(&auth, &[("host", "localhost")], (said, "10.0.0.1")), Err(Unidentified::Host));
    assert_eq!(identify(&auth, &[("host", "localhost")], ("", "127.0.0.1")), Err(Unidentified::Unsaid));
    for (name, value) in [("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=203.0.113.7"), ("via", "1.1 proxy")] {
        let passed_on = identify(&auth, &[("host", "localhost"), (name, value)], (said, "127.0.0.1"));
        assert_eq!(passed_on, Err(Unidentified::Proxied), "{name}");
    }
    assert_eq!(identify(&auth, &[("host", "localhost")], ("userId=%0A", "127.0.0.1")), Err(Unidentified::User));
}
