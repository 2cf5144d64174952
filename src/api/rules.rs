//! `/v1/apps/{app}/routes`: the app's own rules for messages that name no route.
//!
//! Their order counts, so they are one document that is replaced whole: nobody ever sees half of a change.

use std::collections::HashSet;
use std::sync::Arc;

use anypush_providers::contract::Class;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::apps::{NAME_FORM, is_name};
use super::auth::Caller;
use super::extract::Body;
use super::fields::{Fields, Mistakes, Text};
use super::problem::Answer;
use super::steps;
use crate::app::Gateway;
use crate::clock::rfc3339;
use crate::delivery::state::State as Stage;
use crate::routing::{Match, Rule, StepSpec};
use crate::store::RulesRecord;

const MOST_RULES: usize = 32;
/// Words of one condition.
const MOST_WORDS: usize = 64;
/// Every message without a route carries a copy of those that may concern it.
const MOST_BYTES: usize = 16_384;
const PLATFORMS: [&str; 5] = ["android", "ios", "harmonyos", "web", "other"];

/// `GET /v1/apps/{app}/routes`
pub(super) async fn get(State(gateway): State<Arc<Gateway>>, caller: Caller) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    Ok(Json(view(&gateway, app, gateway.rules.of_app(app).as_deref())))
}

/// `PUT /v1/apps/{app}/routes`
pub(super) async fn put(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    body: Body,
) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    let wrong = Mistakes::default();
    let rules = read(&gateway, app, body.value, &wrong);
    for (i, rule) in rules.iter().enumerate() {
        for (j, name) in rule.fits.categories.iter().enumerate() {
            if is_name(name) && gateway.store.category(app, name).await?.is_none() {
                let why = format!("this app has no category `{name}`");
                wrong.add(format!("/rules/{i}/match/categories/{j}"), why);
            }
        }
    }
    wrong.finish()?;
    let record = RulesRecord { app, rules, updated_at: gateway.clock.now_ms() };
    gateway.rules.put(record.clone()).await?;
    Ok(Json(view(&gateway, app, Some(&record))))
}

/// The names of rules that use a channel by its own name, and would mean nothing without it.
pub(super) fn users_of(gateway: &Gateway, app: i64, channel: &str) -> Vec<String> {
    if steps::is_general(channel) {
        return Vec::new();
    }
    let Some(record) = gateway.rules.of_app(app) else { return Vec::new() };
    let uses = |rule: &&Rule| rule.steps.iter().any(|step| step.uses == channel);
    record.rules.iter().filter(uses).map(|rule| rule.name.clone()).collect()
}

fn view(gateway: &Gateway, app: i64, record: Option<&RulesRecord>) -> Value {
    let rules = record.map_or(&[][..], |record| &record.rules);
    let mut warnings = Vec::new();
    for rule in rules {
        for step in rule.steps.iter().filter(|step| steps::channels(gateway, app, &step.uses).is_empty()) {
            warnings.push(format!(
                "rule `{}`: the app has no channel for `{}` now; until it has one, this step is left out",
                rule.name, step.uses
            ));
        }
    }
    json!({
        "rules": rules.iter().map(shown).collect::<Vec<_>>(),
        "warnings": warnings,
        "updated_at": record.map(|record| rfc3339(record.updated_at)),
    })
}

fn shown(rule: &Rule) -> Value {
    let step = |step: &StepSpec| {
        let mut value = json!({"use": step.uses, "if_blind": step.if_blind});
        value["until"] = step.until.unwrap_or(Stage::Accepted).as_str().into();
        if let Some(seconds) = step.wait_seconds {
            value["wait_seconds"] = seconds.into();
        }
        value
    };
    let steps: Vec<_> = rule.steps.iter().map(step).collect();
    json!({"name": rule.name, "match": rule.fits, "steps": steps})
}

fn read(gateway: &Gateway, app: i64, body: Value, wrong: &Mistakes) -> Vec<Rule> {
    let bytes = body.to_string().len();
    let mut fields = Fields::of(body, "", wrong);
    if bytes > MOST_BYTES {
        fields.refuse("rules", format!("have {bytes} bytes, at most {MOST_BYTES} are allowed"));
    }
    if !fields.has("rules") {
        fields.refuse("rules", "is required; an empty list means the default order");
    }
    let items = fields.list("rules", MOST_RULES).unwrap_or_default();
    fields.finish();
    let mut rules = Vec::new();
    let mut names = HashSet::new();
    for (at, item) in items {
        let mut rule = Fields::of(item, at, wrong);
        let name = rule.needed("name", Text::line(64));
        if !name.is_empty() && !is_name(&name) {
            rule.refuse("name", NAME_FORM);
        }
        if !names.insert(name.clone()) {
            rule.refuse("name", "is the name of another rule");
        }
        let fits = rule.object("match").map(conditions).unwrap_or_default();
        let items = rule.list("steps", steps::MOST).unwrap_or_default();
        if items.is_empty() {
            rule.refuse("steps", "must have at least one step");
        }
        rule.finish();
        let steps = steps::read(gateway, app, items, wrong);
        for (at, step, says) in &steps {
            check_sight(gateway, app, (at, step, *says), wrong);
        }
        rules.push(Rule { name, fits, steps: steps.into_iter().map(|(_, step, _)| step).collect() });
    }
    rules
}

/// A step whose channels never report what it waits for must say what it does then.
fn check_sight(gateway: &Gateway, app: i64, (at, step, says): (&str, &StepSpec, bool), wrong: &Mistakes) {
    let Some(until) = step.until.filter(|until| *until != Stage::Accepted && !says) else { return };
    let channels = steps::channels(gateway, app, &step.uses);
    if !channels.is_empty() && channels.iter().all(|channel| channel.is_blind_to(until)) {
        let why = format!(
            "no channel of `{}` reports {}: say `stop` (accepted is enough) or `go` (wait all the same, because the \
             phone itself may report)",
            step.uses,
            until.as_str()
        );
        wrong.add(format!("{at}/if_blind"), why);
    }
}

fn conditions(mut fields: Fields<'_>) -> Match {
    let class =
        fields.choice("class", &[("transactional", Class::Transactional), ("marketing", Class::Marketing)]);
    let mut words = |name: &str, form: Text| {
        let words = fields.texts(name, MOST_WORDS, form);
        if words.as_ref().is_some_and(Vec::is_empty) {
            fields.refuse(name, "is empty; leave it out where it does not matter");
        }
        words.unwrap_or_default()
    };
    let fits = Match {
        class,
        categories: words("categories", Text::line(64)),
        platforms: words("platforms", Text::line(16)),
        manufacturers: words("manufacturers", Text::line(64)),
        countries: words("countries", Text::line(64)),
    };
    if let Some(odd) = fits.platforms.iter().find(|word| !PLATFORMS.contains(&word.as_str())) {
        fields.refuse("platforms", format!("`{odd}` is none of {}", PLATFORMS.join(", ")));
    }
    if fits.countries.iter().any(|code| code.len() != 2 || !code.bytes().all(|b| b.is_ascii_uppercase())) {
        fields.refuse("countries", "must be codes of two capital letters, such as CN");
    }
    fields.finish();
    fits
}
