//! What is used of quotas.

use std::collections::HashMap;

use super::samples::{NOW, id, work};
use crate::delivery::page::{Entry, Page};
use crate::store::{Changes, Lease, NewWork, QuotaAsk, QuotaBack, QuotaLimit, Store, WorkItem, WorkKind};

/// A page of so many targets as a work item in hand.
async fn page(store: &dyn Store, n: i64, targets: u64) -> (WorkItem, Page) {
    let entries = (1..=targets).map(|target| Entry { target, ..Entry::default() }).collect();
    let page = Page { entries, ..Page::default() };
    let item = NewWork { payload: page.encode(), leased: Some((1, 0, u64::MAX)), ..work(n, id(1), 5, NOW) };
    store.commit(Changes { work: vec![item.clone()], ..Changes::default() }).await.unwrap();
    (item.as_item(0), page)
}

fn limit(quota: i64, limit: u64, per_device: bool) -> QuotaLimit {
    QuotaLimit { quota, began_at: NOW, limit, per_device }
}

fn ask((item, page): (WorkItem, Page), quotas: Vec<QuotaLimit>, devices: &[i64]) -> QuotaAsk {
    QuotaAsk { item, page, at_ms: 7, quotas, targets: devices.iter().copied().enumerate().collect() }
}

pub(in crate::store) async fn a_target_uses_all_its_quotas_or_none_and_the_page_says_who_is_counted(
    store: &dyn Store,
) {
    let epoch = store.begin_epoch(1).await.unwrap();
    let whole = page(store, 1, 5).await;
    let quotas = vec![limit(10, 3, false), limit(20, 1, true)];
    // The second of device 7 finds its own quota used up, and so uses nothing of the other.
    let answer = store.use_quotas(ask(whole, quotas.clone(), &[7, 7, 8, 9, 11])).await.unwrap();
    assert_eq!(answer.refused, [(1, 1), (4, 0)]);
    let marks: Vec<_> = answer.page.entries.iter().map(|entry| entry.counted).collect();
    assert_eq!(marks, [Some(7), None, Some(7), Some(7), None]);
    assert_eq!(store.quotas_used(&[(10, NOW), (20, NOW), (10, NOW + 1)]).await.unwrap(), [(10, 3)]);
    // As a crash would find it.
    let until_ms = NOW + 1;
    let lease = Lease {
        kind: WorkKind::Page,
        channel: 5,
        lane: None,
        node: 1,
        epoch,
        now_ms: NOW,
        until_ms,
        limit: 9,
    };
    store.begin_epoch(1).await.unwrap();
    let found = store.lease(lease).await.unwrap().pop().unwrap();
    assert_eq!(Page::decode(&found.payload).unwrap(), answer.page);
    // The next period has its own count.
    let tomorrow = QuotaLimit { began_at: NOW + 1, ..quotas[0] };
    let answer = store.use_quotas(ask(page(store, 2, 1).await, vec![tomorrow], &[7])).await.unwrap();
    assert!(answer.refused.is_empty());
}

pub(in crate::store) async fn a_use_that_is_given_back_is_free_again_and_old_periods_are_forgotten(
    store: &dyn Store,
) {
    let quotas = vec![limit(10, 2, false)];
    store.use_quotas(ask(page(store, 1, 2).await, quotas.clone(), &[1, 2])).await.unwrap();
    let back = QuotaBack { quota: 10, began_at: NOW, device: 0 };
    let nothing = QuotaBack { quota: 11, ..back };
    store
        .commit(Changes { quota_back: vec![back, nothing, back, back], ..Changes::default() })
        .await
        .unwrap();
    assert_eq!(store.quotas_used(&[(10, NOW), (11, NOW)]).await.unwrap(), [(10, 0)], "never below nothing");
    let answer = store.use_quotas(ask(page(store, 2, 3).await, quotas, &[1, 2, 3])).await.unwrap();
    assert_eq!(answer.refused, [(2, 0)]);
    assert_eq!(store.purge_quotas(NOW, 10).await.unwrap(), 0);
    assert_eq!(store.purge_quotas(NOW + 1, 10).await.unwrap(), 1);
    assert!(store.quotas_used(&[(10, NOW)]).await.unwrap().is_empty());
}

pub(in crate::store) async fn a_quota_that_a_vendor_calls_used_up_is_so_until_its_time(store: &dyn Store) {
    store.close_quota(10, NOW + 5).await.unwrap();
    store.close_quota(11, NOW + 9).await.unwrap();
    store.close_quota(11, 0).await.unwrap();
    assert_eq!(store.closed_quotas(NOW).await.unwrap(), [(10, NOW + 5)]);
    assert!(store.closed_quotas(NOW + 5).await.unwrap().is_empty());
}

pub(in crate::store) async fn a_quota_never_lets_more_through_than_it_allows(store: &dyn Store) {
    // Uses and givings-back in a random order, held against a model.
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut model: HashMap<i64, u64> = HashMap::new();
    let limits = [limit(1, 40, false), limit(2, 3, true)];
    for n in 1..=60 {
        let devices: Vec<i64> = (0..=random(8)).map(|_| 1 + random(20) as i64).collect();
        let whole = page(store, n, devices.len() as u64).await;
        let answer = store.use_quotas(ask(whole, limits.to_vec(), &devices)).await.unwrap();
        let mut expected = Vec::new();
        for (place, device) in devices.iter().enumerate() {
            let used = |key: i64| model.get(&key).copied().unwrap_or(0);
            if used(0) >= 40 {
                expected.push((place, 0));
            } else if used(*device) >= 3 {
                expected.push((place, 1));
            } else {
                *model.entry(0).or_default() += 1;
                *model.entry(*device).or_default() += 1;
            }
        }
        assert_eq!(answer.refused, expected, "round {n}");
        let device = 1 + random(20) as i64;
        if model.get(&device).is_some_and(|n| *n > 0) {
            *model.get_mut(&device).unwrap() -= 1;
            *model.get_mut(&0).unwrap() -= 1;
            let one = |quota, device| QuotaBack { quota, began_at: NOW, device };
            let quota_back = vec![one(1, 0), one(2, device)];
            store.commit(Changes { quota_back, ..Changes::default() }).await.unwrap();
        }
        let used = store.quotas_used(&[(1, NOW)]).await.unwrap();
        assert_eq!(used.first().map_or(0, |(_, n)| *n), model.get(&0).copied().unwrap_or(0));
    }
}
