//! Data keys, and secrets that are sealed anew.

use super::administration::channel;
use super::samples::{NOW, app};
use crate::store::{DataKeyRecord, RegistrationKeyRecord, SealedSecret, SecretHome, Store};

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
    let kept = store.sealed_secrets().await.unwrap();
    let [old] = &kept[..] else { panic!("one secret: {kept:?}") };
    assert_eq!(
        (old.home, old.app, &*old.name, &*old.sealed),
        (SecretHome::Channel, shop, "fcm", &b"old"[..])
    );
    let other = SealedSecret { sealed: b"other".to_vec(), ..old.clone() };
    assert!(!store.reseal(other, b"new".to_vec()).await.unwrap());
    assert!(store.reseal(old.clone(), b"new".to_vec()).await.unwrap());
    let kept = store.channels().await.unwrap().into_iter().find(|c| c.seq == put.seq).unwrap();
    assert_eq!((kept.secrets.as_deref(), kept.version), (Some(&b"new"[..]), put.version));
}

pub(in crate::store) async fn a_registration_secret_is_sealed_anew_and_a_public_key_is_none(
    store: &dyn Store,
) {
    let shop = app(store, "shop").await.seq;
    for (id, algorithm) in [("rk_public", 0), ("rk_secret", 1)] {
        let key = RegistrationKeyRecord {
            id: id.into(),
            app: shop,
            name: String::new(),
            algorithm,
            key: b"old".to_vec(),
            created_at: NOW,
            revoked_at: None,
        };
        store.put_registration_key(key).await.unwrap();
    }
    let kept = store.sealed_secrets().await.unwrap();
    let [old] = &kept[..] else { panic!("one secret: {kept:?}") };
    assert_eq!((old.home, &*old.name), (SecretHome::RegistrationKey, "rk_secret"));
    assert!(store.reseal(old.clone(), b"new".to_vec()).await.unwrap());
    assert_eq!(store.registration_key("rk_secret").await.unwrap().unwrap().key, b"new");
    assert_eq!(store.registration_key("rk_public").await.unwrap().unwrap().key, b"old");
}
