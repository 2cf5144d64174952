//! Secrets planted everywhere they go in, and searched for everywhere they must not come out.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

/// The part of a PEM key that no other text holds.
fn kernel(pem: &str) -> String {
    let line = pem.lines().filter(|line| !line.starts_with('-')).max_by_key(|line| line.len()).unwrap();
    assert!(line.len() >= 40, "this is no key");
    line[..40].to_owned()
}

fn assert_absent(secrets: &[(&str, &str)], place: &str, bytes: &[u8]) {
    for (name, secret) in secrets {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{name} is in {place}");
    }
}

/// What callers are told when they err with secrets in hand.
async fn errors(world: &World, account: &Value, secret: &str) -> Vec<String> {
    let key = format!("Bearer {}", world.admin_key);
    let admin = [("authorization", key.as_str()), ("content-type", "application/json")];
    let channel = format!("/v1/apps/{}/channels/broken", world.app_id);
    let mut damaged = account.clone();
    damaged["client_email"] = json!(7);
    let put = |config: Value| json!({"provider": "fcm", "config": config}).to_string().into_bytes();
    let mut cut = account.clone();
    let pem = cut["private_key"].as_str().unwrap().to_owned();
    cut["private_key"] = json!(&pem[..pem.len() / 2]);
    let half = put(json!({"service_account": account}));
    let calls: Vec<(Method, String, Vec<u8>)> = vec![
        (Method::PUT, channel.clone(), put(json!({"service_account": damaged}))),
        (Method::PUT, channel.clone(), put(json!({"service_account": cut}))),
        (Method::PUT, channel.clone(), put(json!({"service_account": pem}))),
        (Method::PUT, channel.clone(), put(json!({"service_accounts": account}))),
        (Method::PUT, channel.clone(), half[..half.len() - 5].to_vec()),
        (Method::PUT, format!("/v1/apps/{}/channels/Bad Name", world.app_id), put(account.clone())),
        (Method::GET, format!("/v1/messages?key={}", world.api_key), Vec::new()),
        (Method::GET, format!("/v1/messages?cursor={}", world.api_key), Vec::new()),
        (Method::GET, format!("/v1/device/messages?secret={secret}"), Vec::new()),
    ];
    let mut texts = Vec::new();
    for (method, path, body) in calls {
        let (answer, text) = world.raw(method.clone(), &path.replace(' ', "%20"), &admin, body).await;
        assert!(answer.status.is_client_error(), "{method} {path}: {} {text}", answer.status);
        texts.push(text);
    }
    for wrong in [&world.api_key[..world.api_key.len() - 1], secret] {
        texts.push(world.call(wrong, Method::GET, "/v1/messages", None).await.body.to_string());
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_comes_out_in_logs_answers_metrics_or_the_database() {
    let mut world = World::start().await;
    let account = world.sandbox(Method::GET, "/fcm/demo-project/service_account", None).await;
    let private = kernel(account["private_key"].as_str().unwrap());
    let tokens = ["ok-canary-7f3a91", "dead-canary-7f3a92", "garbage-canary-7f3a93", "flaky-canary-7f3a94"];
    let devices = tokens.iter().enumerate().map(|(i, token)| {
        let address = json!([{"provider": "fcm", "token": token}]);
        (format!("d{i}"), json!({"user_id": "canary-user-7f3a95", "addresses": address}))
    });
    world.put_devices(devices.collect()).await;
    let secret = world.device_secrets(&["d1".into()]).await.remove(0);
    let (title, body) = ("canary title 7f3a96", "canary body 7f3a97");
    let message = json!({
        "to": {"device_ids": ["d0", "d1", "d2", "d3"]}, "notification": {"title": title, "body": body},
        "data": {"code": "canary data 7f3a98"}, "ttl_seconds": 3600,
    });
    let id = world.send(message.clone()).await;
    world.until(&id, |m| m["counts"]["now"]["accepted"].as_u64() >= Some(2)).await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"credentials": "refused"}))).await;
    let refused = world.send(message).await;
    world.until(&refused, |m| m["counts"]["targeted"] == 4).await;
    let given =
        json!({"to": {"tokens": [{"provider": "fcm", "token": "ok-canary-7f3a99"}]}, "data": {"a": "b"}});
    world.send(given).await;
    let phone = world.call(&secret, Method::GET, "/v1/device/messages", None).await;
    assert!(phone.status.is_success(), "{}", phone.body);
    let master = std::fs::read_to_string(world.data_dir().join("master.key")).unwrap();
    let secrets = [
        ("the API key", world.api_key.clone()),
        ("the admin key", world.admin_key.clone()),
        ("the device secret", secret.clone()),
        ("the private key", private),
        ("the master key", master.trim().to_owned()),
    ];
    let secrets: Vec<_> = secrets.iter().map(|(name, secret)| (*name, secret.as_str())).collect();
    for text in errors(&world, &account, &secret).await {
        assert_absent(&secrets, &text, text.as_bytes());
    }
    let channel = format!("/v1/apps/{}/channels/fcm", world.app_id);
    let shown = world.api(Method::GET, &channel, None).await.body.to_string();
    assert_absent(&secrets, "a channel's answer", shown.as_bytes());
    let metrics = world.http.get(format!("{}/metrics", world.url)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let database = |world: &World| -> Vec<(String, Vec<u8>)> {
        let files = std::fs::read_dir(world.data_dir()).unwrap().map(|file| file.unwrap().path());
        let kept = files.filter(|path| path.file_name().is_some_and(|name| name != "master.key"));
        kept.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
    };
    for (name, bytes) in database(&world) {
        assert_absent(&secrets, &name, &bytes);
    }
    assert!(world.stop_gateway().success());
    for (name, bytes) in database(&world) {
        assert_absent(&secrets, &name, &bytes);
    }
    // Logs and metrics hold neither secrets nor what people's messages say and where they go.
    for place in [("the log", world.log()), ("the metrics", metrics)] {
        assert!(place.1.len() > 100, "{} is empty", place.0);
        assert_absent(&secrets, place.0, place.1.as_bytes());
        assert_absent(&[("a token, user, or text of a message", "7f3a9")], place.0, place.1.as_bytes());
        assert_absent(&[("half of a title", "canary")], place.0, place.1.as_bytes());
    }
}
