//! Mistakes of a definition that it had before: what was kept once keeps nobody from changing the rest. They are the same
//! wherever they stand now: what all versions say alike stands at the top, and with another version beside it in each.
//!
//! Guarantees:
//! - a mistake of a version is the same as long as its words and its place in that version are
//!   (`mistakes_are_the_same_in_a_version_of_the_same_name`).

use std::collections::{BTreeSet, HashMap};

use freewheel_hub_schema::error::FieldError;
use serde_json::Value;

use super::accessors::{list, text};
use super::check::SHARED;

/// In which versions a mistake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whose<'a> {
    All,
    One(&'a str),
}

/// Leaves out of the mistakes of a definition those that its older form had.
pub fn leave_out_known(
    errors: &mut Vec<FieldError>,
    new: &Value,
    (old, known): (&Value, &[FieldError]),
) {
    let mut before: HashMap<(String, String), BTreeSet<Whose<'_>>> = HashMap::new();
    for error in known {
        let (whose, words) = place_and_text(error, old);
        before.entry(words).or_default().insert(whose);
    }
    let (new_names, old_names) = (names(new), names(old));
    errors.retain(|error| {
        let (whose, words) = place_and_text(error, new);
        let Some(had) = before.get(&words) else { return true };
        let is_known = had.contains(&whose)
            || match whose {
                Whose::One(name) => had.contains(&Whose::All) && old_names.contains(name),
                Whose::All => new_names.iter().any(|name| had.contains(&Whose::One(name))),
            };
        error.is_not_now() || !is_known
    });
}

fn names(definition: &Value) -> BTreeSet<&str> {
    list(definition, "/spec/versions").iter().map(|version| text(version, "/name")).collect()
}

/// A mistake as if it stood at the top, and whose it is.
fn place_and_text<'a>(error: &FieldError, definition: &'a Value) -> (Whose<'a>, (String, String)) {
    let at_top = |field: &str, message: &str| (field.to_owned(), message.to_owned());
    let versioned = error.field.strip_prefix("spec.versions[").and_then(|rest| {
        let (index, rest) = rest.split_once(']')?;
        let version = list(definition, "/spec/versions").get(index.parse::<usize>().ok()?)?;
        Some((index, text(version, "/name"), rest))
    });
    let Some((index, name, rest)) = versioned else {
        return (Whose::All, at_top(&error.field, &error.message));
    };
    let key = |key: &str| rest.strip_prefix('.').and_then(|rest| rest.strip_prefix(key));
    let shared = SHARED.into_iter().find_map(|(own, top)| Some((own, top, key(own)?)));
    let Some((own, top, behind)) = shared else {
        return (Whose::One(name), at_top(rest, &error.message));
    };
    let (own, top) = (format!("spec.versions[{index}].{own}"), format!("spec.{top}"));
    let message = error.message.replace(&own, &top);
    (Whose::One(name), (format!("{top}{behind}"), message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(names: &[&str]) -> Value {
        let versions: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"spec": {"versions": versions}})
    }

    fn mistake(field: &str, why: &str) -> FieldError {
        FieldError::forbidden(field, why)
    }

    #[test]
    fn mistakes_are_the_same_in_a_version_of_the_same_name() {
        let top =
            mistake("spec.validation.openAPIV3Schema.x", "in spec.validation.openAPIV3Schema.y");
        let of = |index: usize| {
            let at = format!("spec.versions[{index}].schema.openAPIV3Schema");
            mistake(&format!("{at}.x"), &format!("in {at}.y"))
        };
        let (one, both) = (definition(&["v1"]), definition(&["v2", "v1"]));
        let left = |error: FieldError, new: &Value, old: &Value, known: FieldError| {
            let mut errors = vec![error];
            leave_out_known(&mut errors, new, (old, &[known]));
            errors.len()
        };
        assert_eq!(left(top.clone(), &one, &one, top.clone()), 0);
        assert_eq!(left(of(1), &both, &one, top.clone()), 0, "another version came beside it");
        assert_eq!(left(of(0), &both, &one, top.clone()), 1, "it is the other one's");
        assert_eq!(left(top.clone(), &one, &both, of(1)), 0, "the other one has gone");
        assert_eq!(left(top, &one, &both, of(0)), 1, "it was the other one's");
        assert_eq!(left(of(1), &both, &definition(&["v1", "v2"]), of(0)), 0);
        let other = mistake("spec.validation.openAPIV3Schema.x", "of another kind");
        assert_eq!(left(of(1), &both, &one, other), 1);
        let name = mistake("spec.versions[0].name", "is wrong");
        assert_eq!(left(mistake("spec.versions[1].name", "is wrong"), &both, &one, name), 0);
    }
}
