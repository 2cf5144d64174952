//! P-h2: a bare `h2` loop that posts the same bytes to the same sandbox, one request a token, over one connection.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{Method, Request, Version};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// What to post.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The sandbox's host and port.
    pub(crate) origin: String,
    /// The account: a played vendor's channel configuration.
    pub(crate) account: Value,
    /// Tokens that it takes, one request each.
    pub(crate) tokens: Vec<String>,
    /// Requests in flight.
    pub(crate) streams: usize,
    pub(crate) payload: String,
}

/// Answers how many were taken.
pub(super) async fn run(task: Task) -> anyhow::Result<u64> {
    let text = |name: &str| task.account[name].as_str().with_context(|| format!("the account has no {name}"));
    let topic = text("bundle_id")?.to_owned();
    let bearer = bearer(text("key_p8")?, text("key_id")?, text("team_id")?)?;
    let socket = TcpStream::connect(&task.origin).await?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = h2::client::handshake(socket).await?;
    let driver = tokio::spawn(connection);
    let payload = Bytes::from(task.payload);
    let request = |number: usize, token: &str| -> anyhow::Result<Request<()>> {
        Ok(Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://{}/3/device/{token}", task.origin))
            .header("authorization", &bearer)
            .header("apns-topic", &topic)
            .header("apns-push-type", "alert")
            .header("apns-priority", "10")
            .header("apns-expiration", "0")
            .header("apns-id", format!("00000000-0000-4000-8000-{number:012x}"))
            .body(())?)
    };
    // The vendor allows one stream until it has seen that the token is good.
    let mut in_flight = FuturesUnordered::new();
    for (number, token) in task.tokens.iter().enumerate() {
        let most = if number < 2 { 1 } else { task.streams };
        while in_flight.len() >= most {
            let answer: anyhow::Result<()> = in_flight.next().await.context("one is in flight")?;
            answer?;
        }
        sender = sender.ready().await?;
        let (response, mut body) = sender.send_request(request(number, token)?, false)?;
        body.send_data(payload.clone(), true)?;
        in_flight.push(async move {
            let mut response = response.await?;
            if !response.status().is_success() {
                let why = response.body_mut().data().await.transpose()?.unwrap_or_default();
                bail!("the sandbox answered {}: {}", response.status(), String::from_utf8_lossy(&why));
            }
            Ok(())
        });
    }
    while let Some(answer) = in_flight.next().await {
        answer?;
    }
    drop(sender);
    driver.abort();
    Ok(task.tokens.len() as u64)
}

fn bearer(key: &str, key_id: &str, team: &str) -> anyhow::Result<String> {
    let now = jiff::Timestamp::now().as_second();
    let header = Header { kid: Some(key_id.to_owned()), ..Header::new(Algorithm::ES256) };
    let key = EncodingKey::from_ec_pem(key.as_bytes())?;
    let token = jsonwebtoken::encode(&header, &json!({"iss": team, "iat": now}), &key)?;
    Ok(format!("bearer {token}"))
}
