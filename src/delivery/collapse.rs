//! Collapse keys: for one device, an older message never goes out after a newer one of the same key.
//!
//! Two things see to it, and only for messages that have a key. *What has been handed over* is in the rows: before a
//! page is sent, one read asks which of its devices have a newer message of the key; those end `superseded`. *What is
//! in hand* is in memory: of two pages that would send one device two messages of one key through one channel, the
//! second waits until the outcomes of the first are on disk, where that read finds them.
//!
//! A device that is named by an address in the call has no other messages: it takes no part.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anypush_providers::contract::{Content, Reason};
use aws_lc_rs::digest;
use tokio::sync::Notify;

use crate::delivery::dispatch::InHand;
use crate::delivery::page::Entry;
use crate::delivery::state::State;
use crate::ids::{GIVEN_TARGETS, Id};
use crate::store::{Changes, StoreError};

/// How long a page waits at its desk for another one; then those targets come back later.
const PATIENCE: Duration = Duration::from_millis(500);
/// When they come back.
const LATER_MS: u64 = 500;

/// A message's collapse key as it is stored and compared; two keys of an app share one by chance of 2⁻⁶³.
pub(super) fn key(content: &Content) -> Option<i64> {
    let hash = digest::digest(&digest::SHA256, content.collapse_key.as_ref()?.as_bytes());
    let first = hash.as_ref().first_chunk::<8>()?;
    Some(i64::from_be_bytes(*first) & i64::MAX)
}

/// A channel and a key.
type Place = (i64, i64);

/// Who is being sent which message of a key through which channel.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: Mutex<HashMap<Place, HashMap<u64, Id>>>,
    /// Rung when something is given back.
    bell: Notify,
}

/// The right to send these devices a message of the key; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    place: Place,
    targets: Vec<u64>,
}

impl Claim {
    /// Devices that are held.
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    /// Gives back all but these: the outcomes of the others are on disk.
    pub(super) fn narrow(&mut self, to: &HashSet<u64>) {
        let (kept, gone) = std::mem::take(&mut self.targets).into_iter().partition(|it| to.contains(it));
        self.targets = kept;
        self.give_back(&gone);
    }

    fn give_back(&self, targets: &[u64]) {
        let mut held = self.claims.lock();
        if let Some(of_place) = held.get_mut(&self.place) {
            for target in targets {
                of_place.remove(target);
            }
            if of_place.is_empty() {
                held.remove(&self.place);
            }
        }
        drop(held);
        self.claims.bell.notify_waiters();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.give_back(&self.targets);
    }
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, HashMap<u64, Id>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is free, where all is or `in_part`; else takes nothing. Answers who is in the way, and with which
    /// message.
    fn take(
        self: &Arc<Self>,
        place: Place,
        message: Id,
        targets: &[u64],
        in_part: bool,
    ) -> (Option<Claim>, HashMap<u64, Id>) {
        let mut held = self.lock();
        let of_place = held.entry(place).or_default();
        let taken: HashMap<u64, Id> =
            targets.iter().filter_map(|target| of_place.get(target).map(|by| (*target, *by))).collect();
        let free: Vec<u64> = targets.iter().copied().filter(|target| !taken.contains_key(target)).collect();
        if (!taken.is_empty() && !in_part) || free.is_empty() {
            return (None, taken);
        }
        of_place.extend(free.iter().map(|target| (*target, message)));
        (Some(Claim { claims: Arc::clone(self), place, targets: free }), taken)
    }

    /// Takes all of these, or after a while those that are free.
    async fn wait(
        self: &Arc<Self>,
        place: Place,
        message: Id,
        targets: &[u64],
    ) -> (Option<Claim>, HashMap<u64, Id>) {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let bell = self.bell.notified();
            tokio::pin!(bell);
            bell.as_mut().enable();
            let (claim, taken) = self.take(place, message, targets, false);
            if taken.is_empty() {
                return (claim, taken);
            }
            if tokio::time::timeout_at(until, bell).await.is_err() {
                return self.take(place, message, targets, true);
            }
        }
    }
}

/// Ends those targets of a page that have a newer message of its collapse key, and answers those that must come back
/// later because another message of the key is being sent to them now.
pub(super) async fn take_turn(hand: &mut InHand<'_>, direct: bool) -> Result<Vec<Entry>, StoreError> {
    let Some(key) = hand.job.collapse else { return Ok(Vec::new()) };
    let (inner, message) = (hand.inner, hand.job.id);
    let devices = hand.page.entries.iter().map(|entry| entry.target).filter(|target| *target < GIVEN_TARGETS);
    let devices: Vec<u64> = devices.collect();
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let place = (hand.item.channel, key);
    let (claim, taken) = if direct {
        // Pages of the own connection are here one after the other, each handed to the recorder before the next: what
        // an older one has in hand is in the inbox first, and what a newer one has is as good as there.
        inner.collapses.take(place, message, &devices, true)
    } else {
        inner.collapses.wait(place, message, &devices).await
    };
    hand.claim = claim;
    let mut gone: HashSet<u64> = inner
        .parts
        .store
        .newer_of_key(hand.job.record.app, key, hand.job.age(), &devices)
        .await?
        .into_iter()
        .collect();
    if direct {
        gone.extend(taken.iter().filter(|(_, by)| **by > message).map(|(target, _)| *target));
    }
    let (mut stay, mut later, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    for entry in std::mem::take(&mut hand.page.entries) {
        if gone.contains(&entry.target) {
            ended.push(hand.ended(&entry, State::Suppressed, Reason::Superseded));
        } else if !direct && taken.contains_key(&entry.target) {
            later.push(entry);
        } else {
            stay.push(entry);
        }
    }
    hand.page.entries = stay;
    if !ended.is_empty() {
        hand.recorder().push(Changes { events: ended, ..Changes::default() }, hand.urgent()).await;
    }
    if !later.is_empty() {
        hand.rest_until = hand.rest_until.max(inner.now_ms() + LATER_MS);
    }
    Ok(later)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `order-42`; stored, so it must never change.
    const KNOWN: i64 = 4_321_398_832_972_926_703;

    #[tokio::test]
    async fn of_two_messages_of_a_key_the_second_waits_for_those_devices_that_the_first_has() {
        let claims = Arc::<Claims>::default();
        let (first, none) = claims.wait((1, 7), Id(1), &[1, 2]).await;
        assert!(none.is_empty());
        assert!(claims.wait((1, 8), Id(2), &[1, 2]).await.1.is_empty(), "another key");
        assert!(claims.wait((2, 7), Id(2), &[1, 2]).await.1.is_empty(), "another channel");
        let (second, taken) = claims.wait((1, 7), Id(2), &[2, 3]).await;
        assert_eq!(taken, HashMap::from([(2, Id(1))]));
        assert_eq!(second.unwrap().targets, [3]);
        let waiting = claims.wait((1, 7), Id(3), &[2]);
        let (third, ()) = tokio::join!(waiting, async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(first);
        });
        assert_eq!(third.0.unwrap().targets, [2]);
        assert!(claims.lock().is_empty(), "nothing is left behind");
    }

    #[test]
    fn a_key_is_the_same_in_every_life() {
        let content = |key: &str| Content { collapse_key: Some(key.into()), ..Content::default() };
        assert_eq!(key(&content("order-42")), Some(KNOWN));
        assert_ne!(key(&content("order-43")), Some(KNOWN));
        assert_eq!(key(&Content::default()), None);
    }
}
