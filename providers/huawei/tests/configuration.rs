//! Settings as people write them, right and wrong.

use super::*;

fn mistakes(config: &Value) -> Vec<String> {
    let Err(error) = (PROVIDER.build)(config, &Environment::default()) else { panic!("built") };
    assert!(!error.to_string().contains("canary"), "{error}");
    error.0.into_iter().map(|(at, why)| format!("{at}: {why}")).collect()
}

#[test]
fn app_and_secret_or_a_key_alone_are_enough() {
    build(&json!({"app_id": "1", "app_secret": "x"}));
    build(&json!({"service_account": account()}));
    build(&json!({"service_account": account().to_string()}));
    build(&json!({"service_account": account(), "app_id": "1"}));
}

#[test]
fn all_mistakes_are_told_at_once_and_no_secret_is_repeated() {
    let found = mistakes(&json!({
        "app_id": "../canary",
        "project_id": 7,
        "service_account": {"private_key": "canary", "project_id": "x/canary"},
        "callback_secret": "canary",
        "test_messages": "canary",
        "base_url": "ftp://canary",
        "ca_pem": "canary",
        "client_secret": "canary"
    }));
    assert_eq!(
        found,
        [
            "/app_id: must be a number, as the console shows it",
            "/project_id: must be a string",
            "/service_account/key_id: is required",
            "/service_account/sub_account: is required",
            "/service_account/private_key: is no RSA private key in PEM form",
            "/service_account/project_id: must be a number, as the console shows it",
            "/base_url: must begin with https:// or http:// and a host",
            "/callback_user: is required with callback_secret",
            "/test_messages: must be true or false",
            "/ca_pem: holds no certificate",
            "/client_secret: is no field of this provider",
        ]
    );
    assert_eq!(mistakes(&json!({})), ["/app_secret: is required, or service_account"]);
    assert_eq!(mistakes(&json!({"app_secret": "canary"})), ["/app_id: is required with app_secret"]);
    let both = json!({"app_id": "1", "app_secret": "canary", "service_account": account()});
    assert_eq!(mistakes(&both), ["/app_secret: must not stand beside service_account: one of them"]);
    let half = json!({"app_id": "1", "app_secret": "canary", "callback_user": "u"});
    assert_eq!(mistakes(&half), ["/callback_secret: is required with callback_user"]);
    let mut nameless = account();
    nameless.as_object_mut().unwrap().remove("project_id");
    assert_eq!(
        mistakes(&json!({"service_account": nameless})),
        ["/app_id: is required: the key names no project"]
    );
    assert_eq!(
        mistakes(&json!({"service_account": "canary {"})),
        ["/service_account: is no JSON: paste the whole key file"]
    );
}

#[test]
fn a_secret_never_shows() {
    let mut config = config("https://a.example");
    config["callback_user"] = json!("u");
    config["callback_secret"] = json!("canary-callback");
    let read = crate::huawei::config::Config::read(&config).unwrap();
    assert!(!format!("{read:?}").contains("canary"));
    let account = crate::huawei::config::Config::read(&json!({"service_account": account()})).unwrap();
    assert!(!format!("{account:?}").contains("PRIVATE"));
    assert!(build(&config).credential().starts_with("huawei:"));
}

#[test]
fn a_categorys_mistakes_are_told_at_once() {
    let settings = json!({"category": "VIP", "importance": "HIGH", "urgency": "low", "collapse_group": 101, "sound": "x"});
    let error = (PROVIDER.category.check)(&settings).unwrap_err();
    let at: Vec<&str> = error.0.iter().map(|(at, _)| at.as_str()).collect();
    assert_eq!(at, ["/category", "/importance", "/urgency", "/collapse_group", "/sound"]);
    assert_eq!((PROVIDER.category.check)(&json!({})), Ok(()));
}

#[test]
fn every_setting_is_titled_described_and_exampled_and_secrets_are_write_only() {
    for schema in [(PROVIDER.config_schema)(), (PROVIDER.category.schema)()] {
        let schema = schema.as_value().clone();
        for (name, property) in schema["properties"].as_object().unwrap() {
            for word in ["title", "description", "examples"] {
                assert!(!property[word].is_null(), "{name} has no {word}");
            }
        }
    }
    let schema = (PROVIDER.config_schema)();
    for secret in ["app_secret", "service_account", "callback_secret"] {
        assert_eq!(schema.as_value()["properties"][secret]["writeOnly"], true, "{secret}");
    }
}
