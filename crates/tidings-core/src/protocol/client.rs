//! What a client may say.
//!
//! Owns: reading one text frame into a typed frame, or into the refusal that answers it. Unknown fields are ignored. Refuses
//! to judge: whether a channel may be subscribed to is `channel::Access`'s word.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::server::{ErrorCode, Problem};
use super::since::{Since, SinceError};
use crate::channel::Channel;
use crate::ids::NotificationId;
use crate::position::Position;

/// The most notifications that one acknowledgement may name or except.
pub const ACK_IDS: usize = 100;

/// The most channels that one frame may name.
pub const FRAME_CHANNELS: usize = 128;

/// The longest `messageId` of a client, in bytes; a longer one is cut off from the answer.
const MESSAGE_ID_BYTES: usize = 128;

/// One frame of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// What the answer carries as `replyTo`.
    pub message_id: Option<String>,
    /// What it wants, or why that cannot be told.
    pub frame: Result<ClientFrame, Problem>,
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientFrame {
    /// `auth`: the first frame of a connection whose request had no token.
    Auth(Token),
    /// `refresh`: a later token of the same user.
    Refresh(Token),
    /// `ping` or `heartbeat`: to be answered with the same data.
    Ping {
        /// Anything.
        data: Option<Value>,
    },
    /// `subscribe` to channels, each from a position on if there is one.
    Subscribe {
        /// Which; names that are none stand as refusals.
        channels: Vec<Result<Channel, Problem>>,
        /// Where the client stopped.
        since: Since,
    },
    /// `unsubscribe` from channels.
    Unsubscribe(Vec<Result<Channel, Problem>>),
    /// `ack` of everything before a position, but for exceptions.
    AckBelow {
        /// In which channel.
        channel: Channel,
        /// Everything before it is handled.
        position: Position,
        /// But these.
        except: Vec<NotificationId>,
    },
    /// `ack` of single notifications.
    AckIds {
        /// In which channel; any, if none is named.
        channel: Option<Channel>,
        /// Which.
        ids: Vec<NotificationId>,
    },
}

/// A token, which is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// The token itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[derive(Deserialize)]
struct Credentials {
    token: Token,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(rename = "type", default)]
    kind: Option<Value>,
    #[serde(default)]
    message_id: Option<Value>,
}

#[derive(Deserialize)]
struct Ping {
    #[serde(default)]
    data: Option<Value>,
}

#[derive(Deserialize)]
struct Channels {
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    since: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ack {
    #[serde(default)]
    channel: Option<Channel>,
    #[serde(default)]
    position: Option<Position>,
    #[serde(default)]
    except: Vec<NotificationId>,
    #[serde(default)]
    notification_ids: Vec<NotificationId>,
}

/// Reads one text frame.
#[must_use]
pub fn read(text: &str) -> Said {
    let head = match serde_json::from_str::<Head>(text) {
        Ok(head) => head,
        Err(error) => return Said { message_id: None, frame: Err(bad_frame(&error)) },
    };
    let message_id = head.message_id.and_then(|id| match id {
        Value::String(id) if id.len() <= MESSAGE_ID_BYTES => Some(id),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    });
    let frame = match head.kind {
        Some(Value::String(kind)) => body(&kind, text),
        _ => Err(Problem::new(ErrorCode::BadFrame, "a frame has a `type`, which is a text")),
    };
    Said { message_id, frame }
}

fn body(kind: &str, text: &str) -> Result<ClientFrame, Problem> {
    match kind {
        "ping" | "heartbeat" => typed::<Ping>(text).map(|ping| ClientFrame::Ping { data: ping.data }),
        "auth" => credentials(text).map(ClientFrame::Auth),
        "refresh" => credentials(text).map(ClientFrame::Refresh),
        "subscribe" => typed::<Channels>(text)?.wanted(),
        "unsubscribe" => typed::<Channels>(text)?.named().map(ClientFrame::Unsubscribe),
        "ack" => typed::<Ack>(text)?.said(),
        _ => Err(Problem::new(ErrorCode::UnknownType, "Unknown message type")),
    }
}

fn typed<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| bad_frame(&error))
}

/// Says nothing of what stands where the token should: it may be one.
fn credentials(text: &str) -> Result<Token, Problem> {
    let wrong = |_| Problem::new(ErrorCode::BadFrame, "a `token` is needed, which is a text");
    serde_json::from_str::<Credentials>(text).map(|credentials| credentials.token).map_err(wrong)
}

fn bad_frame(error: &serde_json::Error) -> Problem {
    Problem::new(ErrorCode::BadFrame, format!("Failed to process message: {error}"))
}

impl Channels {
    fn wanted(mut self) -> Result<ClientFrame, Problem> {
        let since = self.since.take();
        let channels = self.named()?;
        let named = channels.iter().flatten().cloned().collect::<Vec<_>>();
        let since = Since::of_frame(since, &named).map_err(|error| match error {
            SinceError::TooMany => Problem::new(ErrorCode::Limit, error.to_string()),
            _ => Problem::new(ErrorCode::BadFrame, format!("Failed to process message: {error}")),
        })?;
        Ok(ClientFrame::Subscribe { channels, since })
    }

    fn named(self) -> Result<Vec<Result<Channel, Problem>>, Problem> {
        let names = self.channel.into_iter().chain(self.channels).collect::<Vec<_>>();
        if names.is_empty() {
            return Err(Problem::new(ErrorCode::BadFrame, "name a `channel` or `channels`"));
        }
        if names.len() > FRAME_CHANNELS {
            return Err(Problem::new(ErrorCode::Limit, format!("a frame names at most {FRAME_CHANNELS} channels")));
        }
        let mut seen = BTreeSet::new();
        let once = names.iter().filter(|name| seen.insert(name.as_str()));
        let channels = once.map(|name| {
            name.parse().map_err(|error| Problem::new(ErrorCode::BadFrame, format!("Failed to process message: {error}")))
        });
        Ok(channels.collect())
    }
}

impl Ack {
    fn said(self) -> Result<ClientFrame, Problem> {
        if self.except.len() > ACK_IDS || self.notification_ids.len() > ACK_IDS {
            return Err(Problem::new(ErrorCode::Limit, format!("an acknowledgement names at most {ACK_IDS} notifications")));
        }
        match (self.channel, self.position) {
            (Some(channel), Some(position)) if self.notification_ids.is_empty() => {
                Ok(ClientFrame::AckBelow { channel, position, except: self.except })
            }
            (channel, None) if self.except.is_empty() && !self.notification_ids.is_empty() => {
                Ok(ClientFrame::AckIds { channel, ids: self.notification_ids })
            }
            _ => Err(Problem::new(ErrorCode::BadFrame, "an `ack` has either `channel` and `position`, or `notificationIds`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(text: &str) -> ErrorCode {
        read(text).frame.unwrap_err().code
    }

    #[test]
    fn what_is_no_frame_is_a_bad_frame() {
        for text in ["", "hello", "[]", "7", "{}", r#"{"type":5}"#, r#"{"type":"ack"}"#, r#"{"type":"subscribe"}"#] {
            assert_eq!(problem(text), ErrorCode::BadFrame, "{text}");
        }
        assert_eq!(problem(&"[".repeat(60_000)), ErrorCode::BadFrame);
        assert_eq!(
            problem(
                r#"{"type":"ack","channel":"c","position":"1:1","notificationIds":["438e828e-0a38-5599-8fb1-76b0e4574c75"]}"#
            ),
            ErrorCode::BadFrame
        );
    }

    #[test]
    fn an_unknown_type_is_told_apart_and_answered() {
        let said = read(r#"{"type":"dance","messageId":"m-1"}"#);
        assert_eq!(said.message_id.as_deref(), Some("m-1"));
        assert_eq!(said.frame.unwrap_err().code, ErrorCode::UnknownType);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let said = read(r#"{"type":"heartbeat","messageId":7,"data":{"a":1},"colour":"red"}"#);
        assert_eq!(said.message_id.as_deref(), Some("7"));
        assert_eq!(said.frame, Ok(ClientFrame::Ping { data: Some(serde_json::json!({"a": 1})) }));
    }

    #[test]
    fn one_bad_name_does_not_spoil_the_others() {
        let said = read(r#"{"type":"subscribe","channel":"booking-updates","channels":["user-","notifications"]}"#);
        let Ok(ClientFrame::Subscribe { channels, .. }) = said.frame else { panic!("{:?}", said.frame) };
        assert_eq!(channels.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn a_frame_names_each_channel_once_and_not_more_than_it_may() {
        let frame = |kind: &str, names: &[String]| serde_json::json!({"type": kind, "channels": names}).to_string();
        let mut names = (0..FRAME_CHANNELS).map(|number| format!("c-{number}")).collect::<Vec<_>>();
        assert!(read(&frame("subscribe", &names)).frame.is_ok());
        names.push("c-0".to_owned());
        for kind in ["subscribe", "unsubscribe"] {
            assert_eq!(problem(&frame(kind, &names)), ErrorCode::Limit);
        }
        let said = read(r#"{"type":"subscribe","channel":"a","channels":["b","a","b"]}"#);
        let channels = vec![Ok("a".parse().unwrap()), Ok("b".parse().unwrap())];
        assert_eq!(said.frame, Ok(ClientFrame::Subscribe { channels, since: Since::default() }));
    }

    #[test]
    fn a_subscription_from_what_is_no_position_is_a_bad_frame() {
        let said = read(r#"{"type":"subscribe","channel":"a","since":"1:7"}"#);
        let Ok(ClientFrame::Subscribe { since, .. }) = said.frame else { panic!("{:?}", said.frame) };
        assert_eq!(since.of(&"a".parse().unwrap()).unwrap().to_string(), "1:7");
        for since in ["soon", "1:-7", "", "1:7:7"] {
            let frame = serde_json::json!({"type": "subscribe", "channel": "a", "since": since});
            assert_eq!(problem(&frame.to_string()), ErrorCode::BadFrame, "{since}");
        }
        let several = r#"{"type":"subscribe","channels":["a","b"],"since":"1:7"}"#;
        assert_eq!(problem(several), ErrorCode::BadFrame);
    }

    #[test]
    fn an_acknowledgement_is_by_position_or_by_ids() {
        let below =
            read(r#"{"type":"ack","channel":"user-1","position":"1:9","except":["438e828e-0a38-5599-8fb1-76b0e4574c75"]}"#);
        assert!(matches!(below.frame, Ok(ClientFrame::AckBelow { except, .. }) if except.len() == 1));
        let ids = read(r#"{"type":"ack","notificationIds":["438e828e-0a38-5599-8fb1-76b0e4574c75"]}"#);
        assert!(matches!(ids.frame, Ok(ClientFrame::AckIds { channel: None, ids }) if ids.len() == 1));
    }

    #[test]
    fn a_hundred_exceptions_or_ids_are_as_many_as_an_acknowledgement_may_name() {
        for more in [0, 1, 2] {
            let ids = vec!["438e828e-0a38-5599-8fb1-76b0e4574c75"; ACK_IDS + more];
            let below = serde_json::json!({"type": "ack", "channel": "user-1", "position": "1:9", "except": ids}).to_string();
            let single = serde_json::json!({"type": "ack", "notificationIds": ids}).to_string();
            for text in [below, single] {
                let frame = read(&text).frame;
                assert_eq!(frame.err().map(|problem| problem.code), (more > 0).then_some(ErrorCode::Limit), "{more} too many");
            }
        }
    }

    #[test]
    fn a_message_id_that_is_too_long_is_not_repeated_to_the_client() {
        for (length, repeated) in [(MESSAGE_ID_BYTES, true), (MESSAGE_ID_BYTES + 1, false)] {
            let said = read(&serde_json::json!({"type": "ping", "messageId": "m".repeat(length)}).to_string());
            assert_eq!((said.message_id.is_some(), said.frame.is_ok()), (repeated, true), "{length} bytes");
        }
    }

    #[test]
    fn a_token_is_read_and_shown_nowhere() {
        let said = read(r#"{"type":"refresh","token":"a.b.c"}"#);
        let Ok(ClientFrame::Refresh(token)) = &said.frame else { panic!("{:?}", said.frame) };
        assert_eq!(token.reveal(), "a.b.c");
        assert_eq!(format!("{said:?}"), r#"Said { message_id: None, frame: Ok(Refresh((hidden))) }"#);
        for text in [r#"{"type":"auth"}"#, r#"{"type":"auth","token":["a.b.c"]}"#] {
            let problem = read(text).frame.unwrap_err();
            assert_eq!(problem.code, ErrorCode::BadFrame);
            assert!(!problem.message.contains("a.b.c"), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = read(&text);
        }
    }
}
