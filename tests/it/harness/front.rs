//! What stands in front of a real registry in production: it encrypts, asks who is there, may refuse or be busy, and passes on the rest.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use openssl::pkey::PKey;
use openssl::ssl::{Ssl, SslAcceptor, SslMethod};
use openssl::x509::X509;
use reqwest::Method;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_openssl::SslStream;

use super::certificates::Pair;

/// A proxy in front of a registry.
pub(crate) struct Front {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    upstream: String,
    /// What `Authorization` must be, if it must be anything.
    authorization: Option<String>,
    /// What it says instead of passing on.
    instead: Mutex<Option<(u16, &'static str)>>,
    /// What was answered, by path and status.
    answered: Mutex<BTreeMap<(String, u16), usize>>,
}

impl Front {
    /// Passes on everything.
    pub(crate) async fn before(upstream: &str) -> Self {
        Self::guarded(upstream, None, None).await
    }

    /// Passes on what comes with this `Authorization`, over TLS if it has a certificate.
    pub(crate) async fn guarded(upstream: &str, authorization: Option<String>, pair: Option<&Pair>) -> Self {
        let acceptor = pair.map(|pair| {
            let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
            builder.set_certificate(&X509::from_pem(&pair.certificate).unwrap()).unwrap();
            builder.set_private_key(&PKey::private_key_from_pem(&pair.key).unwrap()).unwrap();
            builder.build()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            upstream: upstream.to_owned(),
            authorization,
            instead: Mutex::default(),
            answered: Mutex::default(),
        });
        tokio::spawn(accept(listener, acceptor, Arc::clone(&state)));
        Self { url, state }
    }

    /// Says this from now on, and passes on nothing.
    pub(crate) fn says(&self, status: u16, headers: &'static str) {
        *self.state.instead.lock().unwrap() = Some((status, headers));
    }

    /// Passes on again.
    pub(crate) fn passes_on(&self) {
        *self.state.instead.lock().unwrap() = None;
    }

    /// How often a path was answered so.
    pub(crate) fn answered(&self, status: u16) -> BTreeMap<String, usize> {
        let answered = self.state.answered.lock().unwrap();
        answered.iter().filter(|((_, with), _)| *with == status).map(|((path, _), times)| (path.clone(), *times)).collect()
    }

    /// What was answered up to now is forgotten.
    pub(crate) fn forget(&self) {
        self.state.answered.lock().unwrap().clear();
    }
}

async fn accept(listener: TcpListener, acceptor: Option<SslAcceptor>, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let Some(acceptor) = acceptor else { return serve(stream, &state).await };
            let mut stream = SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap();
            // Who does not trust the certificate leaves.
            if Pin::new(&mut stream).accept().await.is_ok() {
                serve(stream, &state).await;
            }
        });
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &State) {
    let Some((head, body)) = request(&mut stream).await else { return };
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().to_owned());
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    let instead = *state.instead.lock().unwrap();
    let (status, headers, body) = match instead {
        Some((status, headers)) => (status, headers, String::new()),
        None if state.authorization.is_some() && header("authorization") != state.authorization => {
            (401, "", r#"{"error_code": 401, "message": "Unauthorized"}"#.to_owned())
        }
        None => passed_on(state, (method, &path), (header("content-type"), body)).await,
    };
    let path = path.split('?').next().unwrap().to_owned();
    *state.answered.lock().unwrap().entry((path, status)).or_insert(0) += 1;
    let head = format!("HTTP/1.1 {status} Front\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
    let _ = stream.shutdown().await;
}

/// The registry's answer, or what proxies say when there is none.
async fn passed_on(
    state: &State,
    (method, path): (Method, &str),
    (kind, body): (Option<String>, Vec<u8>),
) -> (u16, &'static str, String) {
    let kind = kind.unwrap_or_else(|| "application/json".to_owned());
    let request = reqwest::Client::new().request(method, format!("{}{path}", state.upstream)).header("content-type", kind);
    match request.body(body).send().await {
        Ok(answer) => (answer.status().as_u16(), "", answer.text().await.unwrap()),
        Err(_) => (502, "", String::new()),
    }
}

/// The head and the body of a request; none if whoever sends it leaves.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                return Some((head, bytes.split_off(end + 4)));
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}
