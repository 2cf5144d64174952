//! Settings as people write them, right and wrong.

use super::*;

fn mistakes(config: &Value) -> Vec<String> {
    let Err(error) = (PROVIDER.build)(config, &Environment::default()) else { panic!("built") };
    assert!(!error.to_string().contains("canary"), "{error}");
    error.0.into_iter().map(|(at, why)| format!("{at}: {why}")).collect()
}

#[test]
fn the_key_file_alone_is_enough_as_object_and_as_text() {
    for key in [account(), json!(account().to_string())] {
        build(&json!({"service_account": key}));
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_no_secret_is_repeated() {
    let found = mistakes(&json!({
        "service_account": {"type": "user", "private_key": "canary", "project_id": "a/b", "token_uri": "canary"},
        "project_id": "../canary",
        "base_url": "ftp://canary",
        "token_url": 5,
        "ca_pem": "canary",
        "server_key": "canary"
    }));
    assert_eq!(
        found,
        [
            "/service_account/type: must be service_account",
            "/service_account/client_email: is required",
            "/service_account/private_key: is no RSA private key in PEM form",
            "/service_account/project_id: must be a Firebase project id, as in demo-proj",
            "/service_account/token_uri: must be an absolute URL",
            "/project_id: must be a Firebase project id, as in demo-proj",
            "/base_url: must begin with https:// or http:// and a host",
            "/token_url: must be a string",
            "/ca_pem: holds no certificate",
            "/server_key: is no field of this provider",
        ]
    );
}

#[test]
fn the_wrong_file_and_no_file_are_named_as_such() {
    assert_eq!(mistakes(&json!({})), ["/service_account: is required"]);
    assert_eq!(mistakes(&json!({"service_account": 7})), ["/service_account: must be an object"]);
    let text = mistakes(&json!({"service_account": "canary {"}));
    assert_eq!(text, ["/service_account: is no JSON: paste the whole key file"]);
    let client = mistakes(&json!({"service_account": {"project_info": {}, "client": []}}));
    assert!(client[0].contains("google-services.json"), "{client:?}");
    let mut nameless = account();
    nameless.as_object_mut().unwrap().remove("project_id");
    assert_eq!(
        mistakes(&json!({"service_account": nameless})),
        ["/project_id: is required: the key names no project"]
    );
}

#[test]
fn a_setting_overrides_the_keys_own_project() {
    let own = build(&json!({"service_account": account()}));
    let other = build(&json!({"service_account": account(), "project_id": "other-proj"}));
    let mut address = target(TOKEN, 1).address;
    assert_eq!((own.serves(&address), other.serves(&address)), (Ok(()), Ok(())));
    address.params.insert("project_id".to_owned(), "demo-proj".to_owned());
    assert_eq!(own.serves(&address), Ok(()));
    assert!(other.serves(&address).unwrap_err().contains("demo-proj"));
}

#[test]
fn channels_of_one_key_and_project_share_their_limits() {
    let credential = |config: Value| build(&config).credential();
    let one = credential(json!({"service_account": account()}));
    assert_eq!(one, credential(json!({"service_account": account().to_string(), "project_id": "demo-proj"})));
    assert_ne!(one, credential(json!({"service_account": account(), "project_id": "other-proj"})));
    assert!(one.starts_with("fcm:") && one.len() == 20, "{one}");
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
        let found = mistakes(&json!({name: {"project_info": 1}}));
        assert!(found.iter().all(|mistake| !mistake.contains("is no field")), "{found:?}");
    }
    assert_eq!(properties["service_account"]["writeOnly"], true);
    assert_eq!(schema.get("additionalProperties"), Some(&json!(false)));
}

#[test]
fn the_catalogue_finds_it() {
    let found = crate::find("fcm").unwrap();
    assert_eq!(found.descriptor.name, "Firebase Cloud Messaging");
    assert!(found.descriptor.quotas.iter().all(|quota| quota.source.contains("read 20")));
}
