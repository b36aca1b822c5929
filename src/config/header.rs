//! The name of an HTTP header in the configuration.

use hyper::header::HeaderName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of an HTTP header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header(pub HeaderName);

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refused = |_| serde::de::Error::custom("must be the name of an HTTP header such as `x-user-id`");
        String::deserialize(deserializer)?.parse().map(Self).map_err(refused)
    }
}
