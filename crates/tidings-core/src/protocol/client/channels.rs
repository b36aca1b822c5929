//! Frames that name channels: `subscribe` and `unsubscribe`.
//!
//! Owns: each name once, at most so many, and one that is no channel's as a refusal of its own, so that it does not spoil the others.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::{ClientFrame, FRAME_CHANNELS, failed};
use crate::channel::Channel;
use crate::protocol::server::{ErrorCode, Problem};
use crate::protocol::since::{Since, SinceError};

#[derive(Deserialize)]
pub(super) struct Channels {
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    since: Value,
}

impl Channels {
    pub(super) fn wanted(mut self) -> Result<ClientFrame, Problem> {
        let since = self.since.take();
        let channels = self.named()?;
        let named = channels.iter().flatten().cloned().collect::<Vec<_>>();
        let since = Since::of_frame(since, &named).map_err(|error| match error {
            SinceError::TooMany => Problem::new(ErrorCode::Limit, error.to_string()),
            _ => failed(error),
        })?;
        Ok(ClientFrame::Subscribe { channels, since })
    }

    pub(super) fn named(self) -> Result<Vec<Result<Channel, Problem>>, Problem> {
        let names = self.channel.into_iter().chain(self.channels).collect::<Vec<_>>();
        if names.is_empty() {
            return Err(Problem::new(ErrorCode::BadFrame, "name a `channel` or `channels`"));
        }
        if names.len() > FRAME_CHANNELS {
            return Err(Problem::new(ErrorCode::Limit, format!("a frame names at most {FRAME_CHANNELS} channels")));
        }
        let mut seen = BTreeSet::new();
        let once = names.iter().filter(|name| seen.insert(name.as_str()));
        Ok(once.map(|name| name.parse().map_err(failed)).collect())
    }
}
