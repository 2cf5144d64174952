//! Doubtful words about an address: two strikes, apart from each other and not too far.

use std::time::Duration;

use anypush_providers::contract::Reason;
use tempfile::TempDir;

use super::{SqliteOptions, open_in};
use crate::clock::Clock;
use crate::store::conformance::samples::{NOW, address, app, device};
use crate::store::{AddressVerdict, Changes, Store as _};

/// Which of these waits end with the address retired: a doubtful word after each.
async fn retired_after(waits: &[u64]) -> Vec<bool> {
    let directory = TempDir::new().unwrap();
    let clock = Clock::fixed(NOW);
    let store = open_in(&directory, SqliteOptions { clock: clock.clone(), ..SqliteOptions::default() }).await;
    app(&*store, "shop").await;
    let phone = device("a", vec![address("globe", "t")]);
    let seq = store.put_devices(1, vec![phone], NOW).await.unwrap()[0].seq;
    let mut retired = Vec::new();
    for wait in waits {
        clock.advance(Duration::from_secs(*wait));
        let (provider, reason) = ("globe".into(), Reason::InvalidToken);
        let word =
            AddressVerdict { app: 1, provider, device: seq, version: 1, reason, retire: false, since: None };
        store.commit(Changes { addresses: vec![word], ..Changes::default() }).await.unwrap();
        retired.push(store.send_addresses(1, "globe", &[seq]).await.unwrap().is_empty());
    }
    store.close().await;
    retired
}

#[tokio::test]
async fn the_second_doubtful_word_retires_an_address() {
    assert_eq!(retired_after(&[0, 61]).await, [false, true]);
}

#[tokio::test]
async fn two_words_at_the_same_time_are_one_strike() {
    assert_eq!(retired_after(&[0, 1, 1, 59]).await, [false, false, false, true]);
}

#[tokio::test]
async fn a_strike_is_forgotten_after_a_month() {
    let month = 31 * 24 * 3600;
    assert_eq!(retired_after(&[0, month, month, 61]).await, [false, false, false, true]);
}

/// Whether a definite word that holds since this time retires an address that was named at `NOW`, and again after two hours.
async fn retired_by_a_word_since(since: u64) -> bool {
    let directory = TempDir::new().unwrap();
    let clock = Clock::fixed(NOW);
    let store = open_in(&directory, SqliteOptions { clock: clock.clone(), ..SqliteOptions::default() }).await;
    app(&*store, "shop").await;
    let phone = device("a", vec![address("globe", "t")]);
    let seq = store.put_devices(1, vec![phone.clone()], NOW).await.unwrap()[0].seq;
    clock.advance(Duration::from_hours(2));
    store.put_devices(1, vec![phone], NOW + 7_200_000).await.unwrap();
    let (provider, reason, since) = ("globe".into(), Reason::InvalidToken, Some(since));
    let word = AddressVerdict { app: 1, provider, device: seq, version: 1, reason, retire: true, since };
    store.commit(Changes { addresses: vec![word.clone()], ..Changes::default() }).await.unwrap();
    let at_once = store.send_addresses(1, "globe", &[seq]).await.unwrap().is_empty();
    clock.advance(Duration::from_secs(61));
    store.commit(Changes { addresses: vec![word], ..Changes::default() }).await.unwrap();
    assert!(store.send_addresses(1, "globe", &[seq]).await.unwrap().is_empty(), "the second time it counts");
    store.close().await;
    at_once
}

#[tokio::test]
async fn a_token_that_was_registered_again_after_the_vendor_found_it_dead_is_kept_until_a_second_word() {
    assert!(!retired_by_a_word_since(NOW - 5).await);
    assert!(!retired_by_a_word_since(NOW + 7_200_000).await, "named again at that very moment");
    assert!(retired_by_a_word_since(NOW + 7_200_001).await);
}
