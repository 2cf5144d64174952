//! The played Twilio: what its own client sent, replayed, and what becomes of messages afterwards.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::apns::fixtures;
use crate::world::World;

const ACCOUNT: &str = "AC1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e";

struct Twilio<'world> {
    world: &'world World,
    own: Value,
}

impl<'world> Twilio<'world> {
    async fn open(world: &'world World) -> Self {
        let own = world.get(&format!("/_sandbox/sms_twilio/{ACCOUNT}/credentials")).await;
        assert_eq!(world.put("/_sandbox/sms_twilio/settings", json!({"step_ms": 20})).await.0, 204);
        Self { world, own }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/2010-04-01/Accounts/{path}", self.world.url);
        self.world.http.request(method, url).basic_auth(ACCOUNT, self.own["auth_token"].as_str())
    }

    async fn send(&self, to: &str, callback: &str) -> (u16, Value) {
        let form = [("To", to), ("From", "+15557654321"), ("Body", "b"), ("StatusCallback", callback)];
        let answer =
            self.request(Method::POST, &format!("{ACCOUNT}/Messages.json")).form(&form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    async fn status(&self, sid: &Value) -> Value {
        let path = format!("{ACCOUNT}/Messages/{}.json", sid.as_str().unwrap());
        self.request(Method::GET, &path).send().await.unwrap().json().await.unwrap()
    }
}

/// The statuses that came to a gateway of one line.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    async fn open(tasks: &mut JoinSet<()>, answer: StatusCode) -> (Arc<Self>, String) {
        let heard = Arc::new(Self::default());
        let hear = move |State(heard): State<Arc<Self>>, body: String| async move {
            let status = body.split('&').find_map(|pair| pair.strip_prefix("MessageStatus=")).unwrap();
            heard.0.lock().unwrap().push(status.to_owned());
            answer
        };
        let router = Router::new().route("/cb", post(hear)).with_state(heard.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/cb?m=1", listener.local_addr().unwrap());
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (heard, url)
    }

    async fn has(&self, statuses: &[&str]) {
        for _ in 0..200 {
            if *self.0.lock().unwrap() == statuses {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?} instead of {statuses:?}", self.0.lock().unwrap());
    }
}

#[tokio::test]
async fn every_request_of_twilios_client_gets_the_answer_that_it_understood() {
    let world = World::start().await;
    let twilio = Twilio::open(&world).await;
    let (service, key) = (&twilio.own["messaging_service_sid"], &twilio.own["api_key_sid"]);
    let mut replayed = 0;
    for (name, fixture) in fixtures("sms_twilio") {
        // Putting rules begins a new run of first tries.
        assert_eq!(world.put("/_sandbox/rules", json!([])).await.0, 204);
        let is_new = name.ends_with("_in_the_new_shape");
        let shape = json!({"errors": if is_new { "rfc9457" } else { "classic" }, "step_ms": 20});
        assert_eq!(world.put("/_sandbox/sms_twilio/settings", shape).await.0, 204);
        for request in fixture["requests"].as_array().unwrap() {
            // What is asked of a message that another run made cannot be asked again.
            let path = request["path"].as_str().unwrap();
            if path.contains("/Messages/") {
                continue;
            }
            let method: Method = request["method"].as_str().unwrap().parse().unwrap();
            let mut sent = world.http.request(method, format!("{}{path}", world.url));
            sent = match name.as_str() {
                "bad_credentials" => sent.basic_auth(ACCOUNT, Some("wrong")),
                "with_an_api_key" => {
                    sent.basic_auth(key.as_str().unwrap(), twilio.own["api_key_secret"].as_str())
                }
                _ => sent.basic_auth(ACCOUNT, twilio.own["auth_token"].as_str()),
            };
            if let Some(form) = request["form"].as_object() {
                let mut form = form.clone();
                if form.contains_key("MessagingServiceSid") {
                    form["MessagingServiceSid"] = service.clone();
                }
                sent = sent.form(&form);
            }
            let answer = sent.send().await.unwrap();
            let status = answer.status().as_u16();
            let said: Value = answer.json().await.unwrap();
            assert_eq!(json!(status), request["status"], "{name}: {said}");
            assert_eq!(said.get("code").unwrap_or(&Value::Null), &request["error_code"], "{name}: {said}");
            for field in ["status", "num_segments", "to", "from", "price", "title"] {
                assert_eq!(said.get(field), request["answer"].get(field), "{name}: {field}");
            }
            replayed += 1;
        }
    }
    assert!(replayed >= 27, "only {replayed} requests were found");
}

#[tokio::test]
async fn a_message_goes_from_queued_to_what_its_number_says() {
    let world = World::start().await;
    let twilio = Twilio::open(&world).await;
    let mut tasks = JoinSet::new();
    for (to, last) in
        [("+15551234567", "delivered"), ("+15551230001", "undelivered"), ("+15551230028", "failed")]
    {
        let (heard, url) = Heard::open(&mut tasks, StatusCode::NO_CONTENT).await;
        let (status, message) = twilio.send(to, &url).await;
        assert_eq!((status, &message["status"]), (201, &json!("queued")));
        let all = if last == "failed" { vec!["queued", last] } else { vec!["queued", "sent", last] };
        heard.has(&all).await;
        let shown = twilio.status(&message["sid"]).await;
        assert_eq!((&shown["status"], shown["error_code"].is_null()), (&json!(last), last == "delivered"));
    }
    let (heard, url) = Heard::open(&mut tasks, StatusCode::INTERNAL_SERVER_ERROR).await;
    twilio.send("+15551230012", &url).await;
    heard.has(&["queued", "sent"]).await;
    let other = world.get("/_sandbox/summary").await["by_provider"]["sms_twilio"]["other"].clone();
    assert_eq!(other["callback/refused"], 2, "{other}");
}

#[tokio::test]
async fn a_phone_that_is_away_is_reported_when_it_is_back() {
    let world = World::start().await;
    let twilio = Twilio::open(&world).await;
    let mut tasks = JoinSet::new();
    let (heard, url) = Heard::open(&mut tasks, StatusCode::OK).await;
    let phone = json!({"kind": "sms_twilio", "token": "+15551230100", "online": false});
    assert_eq!(world.put("/_sandbox/phones/nokia", phone).await.0, 200);
    let (_, message) = twilio.send("+15551230100", &url).await;
    heard.has(&["queued", "sent"]).await;
    assert_eq!(twilio.status(&message["sid"]).await["status"], "sent");
    world.put("/_sandbox/phones/nokia", json!({"online": true})).await;
    heard.has(&["queued", "sent", "delivered"]).await;
    assert_eq!(twilio.status(&message["sid"]).await["status"], "delivered");
    twilio.send("+15551230100", &url).await;
    heard.has(&["queued", "sent", "delivered", "queued", "sent", "delivered"]).await;
}

#[tokio::test]
async fn receipts_never_leave_this_machine() {
    let world = World::start().await;
    let twilio = Twilio::open(&world).await;
    assert_eq!(twilio.send("+15551234567", "http://push.example.com/cb").await.0, 201);
    for _ in 0..200 {
        let other = world.get("/_sandbox/summary").await["by_provider"]["sms_twilio"]["other"].clone();
        if other["callback/not_this_machine"] == 3 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the callbacks were not refused");
}

#[tokio::test]
async fn receipts_can_be_switched_off_and_delayed() {
    let world = World::start().await;
    let twilio = Twilio::open(&world).await;
    let mut tasks = JoinSet::new();
    let (heard, url) = Heard::open(&mut tasks, StatusCode::OK).await;
    assert_eq!(world.put("/_sandbox/providers/sms_twilio", json!({"receipts": {"on": false}})).await.0, 204);
    twilio.send("+15551234567", &url).await;
    assert_eq!(
        world.put("/_sandbox/providers/sms_twilio", json!({"receipts": {"late_ms": 300}})).await.0,
        204
    );
    twilio.send("+15551234567", &url).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    heard.has(&[]).await;
    heard.has(&["queued", "sent", "delivered"]).await;
}

#[tokio::test]
async fn an_account_that_sends_too_much_is_told_429_and_nothing_was_processed() {
    let world = World::start().await;
    let twilio = Twilio::open(&world).await;
    let quota = json!({"quota": {"account_per_minute": 1}});
    assert_eq!(world.put("/_sandbox/providers/sms_twilio", quota).await.0, 204);
    assert_eq!(twilio.send("+15551234567", "").await.0, 201);
    let (status, said) = twilio.send("+15551234567", "").await;
    assert_eq!((status, &said["code"]), (429, &json!(20429)));
    let list: Value = twilio
        .request(Method::GET, &format!("{ACCOUNT}/Messages.json"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(list["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_message_that_does_not_exist_is_not_found_by_who_may_ask_and_by_nobody_else() {
    let world = World::start().await;
    let twilio = Twilio::open(&world).await;
    let path = format!("{ACCOUNT}/Messages/SM{:032}.json", 0);
    let answer = twilio.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], 20404);
    let url = format!("{}/2010-04-01/Accounts/{path}", world.url);
    let stranger = world.http.get(url).basic_auth(ACCOUNT, Some("another"));
    let answer = stranger.send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap()["code"].clone()),
        (401, json!(20003))
    );
}
