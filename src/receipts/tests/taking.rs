//! From the request to the journal.

use http::StatusCode;
use serde_json::json;

use super::{World, secret};
use crate::delivery::state::State;
use crate::receipts::Refusal;

#[tokio::test]
async fn a_callback_is_on_disk_before_it_is_answered_and_merged_after() {
    let mut world = World::new().await;
    let message = world.message(1).await;
    world.record(&world.channel.clone(), message, 7, State::Accepted).await;
    let channel = world.channel.clone();
    world.call(&channel, json!([world.said(&channel, message, 7, "delivered")])).await;
    assert_eq!(world.store.journal_rows().await.unwrap(), 1);
    assert_eq!(world.receipts.journal_rows(), 1);
    assert_eq!(world.state(message, 7).await, Some(State::Accepted));
    world.merge().await;
    assert_eq!(world.store.journal_rows().await.unwrap(), 0);
    assert_eq!((world.receipts.journal_rows(), world.receipts.lag_seconds()), (0, 0));
    assert_eq!(world.state(message, 7).await, Some(State::Delivered));
    assert_eq!(world.counted(&channel, "merged"), 1);
}

#[tokio::test]
async fn what_is_not_authentic_is_answered_as_the_vendor_wants_and_not_kept() {
    let world = World::new().await;
    let message = world.message(1).await;
    let said = json!([world.said(&world.channel, message, 7, "delivered")]);
    let forged = world.request(&said, "Basic d3Jvbmc=");
    let reply = world.receipts.take(&world.channel, forged).await.unwrap();
    assert_eq!((reply.status, &reply.body[..]), (StatusCode::UNAUTHORIZED, &b"{\"heard\":true}"[..]));
    assert_eq!(world.store.journal_rows().await.unwrap(), 0);
    assert_eq!(world.counted(&world.channel, "refused"), 1);
}

#[tokio::test]
async fn a_probe_without_receipts_is_answered_and_not_kept() {
    let world = World::new().await;
    world.call(&world.channel, json!([])).await;
    assert_eq!(world.store.journal_rows().await.unwrap(), 0);
}

#[tokio::test]
async fn an_adapter_that_panics_costs_its_callback_alone() {
    let world = World::new().await;
    let mut request = world.request(&json!([]), super::PROOF);
    request.body = "panic".into();
    assert!(matches!(world.receipts.take(&world.channel, request).await, Err(Refusal::Unusable)));
    assert_eq!(world.store.journal_rows().await.unwrap(), 0);
}

#[tokio::test]
async fn a_secret_opens_its_own_channel_alone() {
    let world = World::new().await;
    let opened = |id: &str, secret: &str| world.receipts.channel(id, secret).map(|c| c.record.seq);
    let [own, foreign] = [&world.channel, &world.foreign].map(|channel| secret(&world, channel));
    assert_eq!((own.len(), foreign.len()), (26, 26));
    assert_eq!(opened(&world.channel.record.public_id, &own), Some(world.channel.record.seq));
    for (id, secret) in [
        (&world.foreign.record.public_id, own.as_str()),
        (&world.channel.record.public_id, &foreign),
        (&world.channel.record.public_id, &own[..25]),
        (&world.channel.record.public_id, ""),
        (&"chn_none".to_owned(), &own),
    ] {
        assert_eq!(opened(id, secret), None, "{id}");
    }
    let channels = &world.receipts.inner.parts.channels;
    let rotated = channels.rotate_callback(world.apps[0], "played").await.unwrap().unwrap();
    assert_eq!(opened(&rotated.record.public_id, &own), None);
    let new = secret(&world, &rotated);
    assert_eq!(opened(&rotated.record.public_id, &new), Some(rotated.record.seq));
    channels.delete(world.apps[0], "played").await.unwrap();
    assert_eq!(opened(&rotated.record.public_id, &new), None);
}

#[tokio::test]
async fn one_channels_flood_leaves_room_for_the_others() {
    let world = World::new().await;
    let places: Vec<_> = std::iter::repeat_with(|| world.receipts.enter(&world.channel))
        .map_while(Result::ok)
        .take(1000)
        .collect();
    assert_eq!(places.len(), 32);
    assert!(matches!(world.receipts.enter(&world.channel), Err(Refusal::Crowded)));
    assert!(world.receipts.enter(&world.foreign).is_ok());
    drop(places);
    assert!(world.receipts.enter(&world.channel).is_ok());
}

#[tokio::test]
async fn what_is_kept_shows_neither_the_path_nor_the_vendors_credentials_nor_what_is_said() {
    let world = World::new().await;
    let message = world.message(1).await;
    world.call(&world.channel, json!([world.said(&world.channel, message, 7, "delivered")])).await;
    let row = world.store.journal_after(0, 1).await.unwrap().remove(0);
    let shows = |text: &[u8]| row.envelope.windows(text.len()).any(|window| window == text);
    assert!(!shows(b"callbacks") && !shows(b"c2VjcmV0"));
    assert!(!row.body.windows(9).any(|window| window == b"delivered"));
    let request = super::intake::open(&world.receipts.inner.parts.vault, &row).unwrap();
    assert_eq!(request.headers["authorization"], super::PROOF);
    assert!(request.url.ends_with("?x=1"));
    assert!(request.body.windows(9).any(|window| window == b"delivered"));
    let moved = crate::store::RawReceipt { channel: row.channel + 1, ..row };
    assert!(super::intake::open(&world.receipts.inner.parts.vault, &moved).is_none());
}

#[tokio::test]
async fn callbacks_that_come_too_fast_are_refused_before_they_are_read_and_taken_a_second_later() {
    let world = World::new().await;
    let taken =
        std::iter::repeat_with(|| world.receipts.enter(&world.channel)).take_while(Result::is_ok).count();
    assert_eq!(taken, 500);
    assert!(matches!(world.receipts.enter(&world.channel), Err(Refusal::TooFast)));
    assert!(world.receipts.enter(&world.foreign).is_ok(), "another channel's flood is not its own");
    world.clock.advance(std::time::Duration::from_secs(1));
    assert!(world.receipts.enter(&world.channel).is_ok());
}
