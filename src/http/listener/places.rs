//! Places: how many connections there may be: in all, of one client address, and of one address without an upgrade.
//!
//! Owns: counting them; a place is given back when it is dropped. An address stands for a household of addresses. What has not
//! been upgraded costs its sender nothing, no token either, so one address holds only a part of the places that way, or 64.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ListenError;
use crate::config::{GatewayConfig, household};

/// The part of all places that one address may hold without an upgrade unless configured, and the least of it.
const HTTP_SHARE: usize = 8;
const HTTP_LEAST: usize = 64;

/// All places of the process.
pub(super) struct Places {
    all: Arc<Semaphore>,
    /// Of each address, whatever it speaks.
    seats: Option<Arc<Seats>>,
    /// Of each address, for as long as it speaks HTTP or nothing.
    http_seats: Arc<Seats>,
}

/// One connection's place among all.
pub(super) type Place = OwnedSemaphorePermit;

/// The places of each address.
struct Seats {
    each: usize,
    /// Shared: every connection takes and gives back. Addresses without a connection are not in it.
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among those of its address.
pub(super) struct Seat {
    seats: Arc<Seats>,
    address: IpAddr,
}

/// No place is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Places {
    /// As configured. Without a number of connections it is three quarters of the files that may be open.
    pub(super) fn new(config: &GatewayConfig) -> Result<Self, ListenError> {
        let all = if config.connections > 0 { config.connections } else { by_files()? };
        let seats = |each| Arc::new(Seats { each, taken: Mutex::default() });
        let each = config.connections_per_address;
        let http = config.http_connections_per_address;
        Ok(Self {
            all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            seats: (each > 0).then(|| seats(each)),
            http_seats: seats(if http > 0 { http } else { (all / HTTP_SHARE).max(HTTP_LEAST) }),
        })
    }

    pub(super) fn take(&self) -> Result<Place, Full> {
        self.all.clone().try_acquire_owned().map_err(|_| Full)
    }

    /// A place among those of `address`; none is needed where addresses have no limit.
    pub(super) fn seat(&self, address: IpAddr) -> Result<Option<Seat>, Full> {
        self.seats.as_ref().map(|seats| seats.take(address)).transpose()
    }

    /// A place among those of `address` that are not upgraded, to be given back with the upgrade.
    pub(super) fn http_seat(&self, address: IpAddr) -> Result<Seat, Full> {
        self.http_seats.take(address)
    }
}

impl Seats {
    fn take(self: &Arc<Self>, address: IpAddr) -> Result<Seat, Full> {
        let address = household(address);
        let mut taken = self.taken.lock();
        let count = taken.entry(address).or_default();
        if *count >= self.each {
            return Err(Full);
        }
        *count += 1;
        Ok(Seat { seats: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

fn by_files() -> Result<usize, ListenError> {
    let (files, _) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| ListenError::Limit(errno.into()))?;
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    Ok((files / 4).saturating_mul(3).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(connections: usize, each: usize, http: usize) -> Places {
        let mut config = crate::config::load(None, &[]).unwrap().gateway;
        (config.connections, config.connections_per_address, config.http_connections_per_address) = (connections, each, http);
        Places::new(&config).unwrap()
    }

    #[test]
    fn an_address_has_its_places_and_gets_them_back() {
        let places = places(10, 2, 0);
        let take = |address: &str| places.seat(address.parse().unwrap()).map(Option::unwrap);
        let (first, second) = (take("192.0.2.1").unwrap(), take("::ffff:192.0.2.1").unwrap());
        assert!(take("192.0.2.1").is_err());
        assert!(take("192.0.2.2").is_ok());
        drop(first);
        let third = take("192.0.2.1").unwrap();
        assert!(take("192.0.2.1").is_err());
        drop((second, third));
        assert!(places.seats.as_ref().unwrap().taken.lock().is_empty(), "nothing is kept of who left");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let places = places(10, 1, 0);
        let take = |address: &str| places.seat(address.parse().unwrap()).map(Option::unwrap);
        let _first = take("2001:db8:0:1::1").unwrap();
        assert!(take("2001:db8:0:1:ffff::2").is_err());
        assert!(take("2001:db8:0:2::1").is_ok());
    }

    #[test]
    fn without_an_upgrade_an_address_has_a_part_of_all_places_unless_configured() {
        for (connections, http, expected) in [(800, 0, 100), (100, 0, 64), (800, 3, 3)] {
            let places = places(connections, 0, http);
            let held = std::iter::from_fn(|| places.http_seat([192, 0, 2, 1].into()).ok()).collect::<Vec<_>>();
            assert_eq!(held.len(), expected, "of {connections}, {http} configured");
            assert!(places.http_seat([192, 0, 2, 2].into()).is_ok());
        }
    }
}
