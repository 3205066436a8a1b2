//! What is wrong with expressions of policies and webhooks. Those that a change leaves as they were stay right.
//!
//! Guarantees:
//! - nobody has more of them looked at than one may have (`admission_has_as_many_expressions_as_it_may`).

use freewheel_hub_cel::{
    Expression, Known, NoRoom, STACK_BYTES, Unread, Variables, known, on_a_stack_of,
};
use freewheel_hub_schema::error::FieldError;
use serde_json::Value;

use crate::kinds::place::Place;

/// Expressions of one policy, and conditions of all webhooks of one configuration: each has to be read before it counts.
/// kube-apiserver has no such bound.
const EXPRESSIONS_MAX: usize = 1_000;

/// Looks at expressions, all of them where there is room for any.
pub(super) fn where_there_is_room(
    look: impl FnOnce() -> Vec<FieldError> + Send,
) -> Vec<FieldError> {
    on_a_stack_of(STACK_BYTES, look).unwrap_or_else(|why| match why {
        NoRoom::NoThread => vec![FieldError::not_now("spec", &why.to_string())],
        NoRoom::Panicked => vec![FieldError::invalid("spec", &Value::Null, &why.to_string())],
    })
}

/// Whether there are too many of them in these lists.
pub(super) fn too_many(at: &str, lists: &[Place<'_>]) -> Option<FieldError> {
    let count = lists.iter().map(|list| list.value.as_array().map_or(0, Vec::len)).sum();
    (EXPRESSIONS_MAX < count).then(|| FieldError::too_many(at, count, EXPRESSIONS_MAX))
}

/// What the expressions of a policy speak of.
pub(super) struct Spoken {
    has_params: bool,
    mutates: bool,
    variables: Variables,
}

impl Spoken {
    /// With the mistakes of its variables.
    pub(super) fn of(spec: &Place<'_>, mutates: bool) -> (Self, Vec<FieldError>) {
        let has_params = spec.child("paramKind").is_there();
        let mut variables = Variables::default();
        let mut errors = Vec::new();
        for variable in spec.child("variables").items() {
            let (name, expression) = (variable.child("name"), variable.child("expression"));
            if expression.text().trim().is_empty() {
                continue;
            }
            let names = known(has_params, true);
            let added = variables.add(name.text(), expression.text(), names);
            errors.extend(added.err().map(|why| failed(&expression, &why)));
        }
        (Self { has_params, mutates, variables }, errors)
    }

    /// What is wrong with one; with the right to ask what people may do.
    pub(super) fn check(&self, expression: &Place<'_>, authorizer: bool) -> Option<FieldError> {
        if expression.text().trim().is_empty() {
            return None;
        }
        let names = known(self.has_params, authorizer);
        let known = Known { names, makes_objects: self.mutates, ..Known::default() };
        self.variables.read(expression.text(), &known).err().map(|why| failed(expression, &why))
    }
}

/// What is wrong with the conditions of a policy or a webhook.
pub(super) fn check_conditions(conditions: &Place<'_>, has_params: bool) -> Vec<FieldError> {
    let known = Known { names: known(has_params, true), ..Known::default() };
    let wrong = |condition: Place<'_>| {
        let expression = condition.child("expression");
        let text = expression.text();
        let read = (!text.trim().is_empty()).then(|| Expression::read(text, &known))?;
        read.err().map(|why| failed(&expression, &why))
    };
    conditions.items().filter_map(wrong).collect()
}

fn failed(expression: &Place<'_>, why: &Unread) -> FieldError {
    let text = Value::from(expression.text());
    match why {
        Unread::NotNow(why) => FieldError::not_now(&*expression.path, &why.to_string()),
        Unread::Wrong(why) => {
            FieldError::invalid(&*expression.path, &text, &format!("compilation failed: {why}"))
        }
    }
}
