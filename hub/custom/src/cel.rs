//! Rules in CEL (`x-kubernetes-validations`).
//!
//! ```text
//! rule ─ typing: what it says can be said ───────────┐
//! object ─ values: as the schema says what they are ─┴▶ evaluate ─▶ mistakes
//! ```
//!
//! Guarantees:
//! - no rule makes more work than is allowed, whatever it says and whatever it is about
//!   (`a_rule_that_never_ends_is_ended`);
//! - however many rules are broken, and whatever they say of that, it takes a few megabytes at most
//!   (`mistakes_of_rules_are_bounded`);
//! - that there is no thread to ask a rule is no mistake of the object's, nor kept of the rule
//!   (`without_a_thread_nothing_is_said_of_a_rule`);
//! - a rule that cannot be evaluated is a mistake of the object, never passed over (`what_fails_is_told`).

mod declared;
mod rule;
mod typing;
mod values;

use freewheel_hub_cel::{
    Expression, Failed, Meter, NoRoom, STACK_BYTES, UNITS_MAX, Unread, on_a_stack_of, weight,
};
use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::field_errors::FieldErrors;
use freewheel_hub_schema::path::Path;
use serde_json::{Value, json};

use crate::before::Before;
use crate::schema::{Schema, Type};

pub use declared::declared;
pub use rule::Rule;
pub use typing::Typed;

/// Bytes of a message that an expression may make.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

/// What rules say of an object, or of a change of one.
#[must_use]
pub fn check(schema: &Schema, object: &Value, before: Before<'_>) -> Vec<FieldError> {
    check_on(STACK_BYTES, schema, object, before)
}

/// The same on a stack of this size.
fn check_on(stack: usize, schema: &Schema, object: &Value, before: Before<'_>) -> Vec<FieldError> {
    if !schema.has_rules() {
        return Vec::new();
    }
    let walk = || {
        let mut walk = Walk { meter: Meter::of(UNITS_MAX), errors: FieldErrors::default() };
        walk.node(schema, object, before, &Path::root(""), true);
        walk.errors.into_vec()
    };
    on_a_stack_of(stack, walk).unwrap_or_else(|why| match why {
        NoRoom::NoThread => vec![FieldError::not_now("<nil>", &why.to_string())],
        NoRoom::Panicked => vec![FieldError::invalid("<nil>", &json!("null"), &why.to_string())],
    })
}

struct Walk {
    meter: Meter,
    errors: FieldErrors,
}

impl Walk {
    fn is_over(&self) -> bool {
        self.meter.is_spent() || self.errors.is_full()
    }

    fn node(
        &mut self,
        schema: &Schema,
        value: &Value,
        before: Before<'_>,
        at: &Path<'_>,
        root: bool,
    ) {
        if value.is_null() || !schema.has_rules() || self.is_over() {
            return;
        }
        if !schema.validations.is_empty() {
            self.rules(schema, value, before, at, root);
        }
        for nested in schema.logic.iter().flat_map(|logic| &logic.all) {
            self.node(nested, value, before, at, root);
        }
        match value {
            Value::Array(items) => {
                let Some(of) = schema.items.as_deref() else { return };
                let old = before.list(schema);
                for (index, item) in items.iter().enumerate() {
                    self.node(of, item, old.element(item), &at.index(index), false);
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    let (of, at) = match schema.properties.get(key.as_str()) {
                        Some(of) => (of, at.field(key)),
                        None => match schema.additional.each() {
                            Some(of) => (of, at.key(key)),
                            None => continue,
                        },
                    };
                    self.node(of, value, before.field(key), &at, false);
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Null => {}
        }
    }

    fn rules(
        &mut self,
        schema: &Schema,
        value: &Value,
        before: Before<'_>,
        at: &Path<'_>,
        root: bool,
    ) {
        let old = before.value().filter(|old| !old.is_null());
        let unchanged = old == Some(value);
        // Values of a place are made for its rules, and may be copied for what was before.
        let bytes = weight(value).saturating_add(old.map_or(0, weight).saturating_mul(2));
        if !self.meter.give(bytes) {
            return self.failed(at, schema, &out_of_work("the rules of this place"));
        }
        let scope = values::Scope::new(schema, value, old, root);
        for rule in &schema.validations {
            if self.is_over() {
                return;
            }
            let Some(expression) = self.compiled(rule, schema, at) else { continue };
            let speaks_of_old = expression.uses("oldSelf");
            if speaks_of_old && old.is_none() && !rule.optional_old {
                continue;
            }
            let outcome = self.ask(expression, &scope, rule);
            let why = match outcome {
                Ok(freewheel_hub_cel::Value::Bool(true)) => continue,
                Ok(freewheel_hub_cel::Value::Bool(false)) => {
                    // What was so before, and stays, is let be.
                    if speaks_of_old || !unchanged {
                        self.broken(rule, &scope, (schema, value), at);
                    }
                    continue;
                }
                Ok(_) => format!("rule did not evaluate to a bool: {}", rule.source()),
                Err(Failed::TooMuchWork) => out_of_work(rule.source()),
                Err(why) => format!("{} evaluating rule: {}", why.into_message(""), rule.source()),
            };
            self.failed(at, schema, &why);
        }
    }

    /// What a rule is, or nothing, where that is a mistake.
    fn compiled<'r>(
        &mut self,
        rule: &'r Rule,
        schema: &Schema,
        at: &Path<'_>,
    ) -> Option<&'r Expression> {
        match rule.expression() {
            Ok(expression) => return Some(expression),
            Err(Unread::NotNow(why)) => {
                self.errors.push(FieldError::not_now(place(at), &why.to_string()));
            }
            Err(Unread::Wrong(why)) => {
                self.failed(at, schema, &format!("rule compile error: {why}"));
            }
        }
        None
    }

    fn ask(
        &mut self,
        expression: &Expression,
        scope: &values::Scope,
        rule: &Rule,
    ) -> Result<freewheel_hub_cel::Value, Failed> {
        let seen = scope.seen(rule.optional_old);
        self.meter.run(expression, |context| context.set_variable_resolver(&seen))
    }

    fn broken(&mut self, rule: &Rule, scope: &values::Scope, of: (&Schema, &Value), at: &Path<'_>) {
        let (schema, value) = of;
        let mut detail = String::new();
        if let Some(expression) = rule.message_expression()
            && let Ok(freewheel_hub_cel::Value::String(text)) = self.ask(expression, scope, rule)
        {
            let text = text.trim();
            if text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n') {
                text.clone_into(&mut detail);
            }
        }
        if detail.is_empty() {
            detail = if rule.message.is_empty() {
                format!("failed rule: {}", rule.text)
            } else {
                rule.message.clone()
            };
        }
        let field = if at.is_empty() && !rule.field.is_empty() {
            rule.field.trim_start_matches('.').to_owned()
        } else {
            format!("{}{}", place(at), rule.field)
        };
        let error = match rule.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(field, &detail),
            "FieldValueRequired" => FieldError::required(field, &detail),
            "FieldValueDuplicate" => FieldError::duplicate(field, value),
            _ => invalid(field, schema, value, &detail),
        };
        self.errors.push(error);
    }

    fn failed(&mut self, at: &Path<'_>, schema: &Schema, why: &str) {
        let is = schema.is.map_or("", Type::name);
        self.errors.push(FieldError::invalid(place(at), &json!(is), why));
    }
}

fn out_of_work(rule: &str) -> String {
    format!(
        "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {rule}"
    )
}

fn place(at: &Path<'_>) -> String {
    if at.is_empty() { "<nil>".to_owned() } else { at.text() }
}

/// Whole objects and lists are not shown.
fn invalid(field: String, schema: &Schema, value: &Value, why: &str) -> FieldError {
    let error = FieldError::invalid(field, value, why);
    match schema.is {
        Some(Type::Object | Type::Array) => {
            FieldError { message: format!("Invalid value: {why}"), ..error }
        }
        _ => error,
    }
}

/// What rules say of an object that has these mistakes: of some kinds of mistakes, nothing.
#[must_use]
pub fn check_after(
    errors: &[FieldError],
    schema: &Schema,
    object: &Value,
    before: Before<'_>,
) -> Vec<FieldError> {
    let keeps_from_asking = |error: &FieldError| {
        matches!(
            error.reason,
            "FieldValueNotSupported"
                | "FieldValueRequired"
                | "FieldValueTooLong"
                | "FieldValueTooMany"
                | "FieldValueTypeInvalid"
        )
    };
    if schema.has_rules() && errors.iter().any(keeps_from_asking) {
        return vec![not_asked()];
    }
    check(schema, object, before)
}

fn not_asked() -> FieldError {
    let text = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
    FieldError::invalid("<nil>", &json!("null"), text)
}

#[cfg(test)]
mod tests;
