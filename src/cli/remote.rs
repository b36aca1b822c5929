//! Asking a running process over HTTP, as operators' commands do.
//!
//! Owns: where it is asked and as whom, one connection for each question, and how a refusal is told. Neighbours: `pending`, `retry` and
//! `undelivered` ask; `http` answers.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::body::Body as _;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tidings_core::ids::UserId;
use tidings_core::record::retry::Outcome;
use tidings_core::time::Delay;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::auth;
use crate::clock::Clock;
use crate::config::Config;

/// How long a token that is made here is valid.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);
/// How long it may take to reach a process.
const CONNECTING: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const LIMIT_BYTES: usize = 64 * 1024 * 1024;

/// Where a process is asked, and as whom.
#[derive(Debug, clap::Args)]
pub(super) struct Where {
    /// A process with the role gateway, as http://host:3007; by default the one that this configuration would serve here.
    #[arg(long)]
    url: Option<String>,
    /// The token to ask with; it needs the role `http.admin_role`. Without one it is made with the configured secret.
    #[arg(long, env = "TIDINGS_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Whose name stands on the topic audit, if the token is made here.
    #[arg(long = "as", value_name = "WHO", env = "USER", hide_env_values = true, default_value = "operator")]
    who: UserId,
}

/// A process that can be asked.
pub(super) struct Remote {
    uri: Uri,
    token: String,
    /// For how long an answer is waited for.
    patience: Duration,
}

/// Which of what is pending, of whom it is asked, and how it is told.
#[derive(Debug, clap::Args)]
pub(super) struct Asking {
    /// Only what last came to this: offline or unacknowledged.
    #[arg(long)]
    outcome: Option<Outcome>,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) at: Where,
}

impl Asking {
    /// The address of the page at `token`.
    pub(super) fn page(&self, path: &str, token: Option<String>, more: Option<(&str, String)>) -> String {
        let outcome = self.outcome.map(|outcome| ("outcome", outcome.name().to_owned()));
        let parameters = more.into_iter().chain(outcome).chain(token.map(|token| ("pageToken", token)));
        with_query(path, &parameters.collect::<Vec<_>>())
    }
}

impl Remote {
    pub(super) fn new(args: &Where, config: &Config) -> anyhow::Result<Self> {
        let scheme = if config.gateway.tls.certificate.is_empty() { "http" } else { "https" };
        let url = args.url.clone().unwrap_or_else(|| format!("{scheme}://127.0.0.1:{}", config.gateway.port));
        let uri =
            url.parse::<Uri>().ok().filter(|uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")));
        let uri = uri.with_context(|| format!("`{url}` is no address of a process: it looks like http://host:3007"))?;
        let token = match &args.token {
            Some(token) => token.trim().to_owned(),
            None => {
                let roles = [config.http.admin_role.clone()];
                auth::sign(&config.auth, &args.who, &roles, (Clock::start().now(), TOKEN_LIFETIME))
                    .context("give a `--token` of an operator, or configure the secret that the process has")?
            }
        };
        // A process gives its callers up by then; one that is configured otherwise may be slower.
        let patience = config.http.request_timeout.0 + CONNECTING;
        Ok(Self { uri, token, patience })
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.ask(Method::POST, path, body).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let authority = self.uri.authority().map(ToString::to_string).unwrap_or_default();
        let mut request = Request::builder().method(method).uri(path).header(HOST, &authority);
        request = request.header(AUTHORIZATION, format!("Bearer {}", self.token));
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(body.map(Value::to_string).unwrap_or_default());
        let request = request.context("the token holds characters that no header may have")?;
        let answered = timeout(self.patience, self.answered(request)).await;
        let late = || {
            anyhow::anyhow!("nothing came for {} (`http.request_timeout` and {} more)", Delay(self.patience), Delay(CONNECTING))
        };
        let answered = answered.unwrap_or_else(|_| Err(late()));
        let silent =
            || format!("{} gave no answer; a process with the role gateway is asked there (`--url` names another one)", self.uri);
        let (status, bytes) = answered.with_context(silent)?;
        let answer = serde_json::from_slice::<Value>(&bytes);
        if status.is_success() {
            return answer.with_context(|| format!("{} gave an answer that is no JSON: is it tidings?", self.uri));
        }
        anyhow::bail!("{} refused {path} with {status}: {}", self.uri, answer.map(|problem| told(&problem)).unwrap_or_default())
    }

    async fn answered(&self, request: Request<String>) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        let (host, is_tls) = (self.uri.host().unwrap_or_default(), self.uri.scheme_str() == Some("https"));
        let port = self.uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let host = host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, port)).await?;
        if !is_tls {
            return speak(stream, request).await;
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(host.to_owned())?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        speak(stream, request).await
    }
}

/// Sends a request and reads the whole answer.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<String>,
) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut asking = pin!(async move {
        let response = sender.send_request(request).await?;
        let (status, mut body, mut bytes) = (response.status(), response.into_body(), Vec::new());
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            if let Ok(data) = frame?.into_data() {
                anyhow::ensure!(bytes.len() + data.len() <= LIMIT_BYTES, "the answer is larger than {LIMIT_BYTES} bytes");
                bytes.extend_from_slice(&data);
            }
        }
        Ok((status, bytes))
    });
    tokio::select! {
        biased;
        answer = &mut asking => return answer,
        // What it has read by then is still to be taken.
        ended = connection => ended?,
    }
    asking.await
}

/// What a problem says, and of which part of what was asked.
fn told(problem: &Value) -> String {
    let of = |value: &Value, name: &str| value[name].as_str().map(str::to_owned);
    let whole = of(problem, "detail").or_else(|| of(problem, "title")).unwrap_or_default();
    let faults = problem["errors"].as_array().into_iter().flatten();
    let faults = faults.map(|fault| format!("{}: {}", text(&fault["pointer"]), text(&fault["detail"]))).collect::<Vec<_>>();
    if faults.is_empty() { whole } else { format!("{whole}: {}", faults.join("; ")) }
}

/// A name as a segment of a path.
pub(super) fn segment(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// A path with a query of these parameters.
pub(super) fn with_query(path: &str, parameters: &[(&str, String)]) -> String {
    if parameters.is_empty() {
        return path.to_owned();
    }
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    format!("{path}?{query}")
}

/// Where the page behind an answer begins, if there is more.
pub(super) fn next_page(answer: &Value) -> Option<String> {
    answer["nextPageToken"].as_str().map(str::to_owned)
}

/// A text of an answer; nothing where there is none.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Prints a value as one line of JSON.
pub(super) fn print_json(out: &mut impl std::io::Write, value: &Value) -> anyhow::Result<()> {
    writeln!(out, "{value}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_is_told_with_what_is_wrong_and_where() {
        let errors = json!([{"pointer": "#/rate", "detail": "a number from 1"}, {"pointer": "#/x", "detail": "no such field"}]);
        let problem = json!({"title": "Unprocessable", "detail": "not what it takes", "errors": errors});
        assert_eq!(told(&problem), "not what it takes: #/rate: a number from 1; #/x: no such field");
        assert_eq!(told(&json!({"title": "Forbidden"})), "Forbidden");
        assert_eq!(told(&json!([])), "");
    }

    #[test]
    fn names_with_any_character_are_one_segment_and_queries_are_encoded() {
        assert_eq!(segment("auth0|7/ü ?"), "auth0%7C7%2F%C3%BC%20%3F");
        assert_eq!(with_query("/v1/pending", &[]), "/v1/pending");
        assert_eq!(with_query("/v1/x", &[("user", "a&b".to_owned()), ("id", "1".to_owned())]), "/v1/x?user=a%26b&id=1");
    }
}
