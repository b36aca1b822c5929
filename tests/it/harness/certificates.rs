//! Certificates of an authority that only the test knows of, and clients that trust it and nobody else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name, X509NameRef};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// Who signs.
pub(crate) struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

/// A certificate and its key, in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let (key, name) = (new_key(), name("tests"));
        let certificate = certificate(&name, &key, (&name, &key), (0, 30), |builder| {
            builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        });
        Self { key, certificate }
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    /// A certificate of `localhost` and 127.0.0.1 that counts from day to day, as seen from now.
    pub(crate) fn issue(&self, days: (i64, i64)) -> Pair {
        let key = new_key();
        let issuer = (self.certificate.subject_name(), &self.key);
        let certificate = certificate(&name("localhost"), &key, issuer, days, |builder| {
            let context = builder.x509v3_context(Some(&self.certificate), None);
            let names = SubjectAlternativeName::new().dns("localhost").ip("127.0.0.1").build(&context).unwrap();
            builder.append_extension(names).unwrap();
        });
        Pair { certificate: certificate.to_pem().unwrap(), key: key.private_key_to_pem_pkcs8().unwrap() }
    }

    /// A client's settings, which trust this authority.
    pub(crate) fn connector(&self) -> SslConnectorBuilder {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.cert_store_mut().add_cert(self.certificate.clone()).unwrap();
        builder
    }

    /// A connection on which TLS is spoken, by OpenSSL.
    pub(crate) async fn connect(&self, address: SocketAddr) -> SslStream<TcpStream> {
        let stream = TcpStream::connect(address).await.unwrap();
        shake_hands(self.connector(), stream).await.unwrap()
    }

    /// The answer of an HTTPS route: status and body.
    pub(crate) async fn get(&self, address: SocketAddr, path: &str) -> Option<(u16, String)> {
        let stream = TcpStream::connect(address).await.ok()?;
        let mut stream = shake_hands(self.connector(), stream).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// The sum of a metric's samples whose labels contain `label`.
    pub(crate) async fn metric(&self, address: SocketAddr, name: &str, label: &str) -> f64 {
        let (_, text) = self.get(address, "/metrics").await.unwrap();
        let named = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
        named.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Pair {
    /// Writes both files, each at once, and gives their names.
    pub(crate) fn write(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        for (file, text) in [(&certificate, &self.certificate), (&key, &self.key)] {
            let new = file.with_extension("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, file).unwrap();
        }
        (certificate, key)
    }
}

/// TLS on a connection, by OpenSSL, with the server's name checked.
pub(crate) async fn shake_hands(
    builder: SslConnectorBuilder,
    stream: TcpStream,
) -> Result<SslStream<TcpStream>, openssl::ssl::Error> {
    let ssl = builder.build().configure().unwrap().into_ssl("localhost").unwrap();
    let mut stream = SslStream::new(ssl, stream).unwrap();
    Pin::new(&mut stream).connect().await?;
    Ok(stream)
}

fn new_key() -> PKey<Private> {
    PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap()).unwrap()
}

fn name(common: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, common).unwrap();
    name.build()
}

fn certificate(
    subject: &X509NameRef,
    key: &PKey<Private>,
    (issuer, signer): (&X509NameRef, &PKey<Private>),
    (from, to): (i64, i64),
    extend: impl FnOnce(&mut openssl::x509::X509Builder),
) -> X509 {
    let at = |days: i64| Asn1Time::from_unix(super::world::unix_now() + days * 86_400 - 60).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_slice(uuid::Uuid::new_v4().as_bytes()).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&serial).unwrap()).unwrap();
    builder.set_subject_name(subject).unwrap();
    builder.set_issuer_name(issuer).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&at(from)).unwrap();
    builder.set_not_after(&at(to)).unwrap();
    extend(&mut builder);
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    builder.build()
}
