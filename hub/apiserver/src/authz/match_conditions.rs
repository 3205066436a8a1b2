//! Conditions in CEL under which a webhook is asked what a caller may do (`matchConditions`): over the review that would
//! be sent to it, in which all texts of a user and of a resource are, also those that are empty.
//!
//! Guarantees:
//! - who is not concerned is not asked about, and an expression that has no value is no yes
//!   (`conditions_say_who_is_asked_about`).

use std::sync::Arc;

use freewheel_hub_cel::{
    Evaluation, Expression, Failed, Known, STACK_BYTES, Scope, UNITS_MAX, Value, Variables,
    on_a_stack_of,
};
use serde_json::Value as Json;

/// What conditions speak of.
const REQUEST: &str = "request";
/// Of one webhook, as at kube-apiserver.
const CONDITIONS_MAX: usize = 64;

/// All of them have to be true.
#[derive(Clone, Debug, Default)]
pub(super) struct MatchConditions(Arc<Vec<Expression>>);

/// What comes of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Matched {
    /// It is asked.
    Asked,
    /// It is not.
    Left,
    /// Nobody knows, for this reason.
    Unknown(String),
}

impl MatchConditions {
    /// From their texts.
    ///
    /// # Errors
    /// Why one of them is none.
    pub(super) fn read(texts: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let known = Known { names: &[REQUEST], ..Known::default() };
        let read = |text: String| {
            Expression::read(&text, &known).map_err(|why| format!("{text:?}: {why}"))
        };
        let all = texts.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if CONDITIONS_MAX < all.len() {
            return Err(format!("there may be {CONDITIONS_MAX} at most"));
        }
        Ok(Self(Arc::new(all)))
    }

    /// Whether the webhook is asked this (`spec` of the review).
    pub(super) fn matched(&self, spec: &Json) -> Matched {
        if self.0.is_empty() {
            return Matched::Asked;
        }
        let spec = Arc::new(spec.clone());
        on_a_stack_of(STACK_BYTES, || self.evaluate(spec))
            .unwrap_or_else(|error| Matched::Unknown(error.to_string()))
    }

    fn evaluate(&self, spec: Arc<Json>) -> Matched {
        let (mut scope, variables) = (Scope::default(), Variables::default());
        scope.put(REQUEST, spec);
        let mut evaluation = Evaluation::new(&scope, &variables, UNITS_MAX);
        let mut errors = Vec::new();
        for condition in &*self.0 {
            match evaluation.run(condition) {
                // One that does not hold decides, whatever others come to.
                Ok(Value::Bool(false)) => return Matched::Left,
                Ok(Value::Bool(true)) => {}
                Ok(_) => errors.push(format!("{:?} is no yes or no", condition.text())),
                Err(why @ (Failed::TooMuchWork | Failed::TooMuchMade | Failed::Because(_))) => {
                    errors.push(format!("{:?}: {}", condition.text(), why.told("too much work")));
                }
            }
        }
        if errors.is_empty() { Matched::Asked } else { Matched::Unknown(errors.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matched(texts: &[&str]) -> Matched {
        let spec = json!({"user": "jane", "groups": ["dev"],
            "resourceAttributes": {"verb": "get", "namespace": "", "resource": "pods"}});
        let all = MatchConditions::read(texts.iter().map(|text| (*text).to_owned())).unwrap();
        all.matched(&spec)
    }

    #[test]
    fn conditions_say_who_is_asked_about() {
        let pods =
            "has(request.resourceAttributes) && request.resourceAttributes.resource == 'pods'";
        let never = "!('dev' in request.groups)";
        let odd = "request.resourceAttributes.nothing == 'x'";
        assert_eq!(matched(&[]), Matched::Asked);
        assert_eq!(matched(&[pods, "request.user.startsWith('j')"]), Matched::Asked);
        assert_eq!(matched(&[pods, never]), Matched::Left);
        assert_eq!(matched(&["has(request.nonResourceAttributes)"]), Matched::Left);
        assert!(matches!(matched(&[odd]), Matched::Unknown(_)));
        assert_eq!(matched(&[odd, never]), Matched::Left, "who says no decides");
        assert!(matches!(matched(&["request.user"]), Matched::Unknown(_)));
        assert!(MatchConditions::read(["object.a".to_owned()]).is_err());
    }
}
