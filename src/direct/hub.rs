//! Who is connected, and how to wake them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::auth::DeviceAuth;
use super::bell::{Bell, Signal};
use super::body::Bodies;
use super::quiet::Quiet;
use super::window::Window;
use crate::ids::Id;
use crate::store::Ack;

/// Recalls that may wait for one connection; a phone that is so far behind is not told.
const MOST_RECALLS: usize = 1000;

/// All connections of this node, by device, and what they share. Cloning shares it.
///
/// A connection holds a [`Seat`]; the newest seat of a device is the one that is woken, older ones are told that they
/// were superseded.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    seats: Seats,
    next: Arc<AtomicU64>,
    auth: DeviceAuth,
    quiet: Quiet,
    bodies: Bodies,
}

/// The hub's sides of all seats.
type Seats = Arc<Mutex<HashMap<u64, Place>>>;

/// The hub's side of a seat.
#[derive(Debug)]
struct Place {
    number: u64,
    doubtful: bool,
    /// Messages to take off the screen; absent where the connection cannot tell.
    recalls: Option<Vec<Id>>,
    /// What single requests of the phone acknowledge for this connection; absent where it does that itself.
    window: Option<Arc<Window>>,
    bell: Arc<Bell>,
}

/// A connection's place; given up when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    device: u64,
    number: u64,
    bell: Arc<Bell>,
}

impl Hub {
    /// Takes the device's seat from whoever has it.
    pub fn sit(&self, device: u64) -> Seat {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let bell = Arc::new(Bell::default());
        let place = Place { number, doubtful: false, recalls: None, window: None, bell: Arc::clone(&bell) };
        if let Some(old) = self.seats().insert(device, place) {
            old.bell.ring(Signal::Superseded);
        }
        Seat { seats: Arc::clone(&self.seats), device, number, bell }
    }

    /// Whether the device is connected to this node, and not in doubt.
    pub fn is_connected(&self, device: u64) -> bool {
        self.seats().get(&device).is_some_and(|place| !place.doubtful)
    }

    /// Tells devices that there is something new in their inbox. To be called after the commit that put it there:
    /// who looks before would believe for a while that there is nothing.
    pub fn wake(&self, devices: impl IntoIterator<Item = u64>) {
        let mut quiet = self.quiet.lock();
        let seats = self.seats();
        for device in devices {
            quiet.disturb(device);
            if let Some(place) = seats.get(&device) {
                place.bell.ring(Signal::Inbox);
            }
        }
    }

    /// Tells those of these devices that are connected to take a message off their screen; answers which.
    pub fn recall(&self, devices: impl IntoIterator<Item = u64>, message: Id) -> HashSet<u64> {
        let mut seats = self.seats();
        let mut told = HashSet::new();
        for device in devices {
            let Some(place) = seats.get_mut(&device) else { continue };
            let Some(recalls) = place.recalls.as_mut().filter(|recalls| recalls.len() < MOST_RECALLS) else {
                continue;
            };
            recalls.push(message);
            place.bell.ring(Signal::Inbox);
            told.insert(device);
        }
        told
    }

    /// The phone has said by a single request what it has. To be called after the commit.
    pub(super) fn acknowledged(&self, device: u64, ack: &Ack) {
        if let Some(window) = self.window(device) {
            window.acknowledged(ack);
        }
    }

    /// The window of the device's connection, where it has one that single requests move.
    pub(super) fn window(&self, device: u64) -> Option<Arc<Window>> {
        self.seats().get(&device).and_then(|place| place.window.clone())
    }

    /// Ends a device's connection and forgets its secret: it was deleted, or its secret was made anew. To be called
    /// after the commit.
    pub fn revoke(&self, device: u64) {
        self.auth.forget(device);
        self.quiet.lock().disturb(device);
        if let Some(place) = self.seats().remove(&device) {
            place.bell.ring(Signal::Revoked);
        }
    }

    /// How many devices are connected.
    pub fn connected(&self) -> usize {
        self.seats().len()
    }

    /// Who phones are.
    pub fn auth(&self) -> &DeviceAuth {
        &self.auth
    }

    /// Which inboxes are known to be empty.
    pub(super) fn quiet(&self) -> &Quiet {
        &self.quiet
    }

    /// What messages look like on the wire.
    pub(super) fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<u64, Place>> {
        locked(&self.seats)
    }
}

fn locked(seats: &Seats) -> MutexGuard<'_, HashMap<u64, Place>> {
    seats.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    /// Waits until the hub has something to say; cancel safe.
    pub(super) async fn called(&self) {
        self.bell.rung().await;
    }

    /// What the hub said last.
    pub(super) fn told(&self) -> Signal {
        self.bell.says()
    }

    /// Says that this connection can tell its phone of recalls.
    pub fn hear_recalls(&self) {
        self.place(|place| place.recalls = Some(Vec::new()));
    }

    /// Lets single requests of the phone acknowledge what this connection hands out.
    pub(super) fn share(&self, window: &Arc<Window>) {
        self.place(|place| place.window = Some(Arc::clone(window)));
    }

    /// What is to be taken off the screen since the last call.
    pub fn take_recalls(&self) -> Vec<Id> {
        let mut taken = Vec::new();
        self.place(|place| taken = place.recalls.as_mut().map(std::mem::take).unwrap_or_default());
        taken
    }

    /// The hub's side, while this seat is the device's newest.
    fn place(&self, act: impl FnOnce(&mut Place)) {
        if let Some(place) = locked(&self.seats).get_mut(&self.device)
            && place.number == self.number
        {
            act(place);
        }
    }

    /// Says whether the connection is in doubt: an acknowledgement is late. Routes then treat the device as not
    /// connected; the inbox keeps what it has.
    pub fn doubt(&self, doubtful: bool) {
        self.place(|place| place.doubtful = doubtful);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = locked(&self.seats);
        if seats.get(&self.device).is_some_and(|place| place.number == self.number) {
            seats.remove(&self.device);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_newest_seat_is_woken_and_the_older_one_told() {
        let hub = Hub::default();
        let old = hub.sit(7);
        let new = hub.sit(7);
        assert_eq!(old.told(), Signal::Superseded);
        drop(old);
        assert!(hub.is_connected(7));
        hub.wake([7, 8]);
        assert_eq!((new.called().now_or_never(), new.told()), (Some(()), Signal::Inbox));
        hub.revoke(7);
        assert_eq!(new.told(), Signal::Revoked);
        assert_eq!(hub.connected(), 0);
    }

    #[test]
    fn only_connections_that_can_tell_are_told_of_recalls_and_each_once() {
        let hub = Hub::default();
        let (hears, polls) = (hub.sit(7), hub.sit(8));
        hears.hear_recalls();
        assert_eq!(hub.recall([7, 8, 9], Id(5)), HashSet::from([7]));
        assert_eq!((hears.called().now_or_never(), hears.told()), (Some(()), Signal::Inbox));
        assert_eq!((hears.take_recalls(), hears.take_recalls()), (vec![Id(5)], vec![]));
        assert!(polls.take_recalls().is_empty());
        let newer = hub.sit(7);
        newer.hear_recalls();
        hub.recall([7], Id(6));
        assert_eq!((hears.take_recalls(), newer.take_recalls()), (vec![], vec![Id(6)]));
    }

    #[test]
    fn a_seat_in_doubt_counts_as_not_connected() {
        let hub = Hub::default();
        let old = hub.sit(7);
        old.doubt(true);
        assert!(!hub.is_connected(7));
        assert_eq!(hub.connected(), 1);
        let _new = hub.sit(7);
        old.doubt(true);
        assert!(hub.is_connected(7), "only the newest seat may doubt");
    }
}
