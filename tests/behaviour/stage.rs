//! A provider in front of its twin: the channel's configuration comes from the sandbox, as the demo's does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::{
    Address, Batch, Category, CheckReport, Content, Environment, MessageRef, Outcome, Outcomes, Preview,
    Provider, Reason, Registration, SendContext, Target, Token, Verdict,
};
use anypush_providers::kit::egress::Egress;
use anypush_providers::kit::http::{HttpOptions, client};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::ensure;
use crate::wire::Seen;

/// Long enough for an answer on a busy machine, short enough to wait for silence.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// The message that every batch is of.
pub(crate) const MESSAGE: &str = "msg_behaviour";

/// One provider, its twin, and a way to ask the twin what it saw.
pub(crate) struct Stage {
    pub(crate) registration: &'static Registration,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) category: Option<Arc<Category>>,
    /// The channel's configuration.
    config: Value,
    /// Address parameters that a target here needs.
    params: BTreeMap<String, String>,
    /// Texts that must never be seen in an outcome.
    secrets: Vec<String>,
    sandbox: String,
    http: reqwest::Client,
    stop: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stage {
    pub(crate) async fn open(registration: &'static Registration) -> Result<Self, String> {
        let stop = CancellationToken::new();
        let options = anypush_sandbox::Options::default();
        let running = anypush_sandbox::start(options, stop.clone().cancelled_owned());
        let sandbox = running.await.map_err(|error| format!("{error:#}"))?.url();
        let http = client(&HttpOptions { egress: Egress::everywhere(), ..HttpOptions::default() })?;
        let id = registration.descriptor.id;
        let samples = get(&http, &format!("{sandbox}/_sandbox/samples")).await?;
        let sample = samples["samples"].as_array().into_iter().flatten();
        let sample = sample.into_iter().find(|sample| sample["provider"] == id);
        let sample = sample.ok_or_else(|| format!("the sandbox has no twin of {id}"))?.clone();
        let config = &sample["channel_config"];
        let environment = environment("anypush-test");
        let provider = (registration.build)(config, &environment).map_err(|error| error.to_string())?;
        let settings = sample["category"].as_object().cloned();
        let params = serde_json::from_value(sample["devices"][0]["address"]["params"].clone());
        let mut stage = Self {
            registration,
            provider,
            category: settings.map(|settings| Arc::new(Category { name: "sample".into(), settings })),
            config: config.clone(),
            params: params.unwrap_or_default(),
            secrets: Vec::new(),
            sandbox,
            http,
            stop,
        };
        stage.secrets = secrets((registration.config_schema)().as_value(), config);
        Ok(stage)
    }

    /// Where the twin is.
    pub(crate) fn twin(&self) -> &str {
        &self.sandbox
    }

    /// Lets the provider send to somebody else; access tokens still come from the twin.
    pub(crate) fn move_to(&mut self, origin: &str) -> Result<(), String> {
        let mut config = self.config.clone();
        for (name, value) in config.as_object_mut().into_iter().flatten() {
            // One address, or one for each region.
            if name.starts_with("base_url") {
                let moved = value.to_string().replace(&self.sandbox, origin);
                *value = serde_json::from_str(&moved).map_err(|error| error.to_string())?;
            }
        }
        self.provider = (self.registration.build)(&config, &environment("anypush-test"))
            .map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Lets it send to its twin again.
    pub(crate) fn move_back(&mut self) -> Result<(), String> {
        let twin = self.sandbox.clone();
        self.move_to(&twin)
    }

    /// Tokens that the twin takes, each time the same.
    pub(crate) async fn tokens(&self, count: usize) -> Result<Vec<String>, String> {
        let id = self.registration.descriptor.id;
        let answer = get(&self.http, &format!("{}/_sandbox/tokens/{id}?count={count}", self.sandbox)).await?;
        serde_json::from_value(answer["tokens"].clone()).map_err(|error| error.to_string())
    }

    /// Makes the twin treat a token so.
    pub(crate) async fn rule(&self, token: &str, behaviour: &str) -> Result<(), String> {
        let id = self.registration.descriptor.id;
        let rule = json!([{"provider": id, "pattern": token, "behaviour": behaviour}]);
        self.put("/_sandbox/rules", &rule).await
    }

    /// Switches the twin.
    pub(crate) async fn switch(&self, switch: &Value) -> Result<(), String> {
        self.put(&format!("/_sandbox/providers/{}", self.registration.descriptor.id), switch).await
    }

    /// Checks the credentials with a provider that has no access token in hand, as after a change of the channel.
    pub(crate) async fn check_anew(&self) -> Result<CheckReport, String> {
        let environment = environment("");
        let fresh =
            (self.registration.build)(&self.config, &environment).map_err(|error| error.to_string())?;
        Ok(fresh.check(SendContext::unlimited()).await)
    }

    /// Enters the callback URL where the vendor wants it beforehand.
    pub(crate) async fn enter_callback(&self, url: &str) -> Result<(), String> {
        let path = format!("/_sandbox/providers/{}/callback", self.registration.descriptor.id);
        self.put(&path, &json!({"url": url})).await
    }

    /// Gives a played phone this token.
    pub(crate) async fn phone(&self, token: &str) -> Result<(), String> {
        let phone = json!({"kind": self.registration.descriptor.id, "token": token, "online": true});
        self.put("/_sandbox/phones/behaviour", &phone).await
    }

    /// How many notifications the played phone shows.
    pub(crate) async fn shown_on_the_phone(&self) -> Result<usize, String> {
        let phone = get(&self.http, &format!("{}/_sandbox/phones/behaviour", self.sandbox)).await?;
        phone["screen"].as_array().map(Vec::len).ok_or_else(|| format!("no list in {phone}"))
    }

    /// A person taps what the played phone shows of the stage's message.
    pub(crate) async fn tap(&self) -> Result<(), String> {
        let url = format!("{}/_sandbox/phones/behaviour/tap", self.sandbox);
        let tapped = self.http.post(url).json(&json!({"message_id": MESSAGE})).send().await;
        let answer = tapped.map_err(|error| error.to_string())?;
        ensure(answer.status().is_success(), || format!("the tap was answered {}", answer.status()))
    }

    async fn put(&self, path: &str, body: &Value) -> Result<(), String> {
        let sent = self.http.put(format!("{}{path}", self.sandbox)).json(body).send().await;
        let answer = sent.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(format!("PUT {path} was answered {status}: {}", answer.text().await.unwrap_or_default()))
    }

    /// A batch of one message to these tokens.
    pub(crate) fn batch(&self, content: &Content, tokens: &[String]) -> Batch {
        let kind = self.registration.descriptor.address.kinds.first().copied().unwrap_or_default();
        let target = |(index, token): (usize, &String)| Target {
            address: Address {
                kind: kind.to_owned(),
                token: Token::new(token.as_str()),
                params: self.params.clone(),
            },
            key: 0x5eed + index as u128,
            receipt_param: Some(param(index).into()),
            variables: None,
        };
        Batch {
            message: MessageRef { id: MESSAGE.into(), page_key: 42, label: None },
            content: Arc::new(content.clone()),
            category: self.category.clone(),
            ttl: Duration::from_hours(1),
            targets: tokens.iter().enumerate().map(target).collect(),
            attempt: 1,
        }
    }

    /// As [`Self::send_to`] without a callback.
    pub(crate) async fn send(&self, batch: Batch) -> Result<Vec<Outcome>, String> {
        self.send_to(batch, None).await
    }

    /// Sends and returns one outcome for each target, in the order of the targets; anything else is the trial's end.
    pub(crate) async fn send_to(&self, batch: Batch, callback: Option<&str>) -> Result<Vec<Outcome>, String> {
        let expected = batch.targets.len();
        let tokens: Vec<String> =
            batch.targets.iter().map(|target| target.address.token.expose().to_owned()).collect();
        let (sink, mut source) = Outcomes::channel();
        let context = SendContext { callback_url: callback.map(Into::into), ..SendContext::unlimited() };
        self.provider.send(batch, context, sink).await;
        let mut outcomes = Vec::new();
        while let Some(outcome) = source.recv().await {
            let shown = format!("{outcome:?}");
            if let Some(secret) = self.secrets.iter().chain(&tokens).find(|secret| shown.contains(*secret)) {
                return Err(format!("an outcome shows a secret of {} characters", secret.len()));
            }
            outcomes.push(outcome);
        }
        outcomes.sort_by_key(|outcome| outcome.target);
        let answered: Vec<usize> = outcomes.iter().map(|outcome| outcome.target).collect();
        if answered != (0..expected).collect::<Vec<_>>() {
            return Err(format!("{expected} targets got outcomes {answered:?}"));
        }
        Ok(outcomes)
    }

    /// Sends to one token.
    pub(crate) async fn send_one(&self, content: &Content, token: &str) -> Result<Outcome, String> {
        let mut outcomes = self.send(self.batch(content, &[token.to_owned()])).await?;
        outcomes.pop().ok_or_else(|| "no outcome".to_owned())
    }

    /// What a dry run would show.
    pub(crate) fn preview(&self, content: &Content, token: &str) -> Option<Preview> {
        let batch = self.batch(content, &[token.to_owned()]);
        self.provider.preview(&batch, &SendContext::unlimited())
    }

    /// The requests for messages that the twin sees while `play` runs, in the order of their arrival.
    pub(crate) async fn watch<T>(
        &self,
        play: impl Future<Output = Result<T, String>>,
    ) -> Result<(T, Vec<Seen>), String> {
        self.put("/_sandbox/recording", &json!({"on": true})).await?;
        let done = play.await?;
        let recording = get(&self.http, &format!("{}/_sandbox/recording", self.sandbox)).await?;
        self.put("/_sandbox/recording", &json!({"on": false})).await?;
        let seen = recording["requests"].as_array().into_iter().flatten().map(Seen::of);
        Ok((done, seen.filter(Seen::concerns_a_message).collect()))
    }
}

/// The reason why a target was not accepted.
pub(crate) fn reason(outcome: &Outcome) -> Option<Reason> {
    match &outcome.verdict {
        Verdict::Accepted => None,
        Verdict::Failed(failure) => Some(failure.reason),
    }
}

/// The twin is on this machine.
fn environment(user_agent: &str) -> Environment {
    Environment {
        user_agent: user_agent.into(),
        request_timeout: Some(REQUEST_TIMEOUT),
        egress: Egress::new(["127.0.0.1"], false),
    }
}

async fn get(http: &reqwest::Client, url: &str) -> Result<Value, String> {
    let answer = http.get(url).send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("GET {url} was answered {status}: {}", String::from_utf8_lossy(&body)));
    }
    serde_json::from_slice(&body).map_err(|error| format!("GET {url}: {error}"))
}

/// The values that the schema calls write-only. Of a key file that stands there whole only its key is secret: outcomes
/// may well name the project.
fn secrets(schema: &Value, config: &Value) -> Vec<String> {
    let properties = schema["properties"].as_object().into_iter().flatten();
    let hidden = properties.filter(|(_, property)| property["writeOnly"] == true);
    let texts = hidden.filter_map(|(name, _)| match &config[name] {
        Value::Object(file) => file.get("private_key").and_then(Value::as_str),
        value => value.as_str(),
    });
    texts.filter(|text| text.len() >= 8).map(str::to_owned).collect()
}

/// What a vendor may echo for the target with this index.
pub(crate) fn param(index: usize) -> String {
    format!("param{index:0>27}")
}
