//! The messages that outsiders build too: `tests/witness` compares these fixtures with what `fcm_v1` makes.

use super::super::payload::render;
use super::*;

#[test]
fn the_witnessed_messages_are_what_we_send() {
    for (name, text) in [
        ("fcm_notification", include_str!("../../../tests/fixtures/witness/fcm_notification.json")),
        ("fcm_data_only", include_str!("../../../tests/fixtures/witness/fcm_data_only.json")),
    ] {
        let fixture: Value = serde_json::from_str(text).unwrap();
        let content = serde_json::from_value(fixture["content"].clone()).unwrap();
        let mut batch = batch(content, &[fixture["token"].as_str().unwrap()]);
        batch.message.id = fixture["message_id"].as_str().unwrap().to_owned();
        batch.ttl = Duration::from_secs(fixture["ttl_seconds"].as_u64().unwrap());
        batch.targets[0].key = fixture["key"].as_u64().unwrap_or_default().into();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(fixture["now_unix"].as_u64().unwrap());
        let target = &batch.targets[0];
        let body = render(&batch, now).unwrap().body(&target.address, target.key, false);
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), fixture["sends"], "{name}");
    }
}
