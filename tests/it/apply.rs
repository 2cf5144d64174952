//! `anypush apply`, `anypush export` and `anypush channels`, as an operator types them.

use std::path::Path;
use std::process::Output;

use reqwest::Method;
use serde_json::Value;
use tokio::process::Command;

use crate::world::World;

const EXAMPLE: &str = include_str!("../../config/example.apply.toml");
/// The public half of an Ed25519 key that signs nothing.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEApxR80jg7KqXOgojIncrSwQVpiFhpWMNE14tqBRn5tMo=
-----END PUBLIC KEY-----
";

/// Runs the program against the world's gateway, with the variables that the example names.
async fn anypush(world: &World, directory: &Path, sms: &Value, args: &[&str]) -> Output {
    let program = Command::new(env!("CARGO_BIN_EXE_anypush"))
        .args(args)
        .current_dir(directory)
        .env("ANYPUSH_URL", &world.url)
        .env("ANYPUSH_API_KEY", &world.admin_key)
        .env("TWILIO_ACCOUNT_SID", sms["account_sid"].as_str().unwrap())
        .env("TWILIO_AUTH_TOKEN", sms["auth_token"].as_str().unwrap())
        .output();
    tokio::time::timeout(crate::world::PATIENCE, program).await.expect("it ends").unwrap()
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(both).unwrap()
}

/// A directory with the example and the key files that it names, and the played account for text messages.
async fn prepared(world: &World) -> (tempfile::TempDir, Value) {
    let config = async |provider: &str| world.sample(provider).await["channel_config"].take();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("service-account.json", &config("fcm").await["service_account"].to_string());
    write("AuthKey_ABCDE12345.p8", config("apns").await["key_p8"].as_str().unwrap());
    write("registration.pub", PUBLIC_KEY);
    write("push.toml", EXAMPLE);
    let sms = config("sms_twilio").await;
    (dir, sms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_file_makes_an_installation_and_applied_again_changes_nothing() {
    let world = World::start().await;
    let (dir, sms) = prepared(&world).await;
    let apply = ["apply", "-f", "push.toml"];

    let planned = anypush(&world, dir.path(), &sms, &[&apply[..], &["--dry-run"]].concat()).await;
    assert!(planned.status.success(), "{}", said(&planned));
    assert!(said(&planned).ends_with("9 would be created, 1 would be changed\n"), "{}", said(&planned));
    let missing = world.call(&world.admin_key, Method::GET, "/v1/apps/shop/channels", None).await;
    assert_eq!(missing.status, 404, "a dry run makes nothing");

    let applied = anypush(&world, dir.path(), &sms, &apply).await;
    assert!(applied.status.success(), "{}", said(&applied));
    assert!(said(&applied).ends_with("9 created, 1 changed\n"), "{}", said(&applied));
    let again = anypush(&world, dir.path(), &sms, &apply).await;
    assert!(said(&again).ends_with("\n10 unchanged\n"), "{}", said(&again));
    // Without being given them, nobody can tell whether secrets are the same.
    let planned = anypush(&world, dir.path(), &sms, &[&apply[..], &["--dry-run"]].concat()).await;
    let told = "\n7 unchanged, 3 would be put (its secrets may differ)\n";
    assert!(said(&planned).ends_with(told), "{}", said(&planned));

    let edited = EXAMPLE.replace("per_second = 10 ", "per_second = 20 ").replace("\"orders\"", "\"parcels\"");
    let edited = edited.replace("\"message.done\", \"delivery.failed\"", "\"delivery.failed\"");
    std::fs::write(dir.path().join("push.toml"), edited).unwrap();
    let changed = anypush(&world, dir.path(), &sms, &apply).await;
    assert!(said(&changed).ends_with("3 changed, 7 unchanged\n"), "{}", said(&changed));
    let channel = world.call(&world.admin_key, Method::GET, "/v1/apps/shop/channels/sms", None).await;
    assert_eq!(channel.body["limits"]["per_second"], 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_holds_no_secret_and_applied_changes_nothing() {
    let world = World::start().await;
    let (dir, sms) = prepared(&world).await;
    let applied = anypush(&world, dir.path(), &sms, &["apply", "-f", "push.toml"]).await;
    assert!(applied.status.success(), "{}", said(&applied));

    let exported = anypush(&world, dir.path(), &sms, &["export"]).await;
    assert!(exported.status.success(), "{}", said(&exported));
    let text = said(&exported);
    for part in [
        "[apps.shop.channels.ios.config]",
        "# config.key_p8 is set and secret",
        "[apps.it.channels.fcm",
        "[[apps.shop.routes]]",
        "[[apps.shop.webhooks]]",
        "[[apps.shop.registration_keys]]",
        "BEGIN PUBLIC KEY",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    for secret in ["PRIVATE KEY", "whsec_", "ars_", sms["auth_token"].as_str().unwrap()] {
        assert!(!text.contains(secret), "a secret in\n{text}");
    }
    std::fs::write(dir.path().join("exported.toml"), &text).unwrap();
    let again = anypush(&world, dir.path(), &sms, &["apply", "-f", "exported.toml"]).await;
    assert!(said(&again).ends_with("12 unchanged\n"), "{}\n{text}", said(&again));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secrets_of_what_was_made_are_printed_once_and_webhooks_are_known_by_their_addresses() {
    let world = World::start().await;
    let (dir, sms) = prepared(&world).await;
    let applied = async |text: &str, more: &[&str]| {
        std::fs::write(dir.path().join("push.toml"), text).unwrap();
        let output = anypush(&world, dir.path(), &sms, &[&["apply", "-f", "push.toml"], more].concat()).await;
        (output.status.code(), said(&output))
    };
    let planned = applied(EXAMPLE, &["--dry-run"]).await.1;
    assert!(!planned.contains("whsec_") && !planned.contains("ars_"), "{planned}");
    let first = applied(EXAMPLE, &["--json"]).await.1;
    let lines: Vec<Value> = first.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let secret = |kind: &str, name: &str| {
        let line = lines.iter().find(|line| line["kind"] == kind && line["name"] == name);
        line.unwrap_or_else(|| panic!("{kind} {name} in {first}"))["secret"].clone()
    };
    let address = "shop https://backend.example/anypush";
    assert!(
        secret("webhook", address).as_str().is_some_and(|secret| secret.starts_with("whsec_")),
        "{first}"
    );
    let staging = secret("registration key", "shop/staging");
    assert!(staging.as_str().is_some_and(|secret| secret.starts_with("ars_")), "{first}");
    assert!(secret("registration key", "shop/backend-2026").is_null(), "its secret never left the backend");
    let again = applied(EXAMPLE, &[]).await.1;
    assert!(!again.contains("whsec_") && !again.contains("ars_"), "{again}");

    // A second one with the same address is another one, and one that is to be off is.
    let second = "\n[[apps.shop.webhooks]]\nurl = \"https://BACKEND.example/anypush\"\nevents = [\"channel.down\"]\nstate = \"disabled\"\n";
    let more = format!("{EXAMPLE}{second}");
    let told = applied(&more, &[]).await.1;
    assert!(told.ends_with("1 created, 10 unchanged\n") && told.contains("whsec_"), "{told}");
    assert!(applied(&more, &[]).await.1.ends_with("\n11 unchanged\n"));
    let hooks = world.call(&world.admin_key, Method::GET, "/v1/apps/shop/webhooks", None).await.body;
    let states: Vec<_> = hooks["data"].as_array().unwrap().iter().map(|hook| hook["state"].clone()).collect();
    assert_eq!(states, ["enabled", "disabled"], "{hooks:#}");

    // What cannot be changed is said to be so, and how to mend it.
    let given = "algorithm = \"EdDSA\"\npublic_key = { from_file = \"registration.pub\" }";
    for (from, to, word) in [
        ("description = \"order system\"", "signature = \"ed25519\"", "delete it"),
        (given, "algorithm = \"HS256\"", "another name"),
    ] {
        assert!(EXAMPLE.contains(from));
        let (code, told) = applied(&EXAMPLE.replace(from, to), &[]).await;
        assert_eq!((code, told.contains(word)), (Some(1), true), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_may_not_see_webhooks_exports_the_rest_and_the_file_says_so() {
    let world = World::start().await;
    let (dir, sms) = prepared(&world).await;
    let body = serde_json::json!({"name": "reader", "scopes": ["channels:read"]});
    let path = format!("/v1/apps/{}/keys", world.app_id);
    let key = world.call(&world.admin_key, Method::POST, &path, Some(body)).await.body["key"].clone();
    let args = ["export", "--app", "it", "--api-key", key.as_str().unwrap()];
    let exported = anypush(&world, dir.path(), &sms, &args).await;
    let text = said(&exported);
    assert!(exported.status.success() && text.contains("[apps.it.channels.fcm"), "{text}");
    assert!(text.contains("# apps.it.webhooks is left out"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_with_mistakes_changes_nothing_and_all_of_them_are_told() {
    let world = World::start().await;
    let (dir, sms) = prepared(&world).await;
    let broken =
        EXAMPLE.replace("service-account.json", "absent.json").replace("TWILIO_AUTH_TOKEN", "NOT_SET");
    std::fs::write(dir.path().join("push.toml"), broken).unwrap();
    let refused = anypush(&world, dir.path(), &sms, &["apply", "-f", "push.toml"]).await;
    assert_eq!(refused.status.code(), Some(64));
    let told = said(&refused);
    assert!(told.contains("absent.json") && told.contains("NOT_SET"), "{told}");
    let apps = world.call(&world.admin_key, Method::GET, "/v1/apps", None).await;
    assert_eq!(apps.body["data"].as_array().unwrap().len(), 1, "nothing was made");

    // What only the gateway can find names the channel and the place.
    let wrong = EXAMPLE.replace("\"FGHIJ67890\"", "\"short\"");
    std::fs::write(dir.path().join("push.toml"), wrong).unwrap();
    let refused = anypush(&world, dir.path(), &sms, &["apply", "-f", "push.toml"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let told = said(&refused);
    assert!(told.contains("channel shop/ios") && told.contains("team_id"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_looks_at_channels_checks_pauses_and_resumes_them() {
    let world = World::start().await;
    let (dir, sms) = prepared(&world).await;
    let channels = async |args: &[&str]| {
        let output =
            anypush(&world, dir.path(), &sms, &[&["channels"], args, &["--app", "it"]].concat()).await;
        (output.status.code(), said(&output))
    };
    let (_, listed) = channels(&["list"]).await;
    assert!(listed.contains("fcm") && listed.contains("direct") && listed.contains("ok"), "{listed}");
    let (code, checked) = channels(&["check", "fcm"]).await;
    assert_eq!(code, Some(0), "{checked}");
    assert_eq!(channels(&["pause", "fcm"]).await.1, "fcm is paused\n");
    assert_eq!(channels(&["resume", "fcm"]).await.1, "fcm is ok\n");
    let (_, shown) = channels(&["show", "fcm", "--json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["secrets"]["service_account"]["set"], true);

    let refused = serde_json::json!({"credentials": "refused"});
    world.sandbox(Method::PUT, "/providers/fcm", Some(refused)).await;
    let (code, checked) = channels(&["check", "fcm"]).await;
    assert_eq!(code, Some(1), "{checked}");
    assert!(checked.contains("fcm is not good"), "{checked}");
    assert_eq!(channels(&["delete", "fcm"]).await.1, "deleted fcm\n");
    let (code, gone) = channels(&["show", "fcm"]).await;
    assert_eq!(code, Some(1), "{gone}");
}
