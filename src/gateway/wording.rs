//! One notification as frames, in the words of each locale it has texts in.
//!
//! Owns: which frame somebody is sent. The default is made at once, each other one when the first listener reads it, and all who
//! listen share it. How many there are follows from the notification alone, whatever locales clients name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use tidings_core::channel::Channel;
use tidings_core::locale::Locale;
use tidings_core::notification::Notification;
use tidings_core::position::Position;
use tidings_core::protocol::server::{Sent, ServerFrame};
use tidings_core::time::Timestamp;

use super::frames;

/// What a frame says around its notification.
#[derive(Debug, Clone)]
pub(super) struct Around {
    pub(super) channel: Channel,
    /// The position behind it; none if it is sent again.
    pub(super) position: Option<Position>,
    /// If it is sent again.
    pub(super) again: Option<Again>,
    pub(super) at: Timestamp,
}

/// That a notification is sent again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    /// The number of the attempt.
    pub(super) redelivery: u32,
    /// The offset of the word that asks for it: who asks on demand counts no attempt on the ladder, so numbers alone come twice.
    pub(super) word: i64,
}

/// A notification's frames.
#[derive(Debug)]
pub(super) struct Wording {
    default: Bytes,
    /// None: everybody is sent the default.
    localized: Option<Box<Localized>>,
}

#[derive(Debug)]
struct Localized {
    around: Around,
    notification: Notification,
    frames: BTreeMap<Locale, OnceLock<Bytes>>,
}

impl Wording {
    pub(super) fn new(around: Around, notification: Cow<'_, Notification>) -> Result<Self, serde_json::Error> {
        let default = around.frame(&notification, None)?;
        let localized = (!notification.locales.is_empty()).then(|| {
            let frames = notification.locales.keys().map(|locale| (locale.clone(), OnceLock::new())).collect();
            Box::new(Localized { around, notification: notification.into_owned(), frames })
        });
        Ok(Self { default, localized })
    }

    /// The frame for somebody who reads `locale`.
    pub(super) fn frame(&self, locale: Option<&Locale>) -> &Bytes {
        let (Some(localized), Some(locale)) = (&self.localized, locale) else { return &self.default };
        // Of the locales that are tried, those before the nearest one say nothing, so its own frame is the same.
        let nearest = locale.fallbacks().find_map(|locale| localized.frames.get_key_value(locale));
        let Some((locale, frame)) = nearest else { return &self.default };
        frame.get_or_init(|| {
            let frame = localized.around.frame(&localized.notification, Some(locale));
            // What could be written in one locale can be in another.
            frame.unwrap_or_else(|_| self.default.clone())
        })
    }
}

impl Around {
    fn frame(&self, notification: &Notification, locale: Option<&Locale>) -> Result<Bytes, serde_json::Error> {
        let id = notification.id;
        let message_id =
            self.again.map_or_else(|| id.to_string(), |Again { redelivery, word }| format!("{id}/{redelivery}.{word}"));
        let frame = ServerFrame::NotificationNew {
            channel: &self.channel,
            position: self.position,
            notification: &notification.in_locale(locale),
            redelivery: self.again.map(|again| again.redelivery),
        };
        frames::text(&Sent { frame, message_id: &message_id, reply_to: None, timestamp: self.at })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn wording(locales: &Value) -> Wording {
        let notification: Notification = serde_json::from_value(json!({
            "id": "438e828e-0a38-5599-8fb1-76b0e4574c75", "eventId": "e-1", "type": "t", "createdAt": "2026-01-31T12:00:00Z",
            "title": "Booked", "message": "Bye", "locales": locales
        }))
        .unwrap();
        let channel = "user-42".parse().unwrap();
        let around =
            Around { channel, position: None, again: Some(Again { redelivery: 2, word: 7 }), at: Timestamp::from_millis(0) };
        Wording::new(around, Cow::Owned(notification)).unwrap()
    }

    fn texts(wording: &Wording, locale: Option<&str>) -> (String, String) {
        let locale = locale.map(|locale| locale.parse::<Locale>().unwrap());
        let frame = wording.frame(locale.as_ref());
        let json = &frame[frame.iter().position(|byte| *byte == b'{').unwrap()..];
        let json: Value = serde_json::from_slice(json).unwrap();
        assert!(json["notification"].get("locales").is_none(), "{json}");
        let text = |name: &str| json["notification"][name].as_str().unwrap().to_owned();
        (text("title"), text("message"))
    }

    #[test]
    fn each_reader_is_sent_the_nearest_words_and_never_those_of_others() {
        let wording = wording(&json!({"fr": {"title": "Réservé", "message": "Salut"}, "fr-CA": {"title": "Booké"}}));
        let pair = |title: &str, message: &str| (title.to_owned(), message.to_owned());
        assert_eq!(texts(&wording, None), pair("Booked", "Bye"));
        assert_eq!(texts(&wording, Some("de")), pair("Booked", "Bye"));
        assert_eq!(texts(&wording, Some("fr-BE")), pair("Réservé", "Salut"));
        assert_eq!(texts(&wording, Some("fr-CA")), pair("Booké", "Salut"));
    }

    #[test]
    fn readers_of_the_same_words_share_a_frame_and_none_is_made_for_nobody() {
        let wording = wording(&json!({"fr": {"title": "Réservé"}, "de": {"title": "Gebucht"}}));
        let frame = |locale: &str| wording.frame(Some(&locale.parse().unwrap())).as_ptr();
        assert_eq!(frame("fr-CA"), frame("fr-BE"));
        assert_eq!(frame("it"), wording.default.as_ptr());
        let localized = wording.localized.as_ref().unwrap();
        assert_eq!(localized.frames.values().filter(|frame| frame.get().is_some()).count(), 1);
    }
}
