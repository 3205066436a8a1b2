//! What sets a kind apart that came at run time: its form, and what it was made of.

use std::sync::Arc;

use serde_json::Value;

use super::{Converter, Form, Kind};
use crate::error::ApiError;
use crate::gvk::Text;

impl Kind {
    /// From the stored form of an object to the kind's own.
    ///
    /// # Errors
    /// 500 with its name: its definition may have changed since it was stored, so that nothing can be made of it.
    pub fn from_stored_object(&self, object: &mut Value) -> Result<(), ApiError> {
        self.strategy.from_stored(object).map_err(|why| {
            let (name, plural) =
                (object["metadata"]["name"].as_str().unwrap_or_default(), self.plural());
            let dot = if self.group().is_empty() { "" } else { "." };
            let text = format!("{plural}{dot}{} {name:?} cannot be read: {why}", self.group());
            ApiError::internal(text)
        })
    }

    /// What one of it and many of it are called, when not by the rule.
    #[must_use]
    pub fn called(self, singular: impl Into<Text>, list_kind: impl Into<Text>) -> Self {
        Self { singular: singular.into(), list_kind: list_kind.into(), ..self }
    }

    /// No path leads to it: objects are stored in its version, and served in others.
    #[must_use]
    pub fn only_stored(self) -> Self {
        Self { served: false, ..self }
    }

    /// Its objects have this form.
    #[must_use]
    pub fn formed(self, form: impl Form + 'static) -> Self {
        Self { form: Some(Box::new(form)), ..self }
    }

    /// Somebody has to be asked to bring its objects to another version.
    #[must_use]
    pub fn converted_by(self, converter: Arc<dyn Converter>) -> Self {
        Self { converter: Some(converter), ..self }
    }

    /// It was made of what this stands for: of the same, the same kind is made again.
    #[must_use]
    pub fn made_of(self, origin: impl Into<Text>) -> Self {
        Self { origin: origin.into(), ..self }
    }

    /// `DeploymentList`
    #[must_use]
    pub fn list_kind(&self) -> &str {
        &self.list_kind
    }

    /// The form of its objects, where that came with the kind.
    #[must_use]
    pub fn form(&self) -> Option<&dyn Form> {
        self.form.as_deref()
    }

    /// What it was made of; empty for what is built in.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }
}
