//! One rule, parsed when it is first asked.

use std::sync::OnceLock;

use freewheel_hub_cel::{Expression, Known, Unread};
use serde_json::Value;

/// What a rule may speak of.
pub(super) const KNOWN: Known<'_> =
    Known { names: &["self", "oldSelf"], variables: &[], makes_objects: false, of_fleet: false };

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

    /// Parsed when it is first asked. That it could not be looked at is not kept.
    pub(super) fn expression(&self) -> Result<&Expression, Unread> {
        let kept = match self.expression.get() {
            Some(kept) => kept,
            None => match Expression::read(&self.text, &KNOWN) {
                Ok(read) => self.expression.get_or_init(|| Ok(read)),
                Err(Unread::Wrong(why)) => self.expression.get_or_init(|| Err(why)),
                Err(why @ Unread::NotNow(_)) => return Err(why),
            },
        };
        kept.as_ref().map_err(|why| Unread::Wrong(why.clone()))
    }

    pub(super) fn message_expression(&self) -> Option<&Expression> {
        if self.message_text.is_empty() {
            return None;
        }
        if let Some(kept) = self.message_expression.get() {
            return kept.as_ref();
        }
        match Expression::read(&self.message_text, &KNOWN) {
            Err(Unread::NotNow(_)) => None,
            read => self.message_expression.get_or_init(|| read.ok()).as_ref(),
        }
    }

    /// What is said of it: its message, else itself.
    pub(super) fn source(&self) -> &str {
        if self.message.is_empty() { &self.text } else { &self.message }
    }
}
