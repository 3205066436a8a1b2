//! Objects in canonical form: what Go's decoding and encoding would have made of them.
//!
//! ```text
//! body  ─ decode ─┐
//! value ─ walk ───┴▶ Canonical ─ rules of the pipeline, which keep the form ─▶ Object ─ commit
//! ```
//!
//! Guarantees:
//! - nothing becomes an object of the API but what went through the walk over its schema
//!   (`what_is_stored_is_canonical_whatever_was_said`);
//! - nothing is stored that is too deep to be read again (`what_is_too_deep_is_not_stored`).

use std::collections::BTreeMap;
use std::ops::Deref;

use freewheel_hub_schema::depth;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Object;
use freewheel_hub_schema::types::Typed;
use freewheel_hub_schema::{protobuf, types};
use freewheel_hub_store::Stored;
use serde_json::{Value, json};

use super::{FieldValidation, ObjectRef, WriteOptions, meta};

/// An object in canonical form. Others read it; this crate alone makes and changes it, and commits nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Canonical(Value);

/// Canonical, and texts for warnings about what it had beyond its schema.
pub(super) type Formed = (Canonical, Vec<String>);

impl Deref for Canonical {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl Canonical {
    /// Of a JSON body that must be of this type; with what strict validation refuses of it.
    ///
    /// # Errors
    /// As [`types::decode_json`].
    pub fn from_json<'a>(
        bytes: &[u8],
        typed: impl Into<Typed<'a>>,
    ) -> Result<(Self, Vec<String>), ApiError> {
        let decoded = types::decode_json(bytes, typed)?;
        Ok((Self(decoded.value), decoded.strict))
    }

    /// The same of a body that was read already, with the paths of what it says twice.
    ///
    /// # Errors
    /// As [`types::decode_value`].
    pub fn from_read<'a>(
        read: (Value, Vec<String>),
        bytes: &[u8],
        typed: impl Into<Typed<'a>>,
    ) -> Result<(Self, Vec<String>), ApiError> {
        let decoded = types::decode_value(read, bytes, typed)?;
        Ok((Self(decoded.value), decoded.strict))
    }

    /// Of a protobuf body, of whatever kind it says.
    ///
    /// # Errors
    /// As [`protobuf::decode`].
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self, ApiError> {
        protobuf::decode(bytes).map(Self)
    }

    /// The same object as it is stored, where `served` is a view of another kind.
    #[must_use]
    pub fn inward(mut self, served: &Kind) -> Self {
        served.strategy.to_stored(&mut self.0);
        self
    }

    /// Says in which namespace it is.
    pub fn put_namespace(&mut self, namespace: &str) {
        let Some(object) = self.0.as_object_mut() else { return };
        let meta = object.entry("metadata").or_insert_with(|| json!({}));
        if let Some(meta) = meta.as_object_mut() {
            meta.insert("namespace".to_owned(), json!(namespace));
        }
    }

    /// What is stored, in the kind's own version.
    pub(super) async fn of_stored(stored: &Stored, kind: &Kind) -> Result<Self, ApiError> {
        Self::of_object(&stored.object, kind).await
    }

    /// For the rules of the pipeline, all of which keep the form.
    pub(super) fn rules(&mut self) -> &mut Value {
        &mut self.0
    }

    /// Fills in defaults.
    pub(super) fn fill_in(&mut self, kind: &Kind) -> Result<(), ApiError> {
        types::apply_defaults(&mut self.0, kind)?;
        kind.strategy.default(&mut self.0);
        Ok(())
    }

    /// After somebody who does not know the form has changed it: it is the same object, in canonical form again.
    pub(super) fn reform(&mut self, target: &ObjectRef) -> Result<(), ApiError> {
        meta::settle(&mut self.0, target)?;
        types::canonicalise(&mut self.0, &*target.kind)?;
        self.fill_in(&target.kind)
    }

    /// Of what the pipeline itself makes beside an object.
    pub(super) fn made(value: Value, target: &ObjectRef) -> Result<Self, ApiError> {
        let mut made = Self(value);
        made.reform(target)?;
        Ok(made)
    }

    /// What is to be stored, once more.
    pub(super) async fn of_object(object: &Object, kind: &Kind) -> Result<Self, ApiError> {
        let mut value = object.value()?;
        if kind.converter().is_some() {
            return kind.out_of_store(value).await.map(Self);
        }
        if kind.strategy.from_stored(&mut value).is_err() {
            // Its readers are told. It may be changed and has to be able to go, as it was stored.
            value = object.value()?;
        }
        Ok(Self(value))
    }

    /// Taken apart for the store, in the stored version.
    pub(super) async fn object(self, kind: &Kind) -> Result<Object, ApiError> {
        let fields = kind.strategy.selectable_fields(&self.0);
        let value = kind.into_store(self.0).await?;
        // Who converts may make something else of what selectors look at.
        let fields = match kind.converter() {
            Some(_) => kind.strategy.selectable_fields(&value),
            None => fields,
        };
        depth::check(&value)?;
        Object::from_value(value, fields)
    }

    /// The same of a kind that is stored as it is, and of which selectors look at nothing but names.
    pub(super) fn plain_object(self) -> Result<Object, ApiError> {
        depth::check(&self.0)?;
        Object::from_value(self.0, BTreeMap::new())
    }

    /// For another round.
    pub(super) fn text(&self) -> Result<Text, ApiError> {
        serde_json::to_vec(&self.0).map(Text).map_err(ApiError::internal)
    }
}

/// The text of a canonical object: much smaller than the tree that it says.
pub(super) struct Text(Vec<u8>);

impl Text {
    pub(super) fn read(&self) -> Result<Canonical, ApiError> {
        serde_json::from_slice(&self.0).map(Canonical).map_err(ApiError::internal)
    }
}

/// What a writer wants an object to be.
#[derive(Clone, Debug)]
pub enum Proposal {
    /// In any form; it will be made canonical.
    Any(Value),
    /// Decoded from a body, or made by the pipeline. What was unknown in it was dealt with there.
    Canonical(Canonical),
}

impl From<Value> for Proposal {
    fn from(value: Value) -> Self {
        Self::Any(value)
    }
}

impl From<Canonical> for Proposal {
    fn from(value: Canonical) -> Self {
        Self::Canonical(value)
    }
}

impl Proposal {
    /// About the object in this place, and canonical.
    pub(super) fn form(self, how: &WriteOptions, target: &ObjectRef) -> Result<Formed, ApiError> {
        let kind = &*target.kind;
        match self {
            Self::Canonical(mut value) => {
                meta::settle(&mut value.0, target)?;
                Ok((value, Vec::new()))
            }
            Self::Any(mut value) => {
                meta::settle(&mut value, target)?;
                let warnings = walk(&mut value, how.field_validation, kind)?;
                Ok((Canonical(value), warnings))
            }
        }
    }
}

/// Makes it canonical; answers the warnings about unknown fields.
fn walk(
    value: &mut Value,
    validation: FieldValidation,
    kind: &Kind,
) -> Result<Vec<String>, ApiError> {
    let found = types::canonicalise(value, kind).map_err(|error| cannot_be_handled(error, kind))?;
    let unknown: Vec<String> =
        found.unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    match validation {
        FieldValidation::Strict if !unknown.is_empty() => {
            Err(types::strict_error(kind.version(), kind.kind(), &unknown))
        }
        FieldValidation::Warn => Ok(unknown),
        FieldValidation::Strict | FieldValidation::Ignore => Ok(Vec::new()),
    }
}

/// A value of the wrong type, in the words of a server that cannot decode it.
fn cannot_be_handled(error: ApiError, kind: &Kind) -> ApiError {
    if error.code != 400 {
        return error;
    }
    let (name, version, why) = (kind.kind(), kind.version(), error.message);
    ApiError::bad_request(format!(
        "{name} in version {version:?} cannot be handled as a {name}: {why}"
    ))
}
