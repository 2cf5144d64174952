//! Channels that cost money: never by default, never twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::{
    Address, AddressSpec, Capabilities, Content, Cost, DeliveryMode, Descriptor, Failure, Notification,
    Reason, Tier, Token,
};

use super::{APP, PLAYED, Played, Rig, descriptor};
use crate::delivery::SendRequest;
use crate::delivery::spec::{Audience, GivenAddress, Spec};
use crate::delivery::state::State;
use crate::delivery::trail::{self, SkipReason, TrailEntry};
use crate::ids::{GIVEN_TARGETS, Id};
use crate::routing::StepSpec;
use crate::store::Store as _;

const fn texts(id: &'static str) -> Descriptor {
    Descriptor {
        capabilities: Capabilities {
            cost: Cost::PerTarget,
            default_delivery: DeliveryMode::AtMostOnce,
            ..descriptor("", Tier::Sms).capabilities
        },
        address: AddressSpec {
            provider: "phone",
            kinds: &["phone"],
            special: &[],
            max_token_bytes: 16,
            params: &[],
        },
        ..descriptor(id, Tier::Sms)
    }
}

static ONE: Descriptor = texts("text_one");
static TWO: Descriptor = texts("text_two");

async fn text(rig: &Rig, number: &str, uses: &[&str], delivery: Option<DeliveryMode>) -> Id {
    let notification = Some(Notification { body: Some("Your code is 42".into()), ..Notification::default() });
    let step = |uses: &&str| StepSpec { uses: (*uses).to_owned(), ..StepSpec::default() };
    let address = Address { kind: "phone".into(), token: Token::new(number), params: BTreeMap::new() };
    let request = SendRequest {
        app: APP,
        spec: Spec {
            content: Arc::new(Content { notification, ..Content::default() }),
            steps: uses.iter().map(step).collect(),
            delivery,
            ttl_seconds: 86_400,
            ..Spec::default()
        },
        audience: Audience::Addresses(vec![GivenAddress { provider: "phone".into(), address }]),
        label: None,
        idempotency: None,
    };
    rig.pipeline.accept(request).await.unwrap().id
}

#[tokio::test]
async fn a_text_message_is_sent_only_where_the_route_names_it() {
    let rig = Rig::new().await;
    let channel = rig.channels.plant(APP, &ONE, rig.played.clone()).await;
    let message = text(&rig, "+15550001", &[], None).await;
    let ended = rig.until(message, GIVEN_TARGETS, |_| true).await;
    assert_eq!((ended.state, ended.reason), (State::Suppressed, Some(Reason::NoRoute)));
    let told = trail::decode(&ended.trail);
    let Some(TrailEntry::Decided { skipped, .. }) = told.first() else { panic!("{told:?}") };
    assert!(
        skipped.iter().any(|s| s.channel == channel.record.seq && s.why == SkipReason::NotAskedFor),
        "{told:?}"
    );
    assert!(rig.sent().is_empty());
    for uses in ["sms", "text_one"] {
        let message = text(&rig, "+15550001", &[uses], None).await;
        let taken = rig.until(message, GIVEN_TARGETS, |row| row.state == State::Accepted).await;
        assert_eq!(taken.channel, channel.record.seq);
    }
    assert_eq!(PLAYED.tier, Tier::Global, "the other channel has no such address");
}

#[tokio::test]
async fn a_text_message_whose_answer_was_lost_ends_unknown_and_is_paid_for_once() {
    let rig = Rig::new().await;
    let channel = rig.channels.plant(APP, &ONE, rig.played.clone()).await;
    rig.script("+15550002", Failure::channel(Reason::VendorUnavailable).doubtful());
    let message = text(&rig, "+15550002", &["sms"], None).await;
    rig.until(message, GIVEN_TARGETS, |row| row.state == State::Unknown).await;
    rig.clock.advance(Duration::from_hours(1));
    rig.pipeline.nudge(channel.record.seq);
    assert!(rig.store.pending_pages(message, 10).await.unwrap().is_empty());
    assert_eq!(rig.sent().len(), 1);
    // Who wants it otherwise says so.
    let message = text(&rig, "+15550002", &["sms"], Some(DeliveryMode::AtLeastOnce)).await;
    let told = rig.until(message, GIVEN_TARGETS, |row| !row.trail.is_empty()).await;
    assert_eq!(told.state, State::Pending);
}

#[tokio::test]
async fn a_phone_number_serves_every_provider_of_text_messages() {
    let rig = Rig::new().await;
    rig.channels.plant(APP, &ONE, rig.played.clone()).await;
    let other = Arc::<Played>::default();
    let second = rig.channels.plant(APP, &TWO, other.clone()).await;
    rig.script("+15550003", Failure::target(Reason::CarrierRejected));
    let message = text(&rig, "+15550003", &["sms"], None).await;
    let taken = rig.until(message, GIVEN_TARGETS, |row| row.state == State::Accepted).await;
    assert_eq!(taken.channel, second.record.seq);
    assert_eq!((rig.sent().len(), other.sent.lock().unwrap().len()), (1, 1));
}
