//! Who is in: how many connections there are, how many from one address, and who may be asked to leave when
//! the house is full.
//!
//! A full house with idle guests is not full: whoever has rested longest is closed to make room, so that
//! neither forgotten players nor somebody who opens connections and keeps them can shut others out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::pulse::Pulse;

/// Idle connections that one look over all of them finds: the next so many newcomers need no look.
const FOUND_AT_ONCE: usize = 64;

/// Shortest time between two looks, so that a flood of newcomers costs no more than that.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// The register of a server's connections.
pub(crate) struct House {
    per_address: usize,
    register: Mutex<Register>,
}

#[derive(Default)]
struct Register {
    addresses: HashMap<IpAddr, usize>,
    guests: HashMap<u64, Arc<Pulse>>,
    next: u64,
    /// Longest idle last; may have moved on since the look.
    idle: Vec<(Instant, Arc<Pulse>)>,
    looked: Option<Instant>,
}

impl House {
    /// `per_address` 0 stands for any number.
    pub(crate) fn new(per_address: usize) -> Arc<Self> {
        Arc::new(Self { per_address, register: Mutex::default() })
    }

    /// A place among the connections of an address; `None` when it has too many.
    pub(crate) fn seat(self: &Arc<Self>, from: IpAddr) -> Option<Seat> {
        let address = household(from);
        let mut register = self.lock();
        let taken = register.addresses.entry(address).or_default();
        if self.per_address > 0 && *taken >= self.per_address {
            return None;
        }
        *taken += 1;
        Some(Seat { house: Arc::clone(self), address })
    }

    /// Lets others see when the connection rests, until the returned value is dropped.
    pub(crate) fn enter(self: &Arc<Self>, pulse: &Arc<Pulse>) -> Guest {
        let mut register = self.lock();
        let number = register.next;
        register.next += 1;
        register.guests.insert(number, Arc::clone(pulse));
        Guest { house: Arc::clone(self), number }
    }

    /// Asks the connection that has rested longest to leave; false when none rests.
    pub(crate) fn make_room(&self, now: Instant) -> bool {
        let mut register = self.lock();
        if let Some(leaver) = register.longest_idle() {
            leaver.evict();
            return true;
        }
        if register.looked.is_some_and(|looked| now < looked + LOOK_PAUSE) {
            return false;
        }
        register.look(now);
        register.longest_idle().inspect(|leaver| leaver.evict()).is_some()
    }

    /// Connections that are doing something.
    pub(crate) fn busy(&self) -> usize {
        self.lock().guests.values().filter(|guest| guest.idle_since().is_none()).count()
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Register {
    fn longest_idle(&mut self) -> Option<Arc<Pulse>> {
        while let Some((since, guest)) = self.idle.pop() {
            if guest.idle_since() == Some(since) {
                return Some(guest);
            }
        }
        None
    }

    fn look(&mut self, now: Instant) {
        self.looked = Some(now);
        let idle = self.guests.values().filter_map(|guest| Some((guest.idle_since()?, Arc::clone(guest))));
        let mut idle: Vec<_> = idle.collect();
        if idle.len() > FOUND_AT_ONCE {
            idle.select_nth_unstable_by_key(FOUND_AT_ONCE, |(since, _)| *since);
            idle.truncate(FOUND_AT_ONCE);
        }
        idle.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
        self.idle = idle;
    }
}

/// One connection of an address.
pub(crate) struct Seat {
    house: Arc<House>,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut register = self.house.lock();
        if let Some(taken) = register.addresses.get_mut(&self.address) {
            *taken -= 1;
            if *taken == 0 {
                register.addresses.remove(&self.address);
            }
        }
    }
}

/// A connection in the register.
pub(crate) struct Guest {
    house: Arc<House>,
    number: u64,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.house.lock().guests.remove(&self.number);
    }
}

/// What counts as one address: an IPv6 household gets a /64 and could use each address of it once.
fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_so_many_connections_and_a_household_is_one() {
        let house = House::new(2);
        let first = house.seat(address("192.0.2.1"));
        assert!(first.is_some() && house.seat(address("192.0.2.2")).is_some());
        let second = house.seat(address("192.0.2.1"));
        assert!(second.is_some() && house.seat(address("192.0.2.1")).is_none());
        drop(first);
        assert!(house.seat(address("192.0.2.1")).is_some());
        let v6 = ["2001:db8::1", "2001:db8::2:1"].map(|one| house.seat(address(one)));
        assert!(v6.iter().all(Option::is_some) && house.seat(address("2001:db8::3")).is_none());
        assert!(house.seat(address("2001:db8:0:1::1")).is_some());
        drop((second, v6));
        assert!(house.lock().addresses.is_empty(), "nothing is left of those who went");
        let open = House::new(0);
        let many: Vec<_> = (0..100).map(|_| open.seat(address("::1"))).collect();
        assert!(many.iter().all(Option::is_some));
    }

    /// A connection that asked once at `at` ms and rests since.
    async fn rests(house: &Arc<House>) -> (Arc<Pulse>, Guest) {
        tokio::time::advance(Duration::from_millis(10)).await;
        let pulse = Arc::new(Pulse::new(Instant::now()));
        pulse.began(false);
        pulse.ended();
        let guest = house.enter(&pulse);
        (pulse, guest)
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_leaves_first_and_nobody_who_is_busy() {
        let house = House::new(0);
        let (busy, _busy) = rests(&house).await;
        busy.began(false);
        let fresh = Arc::new(Pulse::new(Instant::now()));
        let _fresh = house.enter(&fresh);
        let (first, _first) = rests(&house).await;
        let (second, _second) = rests(&house).await;
        let (third, _third) = rests(&house).await;
        assert_eq!(house.busy(), 2);
        let told = || [&busy, &fresh, &first, &second, &third].map(|pulse| pulse.is_evicted());
        assert!(house.make_room(Instant::now()));
        assert_eq!(told(), [false, false, true, false, false]);
        // It came to life after the look.
        second.began(false);
        assert!(house.make_room(Instant::now()));
        assert_eq!(told(), [false, false, true, false, true]);
        assert!(!house.make_room(Instant::now()), "nobody rests, or was told already");
        second.ended();
        assert!(!house.make_room(Instant::now()), "looked a moment ago");
        assert!(house.make_room(Instant::now() + LOOK_PAUSE));
        assert_eq!(told(), [false, false, true, true, true]);
    }
}
