//! One rule, parsed when it is first asked.

use std::sync::OnceLock;

use freewheel_hub_cel::{Expression, Known};
use serde_json::Value;

/// What a rule may speak of.
pub(super) const KNOWN: Known<'_> =
    Known { names: &["self", "oldSelf"], variables: &[], makes_objects: false };

/// One rule.
#[derive(Debug)]
pub struct Rule {
    pub(super) text: String,
    pub(super) message: String,
    expression: OnceLock<Result<Expression, String>>,
    message_text: String,
    message_expression: OnceLock<Option<Expression>>,
    pub(super) reason: String,
    /// Below the value that the rule stands at.
    pub(super) field: String,
    /// It is asked about new values, too, though it speaks of old ones.
    pub(super) optional_old: bool,
}

impl Rule {
    /// From the JSON of a `ValidationRule`.
    #[must_use]
    pub fn read(rule: &Value) -> Self {
        let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            expression: OnceLock::new(),
            text: text("rule").trim().to_owned(),
            message: text("message").trim().to_owned(),
            message_text: text("messageExpression"),
            message_expression: OnceLock::new(),
            reason: text("reason"),
            field: text("fieldPath"),
            optional_old: rule.get("optionalOldSelf") == Some(&Value::Bool(true)),
        }
    }

    /// Parsed when it is first asked.
    pub(super) fn expression(&self) -> &Result<Expression, String> {
        self.expression.get_or_init(|| Expression::read(&self.text, &KNOWN))
    }

    pub(super) fn message_expression(&self) -> Option<&Expression> {
        let read = || {
            let said = Some(self.message_text.as_str()).filter(|text| !text.is_empty());
            said.and_then(|text| Expression::read(text, &KNOWN).ok())
        };
        self.message_expression.get_or_init(read).as_ref()
    }

    /// What is said of it: its message, else itself.
    pub(super) fn told(&self) -> &str {
        if self.message.is_empty() { &self.text } else { &self.message }
    }
}
