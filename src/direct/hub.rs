//! Who is connected, and how to wake them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// All connections of this node, by device. Cloning shares it.
///
/// A connection holds a [`Seat`]; the newest seat of a device is the one that is woken, older ones are told that they
/// were superseded.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    seats: Arc<Mutex<Seats>>,
    next: Arc<AtomicU64>,
}

/// By device: the number of its newest seat, and how to reach it.
type Seats = HashMap<u64, (u64, watch::Sender<Signal>)>;

/// What a connection is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Look into the inbox: the number only grows.
    Inbox(u64),
    /// A newer connection of the same device has taken over.
    Superseded,
    /// The device or its secret is no longer valid.
    Revoked,
}

/// A connection's place; given up when dropped.
#[derive(Debug)]
pub struct Seat {
    hub: Hub,
    device: u64,
    number: u64,
    /// Changes when there is something to do. The hub sends; the connection reads; when the hub's side is gone the
    /// last signal stays readable.
    pub signal: watch::Receiver<Signal>,
}

impl Hub {
    /// Takes the device's seat from whoever has it.
    pub fn sit(&self, device: u64) -> Seat {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, signal) = watch::channel(Signal::Inbox(0));
        if let Some((_, old)) = self.seats().insert(device, (number, sender)) {
            old.send_replace(Signal::Superseded);
        }
        Seat { hub: self.clone(), device, number, signal }
    }

    /// Whether the device is connected to this node.
    pub fn is_connected(&self, device: u64) -> bool {
        self.seats().contains_key(&device)
    }

    /// Tells connected devices that there is something in their inbox.
    pub fn wake(&self, devices: impl IntoIterator<Item = u64>) {
        let seats = self.seats();
        for device in devices {
            if let Some((_, sender)) = seats.get(&device) {
                sender.send_modify(|signal| {
                    if let Signal::Inbox(n) = signal {
                        *n += 1;
                    }
                });
            }
        }
    }

    /// Ends a device's connection: it was deleted, or its secret was made anew.
    pub fn revoke(&self, device: u64) {
        if let Some((_, sender)) = self.seats().remove(&device) {
            sender.send_replace(Signal::Revoked);
        }
    }

    /// How many devices are connected.
    pub fn connected(&self) -> usize {
        self.seats().len()
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.hub.seats();
        if seats.get(&self.device).is_some_and(|(number, _)| *number == self.number) {
            seats.remove(&self.device);
        }
    }
}
