//! Owners: whose inbox an address is about. Under `/v1/me` it is the caller's; under `/v1/users/{id}` an operator names the user.
//!
//! Owns: which channels belong to an inbox: the mailbox, those of the roles, and everyone's. A token says the roles of its user; of
//! somebody else nobody knows them, so an operator names those that count. Neighbours: everything that is about one user.

use hyper::{Method, StatusCode};
use tidings_core::channel::Channel;
use tidings_core::ids::UserId;

use super::endpoint::{Asked, Endpoint, Handler};
use super::query;
use crate::gateway::Scope;
use crate::http::guard::Needed;
use crate::http::openapi::{Description, text};
use crate::http::problem::Problem;

/// The name in a path where the user stands.
const USER: &str = "id";
/// An operator's parameter, as often as the user has roles.
const ROLE: &str = "role";

/// A user, and what is in the user's inbox.
pub(super) struct Owner {
    pub(super) user: UserId,
    /// The mailbox first.
    pub(super) channels: Vec<Channel>,
}

/// The same address under `/v1/me` and under `/v1/users/{id}`.
pub(super) struct Paths {
    pub(super) me: &'static str,
    pub(super) user: &'static str,
}

/// Both addresses of something that is about one user.
macro_rules! owned {
    ($($tail:literal),+) => {
        $crate::http::rest::owner::Paths { me: concat!("/v1/me", $($tail),+), user: concat!("/v1/users/{id}", $($tail),+) }
    };
}
pub(super) use owned;

impl Paths {
    /// The endpoint for the user, and the one for operators. `describe` says what both have in common.
    pub(super) fn endpoints(
        self,
        method: Method,
        summary: &str,
        describe: impl Fn(Description) -> Description,
        handler: Handler,
    ) -> [Endpoint; 2] {
        let own = Description::guarded(method.clone(), self.me, Needed::User, summary);
        let named = Description::guarded(method, self.user, Needed::Admin, &format!("{summary}, for an operator"));
        let named = named.segment(USER, "The user.", text());
        [Endpoint::new(describe(own), handler), Endpoint::new(describe(named), handler)]
    }

    /// The same of something that depends on which channels are in the inbox.
    pub(super) fn of_inbox(
        self,
        method: Method,
        summary: &str,
        describe: impl Fn(Description) -> Description,
        handler: Handler,
    ) -> [Endpoint; 2] {
        let describe = |described: Description| match described.needed {
            Some(Needed::Admin) => {
                let told = "A role of the user's, whose channel counts as well; may stand more than once.";
                describe(described.query(ROLE, told, text()))
            }
            _ => describe(described),
        };
        self.endpoints(method, summary, describe, handler)
    }
}

impl Owner {
    /// Whom a request is about.
    pub(super) fn of(asked: &Asked) -> Result<Self, Problem> {
        match asked.segment(USER) {
            "" => Ok(Self::new(asked.caller.user.clone(), asked.caller.roles.iter().map(String::as_str))),
            segment => {
                let roles = query::all(&asked.query, ROLE).collect::<Vec<_>>();
                Ok(Self::new(query::user(segment)?, roles.iter().map(|role| &**role)))
            }
        }
    }

    fn new<'a>(user: UserId, roles: impl Iterator<Item = &'a str>) -> Self {
        let mut channels = vec![Channel::mailbox(&user)];
        for channel in roles.filter_map(|role| Channel::role(role).ok()).chain([Channel::everyone()]) {
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        Self { user, channels }
    }

    /// Where the gateway is to look for what is named.
    pub(super) fn scope(&self) -> Scope<'_> {
        Scope { user: &self.user, channels: &self.channels }
    }

    /// Refuses a channel that is not in the inbox, whether or not there is one of that name.
    pub(super) fn expect(&self, channel: &Channel) -> Result<(), Problem> {
        if self.channels.contains(channel) {
            return Ok(());
        }
        let detail =
            "the channel is not in this inbox: it has the user's mailbox, the channels of the user's roles and everyone's";
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_has_the_mailbox_each_roles_channel_once_and_everyones() {
        let overlong = "x".repeat(1_000);
        let owner = Owner::new("alice".parse().unwrap(), ["driver", "driver", "", &overlong].into_iter());
        let names = owner.channels.iter().map(Channel::as_str).collect::<Vec<_>>();
        assert_eq!(names, ["user-alice", "role-driver", "system-announcements"]);
        assert!(owner.expect(&"role-driver".parse().unwrap()).is_ok());
        for other in ["user-bob", "role-admin", "booking-updates"] {
            assert!(owner.expect(&other.parse().unwrap()).is_err(), "{other}");
        }
    }
}
