//! What a MutatingAdmissionPolicy makes of an object: by what it lays over it, or by a JSON patch.

use std::sync::Arc;

use freewheel_hub_cel::{Evaluation, Expression, Failed, Value as Cel, json, of_type};
use freewheel_hub_schema::depth;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::patch::{NotPatched, operations_on};
use freewheel_hub_schema::types::{Typed, apply_defaults, canonicalise};
use freewheel_hub_structured_merge::lay_over;
use freewheel_link::limits::API_BODY_BYTES_MAX;
use serde_json::Value;

use super::definition::{Compiled, Mutation};
use crate::attributes::{Shown, gvk};
use crate::conditions::{OUT_OF_BUDGET, failed};

/// Which form what is changed has, before and after.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// An object's of this kind, in this version.
    Object(Arc<Kind>),
    /// Group, version and kind of what an action is asked by.
    Action(String, String, String),
}

impl Form {
    /// Of this, in this version of the resource that it is about.
    pub(crate) fn of(shown: Shown, object: &Value, version: &Arc<Kind>) -> Self {
        match shown {
            Shown::Action => {
                let (group, version, kind) = gvk(object);
                Self::Action(group.to_owned(), version.to_owned(), kind.to_owned())
            }
            Shown::Object | Shown::Scale => Self::Object(version.clone()),
        }
    }

    fn typed(&self) -> Typed<'_> {
        match self {
            Self::Object(kind) => Typed::from(&**kind),
            Self::Action(group, version, kind) => {
                Typed::from((group.as_str(), version.as_str(), kind.as_str()))
            }
        }
    }

    /// An object that somebody changed, in canonical form and with defaults again.
    pub(crate) fn settle(&self, object: &mut Value) -> Result<(), ApiError> {
        depth::check(object)?;
        canonicalise(object, self.typed())?;
        apply_defaults(object, self.typed())?;
        if let Self::Object(kind) = self {
            kind.strategy.default(object);
        }
        Ok(())
    }
}

/// What a change makes of an object of this form.
pub(super) fn changed(
    mutation: &Mutation,
    object: &Value,
    form: &Form,
    evaluation: &mut Evaluation<'_>,
) -> Result<Value, String> {
    let mut new = match mutation {
        Mutation::Apply(expression) => laid_over(evaluate(expression, evaluation)?, object, form)?,
        Mutation::Patch(expression) => patched(evaluate(expression, evaluation)?, object)?,
    };
    // Each change may double it, and the next one is asked about what this one has made.
    check_size(&new)?;
    form.settle(&mut new).map_err(|error| error.message)?;
    check_size(&new)?;
    Ok(new)
}

/// An object that is changed is no larger than one that is sent.
fn check_size(object: &Value) -> Result<(), String> {
    let bytes = serde_json::to_string(object).map_or(usize::MAX, |text| text.len());
    if API_BODY_BYTES_MAX < bytes {
        return Err(format!(
            "the object would have {bytes} bytes, and may have {API_BODY_BYTES_MAX} like a request"
        ));
    }
    Ok(())
}

fn evaluate<'a>(
    expression: &'a Compiled,
    evaluation: &mut Evaluation<'_>,
) -> Result<(Cel, &'a Expression), String> {
    let expression = expression.as_ref().map_err(|why| format!("compilation failed: {why}"))?;
    match evaluation.run(expression) {
        Ok(value) => Ok((value, expression)),
        Err(Failed::TooMuchWork) => Err(OUT_OF_BUDGET.to_owned()),
        Err(why) => Err(failed(expression, &why.into_message(OUT_OF_BUDGET))),
    }
}

fn laid_over((made, _): (Cel, &Expression), object: &Value, form: &Form) -> Result<Value, String> {
    if of_type(&made) != "Object" {
        return Err(format!("must evaluate to Object but got {}", of_type(&made)));
    }
    let mut patch = json(&made, "Object")?;
    for key in ["apiVersion", "kind"] {
        patch[key] = object[key].clone();
    }
    lay_over(form.typed(), object, &patch).map_err(|why| format!("error applying patch: {why}"))
}

fn patched((made, _): (Cel, &Expression), object: &Value) -> Result<Value, String> {
    let Cel::List(operations) = &made else {
        return Err(format!("must evaluate to list(JSONPatch) but got {}", of_type(&made)));
    };
    let operation = |one: &Cel| match of_type(one).as_str() {
        "JSONPatch" => operation(one),
        other => Err(format!(
            "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of {other}"
        )),
    };
    let operations = operations.iter().map(operation).collect::<Result<Vec<Value>, String>>()?;
    match operations_on(object, Value::Array(operations)) {
        Ok(new) => Ok(new),
        // A patch whose test fails changes nothing.
        Err(NotPatched::Test) => Ok(object.clone()),
        Err(NotPatched::Because(error)) => Err(format!("JSON Patch: {}", error.message)),
    }
}

/// One operation. An object that is its value says of which type it is by its place in the whole.
fn operation(made: &Cel) -> Result<Value, String> {
    let Cel::Map(fields) = made else { return Err("an operation is an object".to_owned()) };
    let mut operation = serde_json::Map::new();
    for (key, value) in fields.map.iter() {
        let key = key.to_string();
        if key.starts_with('@') {
            continue;
        }
        let made = of_type(value);
        let root = if made.starts_with("Object") { made.as_str() } else { "" };
        operation.insert(key, json(value, root)?);
    }
    if operation.get("from").is_some_and(|from| from == "") {
        operation.remove("from");
    }
    Ok(Value::Object(operation))
}
