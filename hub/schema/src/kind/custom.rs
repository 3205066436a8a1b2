//! What sets a kind apart that came at run time: its form, and what it was made of.

use std::sync::Arc;

use super::{Converter, Form, Kind};
use crate::gvk::Text;

impl Kind {
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
