//! The HTTP API: handlers parse, call one thing, answer. `openapi.yaml` is what they promise.
//!
//! What comes in: requests. What goes out: JSON, or a problem document with a stable code. The one list of routes is
//! [`routes`]: the router is built from it, and a test compares it with `openapi.yaml`. It must never reach past the
//! rooms' front doors: no SQL, no vendor, no retry here.

pub mod auth;
pub mod listen;
pub mod problem;

pub(crate) mod address;
mod apps;
mod audit;
mod callbacks;
mod categories;
mod channel_test;
mod channels;
mod cursor;
pub(crate) mod deliveries;
mod devices;
pub mod events;
mod extract;
pub(crate) mod fields;
mod frame;
pub(crate) mod json;
mod key;
pub mod keys;
pub(crate) mod limits;
mod linger;
pub(crate) mod messages;
mod ndjson;
pub mod ops;
mod providers;
pub(crate) mod refusals;
mod registration_keys;
mod reports;
mod rules;
mod steps;
mod story;
mod users;
mod webhooks;

use std::sync::Arc;

use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Router, middleware};

use self::auth::Access;
use self::problem::Problem;
use crate::app::Gateway;
use crate::direct;

/// One operation of the API.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with `{names}`.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    handler: MethodRouter<Arc<Gateway>>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?}", self.method, self.path, self.access)
    }
}

/// All operations, except the phones' own ([`crate::direct`]).
pub fn routes() -> Vec<Route> {
    use Access::{Admin, Member, Public};
    let read_reports = Access::Scope("reports:read");
    let [send, read] = ["messages:write", "messages:read"].map(Access::Scope);
    let [write_devices, read_devices] = ["devices:write", "devices:read"].map(Access::Scope);
    let hooks = Access::Scope("webhooks:write");
    let [write_channels, read_channels] = ["channels:write", "channels:read"].map(Access::Scope);
    vec![
        post("/v1/messages", send, messages::send),
        get("/v1/messages", read, messages::list),
        post("/v1/messages/batch", send, messages::send_batch),
        get("/v1/messages/{id}", read, messages::get),
        post("/v1/messages/{id}/cancel", send, messages::cancel),
        post("/v1/messages/{id}/recall", send, messages::recall),
        get("/v1/messages/{id}/deliveries", read, deliveries::list),
        get("/v1/messages/{id}/deliveries/{delivery_id}", read, deliveries::get),
        get("/v1/devices", read_devices, devices::list),
        post("/v1/devices/import", write_devices, devices::import),
        put("/v1/devices/{id}", write_devices, devices::put),
        get("/v1/devices/{id}", read_devices, devices::get),
        patch("/v1/devices/{id}", write_devices, devices::patch),
        delete("/v1/devices/{id}", write_devices, devices::delete),
        post("/v1/devices/{id}/secret", write_devices, devices::make_secret),
        get("/v1/devices/{id}/deliveries", read_devices, devices::list_deliveries),
        get("/v1/users/{id}", read_devices, users::get),
        delete("/v1/users/{id}", write_devices, users::delete),
        get("/v1/users/{id}/deliveries", read_devices, users::list_deliveries),
        get("/v1/events", Access::Scope("reports:read"), events::stream),
        get("/v1/providers", Member, providers::list),
        get("/v1/apps/{app}/channels", read_channels, channels::list),
        put("/v1/apps/{app}/channels/{name}", write_channels, channels::put),
        get("/v1/apps/{app}/channels/{name}", read_channels, channels::get),
        delete("/v1/apps/{app}/channels/{name}", write_channels, channels::delete),
        post("/v1/apps/{app}/channels/{name}/check", write_channels, channels::check),
        post("/v1/apps/{app}/channels/{name}/test", write_channels, channel_test::send),
        post("/v1/apps/{app}/channels/{name}/pause", write_channels, channels::pause),
        post("/v1/apps/{app}/channels/{name}/resume", write_channels, channels::resume),
        post("/v1/apps/{app}/channels/{name}/rotate_callback", write_channels, channels::rotate_callback),
        get("/v1/callbacks/{channel_id}/{secret}", Public, callbacks::take),
        post("/v1/callbacks/{channel_id}/{secret}", Public, callbacks::take),
        post("/v1/apps/{app}/channels/{name}/restore_addresses", write_channels, channels::restore_addresses),
        get("/v1/apps/{app}/categories", read_channels, categories::list),
        put("/v1/apps/{app}/categories/{name}", write_channels, categories::put),
        get("/v1/apps/{app}/categories/{name}", read_channels, categories::get),
        delete("/v1/apps/{app}/categories/{name}", write_channels, categories::delete),
        get("/v1/apps/{app}/routes", read_channels, rules::get),
        put("/v1/apps/{app}/routes", write_channels, rules::put),
        get("/v1/apps/{app}/webhooks", hooks, webhooks::list),
        post("/v1/apps/{app}/webhooks", hooks, webhooks::create),
        get("/v1/apps/{app}/webhooks/{id}", hooks, webhooks::get),
        patch("/v1/apps/{app}/webhooks/{id}", hooks, webhooks::patch),
        delete("/v1/apps/{app}/webhooks/{id}", hooks, webhooks::delete),
        post("/v1/apps/{app}/webhooks/{id}/rotate_secret", hooks, webhooks::rotate),
        post("/v1/apps/{app}/webhooks/{id}/test", hooks, webhooks::test),
        post("/v1/apps/{app}/webhooks/{id}/replay", hooks, webhooks::replay),
        get("/v1/apps/{app}/webhooks/{id}/attempts", hooks, webhooks::attempts),
        get("/v1/apps/{app}/registration_keys", read_devices, registration_keys::list),
        post("/v1/apps/{app}/registration_keys", write_devices, registration_keys::create),
        delete("/v1/apps/{app}/registration_keys/{id}", write_devices, registration_keys::revoke),
        get("/v1/apps", Admin, apps::list),
        post("/v1/apps", Admin, apps::create),
        get("/v1/apps/{app}", Member, apps::get),
        get("/v1/apps/{app}/keys", Admin, keys::list),
        post("/v1/apps/{app}/keys", Admin, keys::create),
        delete("/v1/apps/{app}/keys/{id}", Admin, keys::revoke),
        get("/v1/reports/deliveries", read_reports, reports::deliveries),
        get("/v1/reports/deliveries.csv", read_reports, reports::deliveries_csv),
        get("/v1/reports/channels", read_reports, reports::channels),
        get("/v1/reports/channels.csv", read_reports, reports::channels_csv),
        get("/v1/audit", Access::Scope("audit:read"), audit::list),
        get("/healthz", Public, ops::healthz),
        get("/readyz", Public, ops::readyz),
        get("/metrics", Public, ops::metrics),
        get("/openapi.yaml", Public, ops::openapi),
    ]
}

/// The whole service over one gateway.
pub fn router(gateway: &Arc<Gateway>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let door = frame::Door { access: route.access, kind: kind(&route) };
        let state = (Arc::clone(gateway), door);
        let guarded = route.handler.layer(middleware::from_fn_with_state(state, frame::guard));
        router = router.route(route.path, guarded);
    }
    router
        .merge(direct::routes())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(Arc::clone(gateway), frame::outer))
        .with_state(Arc::clone(gateway))
}

/// What a call is counted as.
fn kind(route: &Route) -> limits::Kind {
    // A batch is one call, and each of its lines a message.
    if route.path == "/v1/messages" && route.method == Method::POST {
        limits::Kind::Sends
    } else {
        limits::Kind::Calls
    }
}

async fn no_such_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_path", "there is no such path; see GET /openapi.yaml")
}

async fn no_such_method() -> Problem {
    let why = "this path does not take this method; the header `Allow` lists those that it takes";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", why)
}

fn get<H: Handler<T, Arc<Gateway>>, T: 'static>(path: &'static str, access: Access, handler: H) -> Route {
    Route { method: Method::GET, path, access, handler: on(MethodFilter::GET, handler) }
}

fn post<H: Handler<T, Arc<Gateway>>, T: 'static>(path: &'static str, access: Access, handler: H) -> Route {
    Route { method: Method::POST, path, access, handler: on(MethodFilter::POST, handler) }
}

fn put<H: Handler<T, Arc<Gateway>>, T: 'static>(path: &'static str, access: Access, handler: H) -> Route {
    Route { method: Method::PUT, path, access, handler: on(MethodFilter::PUT, handler) }
}

fn patch<H: Handler<T, Arc<Gateway>>, T: 'static>(path: &'static str, access: Access, handler: H) -> Route {
    Route { method: Method::PATCH, path, access, handler: on(MethodFilter::PATCH, handler) }
}

fn delete<H: Handler<T, Arc<Gateway>>, T: 'static>(path: &'static str, access: Access, handler: H) -> Route {
    Route { method: Method::DELETE, path, access, handler: on(MethodFilter::DELETE, handler) }
}

#[cfg(test)]
mod tests;
