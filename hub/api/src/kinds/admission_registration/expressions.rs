//! What is wrong with expressions of policies and webhooks. Those that a change leaves as they were stay right.
//!
//! Guarantees:
//! - what cannot be said of a request, or comes to what is not asked for, is refused in upstream's words, and nothing that
//!   upstream takes (`expressions_that_cannot_be_right_are_refused`, `expressions_that_may_be_right_are_taken`);
//! - nobody has more of them looked at than one may have (`admission_has_as_many_expressions_as_it_may`).

use freewheel_hub_cel::typing::{Names, Parsed, Type, Work};
use freewheel_hub_cel::{
    Expression, Known, NoRoom, STACK_BYTES, Unread, Variables, known, on_a_stack_of,
};
use freewheel_hub_schema::error::FieldError;
use serde_json::Value;

use crate::admission_names;
use crate::kinds::field_value::FieldValue;

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
pub(super) fn too_many(at: &str, lists: &[FieldValue<'_>]) -> Option<FieldError> {
    let count = lists.iter().map(|list| list.value.as_array().map_or(0, Vec::len)).sum();
    (EXPRESSIONS_MAX < count).then(|| FieldError::too_many(at, count, EXPRESSIONS_MAX))
}

/// What an expression is to come to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// A yes or no.
    Bool,
    /// A message.
    Text,
    /// The value of an annotation, or nothing.
    Annotation,
    /// `Object{…}`
    Object,
    /// `[JSONPatch{…}]`
    Patch,
}

impl Outcome {
    /// Why what an expression comes to for sure is not that.
    fn misfit(self, is: &Type<'_>) -> Option<String> {
        let is_open = |is: &Type<'_>| matches!(is, Type::Dyn | Type::Free);
        let (fits, wanted) = match (self, is) {
            (Self::Bool, is) => (matches!(is, Type::Bool), "bool"),
            (Self::Text, is) => (matches!(is, Type::String | Type::Text), "string"),
            (Self::Annotation, is) => {
                (matches!(is, Type::String | Type::Text | Type::Null), "one of [string null_type]")
            }
            (Self::Object, _) => (false, "Object"),
            (Self::Patch, Type::List(of)) => (is_open(of), "list(JSONPatch)"),
            (Self::Patch, _) => (false, "list(JSONPatch)"),
        };
        (!fits && !is_open(is)).then(|| format!("must evaluate to {wanted} but got {is:#}"))
    }
}

/// What the types of expressions of one object say of them.
struct Typing {
    names: Names<'static>,
    work: Work,
}

impl Typing {
    fn new() -> Self {
        // An object of any kind may come.
        let names = admission_names::names(&Type::Dyn, Type::Dyn);
        Self { names, work: Work::default() }
    }

    /// What an expression that can be read comes to, or why that is nothing. What takes too much work may be anything.
    fn look(&self, text: &str) -> Result<Type<'static>, Unread> {
        let checked = Parsed::read(text)?.check(&self.names, &self.work);
        if checked.mistakes.is_empty() { Ok(checked.is) } else { Err(checked.mistakes.into()) }
    }

    /// What is wrong with one that has to come to this.
    fn mistake(&self, expression: &FieldValue<'_>, outcome: Outcome) -> Option<FieldError> {
        match self.look(expression.text()) {
            Ok(is) => outcome.misfit(&is).map(|why| expression.invalid(&why)),
            Err(why) => Some(failed(expression, &why)),
        }
    }
}

/// What the expressions of a policy speak of.
pub(super) struct Spoken {
    has_params: bool,
    mutates: bool,
    variables: Variables,
    typing: Typing,
}

impl Spoken {
    /// With the mistakes of its variables.
    pub(super) fn of(spec: &FieldValue<'_>, mutates: bool) -> (Self, Vec<FieldError>) {
        let has_params = spec.child("paramKind").is_there();
        let (mut variables, mut typing) = (Variables::default(), Typing::new());
        let mut errors = Vec::new();
        for variable in spec.child("variables").items() {
            let (name, expression) = (variable.child("name"), variable.child("expression"));
            if expression.text().trim().is_empty() {
                continue;
            }
            let names = known(has_params, true);
            let added = variables.add(name.text(), expression.text(), names);
            let is = added.and_then(|()| typing.look(expression.text()));
            let known = is.as_ref().map_or(Type::Dyn, Type::of_variable);
            typing.names.put(format!("variables.{}", name.text()).into(), known);
            errors.extend(is.err().map(|why| failed(&expression, &why)));
        }
        (Self { has_params, mutates, variables, typing }, errors)
    }

    /// What is wrong with one; with the right to ask what people may do.
    pub(super) fn check(
        &self,
        expression: &FieldValue<'_>,
        authorizer: bool,
        outcome: Outcome,
    ) -> Option<FieldError> {
        if expression.text().trim().is_empty() {
            return None;
        }
        let names = known(self.has_params, authorizer);
        let known = Known { names, makes_objects: self.mutates, ..Known::default() };
        match self.variables.read(expression.text(), &known) {
            Ok(_) => self.typing.mistake(expression, outcome),
            Err(why) => Some(failed(expression, &why)),
        }
    }
}

/// What is wrong with the conditions of a policy or a webhook.
pub(super) fn check_conditions(conditions: &FieldValue<'_>, has_params: bool) -> Vec<FieldError> {
    let known = Known { names: known(has_params, true), ..Known::default() };
    let typing = Typing::new();
    let wrong = |condition: FieldValue<'_>| {
        let expression = condition.child("expression");
        let text = expression.text();
        match (!text.trim().is_empty()).then(|| Expression::read(text, &known))? {
            Ok(_) => typing.mistake(&expression, Outcome::Bool),
            Err(why) => Some(failed(&expression, &why)),
        }
    };
    conditions.items().filter_map(wrong).collect()
}

fn failed(expression: &FieldValue<'_>, why: &Unread) -> FieldError {
    let text = Value::from(expression.text());
    match why {
        Unread::NotNow(why) => FieldError::not_now(&*expression.path, &why.to_string()),
        Unread::Wrong(why) => {
            FieldError::invalid(&*expression.path, &text, &format!("compilation failed: {why}"))
        }
    }
}
