//! Groups of Kubernetes' own (`*.k8s.io`, `*.kubernetes.io`): a definition in one names who has approved it, or says that
//! nobody did.

use freewheel_hub_schema::error::FieldError;
use serde_json::{Value, json};

/// The annotation that says so.
const ANNOTATION: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// What a definition says of its approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Nothing.
    Missing,
    /// Where it was given.
    Given(String),
    /// That there is none.
    Bypassed(String),
    /// Neither.
    Invalid(String),
}

/// Whether a group is one of Kubernetes' own.
#[must_use]
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].into_iter().any(|own| {
        group.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// What a definition says.
#[must_use]
pub fn approval(definition: &Value) -> Approval {
    let annotations = definition.pointer("/metadata/annotations");
    let value = annotations.and_then(|all| all.get(ANNOTATION)?.as_str()).unwrap_or_default();
    let host = |(scheme, rest): (&str, &str)| {
        !scheme.is_empty() && !rest.starts_with('/') && !rest.is_empty()
    };
    if value.is_empty() {
        Approval::Missing
    } else if value.starts_with("unapproved") {
        Approval::Bypassed(value.to_owned())
    } else if value.split_once("://").is_some_and(host) {
        Approval::Given(value.to_owned())
    } else {
        Approval::Invalid(value.to_owned())
    }
}

impl Approval {
    /// What follows from it: whether it conforms, the reason, and a text.
    #[must_use]
    pub fn condition(&self) -> (bool, &'static str, String) {
        match self {
            Self::Missing => (
                false,
                "MissingAnnotation",
                format!("protected groups must have approval annotation {ANNOTATION:?}, {SEE}"),
            ),
            Self::Given(url) => (true, "ApprovedAnnotation", format!("approved in {url}")),
            Self::Bypassed(why) => {
                (false, "UnapprovedAnnotation", format!("not approved: {why:?}"))
            }
            Self::Invalid(_) => (
                false,
                "InvalidAnnotation",
                format!(
                    "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", {SEE}"
                ),
            ),
        }
    }
}

/// What is wrong with it.
pub(super) fn check(definition: &Value, group: &str) -> Option<FieldError> {
    if !is_protected(group) {
        return None;
    }
    let approved = approval(definition);
    let (_, _, why) = approved.condition();
    let field = format!("metadata.annotations[{ANNOTATION}]");
    match approved {
        Approval::Missing => Some(FieldError::required(field, &why)),
        Approval::Invalid(approved) => Some(FieldError::invalid(field, &json!(approved), &why)),
        Approval::Given(_) | Approval::Bypassed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_kubernetes_need_a_word() {
        let of = |said: &str| {
            let definition = json!({"metadata": {"annotations": {ANNOTATION: said}}});
            check(&definition, "gateway.networking.k8s.io").map(|error| error.reason)
        };
        assert_eq!(of("https://github.com/kubernetes/x/pull/1"), None);
        assert_eq!(of("unapproved, we only try"), None);
        assert_eq!(of("yes"), Some("FieldValueInvalid"));
        assert_eq!(of(""), Some("FieldValueRequired"));
        assert!(is_protected("k8s.io") && is_protected("a.kubernetes.io"));
        assert!(!is_protected("xk8s.io") && !is_protected("example.com"));
    }
}
