//! Asks vendors what became of messages: those who never call back, and those who do about what is late.
//!
//! What comes in: work items that are due, each for those of a page whom a channel's vendor has accepted
//! ([`crate::delivery`] makes them). The rows are read first: whoever has a final word is left out, and so is whom
//! another channel has by now. What goes out: the vendor's answers, merged like its callbacks, in the transaction that
//! says when it is asked again. So a crash at most repeats a question.
//!
//! One channel is asked at a time and at a small rate, channels beside each other: a vendor that is slow to answer holds
//! up nobody else.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::{
    Failure, Hint, Provider, Reason, Receipt, ReceiptEvent, Scope, SendContext,
};
use futures_util::FutureExt as _;

use super::Inner;
use super::merge::{self, Ready};
use super::resolve::{self, Found};
use crate::bulk::Bulk;
use crate::channels::Channel;
use crate::delivery::page::Page;
use crate::delivery::state::{Delivery, State};
use crate::routing::ChannelState;
use crate::store::{Changes, StoreError, VendorReceipt, WorkItem};

/// Ids of one call: the contract's most.
const MOST_IDS: usize = 100;

/// Asks until the process is to stop.
pub(super) async fn run(inner: Arc<Inner>) {
    let (pipeline, tasks) = (&inner.parts.pipeline, &inner.parts.tasks);
    while let Err(error) = pipeline.find_asks().await {
        tracing::warn!("vendors are not asked for receipts yet: {error}");
        tokio::select! {
            () = tasks.stopped() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
    while !tasks.is_stopping() {
        for channel in pipeline.asks() {
            tasks.spawn("ask", ask(Arc::clone(&inner), channel));
        }
        tokio::select! {
            () = tasks.stopped() => return,
            () = pipeline.next_ask() => {}
        }
    }
}

/// Asks a channel's vendor all that is due.
pub(super) async fn ask(inner: Arc<Inner>, seq: i64) {
    let pipeline = &inner.parts.pipeline;
    let channel = inner.parts.channels.by_seq(seq);
    let again = match all_due(&inner, seq, channel.as_ref()).await {
        Ok(again) => again,
        Err(error) => {
            tracing::warn!(channel.seq = seq, "receipts are asked for later, the store failed: {error}");
            true
        }
    };
    pipeline.asked(seq, again).await;
}

/// `true`: the channel cannot be asked now, whatever is due.
async fn all_due(inner: &Inner, seq: i64, channel: Option<&Arc<Channel>>) -> Result<bool, StoreError> {
    let (pipeline, tasks) = (&inner.parts.pipeline, &inner.parts.tasks);
    // Nobody can be asked any more.
    let gone = |channel: &&Arc<Channel>| {
        channel.record.deleted_at.is_some() || !channel.descriptor.capabilities.polls_receipts
    };
    let Some(channel) = channel.filter(|channel| !gone(channel)) else {
        loop {
            let items = pipeline.lease_asks(seq).await?;
            if items.is_empty() {
                return Ok(false);
            }
            let work_done = items.iter().map(|item| item.id).collect();
            inner.parts.store.commit(Changes { work_done, ..Changes::default() }).await?;
        }
    };
    let usable = !matches!(channel.route.state, ChannelState::Paused | ChannelState::AuthFailed);
    let Some((provider, context)) =
        channel.provider.as_ref().filter(|_| usable).zip(pipeline.asking(channel))
    else {
        return Ok(true);
    };
    while !tasks.is_stopping() {
        let items = pipeline.lease_asks(seq).await?;
        if items.is_empty() {
            return Ok(false);
        }
        for (index, item) in items.iter().enumerate() {
            let asking = about(inner, channel, provider, &context, item);
            let told = tokio::select! {
                () = tasks.stopped() => return Ok(true),
                told = asking => told,
            };
            match told {
                Ok(Some(Failure { scope: Scope::Target, .. }) | None) => {}
                Ok(Some(failure)) => {
                    tracing::info!(channel.name = %channel.record.name, reason = failure.reason.as_str(), "the vendor does not say what became of messages; it is asked again later");
                    pipeline.put_asks_back(&items[index + 1..]).await;
                    return Ok(true);
                }
                Err(error) => {
                    pipeline.put_asks_back(&items[index..]).await;
                    return Err(error);
                }
            }
        }
    }
    Ok(true)
}

/// Asks about one item, merges what is told, and says when the rest is asked about again. Answers why the vendor said
/// nothing.
async fn about(
    inner: &Inner,
    channel: &Arc<Channel>,
    provider: &Arc<dyn Provider>,
    context: &SendContext,
    item: &WorkItem,
) -> Result<Option<Failure>, StoreError> {
    let (pipeline, store) = (&inner.parts.pipeline, &inner.parts.store);
    let Some(page) = Page::decode(&item.payload) else {
        // It stays leased until the next start: a version that can read it goes on with it.
        tracing::error!(work.id = item.id.0, "whom to ask about cannot be read");
        return Ok(None);
    };
    let targets: Vec<_> = page.entries.iter().map(|entry| entry.target).collect();
    let rows = store.deliveries_of(item.message, &targets).await?;
    let lacking = lacking(channel.record.seq, &rows);
    let mut ids: Vec<String> = lacking.keys().map(|id| (*id).to_owned()).collect();
    ids.sort_unstable();
    let (mut receipts, mut failure) = (Vec::new(), None);
    for chunk in ids.chunks(MOST_IDS) {
        match call(pipeline.bulk(), channel, provider, chunk, context.clone()).await {
            Ok(told) => receipts.extend(told),
            Err(why) => {
                failure = Some(why);
                break;
            }
        }
    }
    let found = found(inner, channel, &lacking, receipts).await?;
    let told: HashSet<u64> =
        found.iter().filter(|f| is_final(&f.receipt)).map(|f| f.receipt.target).collect();
    let open: HashSet<u64> =
        lacking.values().map(|row| row.target).filter(|target| !told.contains(target)).collect();
    let entries: Vec<_> = page.entries.iter().filter(|entry| open.contains(&entry.target)).cloned().collect();
    let left = (!entries.is_empty()).then(|| page.with(entries));
    let ready = found.into_iter().map(|found| Ready { channel: Arc::clone(channel), found, known: false });
    let (mut changes, merged) = merge::changes_of(&inner.parts, ready.collect()).await?;
    let wait = match failure.as_ref().map(|failure| failure.hint) {
        Some(Hint::RetryAfter(wait)) => wait,
        _ => Duration::ZERO,
    };
    changes.append(pipeline.ask_again(channel, item, left, wait).await?);
    let work = changes.work.clone();
    store.commit(changes).await?;
    pipeline.announce(&work);
    inner.count(channel, "merged", merged.values().sum());
    Ok(failure)
}

/// Those whom this channel's vendor has accepted and says nothing final about, by its id. An id that stands for several
/// is left out: an answer about it says nothing about one of them.
fn lacking(channel: i64, rows: &[Delivery]) -> HashMap<&str, &Delivery> {
    let mut of_id: HashMap<&str, usize> = HashMap::new();
    let named = || {
        let of_channel = rows.iter().filter(move |row| row.channel == channel);
        of_channel.filter_map(|row| row.vendor_id.as_deref().map(|id| (id, row)))
    };
    for (id, _) in named() {
        *of_id.entry(id).or_default() += 1;
    }
    named().filter(|(id, row)| of_id[id] == 1 && row.state == State::Accepted).collect()
}

fn is_final(receipt: &VendorReceipt) -> bool {
    receipt.event != ReceiptEvent::Dismissed
}

/// One call. A bug in an adapter costs this one.
async fn call(
    bulk: &Bulk,
    channel: &Channel,
    provider: &Arc<dyn Provider>,
    ids: &[String],
    context: SendContext,
) -> Result<Vec<Receipt>, Failure> {
    let (asked, ids) = (Arc::clone(provider), ids.to_vec());
    let asking = bulk.run(async move { asked.poll_receipts(&ids, context).await });
    AssertUnwindSafe(asking).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(channel.name = %channel.record.name, "the adapter panicked when the vendor was asked for receipts");
        Err(Failure::channel(Reason::ProtocolError))
    })
}

/// Answers with the deliveries that they are about. What was not asked for is not believed.
async fn found(
    inner: &Inner,
    channel: &Channel,
    lacking: &HashMap<&str, &Delivery>,
    receipts: Vec<Receipt>,
) -> Result<Vec<Found>, StoreError> {
    let owners = resolve::owners(&inner.parts, channel, receipts.iter()).await?;
    let received_at = inner.parts.clock.now_ms();
    let (mut found, mut strange) = (Vec::new(), 0);
    for receipt in receipts {
        let Some(row) = receipt.vendor_id.as_deref().and_then(|id| lacking.get(id)) else {
            strange += 1;
            continue;
        };
        let owner = receipt.token.as_ref().and_then(|token| owners.get(token));
        // Only the delivery's own address is judged by it.
        let version = owner.filter(|(device, _)| *device == row.target).map(|(_, version)| *version);
        let receipt = VendorReceipt {
            message: row.message,
            target: row.target,
            channel: channel.record.seq,
            event: receipt.event,
            witness: receipt.witness,
            received_at,
            vendor: receipt.vendor,
        };
        found.push(Found { row: 0, receipt, version });
    }
    inner.count(channel, "unresolved", strange);
    Ok(found)
}
