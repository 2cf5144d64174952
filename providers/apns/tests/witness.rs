//! The payloads that outsiders build too: `tests/witness` compares these fixtures with what `a2` makes.

use super::super::payload::render;
use super::*;

#[test]
fn the_witnessed_payloads_are_what_we_send() {
    for (name, text) in [
        ("apns_notification", include_str!("../../../tests/fixtures/witness/apns_notification.json")),
        ("apns_background", include_str!("../../../tests/fixtures/witness/apns_background.json")),
    ] {
        let fixture: Value = serde_json::from_str(text).unwrap();
        let mut batch = batch(fixture["content"].clone(), &[fixture["token"].as_str().unwrap()]);
        batch.message.id = fixture["message_id"].as_str().unwrap().to_owned();
        batch.ttl = Duration::from_secs(fixture["ttl_seconds"].as_u64().unwrap());
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(fixture["now_unix"].as_u64().unwrap());
        let body = render(&batch, "device", now).unwrap().body;
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), fixture["sends"], "{name}");
    }
}
