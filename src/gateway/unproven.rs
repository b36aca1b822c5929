//! Sockets whose client has not proved yet who it is: how many there may be.
//!
//! Owns: counting them, by client address and in all. Each holds its place until it is known or gone. Beyond the limits no
//! socket is upgraded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::metrics::Limit;
use crate::config::household;

/// All of this node.
#[derive(Debug)]
pub(super) struct Unproven {
    per_address: usize,
    in_all: usize,
    /// Shared: taken by requests, given back by connections' tasks.
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    in_all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place among them, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    unproven: Arc<Unproven>,
    address: IpAddr,
}

/// The limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full(pub(super) Limit);

impl Unproven {
    pub(super) fn new(per_address: usize, in_all: usize) -> Arc<Self> {
        Arc::new(Self { per_address, in_all, counts: Mutex::default() })
    }

    /// A place for a client of `address`.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let address = household(address);
        let mut counts = self.counts.lock();
        if counts.in_all >= self.in_all {
            return Err(Full(Limit::Unauthenticated));
        }
        let own = counts.by_address.entry(address).or_default();
        if *own >= self.per_address {
            return Err(Full(Limit::UnauthenticatedPerAddress));
        }
        *own += 1;
        counts.in_all += 1;
        Ok(Place { unproven: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.unproven.counts.lock();
        counts.in_all = counts.in_all.saturating_sub(1);
        if let Some(own) = counts.by_address.get_mut(&self.address) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_by_address_and_in_all_and_come_back() {
        let unproven = Unproven::new(2, 3);
        let enter = |address: &str| unproven.enter(address.parse().unwrap());
        let first = [enter("10.0.0.1").unwrap(), enter("::ffff:10.0.0.1").unwrap()];
        assert_eq!(enter("10.0.0.1").unwrap_err(), Full(Limit::UnauthenticatedPerAddress));
        let third = enter("2001:db8::1").unwrap();
        assert_eq!(enter("2001:db8::2").unwrap_err(), Full(Limit::Unauthenticated));
        drop(first);
        let fourth = enter("2001:db8::ffff").unwrap();
        assert_eq!(enter("2001:db8::3").unwrap_err(), Full(Limit::UnauthenticatedPerAddress));
        drop((third, fourth));
        assert!(unproven.counts.lock().by_address.is_empty());
    }
}
