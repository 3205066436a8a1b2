//! Conditions in CEL under which a webhook is asked what a caller may do (`matchConditions`): over the review that would
//! be sent to it, in which all texts of a user and of a resource are, also those that are empty.
//!
//! Guarantees:
//! - who is not concerned is not asked about, and an expression that has no value is no yes
//!   (`conditions_say_who_is_asked_about`);
//! - an expression that names what no review has, or whose value cannot be a yes, is refused before anybody is asked about
//!   (`conditions_that_cannot_hold_are_refused`).

use std::collections::BTreeSet;
use std::sync::Arc;

use freewheel_hub_cel::typing::{Names, Parsed, Type, Work};
use freewheel_hub_cel::{
    Evaluation, Expression, Failed, Known, STACK_BYTES, Scope, UNITS_MAX, Value, Variables,
    on_a_stack_of,
};
use freewheel_hub_schema::types::TypeFacts;
use serde_json::Value as Json;

/// What conditions speak of.
const REQUEST: &str = "request";
/// Its type.
const REVIEW: &str = "io.k8s.api.authorization.v1.SubjectAccessReviewSpec";
/// Of one webhook, as at kube-apiserver.
const CONDITIONS_MAX: usize = 64;

/// Why conditions are none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConditionError {
    #[error("matchConditions: there may be {} at most", CONDITIONS_MAX)]
    TooMany,
    #[error("matchConditions[{place}].expression: Required value")]
    Empty { place: usize },
    #[error("matchConditions[{place}].expression: Duplicate value: {text:?}")]
    Twice { place: usize, text: String },
    #[error("matchConditions[{place}].expression: Invalid value: {text:?}: {why}")]
    Invalid { place: usize, text: String, why: String },
}

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
    pub(super) fn read(texts: Vec<String>) -> Result<Self, ConditionError> {
        if CONDITIONS_MAX < texts.len() {
            return Err(ConditionError::TooMany);
        }
        let mut seen = BTreeSet::new();
        let mut read = |(place, text): (usize, String)| {
            if text.trim().is_empty() {
                return Err(ConditionError::Empty { place });
            }
            if !seen.insert(text.clone()) {
                return Err(ConditionError::Twice { place, text });
            }
            condition(&text).map_err(|why| ConditionError::Invalid { place, text, why })
        };
        texts
            .into_iter()
            .enumerate()
            .map(&mut read)
            .collect::<Result<_, _>>()
            .map(|all| Self(Arc::new(all)))
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
                    errors.push(format!(
                        "{:?}: {}",
                        condition.text(),
                        why.into_message("too much work")
                    ));
                }
            }
        }
        if errors.is_empty() { Matched::Asked } else { Matched::Unknown(errors.join(", ")) }
    }
}

/// One condition, or why its text is none, in the words of kube-apiserver.
fn condition(text: &str) -> Result<Expression, String> {
    let failed = |why: &dyn std::fmt::Display| format!("compilation failed: {why}");
    let parsed = Parsed::read(text).map_err(|why| failed(&why))?;
    let looked = on_a_stack_of(STACK_BYTES, || {
        let known = Known { names: &[REQUEST], ..Known::default() };
        let read = parsed.expression(&known)?;
        let review = TypeFacts::by_name(REVIEW).map_or(Type::Dyn, Type::Object);
        let names = Names::default().with(REQUEST, review);
        Ok::<_, String>((read, parsed.check(&names, &Work::default())))
    });
    let (read, checked) = looked.map_err(|why| failed(&why))?.map_err(|why| failed(&why))?;
    if !checked.mistakes.is_empty() {
        return Err(failed(&checked.mistakes));
    }
    match checked.is {
        // What may be anything is seen to be one when it is evaluated.
        Type::Bool | Type::Dyn | Type::Free => Ok(read),
        other => Err(format!("must evaluate to bool but got {other}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(texts: &[&str]) -> Result<MatchConditions, ConditionError> {
        MatchConditions::read(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    fn matched(texts: &[&str]) -> Matched {
        let spec = json!({"user": "jane", "groups": ["dev"],
            "resourceAttributes": {"verb": "get", "namespace": "", "resource": "pods"}});
        read(texts).unwrap().matched(&spec)
    }

    #[test]
    fn conditions_say_who_is_asked_about() {
        let pods =
            "has(request.resourceAttributes) && request.resourceAttributes.resource == 'pods'";
        let never = "!('dev' in request.groups)";
        let odd = "request.nonResourceAttributes.path == '/x'";
        assert_eq!(matched(&[]), Matched::Asked);
        assert_eq!(matched(&[pods, "request.user.startsWith('j')"]), Matched::Asked);
        assert_eq!(matched(&[pods, never]), Matched::Left);
        assert_eq!(matched(&["has(request.nonResourceAttributes)"]), Matched::Left);
        assert!(matches!(matched(&[odd]), Matched::Unknown(_)));
        assert_eq!(matched(&[odd, never]), Matched::Left, "who says no decides");
        assert!(matches!(matched(&["dyn(request.user)"]), Matched::Unknown(_)));
    }

    #[test]
    fn conditions_that_cannot_hold_are_refused() {
        let right = "request.resourceAttributes.labelSelector.requirements.all(r, r.key != 'a' && 'b' in r.values) \
            && request.resourceAttributes.?fieldSelector.rawSelector.orValue('') == '' && 'c' in request.extra['d'] \
            && request.uid != '' && request.nonResourceAttributes.verb == 'get'";
        assert!(read(&[right]).is_ok(), "{:?}", read(&[right]));
        for (text, why) in [
            ("object.a", "compilation failed: undeclared reference to 'object'"),
            ("request.name == 'x'", {
                "compilation failed: ERROR: <input>:1:8: undefined field 'name'\n | request.name == 'x'\n | .......^"
            }),
            ("request.resourceAttributes.nothing == 'x'", "undefined field 'nothing'"),
            ("request.nonResourceAttributes.namespace == 'x'", "undefined field 'namespace'"),
            ("request.user == 1", {
                "found no matching overload for '_==_' applied to '(string, int)'"
            }),
            ("request.user", "must evaluate to bool but got string"),
            ("request.groups.map(g, g + 'x')", "must evaluate to bool but got list(string)"),
            ("request.user ==", "compilation failed: "),
        ] {
            let told = read(&["true", text]).unwrap_err().to_string();
            let begin = format!("matchConditions[1].expression: Invalid value: {text:?}: ");
            assert!(told.starts_with(&begin) && told.contains(why), "{told}");
        }
        assert_eq!(read(&["true", " "]).unwrap_err(), ConditionError::Empty { place: 1 });
        assert_eq!(read(&["true"; 65]).unwrap_err(), ConditionError::TooMany);
        let twice = read(&["true", "true "]).and(read(&["true", "true"])).unwrap_err().to_string();
        assert_eq!(twice, "matchConditions[1].expression: Duplicate value: \"true\"");
    }
}
