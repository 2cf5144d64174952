//! `POST /v1/device/register`: a phone that nobody knows yet shows a token that its app's backend has signed, and gets
//! its secret.

use std::sync::Arc;

use aws_lc_rs::digest;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ask::{self, Body, fresh};
use super::own;
use super::registration::{self, Claims};
use super::secret;
use crate::api::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::audit::{self, Who};
use crate::store::{DeviceFilter, Registered, Registration, RegistrationKeyRecord};

/// How often a phone's name may turn out to be another one before it is told to come again.
const ROUNDS: usize = 3;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    token: String,
    #[serde(default, deserialize_with = "ask::given")]
    device: Option<Map<String, Value>>,
}

/// Makes the device that the token names, or takes it over for whom the token names; its secret is new.
pub(super) async fn register(State(gateway): State<Arc<Gateway>>, Body(bytes): Body) -> Answer<Response> {
    let asked: Asked = ask::body(&bytes)?;
    let now = gateway.clock.now_ms();
    let (key, claims) = proved(&gateway, &asked.token, now).await?;
    let filter = DeviceFilter { id: Some(claims.device_id.clone()), ..DeviceFilter::default() };
    let known = gateway.store.devices(key.app, &filter, 0, 1).await?.pop();
    let mut patch =
        own::read(asked.device.unwrap_or_default(), "/device", async || Ok(known.clone())).await?;
    // Whose phone it is says the backend, and so it says where it names nobody.
    patch.user_id = Some(claims.user_id.clone());
    let mut username = known.and_then(|device| device.username);
    for _ in 0..ROUNDS {
        let new = secret::make(username.as_deref());
        let registration = Registration {
            app: key.app,
            key: key.id.clone(),
            nonce: hash(&claims.nonce),
            until: claims.exp * 1000,
            device: claims.device_id.clone(),
            patch: patch.clone(),
            username: new.username.clone(),
            mac: secret::mac(&gateway.vault, &new.secret),
        };
        // The phone says so itself; whose key let it is told with it.
        let device = Who::Device(claims.device_id.clone());
        match audit::acting_as(device, gateway.store.register_device(registration, now)).await? {
            Registered::Done(device) => {
                gateway.hub.revoke(device.seq);
                let direct = super::access(&gateway, &new.username);
                let answer = json!({
                    "device_id": device.id,
                    "user_id": device.user_id,
                    "secret": new.secret,
                    "username": new.username,
                    "direct": direct,
                });
                return Ok((StatusCode::CREATED, fresh(answer)).into_response());
            }
            Registered::Replayed => {
                return Err(refused("it was used before; ask the backend for another one"));
            }
            Registered::Named(name) => username = Some(name),
        }
    }
    let why = "the device is being registered by others at this moment";
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", why).retry_after(1))
}

/// What a token claims, and the key that proves it.
async fn proved(gateway: &Gateway, token: &str, now: u64) -> Answer<(RegistrationKeyRecord, Claims)> {
    let no = |why: registration::Refused| refused(&why.to_string());
    let id = registration::key_id(token).map_err(no)?;
    let key = gateway.store.registration_key(&id).await?.ok_or_else(|| no(registration::Refused::Key))?;
    let claims = registration::read(&gateway.vault, &key, token, now).map_err(no)?;
    // A key speaks for its own app alone.
    let app = gateway.auth.app(&claims.app).await?.filter(|app| app.seq == key.app);
    app.ok_or_else(|| refused("its `app` is not the app of its key"))?;
    Ok((key, claims))
}

fn hash(nonce: &str) -> [u8; 32] {
    digest::digest(&digest::SHA256, nonce.as_bytes()).as_ref().try_into().unwrap_or_default()
}

fn refused(why: &str) -> Problem {
    let detail = format!("this registration token is not taken: {why}");
    Problem::new(StatusCode::UNAUTHORIZED, "invalid_registration_token", detail)
}
