//! Places: how many connections there may be, in all and of one client address.
//!
//! Owns: counting them; a place is given back when it is dropped. The network `/64` counts as one address of IPv6, because that
//! is what one client has of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ListenError;
use crate::config::household;

/// All places of the process.
pub(super) struct Places {
    all: Arc<Semaphore>,
    seats: Option<Arc<Seats>>,
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
    /// `connections` in all, or three quarters of the files that may be open if it is 0; `each` for an address, if not 0.
    pub(super) fn new(connections: usize, each: usize) -> Result<Self, ListenError> {
        let all = if connections > 0 { connections } else { by_files()? };
        let seats = (each > 0).then(|| Arc::new(Seats { each, taken: Mutex::default() }));
        Ok(Self { all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))), seats })
    }

    pub(super) fn take(&self) -> Result<Place, Full> {
        self.all.clone().try_acquire_owned().map_err(|_| Full)
    }

    /// A place among those of `address`; none is needed where addresses have no limit.
    pub(super) fn seat(&self, address: IpAddr) -> Result<Option<Seat>, Full> {
        let Some(seats) = &self.seats else { return Ok(None) };
        let address = household(address);
        let mut taken = seats.taken.lock();
        let count = taken.entry(address).or_default();
        if *count >= seats.each {
            return Err(Full);
        }
        *count += 1;
        Ok(Some(Seat { seats: seats.clone(), address }))
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

    #[test]
    fn an_address_has_its_places_and_gets_them_back() {
        let places = Places::new(10, 2).unwrap();
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
        let places = Places::new(10, 1).unwrap();
        let take = |address: &str| places.seat(address.parse().unwrap()).map(Option::unwrap);
        let _first = take("2001:db8:0:1::1").unwrap();
        assert!(take("2001:db8:0:1:ffff::2").is_err());
        assert!(take("2001:db8:0:2::1").is_ok());
    }
}
