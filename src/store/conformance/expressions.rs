//! Audiences by expression: whatever the expression and the size of a round, who is found is who fits.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::audience::walk;
use super::samples::{NOW, app};
use crate::delivery::expression::{Bound, Circle, Expression, Scalar, Test};
use crate::store::records::attributes::version;
use crate::store::{DevicePatch, DevicePut, FIELD, Store};

const TAGS: [&str; 4] = ["a", "b", "c", "d'--"];
const NAMES: [&str; 7] =
    ["level", "plan", "paid", "na\"me", "device.country", "device.app_version", "device.platform"];
const USERS: [&str; 3] = ["ann", "bob", "eve"];

/// A value such as devices have and expressions name, of every type.
fn scalar(chance: &mut StdRng, name: &str) -> Scalar {
    let texts = ["", "a", "ab", "b", "7", "\u{4e2d}", "true", "' OR 1=1"];
    let versions = ["3.9", "3.10.0", "3.10", "3.10.0-beta", "4", "x"];
    let pick = |chance: &mut StdRng, all: &[&str]| Scalar::Text((*all.choose(chance).unwrap()).to_owned());
    if name == "device.app_version" {
        return pick(chance, &versions);
    }
    if name.starts_with(FIELD) {
        return pick(chance, &["CN", "DE", "ios", "android"]);
    }
    match chance.random_range(0..4) {
        0 => Scalar::Flag(chance.random()),
        1 => Scalar::Number(chance.random_range(-2..4_i64).into()),
        2 => {
            Scalar::Number(serde_json::Number::from_f64(f64::from(chance.random_range(-4..8)) / 2.0).unwrap())
        }
        _ => pick(chance, &texts),
    }
}

fn device(chance: &mut StdRng, id: String) -> DevicePut {
    let mut put = DevicePut { id, enabled: true, ..DevicePut::default() };
    put.tags = TAGS.iter().filter(|_| chance.random_bool(0.4)).map(ToString::to_string).collect();
    if chance.random_bool(0.7) {
        put.user_id = Some((*USERS.choose(chance).unwrap()).to_owned());
    }
    let mut attributes = BTreeMap::new();
    for name in NAMES {
        let value = scalar(chance, name);
        match (name.strip_prefix(FIELD), chance.random_bool(0.6), value) {
            (_, false, _) => {}
            (None, _, value) => {
                attributes.insert(name, serde_json::to_value(value).unwrap());
            }
            (Some("platform"), _, Scalar::Text(text)) => put.platform = Some(text),
            (Some(field), _, value) => {
                put.profile.insert(field.to_owned(), serde_json::to_value(value).unwrap());
            }
        }
    }
    put.profile.insert("attributes".into(), json!(attributes));
    if chance.random_bool(0.6) {
        put.profile.insert("location".into(), place(chance));
    }
    put
}

fn place(chance: &mut StdRng) -> Value {
    let spread = [0.1, 3.0, 90.0][chance.random_range(0..3)];
    let lon: f64 = 179.9 + chance.random_range(-spread..=spread);
    let lon = if lon > 180.0 { lon - 360.0 } else { lon };
    json!({"lat": (31.2 + chance.random_range(-spread..=spread)).min(90.0), "lon": lon})
}

fn expression(chance: &mut StdRng, depth: usize) -> Expression {
    let kinds = if depth == 0 { 6 } else { 10 };
    let several = |chance: &mut StdRng| -> Vec<Expression> {
        (0..chance.random_range(1..4)).map(|_| expression(chance, depth - 1)).collect()
    };
    match chance.random_range(0..kinds) {
        0 => Expression::All,
        1 => Expression::Tag((*TAGS.choose(chance).unwrap()).to_owned()),
        2 => {
            let radius_km = 10_f64.powf(chance.random_range(0.0..4.3));
            Expression::Near(Circle { lat: 31.0, lon: -179.95, radius_km })
        }
        3 => Expression::Users(vec![(*USERS.choose(chance).unwrap()).to_owned(), "eve".into()]),
        4 | 5 => {
            let name = (*NAMES.choose(chance).unwrap()).to_owned();
            let test = test(chance, &name);
            Expression::Attr { name, test }
        }
        6 | 7 => Expression::And(several(chance)),
        8 => Expression::Or(several(chance)),
        _ => Expression::Not(Box::new(expression(chance, depth - 1))),
    }
}

fn test(chance: &mut StdRng, name: &str) -> Test {
    match chance.random_range(0..5) {
        0 => Test::Exists,
        1 => Test::OneOf((0..chance.random_range(1..4)).map(|_| scalar(chance, name)).collect()),
        2 => Test::StartsWith(["a", "C", "", "' OR"][chance.random_range(0..4)].to_owned()),
        _ => loop {
            let mut end = || {
                let value = scalar(chance, name);
                Bound { value, inclusive: chance.random() }
            };
            let (low, high) = (end(), end());
            let is_flag = |bound: &Bound| matches!(bound.value, Scalar::Flag(_));
            let mixed = std::mem::discriminant(&low.value) != std::mem::discriminant(&high.value);
            if is_flag(&low) || is_flag(&high) || mixed {
                continue;
            }
            return match chance.random_range(0..3) {
                0 => Test::Between { low: Some(low), high: None },
                1 => Test::Between { low: None, high: Some(high) },
                _ => Test::Between { low: Some(low), high: Some(high) },
            };
        },
    }
}

/// What an expression means, told as plainly as can be.
fn fits(device: &DevicePut, expression: &Expression) -> bool {
    match expression {
        Expression::All => true,
        Expression::Tag(tag) => device.tags.contains(tag),
        Expression::Users(users) => device.user_id.as_ref().is_some_and(|user| users.contains(user)),
        Expression::And(all) => all.iter().all(|one| fits(device, one)),
        Expression::Or(any) => any.iter().any(|one| fits(device, one)),
        Expression::Not(inner) => !fits(device, inner),
        Expression::Near(circle) => device.profile.get("location").is_some_and(|place| {
            circle.holds(place["lat"].as_f64().unwrap(), place["lon"].as_f64().unwrap())
        }),
        Expression::Attr { name, test } => {
            let value = match name.strip_prefix(FIELD) {
                Some("platform") => device.platform.clone().map(Value::from),
                Some(field) => device.profile.get(field).cloned(),
                None => device.profile["attributes"].get(name).cloned(),
            };
            value.is_some_and(|value| passes(name, &serde_json::from_value(value).unwrap(), test))
        }
    }
}

fn passes(name: &str, value: &Scalar, test: &Test) -> bool {
    match test {
        Test::Exists => true,
        Test::OneOf(all) => all.iter().any(|one| order(name, value, one) == Some(Ordering::Equal)),
        Test::StartsWith(begin) => {
            name != "device.app_version" && matches!(value, Scalar::Text(words) if words.starts_with(begin))
        }
        Test::Between { low, high } => {
            let within = |bound: &Option<Bound>, side: Ordering| {
                bound.as_ref().is_none_or(|bound| match order(name, value, &bound.value) {
                    Some(Ordering::Equal) => bound.inclusive,
                    found => found == Some(side),
                })
            };
            within(low, Ordering::Greater) && within(high, Ordering::Less)
        }
    }
}

fn order(name: &str, a: &Scalar, b: &Scalar) -> Option<Ordering> {
    match (a, b) {
        (Scalar::Flag(a), Scalar::Flag(b)) => (a == b).then_some(Ordering::Equal),
        (Scalar::Number(a), Scalar::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Scalar::Text(a), Scalar::Text(b)) if name == "device.app_version" => {
            Some(version(a).cmp(&version(b)))
        }
        (Scalar::Text(a), Scalar::Text(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

pub(in crate::store) async fn any_expression_finds_who_fits_in_rounds_of_any_size(store: &dyn Store) {
    let mut chance = StdRng::seed_from_u64(2026);
    app(store, "shop").await;
    app(store, "news").await;
    let mut devices: BTreeMap<u64, DevicePut> = BTreeMap::new();
    let mut foreign = 0;
    for i in 0..150 {
        let put = device(&mut chance, format!("d{i}"));
        // Numbers of two apps lie between one another.
        let owner = if chance.random_bool(0.7) { 1 } else { 2 };
        let made = store.put_devices(owner, vec![put.clone()], NOW).await.unwrap();
        if owner == 1 {
            devices.insert(made[0].seq, put);
        } else {
            foreign += 1;
        }
    }
    // Devices change, move and go; what is found goes with them.
    for (place, seq) in devices.keys().copied().collect::<Vec<_>>().into_iter().enumerate() {
        let id = devices[&seq].id.clone();
        if place % 10 == 0 {
            assert!(store.delete_device(1, &id).await.unwrap());
            devices.remove(&seq);
        } else if place % 3 == 0 {
            let put = device(&mut chance, id);
            store.put_devices(1, vec![put.clone()], NOW).await.unwrap();
            devices.insert(seq, put);
        } else if place % 7 == 0 {
            let moved =
                BTreeMap::from([("location".to_owned(), Value::Null), ("country".to_owned(), json!("CN"))]);
            let patch = DevicePatch { profile: moved, ..DevicePatch::default() };
            store.patch_device(1, &id, patch, NOW).await.unwrap().unwrap();
            let put = devices.get_mut(&seq).unwrap();
            put.profile.remove("location");
            put.profile.insert("country".into(), json!("CN"));
        }
    }
    let (mut nobody, mut somebody) = (0, 0);
    for round in 0..300 {
        let asked = expression(&mut chance, round % 4);
        let limit = [1, 3, 10, 1000][chance.random_range(0..4)];
        let expected: Vec<u64> =
            devices.iter().filter(|(_, device)| fits(device, &asked)).map(|(seq, _)| *seq).collect();
        assert_eq!(walk(store, 1, &asked, limit).await, expected, "{asked:?} by {limit}");
        if expected.is_empty() {
            nobody += 1;
        } else {
            somebody += 1;
        }
    }
    assert!(nobody > 20 && somebody > 150, "the draw is worth something: {nobody}, {somebody}");
    let nothing = Expression::Not(Box::new(Expression::Tag("nowhere".into())));
    assert_eq!(walk(store, 2, &nothing, 7).await.len(), foreign, "`not` stays in its app");
}
