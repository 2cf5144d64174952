//! Which delivery a receipt is about, and what it does there.

use std::time::Duration;

use anypush_providers::contract::Reason;
use serde_json::json;

use super::World;
use crate::delivery::state::{Delivery, State};
use crate::delivery::trail::{self, TrailEntry};
use crate::ids::{GIVEN_TARGETS, NOBODY};
use crate::store::{Changes, DeviceFilter, NewTarget};

#[tokio::test]
async fn forged_and_foreign_receipts_change_nothing_and_are_counted() {
    let mut world = World::new().await;
    let (own, foreign) = (world.channel.clone(), world.foreign.clone());
    let message = world.message(1).await;
    world.record(&own, message, 7, State::Accepted).await;
    let true_one = world.param(&own, message, 7);
    // Another app's vendor, who knows the parameter that we sent through our own.
    world.call(&foreign, json!([{"event": "clicked", "param": true_one}])).await;
    // One made for another channel of the same app.
    let other = world.param(&world.batch.clone(), message, 7);
    let mut guessed = true_one.clone().into_bytes();
    guessed[5] = if guessed[5] == b'A' { b'B' } else { b'A' };
    let guessed = String::from_utf8(guessed).unwrap();
    let forged = [other.as_str(), &guessed, "", "x", "ÄÖÜ", &true_one[..31], &format!("{true_one}A")];
    let said: Vec<_> = forged.iter().map(|param| json!({"event": "clicked", "param": param})).collect();
    world.call(&own, json!(said)).await;
    world.merge().await;
    assert_eq!(world.state(message, 7).await, Some(State::Accepted));
    assert_eq!(world.store.counters(message).await.unwrap().len(), 2, "accepted, in both views");
    assert_eq!(world.counted(&own, "forged"), 8);
    assert_eq!(world.store.journal_rows().await.unwrap(), 0);
}

#[tokio::test]
async fn a_batchs_receipts_find_devices_by_token_even_retired_ones() {
    let mut world = World::new().await;
    let batch = world.batch.clone();
    let message = world.message(1).await;
    let devices = world.devices(&["t0", "t1", "t2"]).await;
    for device in &devices {
        world.record(&batch, message, *device, State::Accepted).await;
    }
    let param = world.param(&batch, message, devices[0]);
    let dead = json!([{"event": "dead", "param": param, "token": "t1", "code": "gone"}]);
    world.call(&batch, dead).await;
    world.merge().await;
    let failed = world.settled(message, devices[1]).await;
    assert_eq!((failed.state, failed.reason), (State::Failed, Some(Reason::InvalidToken)));
    let told = trail::decode(&failed.trail);
    assert!(matches!(told[..], [TrailEntry::FailedLater { code: Some(_), .. }, TrailEntry::Ended { .. }]));
    let listed = world.store.devices(world.apps[0], &DeviceFilter::default(), 0, 10).await.unwrap();
    let active: Vec<_> = listed.iter().map(|device| device.addresses[0].active).collect();
    assert_eq!(active, [true, false, true], "only the delivery's own address is retired");
    let said: Vec<_> = ["t1", "t2", "nobody's"]
        .map(|token| json!({"event": "delivered", "param": param, "token": token}))
        .to_vec();
    world.call(&batch, json!(said)).await;
    world.merge().await;
    let states = [world.state(message, devices[0]).await, world.state(message, devices[1]).await];
    assert_eq!(states, [Some(State::Accepted), Some(State::Delivered)]);
    assert_eq!(world.state(message, devices[2]).await, Some(State::Delivered));
    assert_eq!(world.counted(&batch, "unresolved"), 1);
}

#[tokio::test]
async fn a_batchs_receipts_find_targets_that_the_call_gave() {
    let mut world = World::new().await;
    let batch = world.batch.clone();
    let message = world.message(1).await;
    let given = |token: &str| NewTarget {
        provider: Some("played".into()),
        kind: Some("token".into()),
        token: Some(token.into()),
        ..NewTarget::default()
    };
    let targets = vec![(message, 0, given("g0")), (message, 1, given("g1"))];
    world.store.commit(Changes { targets, ..Changes::default() }).await.unwrap();
    for index in 0..2 {
        world.record(&batch, message, GIVEN_TARGETS + index, State::Accepted).await;
    }
    let param = world.param(&batch, message, GIVEN_TARGETS);
    world.call(&batch, json!([{"event": "displayed", "param": param, "token": "g1"}])).await;
    world.merge().await;
    assert_eq!(world.state(message, GIVEN_TARGETS).await, Some(State::Accepted));
    assert_eq!(world.state(message, GIVEN_TARGETS + 1).await, Some(State::Displayed));
}

#[tokio::test]
async fn without_a_parameter_token_and_vendor_id_together_find_the_delivery() {
    let mut world = World::new().await;
    let batch = world.batch.clone();
    let (first, second) = (world.message(1).await, world.message(2).await);
    let device = world.devices(&["t0"]).await[0];
    world.record(&batch, first, device, State::Accepted).await;
    world.record(&world.channel.clone(), second, device, State::Accepted).await;
    let id = format!("v-{device}");
    let said = [
        json!({"event": "delivered", "token": "t0", "vendor_id": id}),
        json!({"event": "clicked", "token": "t0"}),
        json!({"event": "clicked", "vendor_id": id}),
        json!({"event": "clicked", "token": "t0", "vendor_id": "another"}),
    ];
    world.call(&batch, json!(said)).await;
    world.merge().await;
    assert_eq!(world.state(first, device).await, Some(State::Delivered));
    assert_eq!(world.state(second, device).await, Some(State::Accepted), "another channel's");
    assert_eq!(world.counted(&batch, "unresolved"), 3);
}

#[tokio::test]
async fn a_receipt_that_comes_before_its_outcome_waits_for_it() {
    let mut world = World::new().await;
    let channel = world.channel.clone();
    let message = world.message(1).await;
    world.record(&channel, message, 8, State::Accepted).await;
    let said = [world.said(&channel, message, 7, "displayed"), world.said(&channel, message, 8, "delivered")];
    world.call(&channel, json!(said)).await;
    world.merge().await;
    assert_eq!(world.state(message, 7).await, None);
    assert_eq!(world.state(message, 8).await, Some(State::Delivered), "its neighbour does not wait");
    assert_eq!((world.receipts.journal_rows(), world.receipts.lag_seconds()), (1, 0));
    world.record(&channel, message, 7, State::Accepted).await;
    world.merge_later().await;
    assert_eq!(world.state(message, 7).await, Some(State::Displayed));
    assert_eq!(world.store.journal_rows().await.unwrap(), 0);
    assert_eq!((world.counted(&channel, "early"), world.counted(&channel, "orphan")), (1, 0));
}

#[tokio::test]
async fn a_receipt_whose_delivery_never_comes_is_an_orphan_after_ten_minutes() {
    let mut world = World::new().await;
    let channel = world.channel.clone();
    let message = world.message(1).await;
    world.call(&channel, json!([world.said(&channel, message, 7, "displayed")])).await;
    world.merge().await;
    for minute in 1..=10 {
        assert_eq!((minute, world.receipts.journal_rows()), (minute, 1));
        world.clock.advance(Duration::from_mins(1));
        world.merge_later().await;
    }
    assert_eq!(world.receipts.journal_rows(), 0);
    assert_eq!(world.counted(&channel, "orphan"), 1);
    assert_eq!(world.state(message, 7).await, None);
}

#[tokio::test]
async fn a_failure_between_two_tries_does_not_end_the_delivery() {
    let mut world = World::new().await;
    let channel = world.channel.clone();
    let message = world.message(1).await;
    world.record(&channel, message, 7, State::Pending).await;
    world.call(&channel, json!([world.said(&channel, message, 7, "unreachable")])).await;
    world.merge().await;
    assert_eq!(world.state(message, 7).await, Some(State::Pending));
    world.record(&channel, message, 7, State::Delivered).await;
    world.merge_later().await;
    assert_eq!(world.state(message, 7).await, Some(State::Delivered));
    assert_eq!(world.receipts.journal_rows(), 0);
}

#[tokio::test]
async fn a_receipt_that_comes_days_late_still_counts() {
    let mut world = World::new().await;
    let channel = world.channel.clone();
    let message = world.message(1).await;
    world.record(&channel, message, 7, State::Accepted).await;
    world.record(&channel, message, 7, State::Expired).await;
    world.clock.advance(Duration::from_hours(72));
    world.call(&channel, json!([world.said(&channel, message, 7, "clicked")])).await;
    world.merge().await;
    let row = world.row(message, 7).await.unwrap();
    assert_eq!((row.state, row.reached_ms[3]), (State::Clicked, Some(72 * 3_600_000)));
}

#[tokio::test]
async fn what_an_earlier_life_left_in_the_journal_is_merged() {
    let mut world = World::new().await;
    let channel = world.channel.clone();
    let message = world.message(1).await;
    world.record(&channel, message, 7, State::Accepted).await;
    world.call(&channel, json!([world.said(&channel, message, 7, "delivered")])).await;
    let again = crate::receipts::Receipts::new(world.receipts.inner.parts.clone()).await.unwrap();
    assert_eq!(again.journal_rows(), 1);
    world.receipts = again;
    world.merge_anew().await;
    assert_eq!(world.state(message, 7).await, Some(State::Delivered));
}

#[tokio::test]
async fn a_failure_after_acceptance_goes_on_to_the_next_channel_in_the_transaction_of_its_receipt() {
    let mut world = World::new().await;
    let (channel, next) = (world.channel.clone(), world.batch.record.seq);
    let message = world.message(1).await;
    let device = world.devices(&["t0"]).await[0];
    world.record(&channel, message, device, State::Accepted).await;
    let said = world.said(&channel, message, device, "unreachable");
    world.call(&channel, json!([said, said])).await;
    world.merge().await;
    assert_eq!(world.store.journal_rows().await.unwrap(), 0);
    // The next vendor says nothing, so the delivery stays between its tries there.
    let tried = |row: &Delivery| {
        let tries = trail::decode(&row.trail).into_iter();
        tries
            .filter(|entry| matches!(entry, TrailEntry::Attempted { channel, .. } if *channel == next))
            .count()
    };
    let row = world.until(message, device, |row| tried(row) == 1).await;
    assert_eq!((row.state, row.channel), (State::Pending, next));
    world.call(&channel, json!([world.said(&channel, message, device, "unreachable")])).await;
    world.merge().await;
    assert_eq!(world.store.journal_rows().await.unwrap(), 0, "a repeat waits for nothing");
    let told = trail::decode(&world.row(message, device).await.unwrap().trail);
    assert_eq!(told.iter().filter(|entry| matches!(entry, TrailEntry::FailedLater { .. })).count(), 1);
}

#[tokio::test]
async fn what_a_receipt_says_of_one_of_many_without_its_token_is_said_of_nobody() {
    let mut world = World::new().await;
    let batch = world.batch.clone();
    let message = world.message(2).await;
    let devices = world.devices(&["t0", "t1"]).await;
    for device in &devices {
        world.record(&batch, message, *device, State::Accepted).await;
    }
    let of_all = world.param(&batch, message, NOBODY);
    world.call(&batch, json!([{"event": "delivered", "param": of_all}])).await;
    world.merge().await;
    for device in &devices {
        assert_eq!(world.row(message, *device).await.unwrap().state, State::Accepted);
    }
    assert_eq!(world.store.journal_rows().await.unwrap(), 0, "it waits for nothing");
    world.call(&batch, json!([{"event": "delivered", "param": of_all, "token": "t1"}])).await;
    world.merge().await;
    assert_eq!(world.row(message, devices[0]).await.unwrap().state, State::Accepted);
    assert_eq!(world.row(message, devices[1]).await.unwrap().state, State::Delivered);
}

#[tokio::test]
async fn a_vendor_that_calls_everybody_dead_by_receipt_retires_a_hundred_at_the_most() {
    let mut world = World::new().await;
    let batch = world.batch.clone();
    let message = world.message(1).await;
    let tokens: Vec<_> = (0..150).map(|n| format!("t{n}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let devices = world.devices(&tokens).await;
    for device in &devices {
        world.record(&batch, message, *device, State::Accepted).await;
    }
    let param = world.param(&batch, message, devices[0]);
    let dead = |token: &&str| json!({"event": "dead", "param": param, "token": token});
    world.call(&batch, json!(tokens.iter().map(dead).collect::<Vec<_>>())).await;
    world.merge().await;
    let listed = world.store.devices(world.apps[0], &DeviceFilter::default(), 0, 200).await.unwrap();
    let retired = listed.iter().filter(|device| !device.addresses[0].active).count();
    assert_eq!(retired, 100);
    assert!(
        world.receipts.inner.parts.channels.by_seq(batch.record.seq).unwrap().record.state_info.is_some()
    );
}
