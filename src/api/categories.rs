//! `/v1/apps/{app}/categories`: what messages are about, and what each vendor is told of that.

use std::collections::BTreeMap;
use std::sync::Arc;

use anypush_providers::contract::{Class, ConfigError};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::apps::{NAME_FORM, is_name};
use super::auth::Caller;
use super::extract::{Body, Names, Query};
use super::fields::{Fields, Mistakes};
use super::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::clock::rfc3339;
use crate::store::CategoryRecord;

/// Every message of a category carries a copy of it.
const MOST_BYTES: usize = 16_384;

fn view(category: &CategoryRecord) -> Value {
    json!({
        "name": category.name,
        "class": category.class,
        "providers": category.providers,
        "created_at": rfc3339(category.created_at),
        "updated_at": rfc3339(category.updated_at),
    })
}

/// `GET /v1/apps/{app}/categories`
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    query: Query,
) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    let page = query.page(&gateway, format!("categories {app}"))?;
    let after = page.place.clone().unwrap_or_default();
    let mut found = gateway.store.categories(app, &after, page.limit + 1).await?;
    let next = page.cut(&mut found, |category| category.name.clone());
    Ok(page.answer(&gateway, &found.iter().map(view).collect::<Vec<_>>(), next))
}

/// `GET /v1/apps/{app}/categories/{name}`
pub(super) async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    let found = gateway.store.category(caller.app_seq()?, names.get("name")).await?;
    Ok(Json(view(&found.ok_or_else(|| Problem::not_found("category"))?)))
}

/// `PUT /v1/apps/{app}/categories/{name}`
pub(super) async fn put(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
    body: Body,
) -> Answer<(StatusCode, Json<Value>)> {
    let now = gateway.clock.now_ms();
    let (class, providers) = read(names.get("name"), body.value)?;
    let category = CategoryRecord {
        app: caller.app_seq()?,
        name: names.get("name").to_owned(),
        class,
        providers,
        created_at: now,
        updated_at: now,
    };
    let (category, is_new) = gateway.store.put_category(category).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(view(&category))))
}

/// `DELETE /v1/apps/{app}/categories/{name}`
pub(super) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<StatusCode> {
    let found = gateway.store.delete_category(caller.app_seq()?, names.get("name")).await?;
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found("category")) }
}

type Parts = BTreeMap<String, Map<String, Value>>;

fn read(name: &str, body: Value) -> Answer<(Option<Class>, Parts)> {
    let wrong = Mistakes::default();
    if !is_name(name) {
        wrong.add("", format!("the category's name in the path {NAME_FORM}"));
    }
    let mut fields = Fields::of(body, "", &wrong);
    let class =
        fields.choice("class", &[("transactional", Class::Transactional), ("marketing", Class::Marketing)]);
    let given = fields.object("providers").map(|mut inner| inner.rest()).unwrap_or_default();
    fields.finish();
    let mut parts = Parts::new();
    let mut bytes = 0;
    for (provider, settings) in given {
        let at = format!("/providers/{}", super::fields::escape(&provider));
        match anypush_providers::find(&provider) {
            Some(registration) => {
                if let Err(ConfigError(mistakes)) = (registration.category.check)(&settings) {
                    for (inner, why) in mistakes {
                        wrong.add(format!("{at}{inner}"), why);
                    }
                }
            }
            None => wrong.add(&at, "there is no such provider; GET /v1/providers lists them"),
        }
        bytes += settings.to_string().len();
        match settings {
            Value::Object(settings) => drop(parts.insert(provider, settings)),
            _ => wrong.add(at, "must be an object"),
        }
    }
    if bytes > MOST_BYTES {
        wrong.add("/providers", format!("has {bytes} bytes, at most {MOST_BYTES} are allowed"));
    }
    wrong.finish().map(|()| (class, parts))
}
