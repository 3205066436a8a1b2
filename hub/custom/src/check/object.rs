//! Rules for objects and lists, and what is in them.

use freewheel_hub_schema::path::Path;
use serde_json::{Map, Value, json};

use super::compared;
use super::words::{Mistake, Outcome};
use crate::before::Before;
use crate::schema::{Additional, Bounds, Schema};
use crate::work::Work;

pub(super) fn items(
    schema: &Schema,
    items: &[Value],
    path: &Path<'_>,
    before: Before<'_>,
    work: &Work,
) -> Outcome {
    let mut all = Outcome::default();
    if let Some(of) = schema.items.as_deref() {
        let old = before.list(schema);
        for (index, item) in items.iter().enumerate() {
            all.join(compared(of, item, &path.index(index), old.element(item), work));
        }
    }
    let Bounds { least, most } = schema.rules.items;
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(least) = least.filter(|least| count < *least) {
        let text = format!("should have at least {least} items");
        all.add(Mistake::rule(path, &json!(count), &text));
    }
    if let Some(most) = most.filter(|most| *most < count) {
        all.add(Mistake::too_many(path, items.len(), most));
    }
    all.matched += 1;
    all
}

pub(super) fn check(
    schema: &Schema,
    fields: &Map<String, Value>,
    path: &Path<'_>,
    before: Before<'_>,
    work: &Work,
) -> Outcome {
    let mut all = Outcome::default();
    let Bounds { least, most } = schema.rules.properties;
    let count = i64::try_from(fields.len()).unwrap_or(i64::MAX);
    if let Some(least) = least.filter(|least| count < *least) {
        let text = format!("should have at least {least} properties");
        all.add(Mistake::rule(path, &json!(count), &text));
    }
    if let Some(most) = most.filter(|most| *most < count) {
        all.add(Mistake::too_many(path, fields.len(), most));
    }
    for (key, value) in fields {
        let of = match (schema.properties.get(key.as_str()), &schema.additional) {
            (Some(_), _) | (None, Additional::Unsaid | Additional::Any) => continue,
            (None, Additional::None) => {
                all.add(Mistake::forbidden_field(path, key));
                continue;
            }
            (None, Additional::Of(of)) => of,
        };
        all.join(compared(of, value, &path.dotted(key), before.field(key), work));
    }
    for (name, of) in &schema.properties {
        let Some(value) = fields.get(&**name) else { continue };
        all.join(compared(of, value, &path.field(name), before.field(name), work));
    }
    for name in &schema.rules.required {
        if !fields.contains_key(&**name) && work.step(0) {
            all.add(Mistake::required(&path.field(name)));
        }
    }
    all
}
