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
        "key_p8": "canary",
        "key_id": "abc",
        "team_id": "",
        "bundle_id": "can ary",
        "environment": "canary",
        "kinds": ["device", "canary"],
        "base_url": "ftp://canary",
        "sandbox_base_url": "https://canary.example",
        "ca_pem": "canary",
        "topic": "canary"
    }));
    assert_eq!(
        found,
        [
            "/key_id: must be 10 capital letters and digits",
            "/team_id: must not be empty",
            "/key_p8: is no EC private key in PEM form (PKCS#8)",
            "/bundle_id: must be the app's bundle id, as in com.example.app",
            "/environment: must be production, sandbox or both",
            "/base_url: must begin with https:// or http:// and a host",
            "/sandbox_base_url: belongs to the environment both; use base_url",
            &format!("/kinds: must be a list of kinds of address: {}", super::super::push::KINDS.join(", ")),
            "/ca_pem: holds no certificate",
            "/topic: is no field of this provider",
        ]
    );
}

#[test]
fn a_channel_needs_a_key_or_a_certificate_and_not_both() {
    let none = mistakes(&json!({"bundle_id": "com.example.app"}));
    assert_eq!(none, ["/key_p8: is required (with key_id and team_id), or certificate and private_key"]);
    let both =
        mistakes(&with(settings("https://a.example", "ABC123DEFG"), &json!({"certificate": "canary"})));
    assert!(both[0].starts_with("/certificate: cannot stand beside key_p8"), "{both:?}");
    let half = mistakes(&json!({"bundle_id": "com.example.app", "key_id": "ABC123DEFG"}));
    assert_eq!(half, ["/key_p8: is required", "/team_id: is required"]);
    let half = mistakes(&json!({"bundle_id": "com.example.app", "private_key": "canary"}));
    assert_eq!(half, ["/certificate: is required"]);
    let rsa = crate::kit::testing::RSA_PEM;
    let wrong = mistakes(&with(settings("https://a.example", "ABC123DEFG"), &json!({"key_p8": rsa})));
    assert_eq!(wrong, ["/key_p8: is no EC private key in PEM form (PKCS#8)"]);
}

#[test]
fn an_address_of_another_environment_app_or_kind_is_not_served() {
    let channel = build(&settings("https://a.example", "ABC123DEFG"));
    let served = |name: &str, value: &str| {
        let mut address = target(TOKEN, 1).address;
        if name == "kind" {
            address.kind = value.to_owned();
        } else {
            address.params.insert(name.to_owned(), value.to_owned());
        }
        channel.serves(&address)
    };
    for (name, value) in [
        ("kind", "device"),
        ("environment", "production"),
        ("topic", "com.example.app"),
        ("topic", "com.example.app.Clip"),
    ] {
        assert_eq!(served(name, value), Ok(()), "{name} {value}");
    }
    for (name, value) in [
        ("kind", "voip"),
        ("environment", "sandbox"),
        ("environment", "other"),
        ("topic", "com.example.application"),
        ("topic", "com.example"),
        ("topic", "com.example.app.\r\nx"),
    ] {
        let why = served(name, value).unwrap_err();
        assert!(why.starts_with("the address "), "{name} {value}: {why}");
    }
    let sandbox =
        build(&with(settings("https://a.example", "ABC123DEFG"), &json!({"environment": "sandbox"})));
    assert_eq!(
        sandbox.serves(&target(TOKEN, 1).address),
        Ok(()),
        "an address without one is the channel's own"
    );
    let voip = build(&with(settings("https://a.example", "ABC123DEFG"), &json!({"kinds": ["voip"]})));
    assert!(voip.serves(&target(TOKEN, 1).address).is_err());
}

#[test]
fn channels_of_one_key_and_host_share_their_limits() {
    let credential =
        |more: Value| build(&with(settings("https://a.example", "ABC123DEFG"), &more)).credential();
    let one = credential(json!({}));
    assert_eq!(one, credential(json!({"bundle_id": "com.example.other", "base_url": "https://a.example/"})));
    for other in [
        json!({"key_id": "OTHERKEY01"}),
        json!({"team_id": "OTHERTEAM1"}),
        json!({"base_url": "https://b.example"}),
    ] {
        assert_ne!(one, credential(other));
    }
    assert!(one.starts_with("apns:") && one.len() == 21, "{one}");
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
    for secret in ["key_p8", "private_key"] {
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
    let found = crate::find("apns").unwrap();
    assert_eq!(found.descriptor.name, "Apple Push Notification service");
    assert!(found.descriptor.quotas.iter().all(|quota| quota.source.contains("read 20")));
}
