//! Names and numbers that come in URLs, frames and headers: what is accepted is written so that it reads as the same.

#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use tidings_core::channel::Channel;
use tidings_core::event::IdPlace;
use tidings_core::ids::{DeviceId, EventId, UserId};
use tidings_core::locale::Locale;
use tidings_core::position::Position;
use tidings_core::time::{Delay, Timestamp};

fn same<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert!(read.to_string().parse::<T>().is_ok_and(|again| again == read), "{read:?}");
    }
}

fuzz_target!(|text: &str| {
    same::<Position>(text);
    same::<Locale>(text);
    same::<Channel>(text);
    same::<UserId>(text);
    same::<DeviceId>(text);
    same::<EventId>(text);
    same::<Timestamp>(text);
    same::<Delay>(text);
    same::<IdPlace>(text);
    if let Ok(channel) = text.parse::<Channel>() {
        assert!((0..7).contains(&channel.partition(7)));
        if let Some(user) = channel.mailbox_user() {
            assert_eq!(Channel::mailbox(&user), channel);
        }
    }
});
