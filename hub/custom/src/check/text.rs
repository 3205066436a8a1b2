//! Rules for text.

use freewheel_hub_schema::path::Path;
use serde_json::Value;

use super::words::{Mistake, Outcome};
use crate::format as formats;
use crate::schema::{Pattern, Schema, Type};
use crate::work::Work;

/// The first rule that a text breaks.
pub(super) fn check(schema: &Schema, text: &str, path: &Path<'_>, work: &Work) -> Outcome {
    let rules = &schema.rules;
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let value = || Value::String(text.to_owned());
    let mistake = if let Some(most) = rules.length.most.filter(|most| *most < length) {
        Mistake::too_long(path, most)
    } else if let Some(least) = rules.length.least.filter(|least| length < *least) {
        Mistake::rule(path, &value(), &format!("should be at least {least} chars long"))
    } else if let Some(pattern) = rules.pattern.as_ref().filter(|it| lacks(it, text, work)) {
        Mistake::rule(path, &value(), &format!("should match '{}'", pattern.text()))
    } else {
        return Outcome::default();
    };
    Outcome::wrong(mistake)
}

/// Whether a text lacks what a pattern asks for. Where there is no work left nothing is said of it.
fn lacks(pattern: &Pattern, text: &str, work: &Work) -> bool {
    pattern.matches_for(text, |units| work.units(units)) == Some(false)
}

/// Whether a text has the format that is asked for.
pub(super) fn format(schema: &Schema, text: &str, path: &Path<'_>) -> Option<Outcome> {
    if !matches!(schema.is, None | Some(Type::String)) {
        return None;
    }
    let format = schema.rules.format.as_deref()?;
    if formats::has(format, text) {
        return Some(Outcome::default());
    }
    Some(Outcome::wrong(Mistake::of_type(path, format, text)))
}
