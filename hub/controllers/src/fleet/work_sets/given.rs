//! What a work of a set was given last, and when.
//!
//! Guarantees:
//! - a template is given once, whatever others make of it (`what_others_make_of_a_template_is_not_given_anew`).

use serde_json::{Value, json};

use crate::index::{GIVEN_ANNOTATION, spec_digest};

/// Gives a work this template.
pub(super) fn put(work: &mut Value, template: &Value, now: &str) {
    if work["spec"] == *template {
        return;
    }
    let digest = spec_digest(template).hex();
    let noted = &mut work["metadata"]["annotations"][GIVEN_ANNOTATION];
    let last = noted.as_str().and_then(|it| it.split_once(' '));
    if last.is_none_or(|(_, of)| of != digest) {
        *noted = json!(format!("{now} {digest}"));
    }
    work["spec"] = template.clone();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::WorkFacts;

    #[test]
    fn what_others_make_of_a_template_is_not_given_anew() {
        let given = |work: &Value| WorkFacts::read(work).given.map(|it| it.to_string());
        let (one, two) = (json!({"workload": 1}), json!({"workload": 2}));
        let mut work = json!({"metadata": {}});
        put(&mut work, &one, "2026-01-01T00:00:00Z");
        assert_eq!((given(&work).as_deref(), &work["spec"]), (Some("2026-01-01T00:00:00Z"), &one));
        let before = work.clone();
        work["spec"]["label"] = json!("of a policy");
        put(&mut work, &one, "2026-01-01T00:00:01Z");
        assert_eq!(work, before, "there is nothing to write");
        for (template, now) in [(&two, "2026-01-01T00:00:02Z"), (&one, "2026-01-01T00:00:03Z")] {
            put(&mut work, template, now);
            assert_eq!((given(&work).as_deref(), &work["spec"]), (Some(now), template));
        }
        work["metadata"]["annotations"][GIVEN_ANNOTATION] = json!("2026-01-01T00:00:04Z");
        assert_eq!(given(&work).as_deref(), Some("2026-01-01T00:00:04Z"), "as older hubs say it");
    }
}
