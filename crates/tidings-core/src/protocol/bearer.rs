//! Where a request carries its token: in a header, or in a list of subprotocols, which is all that a browser can set.
//!
//! Owns: finding it there. Refuses to judge it, and to take it from a query, which is read where the rest of the query is. Neighbours:
//! the shell's `auth` looks at each place in turn.

/// What a subprotocol that holds a token begins with.
const SUBPROTOCOL: &str = "bearer.";

/// The token in the value of an `Authorization` header ([RFC 6750, section 2.1](https://www.rfc-editor.org/rfc/rfc6750#section-2.1)).
#[must_use]
pub fn in_authorization(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The token in the value of a `Sec-WebSocket-Protocol` header: the first that is listed as `bearer.<token>`.
#[must_use]
pub fn in_subprotocols(value: &str) -> Option<&str> {
    value.split(',').find_map(|listed| listed.trim().strip_prefix(SUBPROTOCOL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_behind_its_scheme_in_any_case_and_nothing_else_is_one() {
        assert_eq!(in_authorization("Bearer a.b"), Some("a.b"));
        assert_eq!(in_authorization("bEaReR   a.b "), Some("a.b"));
        for other in ["", "Bearer", "a.b", "Basic a.b", " Bearer a.b", "Bearer\ta.b"] {
            assert_eq!(in_authorization(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_token_is_found_among_subprotocols() {
        assert_eq!(in_subprotocols("tidings.v1, bearer.a.b"), Some("a.b"));
        assert_eq!(in_subprotocols("bearer.a,bearer.b"), Some("a"));
        for other in ["", "tidings.v1", "Bearer.a", "xbearer.a"] {
            assert_eq!(in_subprotocols(other), None, "{other:?}");
        }
    }
}
