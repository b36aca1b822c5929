//! Page tokens: where a page of a list ended. Opaque to clients, and hostile until read: all that one can do is to say from where a list
//! of channels that its owner may see goes on.

use std::fmt;
use std::str::FromStr;

use tidings_core::channel::Channel;

/// More than any token has.
const LIMIT_BYTES: usize = 1024;

/// The last item of a page: lists are in descending order of time, channel, epoch, offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken {
    pub(super) appended_at: i64,
    pub(super) channel: Channel,
    pub(super) epoch: i64,
    pub(super) offset: i64,
}

/// A text that is no page token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no page token: take `next` of the page before as it is, or leave it out to begin at the newest")]
pub struct PageTokenError;

impl PageToken {
    /// Before which (time, epoch, offset) the rows of `channel` lie that come behind the token.
    pub(super) fn bound(&self, channel: &Channel) -> (i64, i64, i64) {
        match channel.cmp(&self.channel) {
            std::cmp::Ordering::Less => (self.appended_at, i64::MAX, i64::MAX),
            std::cmp::Ordering::Equal => (self.appended_at, self.epoch, self.offset),
            std::cmp::Ordering::Greater => (self.appended_at, i64::MIN, i64::MIN),
        }
    }
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{}.{}.{}", self.appended_at, self.epoch, self.offset, self.channel);
        text.bytes().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PageToken {
    type Err = PageTokenError;

    fn from_str(text: &str) -> Result<Self, PageTokenError> {
        let digits = Some(text.as_bytes()).filter(|digits| digits.len() <= LIMIT_BYTES && digits.len().is_multiple_of(2));
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes = digits.ok_or(PageTokenError)?.chunks_exact(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        let bytes = bytes.collect::<Option<Vec<_>>>().ok_or(PageTokenError)?;
        let text = String::from_utf8(bytes).map_err(|_| PageTokenError)?;
        let mut parts = text.splitn(4, '.');
        let mut next = || parts.next().ok_or(PageTokenError);
        let number = |part: &str| part.parse::<i64>().map_err(|_| PageTokenError);
        let (appended_at, epoch, offset) = (number(next()?)?, number(next()?)?, number(next()?)?);
        Ok(Self { appended_at, channel: next()?.parse().map_err(|_| PageTokenError)?, epoch, offset })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn channel() -> impl Strategy<Value = Channel> {
        "[a-z.ü-]{1,20}".prop_filter_map("no channel", |text| text.parse().ok())
    }

    proptest! {
        #[test]
        fn a_token_reads_back_as_written(appended_at: i64, channel in channel(), epoch: i64, offset: i64) {
            let token = PageToken { appended_at, channel, epoch, offset };
            prop_assert_eq!(token.to_string().parse::<PageToken>(), Ok(token));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "([0-9a-f]{2}|2e|.){0,40}") {
            let _ = text.parse::<PageToken>();
        }

        #[test]
        fn what_lies_behind_a_token_is_what_comes_later_in_the_list(
            token in (0..3_i64, channel(), 0..3_i64, 0..3_i64),
            row in (0..3_i64, channel(), 0..3_i64, 0..3_i64),
        ) {
            let (appended_at, channel, epoch, offset) = token.clone();
            let bound = PageToken { appended_at, channel, epoch, offset }.bound(&row.1);
            prop_assert_eq!((row.0, row.2, row.3) < bound, row < token);
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let texts = ["", "1", "zz", "1.2.3.a", "ü"].map(str::to_owned).into_iter();
        let written = ["", "1.2.3", "1.2.3.", "a.2.3.user-1", "1.2.99999999999999999999.user-1", "1.2.3.user-"];
        let long = hex(&format!("1.2.3.{}", "a".repeat(600)));
        for text in texts.chain(written.map(hex)).chain([long, "ff".to_owned()]) {
            assert_eq!(text.parse::<PageToken>(), Err(PageTokenError), "{text}");
        }
    }
}
