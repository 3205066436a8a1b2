//! What is wrong with expressions of policies and webhooks. Those that a change leaves as they were stay right.

use freewheel_hub_cel::{Expression, Known, Variables, known};
use freewheel_hub_schema::error::FieldError;
use serde_json::Value;

use crate::kinds::place::Place;

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

fn failed(expression: &Place<'_>, why: &str) -> FieldError {
    FieldError::invalid(
        &*expression.path,
        &Value::from(expression.text()),
        &format!("compilation failed: {why}"),
    )
}
