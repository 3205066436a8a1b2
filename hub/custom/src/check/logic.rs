//! Schemas that hold together: anyOf, oneOf, allOf, not.

use freewheel_hub_schema::path::Path;
use serde_json::Value;

use super::node;
use super::words::{Mistake, Outcome};
use crate::before::Before;
use crate::schema::{Logic, Schema};
use crate::work::Work;

pub(super) fn check(
    schema: &Schema,
    value: &Value,
    path: &Path<'_>,
    before: Before<'_>,
    work: &Work,
) -> Outcome {
    let mut all = Outcome::default();
    if let Some(logic) = schema.logic.as_deref() {
        any(logic, value, path, before, (work, &mut all));
        one(logic, value, path, before, (work, &mut all));
        each(logic, value, path, before, (work, &mut all));
        if logic.not.as_ref().is_some_and(|not| node(not, value, path, before, work).is_right()) {
            all.add(Mistake::nowhere(&format!(
                "{:?} must not validate the schema (not)",
                path.text()
            )));
        }
    }
    all.matched += 1;
    all
}

fn any(
    logic: &Logic,
    value: &Value,
    path: &Path<'_>,
    before: Before<'_>,
    (work, all): (&Work, &mut Outcome),
) {
    let mut best: Option<Outcome> = None;
    for schema in &logic.any {
        let outcome = node(schema, value, path, before, work);
        if outcome.is_right() {
            return all.join(outcome);
        }
        if best.as_ref().is_none_or(|best| best.matched < outcome.matched) {
            best = Some(outcome);
        }
    }
    if let Some(best) = best {
        all.add(Mistake::nowhere(&format!(
            "{:?} must validate at least one schema (anyOf)",
            path.text()
        )));
        all.join(best);
    }
}

fn one(
    logic: &Logic,
    value: &Value,
    path: &Path<'_>,
    before: Before<'_>,
    (work, all): (&Work, &mut Outcome),
) {
    if logic.one.is_empty() {
        return;
    }
    let (mut best, mut first, mut valid): (Option<Outcome>, Option<Outcome>, usize) =
        (None, None, 0);
    for schema in &logic.one {
        let outcome = node(schema, value, path, before, work);
        if outcome.is_right() {
            valid += 1;
            best = None;
            first = first.or(Some(outcome));
        } else if valid == 0 && best.as_ref().is_none_or(|best| best.matched < outcome.matched) {
            best = Some(outcome);
        }
    }
    if let (1, Some(first)) = (valid, first) {
        return all.join(first);
    }
    let found = match valid {
        0 => "Found none valid".to_owned(),
        valid => format!("Found {valid} valid alternatives"),
    };
    let path = path.text();
    let text = format!("{path:?} must validate one and only one schema (oneOf). {found}");
    all.add(Mistake::nowhere(&text));
    if let Some(best) = best {
        all.join(best);
    }
}

fn each(
    logic: &Logic,
    value: &Value,
    path: &Path<'_>,
    before: Before<'_>,
    (work, all): (&Work, &mut Outcome),
) {
    let mut valid = 0;
    for schema in &logic.all {
        let outcome = node(schema, value, path, before, work);
        valid += usize::from(outcome.is_right());
        all.join(outcome);
    }
    if valid != logic.all.len() {
        let more = if valid == 0 { ". None validated" } else { "" };
        let path = path.text();
        let text = format!("{path:?} must validate all the schemas (allOf){more}");
        all.add(Mistake::nowhere(&text));
    }
}
