//! The certificate and its key: read at start and on SIGHUP, checked before they are used.
//!
//! Owns: what TLS is spoken (1.2 and 1.3, HTTP/1.1). A pair that does not work is refused; while running, the one before it stays
//! in use. An expired one is used and complained about: clients decide. Neighbours: `tls` shakes hands with it.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tidings_core::time::Timestamp;
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig, crypto::ring};

use super::Meters;
use crate::clock::Clock;
use crate::config::TlsConfig;

/// What is spoken inside of TLS (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file that is not there, or is no PEM.
    #[error("`gateway.tls.{key}`: {file} could not be read")]
    Unreadable {
        /// Which setting names it.
        key: &'static str,
        /// The file's name.
        file: String,
        /// Why.
        #[source]
        source: PemError,
    },
    /// A PEM file of something else.
    #[error("`gateway.tls.{key}`: {file} holds no {wanted} in PEM")]
    Absent {
        /// Which setting names it.
        key: &'static str,
        /// The file's name.
        file: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The key of another certificate.
    #[error("the key in {key} is not the one of the first certificate in {certificate}")]
    Mismatch {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
    },
    /// What is no certificate inside.
    #[error("`gateway.tls.certificate`: what {file} holds is no certificate: {why}")]
    Malformed {
        /// The file's name.
        file: String,
        /// What the parser says.
        why: String,
    },
    /// A key or certificate that cannot be used.
    #[error("{certificate} and {key} cannot be used for TLS")]
    Unusable {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// The certificate in use.
pub(super) struct Certificates {
    files: TlsConfig,
    /// Shared: each handshake takes the one of the moment, a reload replaces it.
    current: ArcSwap<ServerConfig>,
    clock: Clock,
    meters: Meters,
}

/// A pair that works.
struct Loaded {
    config: ServerConfig,
    begins: Timestamp,
    expires: Timestamp,
}

impl Certificates {
    /// Reads the configured files.
    ///
    /// # Errors
    /// If a file cannot be read, or the two do not work together.
    pub(super) fn load(files: &TlsConfig, clock: Clock, meters: Meters) -> Result<Self, CertificateError> {
        let loaded = load(files)?;
        tell(&loaded, files, clock, &meters);
        Ok(Self { files: files.clone(), current: ArcSwap::from_pointee(loaded.config), clock, meters })
    }

    /// The one to shake hands with.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the files again. Connections that are open keep what they have; so does everybody if the new pair does not work.
    pub(super) fn reload(&self) {
        match load(&self.files) {
            Ok(loaded) => {
                tell(&loaded, &self.files, self.clock, &self.meters);
                self.current.store(Arc::new(loaded.config));
                self.meters.certificate("replaced");
            }
            Err(error) => {
                self.meters.certificate("kept");
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(error, "the certificate was not replaced; the one before it stays in use");
            }
        }
    }
}

/// Says what is used from now on.
fn tell(loaded: &Loaded, files: &TlsConfig, clock: Clock, meters: &Meters) {
    let Loaded { begins, expires, .. } = loaded;
    meters.certificate_expiry.set(expires.as_millis() / 1000);
    tracing::info!(file = files.certificate, %expires, "certificate loaded");
    if *expires <= clock.now() {
        tracing::warn!(file = files.certificate, %expires, "the certificate has expired; clients will refuse it");
    }
    if *begins > clock.now() {
        tracing::warn!(file = files.certificate, %begins, "the certificate is not valid yet; clients will refuse it");
    }
}

fn load(files: &TlsConfig) -> Result<Loaded, CertificateError> {
    let TlsConfig { certificate, key, .. } = files;
    let chain = CertificateDer::pem_file_iter(Path::new(certificate))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| CertificateError::Unreadable { key: "certificate", file: certificate.clone(), source })?;
    let Some(first) = chain.first() else {
        return Err(CertificateError::Absent { key: "certificate", file: certificate.clone(), wanted: "certificate" });
    };
    let (begins, expires) = validity(first).map_err(|why| CertificateError::Malformed { file: certificate.clone(), why })?;
    let private = PrivateKeyDer::from_pem_file(Path::new(key)).map_err(|source| match source {
        PemError::NoItemsFound => CertificateError::Absent { key: "key", file: key.clone(), wanted: "private key" },
        source => CertificateError::Unreadable { key: "key", file: key.clone(), source },
    })?;
    let config = speaking(chain, private).map_err(|source| match source {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            CertificateError::Mismatch { certificate: certificate.clone(), key: key.clone() }
        }
        source => CertificateError::Unusable { certificate: certificate.clone(), key: key.clone(), source },
    })?;
    Ok(Loaded { config, begins, expires })
}

fn speaking(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Clients keep what it takes to resume, so a storm of them after a restart of the network costs no memory here. Keys are of
    // this configuration only: nobody resumes what was agreed with a certificate that was replaced.
    config.ticketer = ring::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// From when until when a certificate counts.
fn validity(certificate: &[u8]) -> Result<(Timestamp, Timestamp), String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_millis(time.timestamp().saturating_mul(1000));
    Ok((at(certificate.validity().not_before), at(certificate.validity().not_after)))
}
