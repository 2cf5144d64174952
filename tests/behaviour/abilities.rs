//! What a provider declares, against what reaches the wire. A field that it says it carries changes the request; one
//! that it does not carry is named in the preview, so that nobody learns from a phone that it is missing.

use std::collections::BTreeMap;

use anypush_providers::contract::{
    Badge, Capabilities, Click, ClickAction, Content, Notification, Reason, Registration, Verdict,
};
use libtest_mimic::Trial;
use serde_json::json;

use crate::promises::hello;
use crate::stage::{MESSAGE, Stage, reason};
use crate::{Found, ensure, trial};

/// A field of a message, and the ability that it asks for.
struct Field {
    name: &'static str,
    /// JSON pointer into the message, as a preview names it.
    pointer: &'static str,
    declared: fn(&Capabilities) -> bool,
    set: fn(&mut Content),
    /// A text that the request then carries; empty where a vendor writes the thing in its own way.
    mark: &'static str,
}

const PICTURE: &str = "https://cdn.example.com/mark-picture.png";
const LINK: &str = "https://example.com/mark-link";

const FIELDS: [Field; 6] = [
    Field {
        name: "image",
        pointer: "/notification/image",
        declared: |can| can.image,
        set: |content| shown(content).image = Some(PICTURE.into()),
        mark: "mark-picture.png",
    },
    Field {
        name: "sound",
        pointer: "/notification/sound",
        declared: |can| can.sound,
        set: |content| shown(content).sound = Some("marksound".into()),
        mark: "marksound",
    },
    Field {
        name: "badge_set",
        pointer: "/notification/badge",
        declared: |can| can.badge_set,
        set: |content| shown(content).badge = Some(Badge::Set(73)),
        mark: "73",
    },
    Field {
        name: "badge_add",
        pointer: "/notification/badge",
        declared: |can| can.badge_add,
        set: |content| shown(content).badge = Some(Badge::Add(7)),
        mark: "7",
    },
    Field {
        name: "actions",
        pointer: "/notification/actions_category",
        declared: |can| can.actions,
        set: |content| shown(content).actions_category = Some("MARK_ACTIONS".into()),
        mark: "MARK_ACTIONS",
    },
    Field {
        name: "collapse",
        pointer: "/collapse_key",
        declared: |can| can.collapse,
        set: |content| content.collapse_key = Some("mark-collapse".into()),
        mark: "",
    },
];

/// What no ability is declared for: it reaches the wire, or the preview says that it does not.
const OTHERS: [Field; 2] = [
    Field {
        name: "data_beside_a_notification",
        pointer: "/data",
        declared: |_| true,
        set: |content| content.data = BTreeMap::from([("mark".into(), "mark-data".into())]),
        mark: "mark-data",
    },
    Field {
        name: "click",
        pointer: "/notification/click",
        declared: |_| true,
        set: |content| {
            shown(content).click = Some(Click { open: ClickAction::Url, value: Some(LINK.into()) });
        },
        mark: "mark-link",
    },
];

fn shown(content: &mut Content) -> &mut Notification {
    content.notification.get_or_insert_default()
}

/// A trial for each ability, declared or not.
pub(crate) fn all(provider: &'static Registration) -> impl Iterator<Item = Trial> {
    let can = provider.descriptor.capabilities;
    let fields = FIELDS.iter().map(move |field| {
        if (field.declared)(&can) {
            trial(provider, &format!("carries_{}", field.name), move |stage| carries(stage, field))
        } else {
            trial(provider, &format!("tells_that_it_drops_{}", field.name), move |stage| drops(stage, field))
        }
    });
    let data = if can.data {
        trial(provider, "carries_data_alone", carries_data_alone)
    } else {
        trial(provider, "refuses_data_alone", refuses_data_alone)
    };
    let overrides = trial(provider, "takes_no_override_that_it_does_not_list", takes_no_unlisted_override);
    let others = OTHERS.iter().map(move |field| {
        trial(provider, &format!("carries_or_tells_of_{}", field.name), move |stage| {
            carries_or_tells(stage, field)
        })
    });
    let dedupe = can.dedupe.then(|| trial(provider, "shows_a_repeat_once", shows_a_repeat_once));
    // An ability that no provider declares yet has no trial: the first that does needs one.
    let recall =
        can.recall.then(|| trial(provider, "can_recall", async |_| Err("write the trial of recall".into())));
    let rest = [data, overrides].into_iter().chain(dedupe).chain(recall);
    fields.chain(others).chain(rest).collect::<Vec<_>>().into_iter()
}

async fn carries(stage: Stage, field: &'static Field) -> Found {
    let token = stage.tokens(1).await?.remove(0);
    let mut content = hello();
    let (_, without) = stage.watch(stage.send_one(&content, &token)).await?;
    (field.set)(&mut content);
    let (outcome, with) = stage.watch(stage.send_one(&content, &token)).await?;
    ensure(outcome.verdict == Verdict::Accepted, || format!("{outcome:?}"))?;
    ensure(with != without, || format!("{} changes nothing: {with:?}", field.pointer))?;
    ensure(with.iter().all(|seen| seen.carries(field.mark)), || {
        format!("{:?} is not in {with:?}", field.mark)
    })
}

async fn drops(stage: Stage, field: &'static Field) -> Found {
    let token = stage.tokens(1).await?.remove(0);
    let mut content = hello();
    (field.set)(&mut content);
    let outcome = stage.send_one(&content, &token).await?;
    ensure(outcome.verdict == Verdict::Accepted, || format!("a field that can be left out: {outcome:?}"))?;
    let preview = stage.preview(&content, &token).ok_or("it has no preview")?;
    ensure(preview.dropped.iter().any(|dropped| dropped.field == field.pointer), || {
        format!("{} is not among {:?}", field.pointer, preview.dropped)
    })
}

async fn carries_or_tells(stage: Stage, field: &'static Field) -> Found {
    let token = stage.tokens(1).await?.remove(0);
    let mut content = hello();
    (field.set)(&mut content);
    let (outcome, seen) = stage.watch(stage.send_one(&content, &token)).await?;
    ensure(outcome.verdict == Verdict::Accepted, || format!("{outcome:?}"))?;
    let preview = stage.preview(&content, &token).ok_or("it has no preview")?;
    let told = preview.dropped.iter().any(|dropped| dropped.field == field.pointer);
    ensure(told || seen.iter().all(|seen| seen.carries(field.mark)), || {
        format!("{:?} is neither in {seen:?} nor in {:?}", field.mark, preview.dropped)
    })
}

/// The answer to the first was lost, so the gateway sends again: the person sees one.
async fn shows_a_repeat_once(stage: Stage) -> Found {
    let tokens = stage.tokens(1).await?;
    stage.phone(&tokens[0]).await?;
    for _ in 0..2 {
        let outcomes = stage.send(stage.batch(&hello(), &tokens)).await?;
        ensure(outcomes[0].verdict == Verdict::Accepted, || format!("{:?}", outcomes[0]))?;
    }
    let shown = stage.shown_on_the_phone().await?;
    ensure(shown == 1, || format!("the phone shows {shown}"))
}

fn data_alone() -> Content {
    Content { data: BTreeMap::from([("mark".into(), "mark-data".into())]), ..Content::default() }
}

async fn carries_data_alone(stage: Stage) -> Found {
    let token = stage.tokens(1).await?.remove(0);
    let (outcome, seen) = stage.watch(stage.send_one(&data_alone(), &token)).await?;
    ensure(outcome.verdict == Verdict::Accepted, || format!("{outcome:?}"))?;
    ensure(seen.iter().all(|seen| seen.carries("mark-data") && seen.carries(MESSAGE)), || {
        format!("data or message id is missing: {seen:?}")
    })
}

async fn refuses_data_alone(stage: Stage) -> Found {
    let token = stage.tokens(1).await?.remove(0);
    let (outcome, seen) = stage.watch(stage.send_one(&data_alone(), &token)).await?;
    ensure(reason(&outcome) == Some(Reason::PayloadInvalid), || format!("{outcome:?}"))?;
    ensure(seen.is_empty(), || "the vendor was asked".into())
}

async fn takes_no_unlisted_override(stage: Stage) -> Found {
    let check = stage.registration.check_overrides;
    ensure(check(&json!({"no_vendor_has_this": 1})).is_err(), || "an unknown field is taken".into())?;
    let takes = stage.registration.descriptor.capabilities.overrides;
    ensure(takes == check(&json!({})).is_ok(), || format!("declared: {takes}, but it does otherwise"))
}
