//! Expressions of an audience as callers write them: `all`, `tag`, `attr`, `near`, `and`, `or`, `not`.
//!
//! What an expression costs is bounded before anything of it is asked of the store: each test counts one, each value
//! of `in` too, and a circle as many as it may need cells.

use serde_json::Value;

use crate::api::fields::{Fields, Mistakes, Text};
use crate::delivery::expression::{Bound, Circle, Expression, Scalar, Test};
use crate::store::{FIELD, field_names, is_unknown_field, is_version};

/// How deep `and`, `or` and `not` may stand in one another.
const DEEPEST: usize = 6;
/// What all parts of an expression may cost together.
const MOST: usize = 256;
/// What a circle costs.
const CIRCLE: usize = 16;
/// Half the way round the Earth.
const FURTHEST_KM: f64 = 20_040.0;
const TAG: Text = Text::line(64);
const NAME: Text = Text::line(64);
const VALUE: Text = Text::prose(512);
const KINDS: [&str; 7] = ["all", "tag", "attr", "near", "and", "or", "not"];

/// Reads an expression.
pub(super) fn read(value: Value, pointer: String, wrong: &Mistakes) -> Option<Expression> {
    let mut reader = Reader { wrong, cost: 0, refused: false };
    let expression = reader.any(value, pointer, 0);
    expression.filter(|_| !reader.refused)
}

struct Reader<'m> {
    wrong: &'m Mistakes,
    cost: usize,
    /// It is too much already: said once.
    refused: bool,
}

impl Reader<'_> {
    fn any(&mut self, value: Value, pointer: String, depth: usize) -> Option<Expression> {
        if depth > DEEPEST {
            let why = format!(
                "stands {depth} deep; at most {DEEPEST} are allowed: take it apart, or use more tags"
            );
            self.too_much(pointer, why);
            return None;
        }
        let mut fields = Fields::of(value, pointer, self.wrong);
        let mut there = KINDS.into_iter().filter(|kind| fields.has(kind));
        let (Some(kind), None) = (there.next(), there.next()) else {
            fields.refuse_all("must have exactly one of `all`, `tag`, `attr`, `near`, `and`, `or`, `not`");
            return None;
        };
        self.pay(if kind == "near" { CIRCLE } else { 1 }, &fields, kind)?;
        let expression = match kind {
            "all" => everybody(&mut fields),
            "tag" => fields.text("tag", TAG).map(Expression::Tag),
            "attr" => self.attribute(&mut fields),
            "near" => fields.object("near").and_then(circle).map(Expression::Near),
            "not" => {
                let at = fields.at("not");
                let inner = fields.take("not").and_then(|value| self.any(value, at, depth + 1));
                inner.map(|inner| Expression::Not(Box::new(inner)))
            }
            several => {
                let all = self.several(&mut fields, several, depth);
                all.map(if several == "and" { Expression::And } else { Expression::Or })
            }
        };
        fields.finish();
        expression
    }

    fn several(&mut self, fields: &mut Fields<'_>, kind: &str, depth: usize) -> Option<Vec<Expression>> {
        let items = self.items(fields, kind)?;
        if items.is_empty() {
            fields.refuse(kind, "must have at least one expression in it");
            return None;
        }
        let mut all = Vec::with_capacity(items.len());
        for (at, item) in items {
            let read = self.any(item, at, depth + 1);
            if self.refused {
                return None;
            }
            all.extend(read);
        }
        Some(all)
    }

    fn attribute(&mut self, fields: &mut Fields<'_>) -> Option<Expression> {
        let name = fields.text("attr", NAME)?;
        if is_unknown_field(&name) {
            let names: Vec<_> = field_names().map(|field| format!("`{FIELD}{field}`")).collect();
            fields
                .refuse("attr", format!("there is no such field of devices; there are {}", names.join(", ")));
        }
        let eq = self.scalar(fields, "eq", &name);
        let one_of = self.values(fields, &name);
        let exists = fields.flag("exists");
        let begin = fields.text("starts_with", Text::line(512));
        let low = self.bound(fields, ["gt", "gte"], &name);
        let high = self.bound(fields, ["lt", "lte"], &name);
        if begin.is_some() && is_version(&name) {
            fields.refuse("starts_with", "a version has no beginning; use `gte` and `lt`");
        }
        let ordered = low.is_some() || high.is_some();
        let type_of =
            |bound: &Option<Bound>| bound.as_ref().map(|bound| std::mem::discriminant(&bound.value));
        if low.is_some() && high.is_some() && type_of(&low) != type_of(&high) {
            fields.refuse_all("both ends of a range must be numbers, or both texts");
        }
        let ways = [eq.is_some(), one_of.is_some(), exists.is_some(), begin.is_some(), ordered];
        match ways.into_iter().filter(|is_there| *is_there).count() {
            1 => {}
            // What is there and wrong has been told.
            0 if !self.wrong.is_empty() => return None,
            _ => {
                let why = "must have one test: `eq`, `in`, `exists`, `starts_with`, or a range of `gt`/`gte` and `lt`/`lte`";
                fields.refuse_all(why);
                return None;
            }
        }
        let test = match (eq, one_of, exists, begin) {
            (Some(value), ..) => Test::OneOf(vec![value]),
            (_, Some(values), ..) => Test::OneOf(values),
            (_, _, Some(true), _) => Test::Exists,
            (_, _, Some(false), _) => {
                return Some(Expression::Not(Box::new(Expression::Attr { name, test: Test::Exists })));
            }
            (.., Some(begin)) => Test::StartsWith(begin),
            _ => Test::Between { low, high },
        };
        Some(Expression::Attr { name, test })
    }

    fn values(&mut self, fields: &mut Fields<'_>, name: &str) -> Option<Vec<Scalar>> {
        let items = self.items(fields, "in")?;
        if items.is_empty() {
            fields.refuse("in", "must have at least one value in it");
            return None;
        }
        self.pay(items.len() - 1, fields, "in")?;
        Some(items.into_iter().filter_map(|(at, item)| self.value(item, at, name)).collect())
    }

    /// The items of a list: not one of them is looked at where there are too many.
    fn items(&mut self, fields: &mut Fields<'_>, name: &str) -> Option<Vec<(String, Value)>> {
        let items = fields.list(name, usize::MAX)?;
        if items.len() > MOST {
            self.too_much(fields.at(name), format!("has {} parts; at most {MOST} are allowed", items.len()));
            return None;
        }
        Some(items)
    }

    fn bound(&self, fields: &mut Fields<'_>, names: [&str; 2], of: &str) -> Option<Bound> {
        if names.into_iter().all(|name| fields.has(name)) {
            fields.refuse(names[0], format!("means nothing beside `{}`; leave one of them out", names[1]));
        }
        let mut found = None;
        for name in names {
            let Some(value) = self.scalar(fields, name, of) else { continue };
            if matches!(value, Scalar::Flag(_)) {
                fields.refuse(name, "must be a number or a text: true and false are in no order");
            }
            found = Some(Bound { value, inclusive: name.ends_with('e') });
        }
        found
    }

    fn scalar(&self, fields: &mut Fields<'_>, name: &str, of: &str) -> Option<Scalar> {
        let at = fields.at(name);
        fields.take(name).and_then(|value| self.value(value, at, of))
    }

    /// A value that an attribute of this name may have.
    fn value(&self, value: Value, at: String, of: &str) -> Option<Scalar> {
        let mistake = match &value {
            Value::String(text) => VALUE.wrong(text),
            _ if of.starts_with(FIELD) => Some("must be a string".into()),
            Value::Number(_) | Value::Bool(_) => None,
            _ => Some("must be a string, a number, true or false".into()),
        };
        if let Some(why) = mistake {
            self.wrong.add(at, why);
            return None;
        }
        match value {
            Value::String(text) => Some(Scalar::Text(text)),
            Value::Number(number) => Some(Scalar::Number(number)),
            Value::Bool(flag) => Some(Scalar::Flag(flag)),
            _ => None,
        }
    }

    /// Counts what a part costs; `None` once it is too much.
    fn pay(&mut self, cost: usize, fields: &Fields<'_>, name: &str) -> Option<()> {
        self.cost += cost;
        if self.cost > MOST {
            let why =
                format!("with this it is more than {MOST} tests; tag the devices, or send several messages");
            self.too_much(fields.at(name), why);
            return None;
        }
        Some(())
    }

    fn too_much(&mut self, pointer: String, why: String) {
        if !self.refused {
            self.wrong.code("audience_too_complex", pointer, why);
        }
        self.refused = true;
    }
}

fn everybody(fields: &mut Fields<'_>) -> Option<Expression> {
    let all = fields.flag("all")?;
    if !all {
        fields.refuse("all", "must be true");
    }
    all.then_some(Expression::All)
}

fn circle(mut fields: Fields<'_>) -> Option<Circle> {
    let mut number = |name: &str, range: std::ops::RangeInclusive<f64>| {
        let value = fields.take(name).and_then(|value| value.as_f64()).filter(|value| range.contains(value));
        if value.is_none() {
            fields.refuse(name, format!("must be a number from {} to {}", range.start(), range.end()));
        }
        value
    };
    let (lat, lon) = (number("lat", -90.0..=90.0), number("lon", -180.0..=180.0));
    let radius_km = number("radius_km", 0.001..=FURTHEST_KM);
    fields.finish();
    Some(Circle { lat: lat?, lon: lon?, radius_km: radius_km? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<Expression, Vec<(String, &'static str)>> {
        let wrong = Mistakes::default();
        let read = read(value, "/to/audience".into(), &wrong);
        match wrong.finish() {
            Ok(()) => Ok(read.expect("what has no mistakes is read")),
            Err(problem) => Err(problem.errors.into_iter().map(|e| (e.pointer, e.code)).collect()),
        }
    }

    fn number(n: u64) -> Scalar {
        Scalar::Number(n.into())
    }

    #[test]
    fn every_kind_of_expression_reads() {
        let attr = |name: &str, test| Expression::Attr { name: name.into(), test };
        let high = Some(Bound { value: number(10), inclusive: false });
        let low = Some(Bound { value: number(7), inclusive: true });
        let cases = [
            (json!({"all": true}), Expression::All),
            (json!({"tag": "vip"}), Expression::Tag("vip".into())),
            (json!({"attr": "level", "eq": 7}), attr("level", Test::OneOf(vec![number(7)]))),
            (json!({"attr": "level", "gte": 7, "lt": 10}), attr("level", Test::Between { low, high })),
            (json!({"attr": "paid", "eq": true}), attr("paid", Test::OneOf(vec![Scalar::Flag(true)]))),
            (
                json!({"attr": "plan", "in": ["a", 7]}),
                attr("plan", Test::OneOf(vec![Scalar::Text("a".into()), number(7)])),
            ),
            (json!({"attr": "plan", "exists": true}), attr("plan", Test::Exists)),
            (
                json!({"attr": "device.language", "starts_with": "zh"}),
                attr("device.language", Test::StartsWith("zh".into())),
            ),
            (
                json!({"near": {"lat": 31.2, "lon": 121.5, "radius_km": 25}}),
                Expression::Near(Circle { lat: 31.2, lon: 121.5, radius_km: 25.0 }),
            ),
            (
                json!({"and": [{"tag": "a"}, {"or": [{"tag": "b"}, {"not": {"tag": "c"}}]}]}),
                Expression::And(vec![
                    Expression::Tag("a".into()),
                    Expression::Or(vec![
                        Expression::Tag("b".into()),
                        Expression::Not(Box::new(Expression::Tag("c".into()))),
                    ]),
                ]),
            ),
        ];
        for (given, expected) in cases {
            let read = parse(given.clone()).unwrap_or_else(|errors| panic!("{given}: {errors:?}"));
            assert_eq!(read, expected, "{given}");
            let stored = serde_json::to_string(&read).unwrap();
            assert_eq!(
                serde_json::from_str::<Expression>(&stored).unwrap(),
                expected,
                "it survives being stored"
            );
        }
        let absent = parse(json!({"attr": "plan", "exists": false})).unwrap();
        assert_eq!(absent, Expression::Not(Box::new(attr("plan", Test::Exists))));
    }

    #[test]
    fn a_mistake_is_told_where_it_is() {
        let cases = [
            (json!({}), ""),
            (json!([]), ""),
            (json!({"all": false}), "/all"),
            (json!({"tag": "a", "all": true}), ""),
            (json!({"tag": 7}), "/tag"),
            (json!({"attr": "a"}), ""),
            (json!({"attr": "a", "eq": 1, "exists": true}), ""),
            (json!({"attr": "a", "eq": null}), "/eq"),
            (json!({"attr": "a", "eq": [1]}), "/eq"),
            (json!({"attr": "a", "gt": true}), "/gt"),
            (json!({"attr": "a", "gt": 1, "gte": 1}), "/gt"),
            (json!({"attr": "a", "gt": 1, "lt": "b"}), ""),
            (json!({"attr": "a", "in": []}), "/in"),
            (json!({"attr": "a", "like": "%x%"}), ""),
            (json!({"attr": "device.secret_mac", "exists": true}), "/attr"),
            (json!({"attr": "device.country", "eq": 7}), "/eq"),
            (json!({"attr": "device.app_version", "starts_with": "3."}), "/starts_with"),
            (json!({"near": {"lat": 91, "lon": 0, "radius_km": 1}}), "/near/lat"),
            (json!({"near": {"lat": 0, "lon": "NaN", "radius_km": 1}}), "/near/lon"),
            (json!({"near": {"lat": 0, "lon": 0, "radius_km": 0}}), "/near/radius_km"),
            (json!({"near": {"lat": 0, "lon": 0, "radius_km": 1e300}}), "/near/radius_km"),
            (json!({"near": {"lat": 0, "lon": 0, "radius_km": 1, "unit": "mi"}}), "/near/unit"),
            (json!({"and": []}), "/and"),
            (json!({"or": [{"tag": "a"}, {"tga": "b"}]}), "/or/1"),
            (json!({"not": [{"tag": "a"}]}), "/not"),
        ];
        for (given, pointer) in cases {
            let errors = parse(given.clone()).expect_err(&given.to_string());
            assert_eq!(errors[0].0, format!("/to/audience{pointer}"), "{given}: {errors:?}");
        }
    }

    /// A30
    #[test]
    fn an_expression_that_would_cost_too_much_is_refused_before_it_costs_anything() {
        let mut deep = json!({"tag": "a"});
        for _ in 0..1000 {
            deep = json!({"not": deep});
        }
        let tags: Vec<_> = (0..250).map(|n| json!({"tag": format!("t{n}")})).collect();
        let circle = json!({"near": {"lat": 0, "lon": 0, "radius_km": 1}});
        let values: Vec<_> = (0..250).collect();
        let cases = [
            deep,
            json!({"or": [{"or": tags}, {"attr": "a", "in": values}]}),
            json!({"or": vec![circle; 17]}),
            json!({"and": vec![json!({"or": [{"tag": "a"}, {"tag": "b"}]}); 100]}),
        ];
        for given in cases {
            let errors = parse(given).unwrap_err();
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert_eq!(errors[0].1, "audience_too_complex");
        }
        let many: Vec<_> = (0..10_000).map(|n| json!({"tag": format!("t{n}")})).collect();
        let errors = parse(json!({"or": many})).unwrap_err();
        assert_eq!(errors, [("/to/audience/or".to_owned(), "audience_too_complex")]);
    }
}
