//! What a send would look like, for people: by the same functions, with nothing sent.

use serde_json::{Map, Value};

use super::{MAX_CALLBACK_URL, Xiaomi, callback_fields, payload};
use crate::contract::{Batch, Preview, SendContext};

/// The form for the batch's first target.
pub(super) fn preview(channel: &Xiaomi, batch: &Batch, context: &SendContext) -> Preview {
    let way = channel.way(&batch.content, batch.category.as_deref());
    let mut preview = Preview {
        max_bytes: Some(payload::MAX_PAYLOAD_BYTES as u32),
        class: Some(way.class.name().to_owned()),
        warnings: payload::lint(&channel.config, &batch.content, &way),
        ..Preview::default()
    };
    let rendered = match payload::render(&channel.config, batch) {
        Ok(rendered) => rendered,
        Err(unsendable) => {
            return Preview { bytes: unsendable.bytes, refused: Some(unsendable.refusal()), ..preview };
        }
    };
    let callback_url = context.callback_url.as_deref();
    match callback_url.map(str::len) {
        None => preview.warnings.push("no receipts: the gateway has no public address".to_owned()),
        Some(length) if length > MAX_CALLBACK_URL => preview.warnings.push(format!(
            "no receipts: the callback URL has {length} bytes, Xiaomi takes {MAX_CALLBACK_URL}; shorten the public address"
        )),
        Some(_) => {}
    }
    let first = batch.targets.first();
    let mut form = Map::new();
    let mut show = |name: &str, value: &str| form.insert(name.to_owned(), Value::String(value.to_owned()));
    if let Some(target) = first {
        show("registration_id", &format!("{:?}", target.address.token));
    }
    for (name, value) in rendered.form.fields() {
        show(name, value);
    }
    for (name, value) in
        callback_fields(callback_url, first.and_then(|target| target.receipt_param.as_deref()))
    {
        // The URL ends with a secret, and the parameter proves itself.
        let shown = if name == "extra.callback.type" { value.as_str() } else { "…" };
        show(name, shown);
    }
    Preview {
        payload: Value::Object(form),
        bytes: rendered.payload_bytes as u32,
        dropped: rendered.dropped,
        ..preview
    }
}
