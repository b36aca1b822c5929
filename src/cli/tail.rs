//! `tidings tail`: a device in a terminal. Prints notifications as they arrive, acknowledges them, and comes back when the
//! close code says so.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tidings_core::ids::{DeviceId, UserId};
use tidings_core::protocol::close::{Comeback, comes_back};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;

use crate::auth;
use crate::clock::Clock;
use crate::clock::backoff::Backoff;
use crate::config::Config;

/// A line that broke without a close frame is come back to, like this code (RFC 6455, section 7.1.5).
const ABNORMAL: u16 = 1006;

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The WebSocket; by default the one that this configuration would serve here.
    #[arg(long)]
    url: Option<String>,
    /// The token to connect with.
    #[arg(long, env = "TIDINGS_TOKEN", hide_env_values = true, conflicts_with = "user")]
    token: Option<String>,
    /// Make a token for this user, with the configured secret.
    #[arg(long, required_unless_present = "token")]
    user: Option<UserId>,
    /// A channel to subscribe to beside the mailbox; may be given several times.
    #[arg(long = "channel", value_name = "CHANNEL")]
    channels: Vec<String>,
    /// The device to be.
    #[arg(long, default_value = "tail")]
    device: DeviceId,
    /// Print each frame as a line of JSON.
    #[arg(long)]
    json: bool,
    /// Acknowledge nothing, to see what happens then.
    #[arg(long)]
    no_ack: bool,
}

/// Runs until the server says not to come back.
///
/// # Errors
/// If there is no token, the URL is none, or standard output is closed.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let mut backoff = Backoff::new(Clock::start());
    loop {
        // A token made here is fresh each time, as 4002 asks for.
        let request = request(&args, config)?;
        let code = match tokio_tungstenite::connect_async(request).await {
            Ok((mut socket, _)) => {
                backoff.succeeded();
                listen(&args, &mut socket).await?
            }
            Err(error) => {
                say(&format!("not connected: {error}"))?;
                ABNORMAL
            }
        };
        let gone = match comes_back(code) {
            Comeback::Never => true,
            Comeback::FreshToken => args.token.is_some(),
            Comeback::WithBackoff => false,
        };
        if gone {
            say(&format!("closed with {code}; not coming back"))?;
            return Ok(ExitCode::FAILURE);
        }
        backoff.failed();
        tokio::time::sleep(backoff.pause()).await;
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// Reads until the connection ends, and gives its close code.
async fn listen(args: &Args, socket: &mut Socket) -> anyhow::Result<u16> {
    if !args.channels.is_empty() {
        let subscribe = json!({"type": "subscribe", "channels": args.channels});
        if socket.send(Message::text(subscribe.to_string())).await.is_err() {
            return Ok(ABNORMAL);
        }
    }
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => {
                let frame: Value = serde_json::from_str(&text).context("the server sent a frame that is no JSON")?;
                show(args, &frame)?;
                if let Some(ack) = ack(&frame).filter(|_| !args.no_ack)
                    && socket.send(Message::text(ack.to_string())).await.is_err()
                {
                    return Ok(ABNORMAL);
                }
            }
            Message::Close(frame) => return Ok(frame.map_or(ABNORMAL, |frame| frame.code.into())),
            _ => {}
        }
    }
    Ok(ABNORMAL)
}

fn ack(frame: &Value) -> Option<Value> {
    if frame["type"] != "notification:new" {
        return None;
    }
    Some(if frame["position"].is_null() {
        json!({"type": "ack", "notificationIds": [frame["notification"]["id"]]})
    } else {
        json!({"type": "ack", "channel": frame["channel"], "position": frame["position"]})
    })
}

fn show(args: &Args, frame: &Value) -> anyhow::Result<()> {
    if args.json {
        writeln!(std::io::stdout().lock(), "{frame}")?;
        return Ok(());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match frame["type"].as_str() {
        Some("connected") => say(&format!("connected as {}, device {}", text(&frame["userId"]), text(&frame["deviceId"]))),
        Some("notification:new") => {
            let notification = &frame["notification"];
            let again = frame["redelivery"].as_u64().map(|number| format!(" (redelivery {number})")).unwrap_or_default();
            let line = format!(
                "{} {}{again}  {}: {}",
                text(&frame["timestamp"]),
                text(&frame["channel"]),
                text(&notification["title"]),
                text(&notification["message"])
            );
            writeln!(std::io::stdout().lock(), "{line}")?;
            Ok(())
        }
        Some("error") => say(&format!("error {}: {}", text(&frame["code"]), text(&frame["message"]))),
        Some("reconnect") => say("the server is draining"),
        _ => Ok(()),
    }
}

fn request(args: &Args, config: &Config) -> anyhow::Result<Request> {
    let default = || format!("ws://127.0.0.1:{}{}", config.gateway.port, config.gateway.path);
    let url = args.url.clone().unwrap_or_else(default);
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}ack=client&deviceId={}", args.device);
    let mut request = url.as_str().into_client_request().with_context(|| format!("`{url}` is no WebSocket URL"))?;
    let token = match (&args.token, &args.user) {
        (Some(token), _) => token.trim().to_owned(),
        (None, Some(user)) => auth::sign(&config.auth, user, &[], (Clock::start().now(), Duration::from_secs(3600)))?,
        (None, None) => anyhow::bail!("give a `--token` or a `--user`"),
    };
    let bearer = format!("Bearer {token}").parse().context("the token holds characters that no header may have")?;
    request.headers_mut().insert("authorization", bearer);
    Ok(request)
}

/// What is not a notification goes to standard error, so that the output can be piped.
fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stderr().lock(), "{line}")?;
    Ok(())
}
