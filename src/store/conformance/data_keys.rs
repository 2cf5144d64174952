//! Data keys, and secrets that are sealed anew.

use super::administration::channel;
use super::samples::{NOW, app};
use crate::store::{DataKeyRecord, Store};

fn key(id: u32, master: u8) -> DataKeyRecord {
    DataKeyRecord { id, purpose: 0, master: [master; 4], wrapped: vec![id as u8, master], created_at: NOW }
}

pub(in crate::store) async fn a_data_key_keeps_its_number_and_is_wrapped_anew(store: &dyn Store) {
    assert_eq!(store.data_keys().await.unwrap(), []);
    store.put_data_keys(vec![key(1, 1), key(2, 1)]).await.unwrap();
    store.put_data_keys(vec![key(2, 9), key(3, 9)]).await.unwrap();
    assert_eq!(store.data_keys().await.unwrap(), [key(1, 1), key(2, 9), key(3, 9)]);
    store.delete_data_keys(vec![1, 2, 77]).await.unwrap();
    assert_eq!(store.data_keys().await.unwrap(), [key(3, 9)]);
}

pub(in crate::store) async fn secrets_are_sealed_anew_only_where_nobody_put_others_meanwhile(
    store: &dyn Store,
) {
    let shop = app(store, "shop").await.seq;
    let mut given = channel(shop, "fcm");
    given.secrets = Some(b"old".to_vec());
    let put = store.put_channel(given, Vec::new()).await.unwrap();
    assert!(!store.reseal_channel(put.seq, b"other".to_vec(), b"new".to_vec()).await.unwrap());
    assert!(store.reseal_channel(put.seq, b"old".to_vec(), b"new".to_vec()).await.unwrap());
    let kept = store.channels().await.unwrap().into_iter().find(|c| c.seq == put.seq).unwrap();
    assert_eq!((kept.secrets.as_deref(), kept.version), (Some(&b"new"[..]), put.version));
}
