//! What a send would put on the wire, for people: by the same functions.

use std::time::SystemTime;

use super::payload::{self, MAX_BYTES};
use crate::contract::{Address, Badge, Batch, Dropped, Preview, Token};

/// The request for the batch's first target.
pub(super) fn preview(batch: &Batch, now: SystemTime) -> Option<Preview> {
    let target = batch.targets.first()?;
    let whole = Preview { max_bytes: Some(MAX_BYTES as u32), dropped: dropped(batch), ..Preview::default() };
    Some(match payload::render_any(batch, now) {
        Ok(rendered) => {
            // Cut as in logs.
            let token = Token::new(format!("{:?}", target.address.token));
            let address = Address { token, ..target.address.clone() };
            let body = rendered.body(&address, target.key, false);
            let payload = serde_json::from_slice(&body).unwrap_or_default();
            let refused = rendered.fits().err().map(|unsendable| unsendable.refusal());
            Preview { payload, bytes: rendered.counted as u32, refused, ..whole }
        }
        Err(unsendable) => Preview { refused: Some(unsendable.refusal()), ..whole },
    })
}

/// What the message says and this vendor does not take, or takes for some phones only.
fn dropped(batch: &Batch) -> Vec<Dropped> {
    let shown = batch.content.notification.as_ref();
    let link = shown.and_then(|shown| shown.click.as_ref()).and_then(|click| click.value.as_deref());
    let label = batch.message.label.as_deref();
    let found = [
        (
            shown.is_some_and(|shown| matches!(shown.badge, Some(Badge::Add(_)))),
            "/notification/badge",
            "left out: FCM sets a number and cannot add to one",
        ),
        (
            shown.is_some_and(|shown| shown.actions_category.is_some()),
            "/notification/actions_category",
            "iPhones only: Android and browsers have no field for a set of buttons",
        ),
        (
            link.is_some_and(|link| !payload::is_web_link(link)),
            "/notification/click/value",
            "browsers open https links only; apps find it in their data",
        ),
        (
            label.is_some_and(|label| !payload::is_label(label)),
            "/label",
            "not in FCM's own reports, which take 1 to 50 of a-z, A-Z, 0-9 and -_.~%",
        ),
    ];
    let told = |(is_so, field, why): (bool, &str, &str)| {
        is_so.then(|| Dropped { field: field.to_owned(), why: why.to_owned() })
    };
    found.into_iter().filter_map(told).collect()
}
