//! What is seen to on the way between the library and the registry: how much of an answer is read, what its status is, and whom we trust.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper::header::{AUTHORIZATION, RETRY_AFTER};
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next};
use serde::Deserialize;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::super::error::RegistryError;
use super::seconds;

/// What stands around a schema in an answer. Within JSON a text may take up to six times its size.
const AROUND_BYTES: usize = 64 * 1024;
const ESCAPED: usize = 6;
/// The longest text of a refusal that is told on.
const LIMIT_TOLD_CHARS: usize = 300;

/// An answer that is not one to the question.
#[derive(Debug)]
pub(super) enum Reply {
    TooLarge,
    Status {
        status: u16,
        /// The registry's own code: who sends none is something else.
        code: Option<u32>,
        told: String,
        again: Option<Duration>,
    },
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the answer is too large"),
            Self::Status { status, told, .. } => write!(f, "{status}: {told}"),
        }
    }
}

impl std::error::Error for Reply {}

/// What a registry says where it refuses.
#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
    #[serde(default)]
    message: String,
}

pub(super) struct Guarded {
    limit_bytes: usize,
}

impl Guarded {
    /// Lets answers through with schemas of so many bytes.
    pub(super) fn up_to(schema_bytes: usize) -> Self {
        Self { limit_bytes: schema_bytes.saturating_mul(ESCAPED).saturating_add(AROUND_BYTES) }
    }
}

#[async_trait]
impl Middleware for Guarded {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut hyper::http::Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        if let Some(secret) = request.headers_mut().get_mut(AUTHORIZATION) {
            secret.set_sensitive(true);
        }
        let mut response = next.run(request, extensions).await?;
        let (status, again) = (response.status(), response.headers().get(RETRY_AFTER).cloned());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            let left = self.limit_bytes - body.len();
            if chunk.len() > left && status.is_success() {
                return Err(reqwest_middleware::Error::middleware(Reply::TooLarge));
            }
            // Who refuses with a page that is too large still refuses: that it does is what counts.
            body.extend_from_slice(&chunk[..chunk.len().min(left)]);
            if chunk.len() > left {
                break;
            }
        }
        if status.is_success() {
            return Ok(Response::from(hyper::Response::new(body)));
        }
        let refusal = serde_json::from_slice::<Refusal>(&body).ok();
        let told =
            refusal.as_ref().map_or_else(|| String::from_utf8_lossy(&body).into_owned(), |refusal| refusal.message.clone());
        let told = told.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LIMIT_TOLD_CHARS).collect();
        let again = again.as_ref().and_then(|text| seconds(text.to_str().ok()?));
        let code = refusal.map(|refusal| refusal.error_code);
        Err(reqwest_middleware::Error::middleware(Reply::Status { status: status.as_u16(), code, told, again }))
    }
}

/// Whom a registry's certificate has to be vouched for by: those whom the machine trusts, and those of the file.
pub(super) fn trust(file: &str, urls: &[String]) -> Result<ClientConfig, RegistryError> {
    let mut roots = RootCertStore::empty();
    // Where nothing is encrypted, nobody has to vouch for anything.
    if urls.iter().any(|url| url.starts_with("https:")) {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if !file.is_empty() {
        let unusable = |why: String| RegistryError::File { key: "ca", file: file.to_owned(), why };
        let certificates = CertificateDer::pem_file_iter(file).map_err(|error| unusable(error.to_string()))?;
        let before = roots.len();
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(unusable("there is no certificate in it".to_owned()));
        }
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| RegistryError::Client(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
