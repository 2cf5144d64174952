//! What a send would look like, for people: by the same functions, with nothing sent.

use serde_json::json;

use super::category::Way;
use super::{Huawei, payload};
use crate::contract::{Batch, Preview};

/// The body for the batch's first target.
pub(super) fn preview(channel: &Huawei, batch: &Batch) -> Preview {
    let way = Way::of(&batch.content, batch.category.as_deref());
    let preview = Preview {
        max_bytes: Some(payload::MAX_BYTES as u32),
        class: Some(way.category.unwrap_or("unclassified").to_owned()),
        warnings: payload::lint(&channel.config, &batch.content, &way),
        ..Preview::default()
    };
    let rendered = match payload::render(&channel.config, batch) {
        Ok(rendered) => rendered,
        Err(unsendable) => {
            return Preview { bytes: unsendable.bytes, refused: Some(unsendable.refusal()), ..preview };
        }
    };
    let first = batch.targets.first();
    // The tag proves itself in receipts.
    let tag = first.and_then(|target| target.receipt_param.as_ref()).map(|_| "…");
    let mut payload = rendered.body(&[], tag, false);
    if let Some(target) = first {
        payload["message"]["token"] = json!([format!("{:?}", target.address.token)]);
    }
    Preview { payload, bytes: rendered.bytes as u32, dropped: rendered.dropped, ..preview }
}
