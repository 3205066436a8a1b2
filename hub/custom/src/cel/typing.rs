//! What is wrong with rules before anybody asks them, by what their schema says that values are: in kube-apiserver's words, as
//! far as that is known for sure.

use freewheel_hub_cel::typing::{Names, Parsed, Type, Work};
use freewheel_hub_cel::{Expression, STACK_BYTES, on_a_stack_of};
use serde_json::Value;

use super::declared::declared;
use super::rule::KNOWN;
use crate::schema::Schema;

/// Steps that it may take to look at an expression, and for each of its bytes. What takes more may be anything.
const STEPS: (u64, u64) = (200, 8);

/// What the rules at one place of a schema speak of.
pub struct Typed {
    /// With what was before as it is, and as what may be absent; nothing, where the schema says nothing of it.
    names: Option<[Names<'static>; 2]>,
}

/// What a look at a rule comes to.
#[derive(Debug, Default)]
pub struct Looked {
    /// Mistakes, by the key of each.
    pub wrong: Vec<(&'static str, String)>,
    /// It speaks of what was before.
    pub uses_old: bool,
}

impl Typed {
    /// Of values of this schema. `whole`: they are objects of the API.
    #[must_use]
    pub fn of(schema: &Schema, whole: bool) -> Self {
        let names = |of: &Type<'static>, old: Type<'static>| {
            Names::default().with("self", of.clone()).with("oldSelf", old)
        };
        let of = declared(schema, whole).map(|declared| declared.type_of());
        let both =
            |of: Type<'static>| [names(&of, of.clone()), names(&of, Type::optional(of.clone()))];
        Self { names: of.map(both) }
    }

    /// What is wrong with a rule.
    #[must_use]
    pub fn look(&self, rule: &Value) -> Looked {
        on_a_stack_of(STACK_BYTES, || self.looked(rule)).unwrap_or_else(|why| Looked {
            wrong: vec![("rule", format!("compilation failed: {why}"))],
            uses_old: false,
        })
    }

    fn looked(&self, rule: &Value) -> Looked {
        let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
        let optional = rule.get("optionalOldSelf") == Some(&Value::Bool(true));
        let mut looked = Looked::default();
        match self.read(text("rule"), optional) {
            Err(why) => looked.wrong.push(("rule", format!("compilation failed: {why}"))),
            Ok((_, is)) if !matches!(is, Type::Bool | Type::Dyn | Type::Free) => {
                looked.wrong.push(("rule", "cel expression must evaluate to a bool".to_owned()));
            }
            Ok((read, _)) => {
                looked.uses_old = read.uses("oldSelf");
                let wrong = self.message(text("messageExpression"), optional);
                looked.wrong.extend(wrong.map(|why| ("messageExpression", why)));
            }
        }
        if rule.get("optionalOldSelf").is_some() && !looked.uses_old {
            let why = "may not be set if oldSelf is not used in rule".to_owned();
            looked.wrong.push(("optionalOldSelf", why));
        }
        looked
    }

    /// What is wrong with what makes a message.
    fn message(&self, text: &str, optional: bool) -> Option<String> {
        if text.is_empty() {
            return None;
        }
        match self.read(text, optional) {
            Err(why) => Some(format!("messageExpression compilation failed: {why}")),
            Ok((_, Type::String | Type::Text | Type::Dyn | Type::Free)) => None,
            Ok(_) => Some("messageExpression must evaluate to a string".to_owned()),
        }
    }

    /// An expression, and what it comes to.
    fn read(&self, text: &str, optional: bool) -> Result<(Expression, Type<'static>), String> {
        let parsed = Parsed::read(text).map_err(|why| why.to_string())?;
        let read = parsed.expression(&KNOWN)?;
        let Some([plain, optional_old]) = &self.names else { return Ok((read, Type::Dyn)) };
        let (least, each) = STEPS;
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let work = Work::of(each.saturating_mul(bytes).saturating_add(least));
        let checked = parsed.check(if optional { optional_old } else { plain }, &work);
        if checked.mistakes.is_empty() { Ok((read, checked.is)) } else { Err(checked.mistakes) }
    }
}
