//! Xiaomi, as a sender sees it.

use serde_json::{Value, json};

use crate::hearing::{Heard, Hearing};
use crate::world::World;

const PACKAGE: &str = "com.example.app";
const SECRET: &str = "AbCdSecret";

/// A sandbox with an app of this secret.
async fn start(change: Value) -> World {
    let world = World::start().await;
    put_app(&world, change).await;
    world
}

async fn put_app(world: &World, mut change: Value) {
    change["app_secret"] = SECRET.into();
    let (status, answer) = world.put(&format!("/_sandbox/xiaomi/{PACKAGE}/app"), change).await;
    assert_eq!(status, 200, "{answer}");
}

/// The form of a good message to these regids.
fn form(targets: &str) -> Vec<(String, String)> {
    let fields = [
        ("registration_id", targets),
        ("restricted_package_name", PACKAGE),
        ("pass_through", "0"),
        ("title", "订单"),
        ("description", "已发货"),
        ("payload", r#"{"anypush_id":"msg_1"}"#),
        ("notify_type", "-1"),
        ("notify_id", "4211"),
        ("time_to_live", "3600000"),
        ("extra.channel_id", "118443"),
        ("extra.notify_effect", "1"),
    ];
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// The same with some fields changed; an empty one is absent to Xiaomi.
fn with(targets: &str, changes: &[(&str, &str)]) -> Vec<(String, String)> {
    change(form(targets), &owned(changes))
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn change(mut form: Vec<(String, String)>, changes: &[(String, String)]) -> Vec<(String, String)> {
    for (name, value) in changes {
        form.retain(|(known, _)| known != name);
        form.push((name.clone(), value.clone()));
    }
    form
}

async fn try_post(
    world: &World,
    path: &str,
    form: &[(String, String)],
) -> reqwest::Result<reqwest::Response> {
    let request = world.http.post(format!("{}{path}", world.url)).form(form);
    request.header("authorization", format!("key={SECRET}")).send().await
}

async fn send(world: &World, form: &[(String, String)]) -> Value {
    let answer = try_post(world, "/v3/message/regid", form).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

/// The form's one field, read.
fn told((headers, body): &Heard) -> Value {
    assert!(headers["content-type"].to_str().unwrap().starts_with("application/x-www-form-urlencoded"));
    let (name, data) = url::form_urlencoded::parse(body.as_bytes()).next().unwrap();
    assert_eq!(name, "data");
    serde_json::from_str(&data).unwrap()
}

#[tokio::test]
async fn an_accepted_message_has_an_id_and_the_numbers_of_the_day() {
    let world = start(json!({"day_quota": 100})).await;
    let answer = send(&world, &form("a,b,0VcFXB+GdD/q=")).await;
    assert_eq!((&answer["code"], &answer["result"]), (&0.into(), &"ok".into()), "{answer}");
    assert!(answer["data"]["id"].as_str().unwrap().starts_with("sdm"));
    assert_eq!((&answer["data"]["day_quota"], &answer["data"]["day_acked"]), (&"100".into(), &"3".into()));
    assert!(answer["data"].get("bad_regids").is_none());
    assert_eq!(world.sums("?message=msg_1").await, [3, 3, 3, 0]);
    send(&world, &form("a,b")).await;
    assert_eq!(world.sums("?message=msg_1").await, [5, 5, 3, 2]);
}

#[tokio::test]
async fn only_the_exact_secret_opens() {
    let world = start(json!({})).await;
    for (header, code) in [
        ("key=AbCdSecret", 0),
        ("key=AbCdSecre", 21_301),
        ("Key=AbCdSecret", 21_301),
        ("key= AbCdSecret", 21_301),
        ("Bearer AbCdSecret", 21_301),
    ] {
        let request = world.http.post(format!("{}/v2/message/regid", world.url)).form(&form("a"));
        let answer: Value =
            request.header("authorization", header).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["code"], code, "{header}");
    }
    world.put("/_sandbox/providers/xiaomi", json!({"credentials": "refused"})).await;
    assert_eq!(send(&world, &form("a")).await["code"], 21_301);
}

#[tokio::test]
async fn each_prefix_gets_its_row_of_the_error_table() {
    let world = start(json!({})).await;
    let rows = [
        ("dead-1", 20_301),
        ("malformed-1", 20_301),
        ("dead-1,wrongapp-1", 20_301),
        ("wrongapp-1", 66_108),
        ("quota-1", 200_001),
        ("limited-1", 200_002),
        ("flaky-1", 10_002),
        ("answer-26006-1", 26_006),
        ("forbidden-1", 21_303),
        ("notfound-1", 22_000),
        ("payload-1", 10_017),
        ("toobig-1", 10_018),
        ("unavailable-1", 10_002),
        ("internal-1", 10_001),
        ("unspecified-1", -1),
        ("unheard-1", 99_999),
        ("ok-1,unavailable-1", 10_002),
    ];
    for (targets, code) in rows {
        let answer = send(&world, &form(targets)).await;
        assert_eq!((&answer["code"], &answer["result"]), (&code.into(), &"error".into()), "{targets}");
        assert!(answer["reason"].is_string() && answer["trace_id"].is_string());
    }
    assert_eq!(world.sums("").await[1], 0);
    for targets in ["limited-1", "flaky-1", "devicequota-1", "fails-16-1", "silent-1"] {
        assert_eq!(send(&world, &form(targets)).await["code"], 0, "{targets}");
    }
    for (target, status) in [("unauthenticated-1", 401), ("badgateway-1", 502), ("gatewaytimeout-1", 504)] {
        let answer = try_post(&world, "/v3/message/regid", &form(target)).await.unwrap();
        assert_eq!(answer.status(), status);
    }
    assert!(try_post(&world, "/v3/message/regid", &form("ok-1,reset-1")).await.is_err());
    let rule = json!([{"provider": "xiaomi", "pattern": "vip-", "behaviour": "answer", "code": "10034"}]);
    assert_eq!(world.put("/_sandbox/rules", rule).await.0, 204);
    assert_eq!(send(&world, &form("vip-1")).await["code"], 10_034);
}

#[tokio::test]
async fn a_lost_answer_is_accepted_and_its_repetition_is_a_duplicate() {
    let world = start(json!({})).await;
    assert!(try_post(&world, "/v3/message/regid", &form("a,lost-1")).await.is_err());
    assert_eq!(world.sums("").await, [2, 2, 2, 0]);
    assert_eq!(send(&world, &form("a,lost-1")).await["code"], 0);
    assert_eq!(world.sums("").await, [4, 4, 2, 2]);
}

#[tokio::test]
async fn bad_regids_are_named_and_the_others_are_accepted() {
    let world = start(json!({})).await;
    let answer = send(&world, &form("a,dead-1,wrongapp-1,b c")).await;
    assert_eq!(answer["data"]["bad_regids"], "dead-1,wrongapp-1,b c");
    assert_eq!(world.sums("").await, [4, 1, 1, 0]);
}

#[tokio::test]
async fn every_field_is_checked() {
    let world = start(json!({})).await;
    let long = |count: usize| "长".repeat(count);
    let many = |count: usize| vec!["a"; count].join(",");
    let rows = [
        (owned(&[("registration_id", "")]), 10_016),
        (owned(&[("restricted_package_name", "")]), 10_016),
        (owned(&[("restricted_package_name", "com.example.other")]), 22_022),
        (owned(&[("title", " ")]), 10_016),
        (owned(&[("title", &long(50))]), 10_017),
        (owned(&[("title", &long(49))]), 0),
        (owned(&[("description", &long(128))]), 10_017),
        (owned(&[("description", &long(127))]), 0),
        (owned(&[("payload", &"x".repeat(4096))]), 65_009),
        (owned(&[("payload", &"x".repeat(4095))]), 0),
        (owned(&[("pass_through", "1")]), 10_017),
        (owned(&[("notify_type", "8")]), 10_017),
        (owned(&[("notify_id", "1767225600123")]), 0),
        (owned(&[("notify_id", "-1")]), 22_103),
        (owned(&[("notify_id", "x")]), 22_103),
        (owned(&[("time_to_live", "soon")]), 10_017),
        (owned(&[("time_to_live", "1209600000")]), 0),
        (owned(&[("time_to_send", "99999999999999")]), 10_017),
        (owned(&[("extra.channel_id", "")]), 27_001),
        (owned(&[("extra.channel_id", "1")]), 27_001),
        (owned(&[("extra.channel_id", "118442")]), 10_016),
        (owned(&[("extra.notify_effect", "4")]), 10_017),
        (owned(&[("extra.notify_effect", "2")]), 10_016),
        (owned(&[("extra.notify_effect", "2"), ("extra.intent_uri", "intent:#Intent;end")]), 0),
        (owned(&[("extra.notify_effect", "3")]), 10_016),
        (owned(&[("extra.jobkey", &"j".repeat(21))]), 10_017),
        (owned(&[("extra.jobkey", "_j")]), 10_017),
        (owned(&[("extra.jobkey", "j-_9")]), 0),
        (owned(&[("extra.callback", "ftp://x")]), 65_038),
        (owned(&[("extra.callback.param", &"p".repeat(257))]), 65_037),
        (owned(&[("extra.callback.type", "many")]), 10_025),
        (owned(&[("extra.mine", &"x".repeat(1021))]), 65_015),
        (owned(&[("extra.mine", &"x".repeat(1020))]), 0),
    ];
    for (changes, code) in rows {
        let answer = send(&world, &change(form("a"), &changes)).await;
        assert_eq!(answer["code"], code, "{changes:.60?}: {answer}");
    }
    assert_eq!(send(&world, &form(&many(1000))).await["code"], 0);
    assert_eq!(send(&world, &form(&many(1001))).await["code"], 10_017);
    let mut extras = form("a");
    extras.extend((0..11).map(|n| (format!("extra.k{n}"), "v".to_owned())));
    assert_eq!(send(&world, &extras).await["code"], 65_014);
    extras.pop();
    assert_eq!(send(&world, &extras).await["code"], 0);
}

#[tokio::test]
async fn a_private_message_needs_a_template_that_fits() {
    let world = start(json!({})).await;
    let private = async |template: &str, param: &str| {
        let changes = [
            ("extra.channel_id", "118442"),
            ("extra.template_id", template),
            ("extra.template_param", param),
        ];
        send(&world, &with("a", &changes)).await["code"].as_i64().unwrap()
    };
    assert_eq!(private("P10293", r#"{"order":"42"}"#).await, 0);
    assert_eq!(private("P1", r#"{"order":"42"}"#).await, 10_017);
    for param in ["", "{}", "[]", r#"{"a":"1","b":"2"}"#, r#"{"a":" "}"#, r#"{"a":"📦"}"#, r#"{"a":7}"#] {
        assert_eq!(private("P10293", param).await, 10_017, "{param}");
    }
    assert_eq!(private("P10293", &json!({"a": "x".repeat(129)}).to_string()).await, 10_017);
}

#[tokio::test]
async fn v2_takes_one_package_and_v3_several() {
    let world = start(json!({"more_packages": ["com.example.pad"]})).await;
    let both = with("a", &[("restricted_package_name", "com.example.app,com.example.pad")]);
    for (path, code) in [("/v3/message/regid", 0), ("/v2/message/regid", 22_022)] {
        let answer: Value = try_post(&world, path, &both).await.unwrap().json().await.unwrap();
        assert_eq!(answer["code"], code, "{path}");
    }
}

fn element(target: &str, channel: &str, message: &str) -> Value {
    json!({"target": target, "message": {
        "title": "t", "description": "d", "payload": json!({"anypush_id": message}).to_string(), "pass_through": 0,
        "notify_type": 1, "notify_id": 7, "time_to_live": 60_000, "restricted_package_name": PACKAGE,
        "extra": {"channel_id": channel, "template_id": "P10293", "template_param": r#"{"a":"1"}"#, "notify_effect": "1"},
    }})
}

async fn send_multi(world: &World, elements: &[Value]) -> Value {
    let form = [("messages".to_owned(), json!(elements).to_string())];
    try_post(world, "/v2/multi_messages/regids", &form).await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn each_target_may_have_a_text_of_its_own_and_a_full_channel_drops_some() {
    let world = start(json!({"day_quota": 1})).await;
    let elements = [
        element("a", "118442", "m1"),
        element("b", "118443", "m2"),
        element("c", "118443", "m3"),
        element("dead-1", "118443", "m4"),
        element("e", "118443", "m5"),
    ];
    let answer = send_multi(&world, &elements).await;
    assert_eq!(answer["code"], 0, "{answer}");
    assert_eq!(answer["data"]["channel_exceed_quota"], "118443:2");
    assert_eq!(answer["data"]["bad_regids"], "dead-1");
    assert_eq!(world.sums("").await, [5, 2, 2, 0]);
    assert_eq!(world.sums("?message=m2").await, [1, 1, 1, 0]);
    let refused = send_multi(&world, &[element("a", "118442", "m"), element("b", "1", "m")]).await;
    assert_eq!(refused["code"], 27_001);
    assert_eq!(send_multi(&world, &[]).await["code"], 10_016);
    let single = send(&world, &form("a")).await;
    assert_eq!(single["code"], 200_001);
    assert_eq!(single["reason"], "exceed quota, quota: 1, have acked: 1");
}

#[tokio::test]
async fn a_phone_is_known_in_its_own_region_only() {
    let world = start(json!({})).await;
    let russian = form("region-ru-1");
    for (path, code) in [
        ("/xiaomi/ru/v3/message/regid", 0),
        ("/xiaomi/global/v3/message/regid", 20_301),
        ("/v3/message/regid", 20_301),
        ("/xiaomi/mars/v3/message/regid", 10_020),
    ] {
        let answer: Value = try_post(&world, path, &russian).await.unwrap().json().await.unwrap();
        assert_eq!(answer["code"], code, "{path}");
    }
    let by_host = world.http.post(format!("{}/v3/message/regid", world.url)).form(&russian);
    let by_host =
        by_host.header("host", "ru-api.xmpush.global.xiaomi.com").header("authorization", "key=AbCdSecret");
    assert_eq!(by_host.send().await.unwrap().json::<Value>().await.unwrap()["code"], 0);
}

#[tokio::test]
async fn receipts_of_a_message_come_together_and_only_those_asked_for() {
    let world = start(json!({})).await;
    let hearing = Hearing::open("{}").await;
    let callback = |types| {
        [
            ("extra.callback", hearing.url.as_str()),
            ("extra.callback.param", "m42"),
            ("extra.callback.type", types),
            ("extra.jobkey", "job-1"),
        ]
    };
    let targets = "a,b,fails-16-1,fails-1024-1,silent-1,devicequota-1,fails-2-1";
    let answer = send(&world, &with(targets, &callback("1267"))).await;
    let id = answer["data"]["id"].as_str().unwrap();
    let heard = hearing.wait_for(5).await;
    let mut news: Vec<_> = heard.iter().map(|heard| told(heard)[id].clone()).collect();
    news.sort_by_key(|one| one["type"].as_u64());
    let kinds: Vec<_> = news.iter().map(|one| (one["type"].clone(), one["targets"].clone())).collect();
    let expected = json!([
        [1, "a,b,fails-2-1"],
        [2, "fails-2-1"],
        [16, "fails-16-1"],
        [128, "devicequota-1"],
        [1024, "fails-1024-1"]
    ]);
    assert_eq!(json!(kinds), expected);
    assert!(news.iter().all(|one| one["param"] == "m42" && one["jobkey"] == "job-1"));
    assert!(news[3]["extra"]["quota"].is_string());
    // 16 was not asked for here, and a bit that does not exist turns all off.
    send(&world, &with("fails-16-2", &callback("3"))).await;
    send(&world, &with("c", &callback("246"))).await;
    let answer = send(&world, &with("d", &callback("3"))).await;
    let last = hearing.wait_for(6).await;
    assert_eq!(told(&last[5])[answer["data"]["id"].as_str().unwrap()]["targets"], "d");
    assert_eq!(last.len(), 6);
}

#[tokio::test]
async fn a_receipt_may_come_before_the_answer() {
    let world = start(json!({})).await;
    let hearing = Hearing::open("{}").await;
    let switch = json!({"receipts": {"before_answer": true}});
    world.put("/_sandbox/providers/xiaomi", switch).await;
    send(&world, &with("a", &[("extra.callback", &hearing.url)])).await;
    assert_eq!(hearing.heard().len(), 1);
    world.put("/_sandbox/providers/xiaomi", json!({"receipts": {"on": false}})).await;
    send(&world, &with("b", &[("extra.callback", &hearing.url)])).await;
    world.put("/_sandbox/providers/xiaomi", json!({"receipts": {"duplicate": true}})).await;
    send(&world, &with("c", &[("extra.callback", &hearing.url)])).await;
    let heard = hearing.wait_for(3).await;
    assert_eq!(told(&heard[1]), told(&heard[2]));
}

#[tokio::test]
async fn a_phone_shows_the_newest_of_an_id_and_the_first_of_a_job_and_reports_taps() {
    let world = start(json!({})).await;
    let hearing = Hearing::open("{}").await;
    world.put("/_sandbox/phones/p", json!({"kind": "xiaomi", "token": "tok"})).await;
    let push = async |title: &str, id: &str, job: &str| {
        let payload = json!({"anypush_id": title, "k": "v"}).to_string();
        let changes = [
            ("title", title),
            ("payload", payload.as_str()),
            ("notify_id", id),
            ("extra.jobkey", job),
            ("extra.callback", hearing.url.as_str()),
            ("extra.callback.type", "1267"),
        ];
        assert_eq!(send(&world, &with("tok", &changes)).await["code"], 0);
    };
    push("one", "1", "").await;
    push("two", "2", "").await;
    push("three", "1", "").await;
    push("four", "3", "job").await;
    push("five", "4", "job").await;
    let phone = world.get("/_sandbox/phones/p").await;
    let titles: Vec<_> = phone["screen"].as_array().unwrap().iter().map(|shown| &shown["title"]).collect();
    assert_eq!(json!(titles), json!(["four", "three", "two"]));
    assert_eq!(phone["screen"][0]["data"]["k"], "v");
    let before = hearing.wait_for(1).await.len();
    let tap = world.http.post(format!("{}/_sandbox/phones/p/tap", world.url));
    assert_eq!(tap.json(&json!({"message_id": "two"})).send().await.unwrap().status(), 200);
    let heard = hearing.wait_for(before + 1).await;
    let clicked = told(&heard[before]);
    assert_eq!(clicked.as_object().unwrap().values().next().unwrap()["type"], 2);
    // Shown only with a click that is predefined; what nobody came for is reported as expired.
    world.put("/_sandbox/phones/p", json!({"online": false})).await;
    send(&world, &with("tok", &[("extra.notify_effect", ""), ("title", "never")])).await;
    let changes = [
        ("extra.only_send_once", "1"),
        ("extra.callback", hearing.url.as_str()),
        ("extra.callback.type", "1267"),
    ];
    send(&world, &with("tok", &changes)).await;
    let heard = hearing.wait_for(before + 2).await;
    assert_eq!(told(&heard[before + 1]).as_object().unwrap().values().next().unwrap()["type"], 1024);
}

/// Asks for an app's counters.
async fn counters(world: &World, query: &str, secret: &str) -> Value {
    let request = world.http.get(format!("{}/v1/stats/message/counters?{query}", world.url));
    let answer = request.header("authorization", format!("key={secret}")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn the_counters_of_a_day_prove_secret_and_package_and_count_what_was_sent() {
    let world = start(json!({})).await;
    let of =
        |package: &str| format!("start_date=20200101&end_date=29991231&restricted_package_name={package}");
    let none = counters(&world, &of(PACKAGE), SECRET).await;
    assert_eq!(
        (&none["result"], &none["code"], &none["data"]["data"]),
        (&json!("ok"), &json!(0), &json!([]))
    );
    send(&world, &form("a,b,c")).await;
    let days = counters(&world, &of(PACKAGE), SECRET).await["data"]["data"].take();
    let sent: u64 =
        days.as_array().unwrap().iter().map(|day| day["regid_recipients"].as_u64().unwrap()).sum();
    assert_eq!(sent, 3, "{days}");
    assert_eq!(days[0]["date"].as_str().unwrap().len(), 8);
    for (query, secret, code) in [
        (of(PACKAGE), "another", 21301),
        (of("com.example.other"), SECRET, 22022),
        (of(PACKAGE).replace("20200101", "2020-01-01"), SECRET, 10008),
        (of(PACKAGE).replace("end_date", "until"), SECRET, 10008),
    ] {
        let answer = counters(&world, &query, secret).await;
        assert_eq!((&answer["result"], &answer["code"]), (&json!("error"), &json!(code)), "{query}");
    }
}
