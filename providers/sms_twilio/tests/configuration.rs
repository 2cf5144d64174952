//! Settings as people write them, right and wrong.

use super::*;

fn mistakes(config: &Value) -> Vec<String> {
    let Err(error) = (PROVIDER.build)(config, &Environment::default()) else { panic!("built") };
    assert!(!error.to_string().contains("canary"), "{error}");
    error.0.into_iter().map(|(at, why)| format!("{at}: {why}")).collect()
}

#[test]
fn all_mistakes_are_told_at_once_and_no_secret_is_repeated() {
    let found = mistakes(&json!({
        "account_sid": "canary",
        "api_key_sid": "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "webhook_shared_keys": ["canary"],
        "from": "a canary that is too long",
        "messaging_service_sid": 5,
        "smart_encoded": "canary",
        "max_segments": 0,
        "price_per_segment": "1,5",
        "currency": "usd",
        "base_url": "ftp://canary",
        "ca_pem": "canary",
        "password": "canary"
    }));
    assert_eq!(
        found,
        [
            "/account_sid: must be AC and 32 hexadecimal digits",
            "/api_key_sid: must be SK and 32 hexadecimal digits",
            "/api_key_sid: is required (with api_key_secret), or auth_token",
            "/webhook_shared_keys: must be an object: each key's id with its secret",
            "/from: must be a number such as +15557654321, a short code, or a name of up to 11 letters and digits",
            "/messaging_service_sid: must be a string",
            "/smart_encoded: must be true or false",
            "/max_segments: must be a number from 1 to 30",
            "/currency: must be three capital letters, as in USD",
            "/base_url: must begin with https:// or http:// and a host",
            "/ca_pem: holds no certificate",
            "/password: is no field of this provider",
        ]
    );
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(
        mistakes(&json!({})),
        [
            "/account_sid: is required",
            "/api_key_sid: is required (with api_key_secret), or auth_token",
            "/from: is required, or messaging_service_sid",
        ]
    );
    let full = settings("https://a.example");
    let half = |name: &str| mistakes(&without(full.clone(), &[name]));
    assert_eq!(half("api_key_secret"), ["/api_key_secret: is required beside api_key_sid"]);
    assert_eq!(half("api_key_sid"), ["/api_key_sid: is required beside api_key_secret"]);
    let price = mistakes(&with(full.clone(), &json!({"price_per_segment": "0.01"})));
    assert_eq!(price, ["/currency: is required beside price_per_segment"]);
    for from in ["+15557654321", "12345", "ACME Shop"] {
        build(&with(full.clone(), &json!({"from": from})));
    }
}

#[test]
fn channels_of_one_account_share_their_limits_whatever_key_logs_in() {
    let credential = |more: Value| build(&with(settings("https://a.example"), &more)).credential();
    let one = credential(json!({}));
    assert_eq!(one, credential(json!({"api_key_secret": "other", "from": "+15550000000"})));
    assert_ne!(one, credential(json!({"account_sid": "ACdddddddddddddddddddddddddddddddd"})));
    assert_ne!(one, credential(json!({"base_url": "https://b.example"})));
    assert!(one.starts_with("sms_twilio:") && !one.contains("canary"), "{one}");
}

#[test]
fn every_setting_is_titled_described_exampled_and_secrets_are_write_only() {
    let schema = (PROVIDER.config_schema)();
    let properties = schema.get("properties").unwrap().as_object().unwrap();
    // The reader knows exactly the fields of the schema: one by one, none is refused as unknown.
    for (name, property) in properties {
        for needed in ["title", "description", "examples"] {
            assert!(property.get(needed).is_some(), "{name} has no {needed}");
        }
        let found = mistakes(&json!({name: 1}));
        assert!(found.iter().all(|mistake| !mistake.contains("is no field")), "{found:?}");
    }
    for secret in ["api_key_secret", "auth_token", "webhook_shared_keys"] {
        assert_eq!(properties[secret]["writeOnly"], true);
    }
    assert_eq!(schema.get("additionalProperties"), Some(&json!(false)));
    let category = (PROVIDER.category.schema)();
    for (name, property) in category.get("properties").unwrap().as_object().unwrap() {
        for needed in ["title", "description", "examples"] {
            assert!(property.get(needed).is_some(), "{name} has no {needed}");
        }
    }
}

#[test]
fn the_catalogue_finds_it() {
    let found = crate::find("sms_twilio").unwrap();
    assert_eq!(found.descriptor.name, "Twilio text messages");
    assert_eq!(found.descriptor.address.provider, "phone");
    assert!(found.descriptor.quotas.iter().all(|quota| quota.source.contains("read 20")));
}
