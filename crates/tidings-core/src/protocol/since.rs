//! `since`: the positions that a client brings along, one for each channel.
//!
//! Owns: reading them. Refuses more channels than a frame may name, and what is no position; whether a position makes sense is
//! `recovery`'s word. Long lists and names of strangers' channels cost nothing: only the wanted ones are looked up.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::Value;

use super::client::FRAME_CHANNELS;
use crate::channel::Channel;
use crate::position::Position;

/// Positions in channels; written as a JSON object, `{"user-42": "1:17"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Since(BTreeMap<Channel, Position>);

/// What is no `since`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinceError {
    /// No object of positions by channel.
    #[error("`since` holds a position for each channel, as in {{\"user-42\": \"1:17\"}}: {0}")]
    Form(String),
    /// More channels than a frame may name.
    #[error("`since` names at most {FRAME_CHANNELS} channels")]
    TooMany,
    /// One position for several channels.
    #[error("`since` is one position, but the frame names several channels: give an object with one for each")]
    Ambiguous,
}

impl Since {
    /// The position in a channel, if it is named.
    #[must_use]
    pub fn of(&self, channel: &Channel) -> Option<Position> {
        self.0.get(channel).copied()
    }

    /// How many channels are named that are not among `wanted`.
    #[must_use]
    pub fn beside(&self, wanted: &[Channel]) -> usize {
        self.0.keys().filter(|channel| !wanted.contains(channel)).count()
    }

    /// Reads the field of a frame that names `channels`: an object or its text, or for a single channel just its position.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn of_frame(field: Value, channels: &[Channel]) -> Result<Self, SinceError> {
        let text = match field {
            Value::Null => return Ok(Self::default()),
            Value::String(text) => text,
            object => object.to_string(),
        };
        let Ok(position) = text.parse::<Position>() else { return text.parse() };
        match channels {
            [channel] => Ok(Self(BTreeMap::from([(channel.clone(), position)]))),
            _ => Err(SinceError::Ambiguous),
        }
    }
}

impl FromStr for Since {
    type Err = SinceError;

    fn from_str(text: &str) -> Result<Self, SinceError> {
        let positions: BTreeMap<Channel, Position> =
            serde_json::from_str(text).map_err(|error| SinceError::Form(error.to_string()))?;
        if positions.len() > FRAME_CHANNELS {
            return Err(SinceError::TooMany);
        }
        Ok(Self(positions))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn channel(name: &str) -> Channel {
        name.parse().unwrap()
    }

    #[test]
    fn positions_are_looked_up_by_channel_and_others_counted() {
        let since = r#"{"user-42": "1:17", "booking-updates": "1:3"}"#.parse::<Since>().unwrap();
        assert_eq!(since.of(&channel("user-42")).unwrap().to_string(), "1:17");
        assert_eq!(since.of(&channel("user-43")), None);
        assert_eq!(since.beside(&[channel("user-42")]), 1);
    }

    #[test]
    fn a_frame_gives_an_object_or_its_text_or_one_position_for_one_channel() {
        let one = [channel("a")];
        let expected = r#"{"a": "1:2"}"#.parse::<Since>().unwrap();
        for field in [json!({"a": "1:2"}), json!(r#"{"a":"1:2"}"#), json!("1:2")] {
            assert_eq!(Since::of_frame(field, &one), Ok(expected.clone()));
        }
        assert_eq!(Since::of_frame(Value::Null, &one), Ok(Since::default()));
        assert_eq!(Since::of_frame(json!("1:2"), &[channel("a"), channel("b")]), Err(SinceError::Ambiguous));
    }

    #[test]
    fn what_is_no_position_is_refused_whatever_it_is() {
        for text in
            ["", "7", "[]", "1:2", r#"{"a":"1:-2"}"#, r#"{"a":"-1:2"}"#, r#"{"a":7}"#, r#"{"":"1:2"}"#, r#"{"user-":"1:2"}"#]
        {
            assert!(matches!(text.parse::<Since>(), Err(SinceError::Form(_))), "{text}");
        }
        let huge = format!(r#"{{"a":"1:{}"}}"#, "9".repeat(40));
        assert!(huge.parse::<Since>().is_err());
        for field in [json!(7), json!(true), json!(["1:2"]), json!("soon"), json!("1:-2"), json!({"a": "1:99999999999999999999"})]
        {
            assert!(Since::of_frame(field.clone(), &[channel("a")]).is_err(), "{field}");
        }
    }

    #[test]
    fn more_channels_than_a_frame_may_name_are_refused() {
        let since = |count: usize| {
            let all = (0..count).map(|number| (format!("c-{number}"), json!("1:2")));
            Value::Object(all.collect()).to_string().parse::<Since>()
        };
        assert!(since(FRAME_CHANNELS).is_ok());
        assert_eq!(since(FRAME_CHANNELS + 1), Err(SinceError::TooMany));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = text.parse::<Since>();
        }
    }
}
