//! Whatever a caller says is data: in ids, tags, names and values of attributes, expressions, filters, cursors.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

use crate::api_import::import;
use crate::world::World;

/// What another app has and nobody else may see.
const MARK: &str = "marked-by-the-neighbour";
const PIECES: [&str; 44] = [
    "'",
    "\"",
    "`",
    ";",
    "--",
    "/*",
    "*/",
    "(",
    ")",
    "%",
    "_",
    "\\",
    " OR 1=1",
    "' OR ''='",
    "UNION SELECT ",
    "token FROM addresses",
    "DROP TABLE devices",
    "*",
    "?1",
    "$1",
    ":app",
    "@app",
    "NULL",
    "0x00",
    "{}",
    "[]",
    "$.a",
    "#",
    "->>",
    "||",
    "char(0)",
    "\u{2019}",
    "\u{ff07}",
    "\u{202e}",
    "🦀",
    "../",
    "%00",
    "%27",
    "${jndi:x}",
    "<script>",
    "1e309",
    "-1",
    "9223372036854775808",
    "app",
];

/// Id, user, tag, name and value of an attribute.
type Told = [String; 5];

fn payload(chance: &mut StdRng) -> String {
    let mut text = String::new();
    for _ in 0..chance.random_range(1..6) {
        text += PIECES.choose(chance).unwrap();
        if chance.random_bool(0.1) {
            text.push(chance.random_range('\u{20}'..='\u{2fff}'));
        }
    }
    text.chars().filter(|c| !c.is_control()).take(16).collect()
}

async fn neighbour(world: &World) -> String {
    let (_, key) = world.new_app("neighbour").await;
    let device = json!({"user_id": MARK, "tags": [MARK], "attributes": {"name": MARK},
        "addresses": [{"provider": "fcm", "token": MARK}]});
    let made = world.call(&key, Method::PUT, &format!("/v1/devices/{MARK}"), Some(device)).await;
    assert_eq!(made.status, StatusCode::OK);
    key
}

/// A GET with these parameters: its answer, never a 5xx, never a word of the neighbour's.
async fn get(world: &World, path: &str, parameters: &[(&str, &str)]) -> (StatusCode, Value) {
    let url = Url::parse_with_params(&format!("{}{path}", world.url), parameters).unwrap();
    let path = format!("{path}?{}", url.query().unwrap_or_default());
    let key = format!("Bearer {}", world.api_key);
    let (answer, text) = world.raw(Method::GET, &path, &[("authorization", &key)], Vec::new()).await;
    assert!(answer.status.as_u16() < 500, "{parameters:?}: {text}");
    assert!(!text.contains(MARK), "{parameters:?}: {text}");
    (answer.status, answer.body)
}

/// Each is found by what it is, and by nothing else.
async fn each_is_found_as_it_is(world: &World, known: &[Told]) {
    let count = |place: usize, wanted: &str| known.iter().filter(|device| device[place] == wanted).count();
    stream::iter(known.iter().step_by(10))
        .for_each_concurrent(8, |[id, user, tag, _, _]| {
            let count = &count;
            async move {
                for (place, name, wanted) in [(1, "user_id", user), (2, "tag", tag)] {
                    let (status, body) = get(world, "/v1/devices", &[(name, wanted), ("limit", "100")]).await;
                    assert_eq!(status, StatusCode::OK);
                    let found = body["data"].as_array().unwrap().len();
                    assert_eq!(found, count(place, wanted).min(100), "{name} {wanted:?}");
                }
                let token = format!("ok-{id}");
                let (_, body) = get(world, "/v1/devices", &[("provider", "fcm"), ("token", &token)]).await;
                assert_eq!(body["data"][0]["id"], json!(id));
                for cursor in [id, tag] {
                    let (status, body) = get(world, "/v1/devices", &[("cursor", cursor)]).await;
                    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_cursor")));
                }
                for name in ["label", "from", "state", "limit"] {
                    get(world, "/v1/messages", &[(name, user)]).await;
                }
                let (status, _) = get(world, "/v1/devices", &[(id, tag)]).await;
                assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "no such parameter: {id:?}");
            }
        })
        .await;
}

/// Expressions of many strings, told by the dry run.
async fn expressions_find_as_many_as_fit(world: &World, known: &[Told]) {
    for some in known.chunks(100) {
        let tags: Vec<_> = some.iter().map(|device| json!({"tag": device[2]})).collect();
        let values: Vec<_> = some.iter().map(|device| json!({"attr": device[3], "eq": device[4]})).collect();
        let begins: Vec<_> =
            some.iter().map(|device| json!({"attr": device[3], "starts_with": device[4]})).collect();
        let has = |device: &Told, tag: bool| {
            some.iter()
                .any(|one| if tag { one[2] == device[2] } else { one[3] == device[3] && one[4] == device[4] })
        };
        let begun =
            |device: &Told| some.iter().any(|one| one[3] == device[3] && device[4].starts_with(&one[4]));
        let cases = [
            (tags, known.iter().filter(|device| has(device, true)).count()),
            (values, known.iter().filter(|device| has(device, false)).count()),
            (begins, known.iter().filter(|device| begun(device)).count()),
        ];
        for (any, expected) in cases {
            let message = json!({"to": {"audience": {"or": any}}, "class": "marketing", "data": {"a": "b"}});
            let run = world.api(Method::POST, "/v1/messages?dry_run=true", Some(message)).await;
            assert_eq!(run.status, StatusCode::OK, "{:#}", run.body);
            assert_eq!(run.body["targeted"], expected);
            assert!(!run.body.to_string().contains(MARK));
        }
    }
}

/// A28
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_payloads_in_every_string_are_data_and_nothing_else() {
    let world = World::start().await;
    let key = neighbour(&world).await;
    let mut chance = StdRng::seed_from_u64(28);
    let mut known: Vec<Told> = Vec::new();
    let mut seen = BTreeSet::new();
    while known.len() < 2000 {
        let [id, user, tag, name, value] = [(); 5].map(|()| payload(&mut chance));
        if seen.insert(id.clone()) && ![".", ".."].contains(&id.as_str()) {
            known.push([id, user, tag, name, value]);
        }
    }
    let lines = known.iter().map(|[id, user, tag, name, value]| {
        json!({"id": id, "user_id": user, "tags": [tag], "attributes": {name: value}, "model": value,
            "addresses": [{"provider": "fcm", "token": format!("ok-{id}")}]})
        .to_string()
    });
    let answers = import(&world, &world.api_key, lines.collect::<Vec<_>>().join("\n").into_bytes()).await;
    let refused: Vec<_> = answers.iter().filter(|line| line["status"] != 200).collect();
    assert!(refused.is_empty(), "ten thousand strings, all of them fit to be kept: {refused:?}");

    each_is_found_as_it_is(&world, &known).await;
    expressions_find_as_many_as_fit(&world, &known).await;
    let users: Vec<_> = known.iter().map(|device| &device[1]).collect();
    let message = json!({"to": {"user_ids": users}, "class": "marketing", "data": {"a": "b"}});
    let run = world.api(Method::POST, "/v1/messages?dry_run=true", Some(message)).await;
    assert_eq!(run.body["targeted"], known.len());

    // The neighbour has what it had.
    let kept = world.call(&key, Method::GET, &format!("/v1/devices/{MARK}"), None).await.body;
    assert_eq!((&kept["tags"], &kept["addresses"][0]["token"]), (&json!([MARK]), &json!(MARK)));
    let list = world.call(&key, Method::GET, "/v1/devices", None).await.body;
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
}

/// A29
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_was_forged_changed_or_made_elsewhere_is_refused() {
    let world = World::start().await;
    let other = neighbour(&world).await;
    let device = |n: usize| (format!("d{n}"), json!({"user_id": "u-1", "tags": ["vip"]}));
    world.put_devices((0..3).map(device).collect()).await;
    for n in 0..3 {
        let made = world.call(&other, Method::PUT, &format!("/v1/devices/n{n}"), Some(json!({}))).await;
        assert_eq!(made.status, StatusCode::OK);
        world.send(json!({"to": {"device_ids": ["d0"]}, "data": {"n": n.to_string()}})).await;
    }
    let cursor_of = async |key: &str, path: &str| {
        let page = world.call(key, Method::GET, path, None).await.body;
        page["next_cursor"].as_str().unwrap_or_else(|| panic!("{path}: {page:#}")).to_owned()
    };
    let mine = cursor_of(&world.api_key, "/v1/devices?limit=1").await;
    let (status, body) = get(&world, "/v1/devices", &[("cursor", &mine)]).await;
    assert_eq!((status, body["data"].as_array().unwrap().len()), (StatusCode::OK, 2), "as it is, it is good");
    let mut wrong = vec![
        cursor_of(&other, "/v1/devices?limit=1").await,
        cursor_of(&world.api_key, "/v1/messages?limit=1").await,
        cursor_of(&world.api_key, "/v1/devices?limit=1&tag=vip").await,
        cursor_of(&world.api_key, "/v1/users/u-1?limit=1").await,
        cursor_of(&world.api_key, "/v1/users/u-1/deliveries?limit=1").await,
    ];
    wrong.extend(["0", "-1", "99999999999999999999", "null", "x", "AAAA", "=", "%00"].map(ToOwned::to_owned));
    wrong.push("A".repeat(5000));
    wrong.push(mine.clone() + "A");
    wrong.push(mine[1..].to_owned());
    for at in 0..mine.len() {
        let mut changed = mine.clone();
        changed.replace_range(at..=at, if &mine[at..=at] == "A" { "B" } else { "A" });
        wrong.push(changed);
    }
    for cursor in wrong {
        let (status, body) = get(&world, "/v1/devices", &[("cursor", &cursor)]).await;
        assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_cursor")), "{cursor}");
    }
}

/// A3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_apps_device_is_sent_to_through_ones_own_channel_and_changes_nothing_there() {
    let world = World::start().await;
    let other = neighbour(&world).await;
    let before = world.call(&other, Method::GET, &format!("/v1/devices/{MARK}"), None).await.body;
    let dead = format!("dead-{MARK}");
    let device = json!({"addresses": [{"provider": "fcm", "token": dead}]});
    world.call(&other, Method::PUT, "/v1/devices/dying", Some(device)).await;
    let tokens = json!([{"provider": "fcm", "token": MARK}, {"provider": "fcm", "token": dead}]);
    let id = world.send(json!({"to": {"tokens": tokens}, "notification": {"title": "Hello"}})).await;
    let message = world.done(&id).await;
    assert_eq!(message["by_channel"].as_object().unwrap().keys().collect::<Vec<_>>(), ["fcm"]);
    let requests = world.sandbox(Method::GET, "/requests?limit=100", None).await.to_string();
    assert!(requests.contains("demo-project"), "through the caller's own account: {requests}");
    let after = world.call(&other, Method::GET, &format!("/v1/devices/{MARK}"), None).await.body;
    assert_eq!(after, before, "the other app's device is as it was");
    let dying = world.call(&other, Method::GET, "/v1/devices/dying", None).await.body;
    assert_eq!(
        dying["addresses"][0]["state"], "active",
        "what one app's vendor says retires nothing of another's"
    );
    let own = world.api(
        Method::PUT,
        "/v1/devices/mine",
        Some(json!({"addresses": [{"provider": "fcm", "token": MARK}]})),
    );
    assert_eq!(own.await.status, StatusCode::OK);
    let after = world.call(&other, Method::GET, &format!("/v1/devices/{MARK}"), None).await.body;
    assert_eq!(after["addresses"], before["addresses"], "a token moves within its app");
}
