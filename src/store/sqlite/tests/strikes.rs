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
        let word = AddressVerdict { app: 1, provider, device: seq, version: 1, reason, retire: false };
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
