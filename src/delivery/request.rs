//! What a provider is handed: the batch, and what stands beside it. A dry run makes both by these same functions.

use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::{Address, Batch, Gate, MessageRef, ReceiptKey, SendContext, Target};

use crate::channels::Channel;
use crate::delivery::job::Job;
use crate::delivery::page::Entry;
use crate::delivery::pipeline::Inner;
use crate::ids::{Id, NOBODY};

/// A batch of targets of one page. `page` is the same for every repeat of it; `attempt` is 1 for the first try.
pub(super) fn batch(
    inner: &Inner,
    job: &Job,
    channel: &Channel,
    (page, attempt): (u64, u32),
    targets: &[&(Entry, Address)],
) -> Batch {
    let codec = &inner.parts.codec;
    let capabilities = &channel.descriptor.capabilities;
    let left = Duration::from_millis(job.record.deadline_at.saturating_sub(inner.now_ms()));
    let unit = capabilities.ttl_unit.as_millis().max(1) as u64;
    let ttl = Duration::from_millis(left.min(capabilities.max_ttl).as_millis() as u64 / unit * unit);
    let key = codec.delivery_keys(job.id);
    let param = |target| Some(Arc::from(codec.receipt_param(channel.record.seq, job.id, target)));
    let of_message = match targets {
        [(only, _)] => param(only.target),
        // What is said of one of many without its token is said of nobody.
        _ => param(NOBODY),
    };
    let target = |(entry, address): &&(Entry, Address)| Target {
        address: address.clone(),
        key: key(entry.target),
        receipt_param: match capabilities.receipt_key {
            ReceiptKey::None | ReceiptKey::VendorId => None,
            ReceiptKey::Param => param(entry.target),
            ReceiptKey::Token => of_message.clone(),
        },
        variables: entry.variables.clone().map(Arc::new),
    };
    Batch {
        message: MessageRef {
            id: job.public_id.clone(),
            page_key: codec.batch_key(job.id, Id(page as i64), targets.iter().map(|(entry, _)| entry.target)),
            label: job.record.label.clone(),
        },
        content: Arc::clone(&job.spec.content),
        category: job.category(&channel.record.provider),
        ttl,
        targets: targets.iter().map(target).collect(),
        attempt,
    }
}

/// What stands beside a batch.
pub(super) fn context(inner: &Inner, channel: &Channel, gate: Arc<dyn Gate>) -> SendContext {
    let callback_url = inner.parts.callback_urls.of(channel);
    SendContext { gate, now: crate::clock::wall, callback_url }
}
