//! Parameters of a query, and names in a path.

use std::borrow::Cow;
use std::str::FromStr;

use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use tidings_core::channel::Channel;
use tidings_core::ids::{IdError, UserId};

use crate::http::problem::Problem;

/// Parameters that say who asks, where `auth.mode` takes them from a query.
const OF_CALLERS: [&str; 3] = ["token", "userId", "roles"];
/// How much of a stranger's word an answer repeats.
const LIMIT_REPEATED: usize = 64;

/// Refuses a parameter that is none of `names`: whoever wrote it believes that it counts.
pub(super) fn only(query: &str, names: &[&str]) -> Result<(), Problem> {
    let known = |name: &str| names.contains(&name) || OF_CALLERS.contains(&name);
    let stranger = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name).find(|name| !known(name));
    let Some(stranger) = stranger else { return Ok(()) };
    let name = stranger.chars().take(LIMIT_REPEATED).collect::<String>();
    let known = match names {
        [] => "this address takes none".to_owned(),
        names => format!("this address takes `{}`", names.join("`, `")),
    };
    let detail = format!("there is no parameter `{name}` here: {known}");
    Err(Problem::of("unknown-parameter", StatusCode::BAD_REQUEST, detail))
}

/// The value of a parameter, if it stands in the query.
pub(super) fn parameter<T: FromStr>(query: &str, name: &str, allowed: &str) -> Result<Option<T>, Problem> {
    let found = form_urlencoded::parse(query.as_bytes()).find(|(found, _)| found == name);
    let wrong = |_| Problem::new(StatusCode::BAD_REQUEST, format!("the parameter `{name}` {allowed}"));
    found.map(|(_, value)| value.parse().map_err(wrong)).transpose()
}

/// A parameter that may be any text in which every character can be seen.
pub(super) fn text(query: &str, name: &str) -> Result<Option<String>, Problem> {
    let found = parameter::<String>(query, name, "is a text")?;
    if found.as_ref().is_some_and(|text| text.contains(char::is_control)) {
        let problem = format!("the parameter `{name}` is a text without control characters");
        return Err(Problem::new(StatusCode::BAD_REQUEST, problem));
    }
    Ok(found)
}

/// Every value of a parameter that may stand more than once.
pub(super) fn all<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).filter(move |(found, _)| found == name).map(|(_, value)| value)
}

/// The user that a segment of a path names, percent-encoded.
pub(super) fn user(segment: &str) -> Result<UserId, Problem> {
    named("user", segment)
}

/// The channel that a segment of a path names, percent-encoded.
pub(super) fn channel(segment: &str) -> Result<Channel, Problem> {
    named("channel", segment)
}

fn named<T: FromStr<Err = IdError>>(what: &str, segment: &str) -> Result<T, Problem> {
    let wrong = |why: String| Problem::new(StatusCode::BAD_REQUEST, format!("the path names no {what}: {why}"));
    let text = percent_decode_str(segment).decode_utf8().map_err(|error| wrong(error.to_string()))?;
    text.parse().map_err(|error: IdError| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_in_a_path_may_have_any_character() {
        assert_eq!(user("alice").unwrap().as_str(), "alice");
        assert_eq!(user("auth0%7C7%2Fa+b%20c").unwrap().as_str(), "auth0|7/a+b c");
        for hostile in ["", "%00", "%ff", "%20a"] {
            assert!(user(hostile).is_err(), "{hostile}");
        }
    }

    #[test]
    fn a_parameter_that_nobody_looks_at_is_refused_by_its_name() {
        assert!(only("", &[]).is_ok() && only("token=a.b&userId=c&roles=d", &[]).is_ok());
        assert!(only("channels=1&token=a.b", &["channels"]).is_ok());
        let refused = only("token=a.b&wa%69t=5s", &["channels"]).unwrap_err().to_string();
        assert!(refused.contains("`wait`") && refused.contains("takes `channels`") && !refused.contains("a.b"), "{refused}");
        assert!(only(&"x".repeat(10_000), &[]).unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn a_parameter_that_does_not_read_is_refused() {
        assert_eq!(parameter::<usize>("a=1&b=2", "b", "").unwrap(), Some(2));
        assert_eq!(parameter::<usize>("a=1", "b", "").unwrap(), None);
        assert!(parameter::<usize>("b=-1", "b", "").is_err());
    }
}
