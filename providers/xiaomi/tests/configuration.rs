//! Settings as people write them, right and wrong.

use super::*;

fn mistakes(config: &Value) -> Vec<String> {
    let Err(error) = (PROVIDER.build)(config, &Environment::default()) else { panic!("built") };
    assert!(!error.to_string().contains("canary"), "{error}");
    error.0.into_iter().map(|(at, why)| format!("{at}: {why}")).collect()
}

#[test]
fn secret_and_package_are_enough() {
    build(&json!({"app_secret": SECRET, "package_name": "com.example.app"}));
}

#[test]
fn all_mistakes_are_told_at_once_and_no_secret_is_repeated() {
    let found = mistakes(&json!({
        "app_secret": "canary\n1",
        "package_name": "canary",
        "region": "canary",
        "private_channel_id": 5,
        "base_url": "ftp://canary",
        "base_urls": {"moon": "https://a.example", "ru": "canary", "in": 1},
        "ca_pem": "canary",
        "app_key": "canary"
    }));
    assert_eq!(
        found,
        [
            "/app_secret: must be plain letters and digits",
            "/package_name: must be one Android package name, as in com.example.app",
            "/region: must be one of cn, ru, in, eu, global",
            "/private_channel_id: must be a string",
            "/base_url: must begin with https:// or http:// and a host",
            "/base_urls/in: must be a string",
            "/base_urls/moon: is no region; they are cn, ru, in, eu, global",
            "/base_urls/ru: must be an absolute URL",
            "/ca_pem: holds no certificate",
            "/app_key: is no field of this provider",
        ]
    );
    assert_eq!(mistakes(&json!({})), ["/app_secret: is required", "/package_name: is required"]);
    assert_eq!(mistakes(&json!({"app_secret": "a", "package_name": "a.b,c.d"})).len(), 1);
}

#[test]
fn a_secret_never_shows() {
    let read = crate::xiaomi::config::Config::read(&config("https://a.example")).unwrap();
    assert!(!format!("{read:?}").contains(SECRET));
    let channel = build(&config("https://a.example"));
    assert!(!channel.credential().contains(SECRET));
}

#[test]
fn one_app_is_one_credential_and_another_service_is_another() {
    let of = |base: &str| build(&config(base)).credential();
    assert_eq!(of("https://a.example"), of("https://a.example/"));
    assert_ne!(of("https://a.example"), of("https://b.example"));
    assert!(of("https://a.example").starts_with("xiaomi:"));
}

#[test]
fn a_categorys_mistakes_are_told_at_once() {
    let found = |settings: Value| -> Vec<String> {
        let error = (PROVIDER.category.check)(&settings).unwrap_err();
        error.0.into_iter().map(|(at, why)| format!("{at}: {why}")).collect()
    };
    assert_eq!(
        found(
            json!({"channel_id": "1", "class": "vip", "template_param": {"a": "{order}", "b": 1}, "sound": "x"})
        ),
        [
            "/class: must be private or public",
            "/template_id: is required with template_param",
            "/template_param/a: may name {title}, {body} and {data.KEY} in braces, nothing else",
            "/template_param/b: must be a text that is not blank",
            "/sound: is no field of this provider",
        ]
    );
    assert_eq!(
        found(json!({"channel_id": "1"})),
        ["/class: is required with channel_id: is that channel private or public?"]
    );
    let ten: serde_json::Map<String, Value> = (0..10).map(|n| (format!("v{n}"), json!("x"))).collect();
    assert_eq!(found(json!({"template_id": "P", "template_param": ten})).len(), 1);
    assert_eq!((PROVIDER.category.check)(&json!({})), Ok(()));
}

#[test]
fn every_setting_is_titled_described_and_exampled_and_the_secret_is_write_only() {
    for schema in [(PROVIDER.config_schema)(), (PROVIDER.category.schema)()] {
        let schema = schema.as_value().clone();
        for (name, property) in schema["properties"].as_object().unwrap() {
            for word in ["title", "description", "examples"] {
                assert!(!property[word].is_null(), "{name} has no {word}");
            }
        }
    }
    let schema = (PROVIDER.config_schema)();
    assert_eq!(schema.as_value()["properties"]["app_secret"]["writeOnly"], true);
}
