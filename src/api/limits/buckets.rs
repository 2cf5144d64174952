//! A rate for each of many callers, in bounded memory.
//!
//! Callers are known by a keyed hash, in shards with a lock each, held for a few instructions. A caller who has nothing to
//! pay off is forgotten where room is needed. Where a shard is full of callers who have, all newcomers to it share one rate:
//! whoever brings a hundred thousand addresses gets no more by it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, PoisonError};

use crate::pacing::{Micros, Rate, SECOND};

const SHARDS: usize = 64;
/// Callers of a shard.
const MOST: usize = 1600;
/// Between two looks through a full shard for those who can be forgotten.
const SWEEP: Micros = SECOND / 20;
/// Whose rate newcomers share.
const CROWD: u64 = 0;

/// What a caller has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// Of which limit.
    pub(super) name: &'static str,
    /// A second's worth.
    pub(super) limit: u32,
    /// How much of it.
    pub(super) remaining: u32,
    /// Until it is a second's worth again.
    pub(super) full_in: Micros,
}

impl Left {
    /// Until one more may go.
    pub(super) fn wait(&self) -> Micros {
        (self.full_in + SECOND / u64::from(self.limit)).saturating_sub(SECOND)
    }
}

/// The rates of all callers of one kind.
#[derive(Debug)]
pub(super) struct Buckets {
    name: &'static str,
    per_second: u32,
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug, Default)]
struct Shard {
    rates: HashMap<u64, Rate>,
    swept: Micros,
}

impl Buckets {
    /// Rates of so many a second each; `None` for 0, which is no limit.
    pub(super) fn new(name: &'static str, per_second: u32) -> Option<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        (per_second > 0).then(|| Self { name, per_second, hasher: RandomState::new(), shards })
    }

    /// Takes; `Err`: how long to wait. Beside it, what is left.
    pub(super) fn take(&self, whose: impl Hash, cost: u32, now: Micros) -> (Result<(), Micros>, Left) {
        let id = self.hasher.hash_one(whose);
        let mut shard = self.shard(id);
        let id = shard.place(id, now);
        let rate = shard.rates.entry(id).or_insert_with(|| Rate::new(self.per_second));
        let taken = rate.take(now, cost).map_err(|until| until - now);
        (taken, self.left(rate, now))
    }

    /// What is left, without taking.
    pub(super) fn look(&self, whose: impl Hash, now: Micros) -> Left {
        let id = self.hasher.hash_one(whose);
        let shard = self.shard(id);
        let crowd = || shard.rates.get(&CROWD).filter(|_| shard.rates.len() >= MOST);
        match shard.rates.get(&id).or_else(crowd) {
            Some(rate) => self.left(rate, now),
            None => self.left(&Rate::new(self.per_second), now),
        }
    }

    fn left(&self, rate: &Rate, now: Micros) -> Left {
        let (remaining, full_in) = rate.left(now);
        Left { name: self.name, limit: self.per_second, remaining, full_in }
    }

    fn shard(&self, id: u64) -> std::sync::MutexGuard<'_, Shard> {
        self.shards[id as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        (0..SHARDS as u64).map(|id| self.shard(id).rates.len()).sum()
    }
}

impl Shard {
    /// Under which name somebody is counted: their own, or the crowd's where there is no room.
    fn place(&mut self, id: u64, now: Micros) -> u64 {
        if self.rates.len() < MOST || self.rates.contains_key(&id) {
            return id;
        }
        if now >= self.swept + SWEEP {
            self.swept = now;
            self.rates.retain(|_, rate| rate.left(now).1 > 0);
        }
        if self.rates.len() < MOST { id } else { CROWD }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_rate_of_their_own_and_is_told_how_long_to_wait() {
        let buckets = Buckets::new("n", 10).unwrap();
        assert!((0..10).all(|_| buckets.take("a", 1, 0).0.is_ok()));
        assert_eq!(buckets.take("a", 1, 0).0, Err(SECOND / 10));
        assert_eq!(buckets.look("a", 0), Left { name: "n", limit: 10, remaining: 0, full_in: SECOND });
        assert_eq!(buckets.look("b", 0), Left { name: "n", limit: 10, remaining: 10, full_in: 0 });
        assert!(buckets.take("b", 1, 0).0.is_ok());
        assert!(buckets.take("a", 1, SECOND / 10).0.is_ok());
        assert!(Buckets::new("n", 0).is_none());
    }

    #[test]
    fn what_costs_more_than_a_second_goes_alone_and_is_paid_off_afterwards() {
        let buckets = Buckets::new("n", 10).unwrap();
        assert!(buckets.take("a", 100, 0).0.is_ok());
        assert_eq!(buckets.take("a", 1, 0).0, Err(SECOND * 91 / 10));
        assert!(buckets.take("a", 1, SECOND * 91 / 10).0.is_ok());
    }

    #[test]
    fn a_flood_of_addresses_shares_one_rate_beyond_a_bound_and_is_forgotten_when_it_is_over() {
        let buckets = Buckets::new("n", 1).unwrap();
        let refused = (0..200_000).filter(|n| buckets.take(n, 1, 0).0.is_err()).count();
        let most = SHARDS * (MOST + 1);
        assert!(buckets.len() <= most, "{}", buckets.len());
        assert!(refused >= 200_000 - most, "{refused} newcomers shared a rate");
        // Two seconds later nobody owes anything: all who come find room.
        assert!((0..10_000).all(|n| buckets.take(("later", n), 1, 2 * SECOND).0.is_ok()));
        assert!(buckets.len() <= most);
    }
}
