//! What Go's decode and encode make of a value, told by its type: the walk over both in step.

use serde_json::{Map, Number, Value};

use super::facts::TypeFacts;
use super::scalar;
use super::table::{Field, Shape, Simple};
use super::typed::Typed;
use crate::duration::GoDuration;
use crate::error::ApiError;

/// How many unknown fields are named; more only make the answer unreadable.
const UNKNOWN_FIELDS_MAX: usize = 100;

/// What canonicalisation took out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown {
    /// Paths of fields that the type does not have: `spec.foo`, at most 100.
    pub unknown: Vec<String>,
}

/// Makes of `value` what Go's decoding and encoding would make of it: unknown fields and nulls go,
/// empty fields go where the type omits them, structs that Go always writes appear (`status: {}`),
/// scalars take their canonical form. Of a kind of whose fields nothing is known, only the metadata is
/// touched.
///
/// Beyond Go: where Go writes null, a list or map is empty and anything else left out; a 0 for a port
/// that was not given is left out too.
///
/// # Errors
/// 400 when a value has the wrong type, in the words of Go's decoder.
pub fn canonicalise<'a>(
    value: &mut Value,
    typed: impl Into<Typed<'a>>,
) -> Result<Unknown, ApiError> {
    let Typed { kind, facts, form, .. } = typed.into();
    let mut walk = Walk::default();
    if let Some(one) = facts.filter(|_| form.is_none()) {
        let Value::Object(map) = value else {
            let text =
                format!("json: cannot unmarshal {} into Go value of type {kind}", word(value));
            return Err(ApiError::bad_request(text));
        };
        walk.object(map, one, &Path::ROOT).map_err(ApiError::bad_request)?;
    } else if let (Some(meta), Some(one)) = (
        value.get_mut("metadata").and_then(Value::as_object_mut),
        TypeFacts::by_name("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
    ) {
        let path = Path { parent: Some(&Path::ROOT), step: Step::Field("metadata") };
        walk.object(meta, one, &path).map_err(ApiError::bad_request)?;
    }
    if let Some(form) = form {
        walk.unknown.extend(form.prune(value).map_err(ApiError::bad_request)?);
        walk.unknown.truncate(UNKNOWN_FIELDS_MAX);
    }
    Ok(Unknown { unknown: walk.unknown })
}

/// Where the walk is; kept on the stack, so that a path costs nothing until it is told.
pub(super) struct Path<'a> {
    pub(super) parent: Option<&'a Path<'a>>,
    pub(super) step: Step<'a>,
}

pub(super) enum Step<'a> {
    Root,
    Field(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    pub(super) const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    pub(super) fn then(&'a self, step: Step<'a>) -> Path<'a> {
        Path { parent: Some(self), step }
    }

    /// `spec.containers[0].name`, as strict decoding names it.
    pub(super) fn strict(&self) -> String {
        let mut out = self.parent.map(Path::strict).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Field(name) | Step::Key(name) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Index(index) => out.push_str(&format!("[{index}]")),
        }
        out
    }

    /// `spec.containers.name`, as Go's decoder names it.
    fn go(&self) -> String {
        let mut out = self.parent.map(Path::go).unwrap_or_default();
        if let Step::Field(name) = self.step {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(name);
        }
        out
    }
}

#[derive(Default)]
struct Walk {
    unknown: Vec<String>,
}

type Mismatch = String;

impl Walk {
    fn object(
        &mut self,
        map: &mut Map<String, Value>,
        one: TypeFacts<'_>,
        path: &Path<'_>,
    ) -> Result<(), Mismatch> {
        let mut gone = Vec::new();
        for (key, value) in map.iter_mut() {
            let here = path.then(Step::Field(key));
            let Some(field) = one.field(key) else {
                if one.open {
                    continue;
                }
                if self.unknown.len() < UNKNOWN_FIELDS_MAX {
                    self.unknown.push(here.strict());
                }
                gone.push(key.clone());
                continue;
            };
            if !value.is_null() {
                self.value(value, &field.shape, one, &here)?;
            }
            let says_nothing =
                !one.crd && is_omitted(field, value) && !takes_owners_away(path, key);
            if value.is_null() || says_nothing {
                gone.push(key.clone());
            }
        }
        for key in gone {
            map.remove(&key);
        }
        fill(map, one);
        Ok(())
    }

    fn value(
        &mut self,
        value: &mut Value,
        shape: &Shape,
        owner: TypeFacts<'_>,
        path: &Path<'_>,
    ) -> Result<(), Mismatch> {
        match (shape, &mut *value) {
            (Shape::String, Value::String(_))
            | (Shape::Bool, Value::Bool(_))
            | (Shape::Raw | Shape::Fields, _) => Ok(()),
            (Shape::Int32, Value::Number(n)) if fits_int32(n) => Ok(()),
            (Shape::Int64, Value::Number(n)) if n.is_i64() => Ok(()),
            (Shape::IntOrString, Value::String(_)) => Ok(()),
            (Shape::IntOrString, Value::Number(n)) if fits_int32(n) => Ok(()),
            (Shape::Float, Value::Number(number)) => {
                scalar::float(number);
                Ok(())
            }
            (Shape::Bytes, Value::String(text)) => scalar::bytes(text),
            (Shape::Time | Shape::MicroTime, Value::String(text)) => {
                if scalar::moment(text, *shape == Shape::MicroTime)? {
                    *value = Value::Null;
                }
                Ok(())
            }
            (Shape::Duration, Value::String(text)) => scalar::duration(text),
            (Shape::Quantity, _) => scalar::quantity(value),
            (Shape::Object(id), Value::Object(map)) => self.object(map, owner.at(*id), path),
            (Shape::List(inner), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.element(item, inner, owner, &path.then(Step::Index(index)))?;
                }
                Ok(())
            }
            (Shape::Map(inner), Value::Object(map)) => {
                for (key, item) in map.iter_mut() {
                    self.element(item, inner, owner, &path.then(Step::Key(key)))?;
                }
                Ok(())
            }
            (Shape::Strings, Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.element(item, &Shape::String, owner, &path.then(Step::Index(index)))?;
                }
                Ok(())
            }
            (Shape::Either(id, simple), value) => self.either(value, owner.at(*id), *simple),
            (_, value) => Err(mismatch(value, shape, owner, path)),
        }
    }

    /// An element of a list or map: Go makes the zero value of a null.
    fn element(
        &mut self,
        item: &mut Value,
        shape: &Shape,
        owner: TypeFacts<'_>,
        path: &Path<'_>,
    ) -> Result<(), Mismatch> {
        if item.is_null() {
            *item = zero(shape, owner);
        }
        if item.is_null() { Ok(()) } else { self.value(item, shape, owner, path) }
    }
}

impl Walk {
    /// A struct, or what may stand in its place. Go decodes it by itself: what is wrong is named from here on, and unknown
    /// fields inside go without a word.
    fn either(
        &mut self,
        value: &mut Value,
        one: TypeFacts<'_>,
        simple: Simple,
    ) -> Result<(), Mismatch> {
        let mut inside = Self::default();
        match (simple, &mut *value) {
            (_, Value::Object(map)) => inside.object(map, one, &Path::ROOT)?,
            (Simple::Bool, Value::Bool(_)) => {}
            (Simple::Bool, _) => return Err("boolean or JSON schema expected".to_owned()),
            (Simple::Strings, Value::Array(items)) if !items.is_empty() => {
                for (index, item) in items.iter_mut().enumerate() {
                    let path = Path::ROOT.then(Step::Index(index));
                    inside.element(item, &Shape::String, one, &path)?;
                }
            }
            (Simple::Structs, Value::Array(items)) if !items.is_empty() => {
                for item in items {
                    if item.is_null() {
                        *item = Value::Object(Map::new());
                    }
                    let Value::Object(map) = item else {
                        let text = format!(
                            "json: cannot unmarshal {} into Go value of type v1.{}",
                            word(item),
                            one.short_name()
                        );
                        return Err(text);
                    };
                    inside.object(map, one, &Path::ROOT)?;
                }
            }
            (Simple::Strings | Simple::Structs, _) => *value = Value::Null,
        }
        Ok(())
    }
}

/// An empty list of owners is the wish to have none, and not the same as saying nothing of them.
fn takes_owners_away(path: &Path<'_>, key: &str) -> bool {
    let Path { parent: Some(Path { parent: None, .. }), step: Step::Field("metadata") } = path
    else {
        return false;
    };
    key == "managedFields"
}

fn fits_int32(number: &Number) -> bool {
    number.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
}

/// Adds what Go always writes.
fn fill(map: &mut Map<String, Value>, one: TypeFacts<'_>) {
    for field in &one.always {
        if !map.contains_key(&*field.name) {
            map.insert(field.name.to_string(), zero(&field.shape, one));
        }
    }
}

/// Go's zero value in JSON; null where the table has no better word.
fn zero(shape: &Shape, owner: TypeFacts<'_>) -> Value {
    match shape {
        Shape::String | Shape::Bytes => Value::String(String::new()),
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Float | Shape::IntOrString => Value::from(0),
        Shape::Quantity => Value::from("0"),
        Shape::Duration => Value::from(GoDuration::default().to_string()),
        Shape::Object(id) => {
            let mut map = Map::new();
            fill(&mut map, owner.at(*id));
            Value::Object(map)
        }
        Shape::List(_) | Shape::Strings => Value::Array(Vec::new()),
        Shape::Map(_) => Value::Object(Map::new()),
        Shape::Time | Shape::MicroTime | Shape::Raw | Shape::Fields | Shape::Either(..) => {
            Value::Null
        }
    }
}

fn is_omitted(field: &Field, value: &Value) -> bool {
    if field.pointer {
        return false;
    }
    match &field.shape {
        Shape::Object(_) => field.omit_zero && value.as_object().is_some_and(Map::is_empty),
        Shape::Raw | Shape::Fields | Shape::Quantity | Shape::Duration | Shape::Either(..) => false,
        _ if !field.omit_empty => false,
        _ => match value {
            Value::String(text) => text.is_empty(),
            Value::Bool(set) => !set,
            Value::Number(n) => n.as_f64() == Some(0.0),
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Null => true,
        },
    }
}

/// Go's word for a JSON value in its errors.
pub(super) fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn mismatch(value: &Value, shape: &Shape, owner: TypeFacts<'_>, path: &Path<'_>) -> Mismatch {
    // Go tells the number when it is one, but not of this kind.
    let what = if let Value::Number(n) = value
        && matches!(shape, Shape::Int32 | Shape::Int64 | Shape::IntOrString)
    {
        format!("number {n}")
    } else {
        word(value).to_owned()
    };
    let into = format!("{}.{} of type {}", owner.short_name(), path.go(), owner.go_name(shape));
    format!("json: cannot unmarshal {what} into Go struct field {into}")
}

/// [`canonicalise`] for a type that is already at hand.
pub(crate) fn canonicalise_as(value: &mut Value, one: TypeFacts<'_>) -> Result<(), ApiError> {
    let Value::Object(map) = value else { return Ok(()) };
    Walk::default().object(map, one, &Path::ROOT).map_err(ApiError::bad_request)
}
