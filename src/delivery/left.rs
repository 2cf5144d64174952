//! A message to users goes to no phone that a user has left since it was sent: its next user must not read it.
//!
//! What waits in an inbox ends in the transaction in which the user leaves. What waits elsewhere (for a vendor that is down,
//! for a paused channel, for the time of a further step) is left out here, just before it would be handed over.

use std::collections::HashSet;

use anypush_providers::contract::Reason;

use crate::delivery::dispatch::InHand;
use crate::delivery::state::State;
use crate::ids::GIVEN_TARGETS;
use crate::store::{Changes, StoreError};

/// Ends those targets of a page whose user has left. One read for a page of a message to users, none for others.
pub(super) async fn leave_out(hand: &mut InHand<'_>) -> Result<(), StoreError> {
    if !hand.job.spec.to_users {
        return Ok(());
    }
    let record = &hand.job.record;
    // Whom a scheduled message is for is looked up at its time.
    let since = record.send_at.unwrap_or(0).max(record.created_at);
    let devices: Vec<u64> =
        hand.page.entries.iter().map(|entry| entry.target).filter(|target| *target < GIVEN_TARGETS).collect();
    let left: HashSet<u64> = hand.inner.parts.store.left_since(&devices, since).await?.into_iter().collect();
    if left.is_empty() {
        return Ok(());
    }
    let (gone, stay): (Vec<_>, Vec<_>) =
        std::mem::take(&mut hand.page.entries).into_iter().partition(|entry| left.contains(&entry.target));
    (hand.page.entries, hand.shorter) = (stay, true);
    let events = gone.iter().map(|entry| hand.ended(entry, State::Suppressed, Reason::UserLeft)).collect();
    hand.recorder().push(Changes { events, ..Changes::default() }, hand.urgent()).await;
    Ok(())
}
