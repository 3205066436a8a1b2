//! The kind that is served and the kind that is written: the same, but for views. Who writes in the name of somebody else,
//! a request or a manifest, looks them up once, and holds them as long as that goes on.
//!
//! events.k8s.io/v1 Events are a view of core/v1 Events: other names for the same facts. They are
//! converted on the way in and out; patches apply to what the client sees.

use std::sync::Arc;

use serde_json::Value;

use crate::error::ApiError;
use crate::gvk::Gvr;
use crate::kind::Kind;
use crate::registry::Registry;
use crate::types;

/// How a resource is shown.
#[derive(Clone, Debug)]
pub struct View {
    /// The kind in the path.
    pub served: Arc<Kind>,
    /// The kind in the store.
    pub stored: Arc<Kind>,
    /// It is one of the cluster's own kinds, which may go while it is looked at.
    pub may_go: bool,
}

impl View {
    /// The view behind a path; `None` when nothing is served there.
    #[must_use]
    pub fn find(registry: &Registry, group: &str, version: &str, plural: &str) -> Option<Self> {
        Self::over(registry, registry.find(group, version, plural)?)
    }

    /// The view that an object says it is of; `None` when no path leads to that.
    #[must_use]
    pub fn by_kind(registry: &Registry, api_version: &str, kind: &str) -> Option<Self> {
        let served = registry.by_kind(api_version, kind)?;
        Self::over(registry, served).filter(|view| view.served.served)
    }

    fn over(registry: &Registry, served: &Arc<Kind>) -> Option<Self> {
        let stored = match &served.stored_as {
            Some(Gvr { group, version, resource }) if served.is_view() => {
                registry.find(group, version, resource)?
            }
            // In whichever of its versions it is written, it says itself how that is stored.
            Some(_) | None => served,
        };
        let may_go = registry.own().iter().any(|own| own.id() == served.id());
        Some(Self { served: served.clone(), stored: stored.clone(), may_go })
    }

    /// What is shown of a kind that has no path.
    #[must_use]
    pub fn of(kind: &Arc<Kind>) -> Self {
        Self { served: kind.clone(), stored: kind.clone(), may_go: false }
    }

    /// Whether it is written as it is served.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.served.id() == self.stored.id()
    }

    /// Whether its objects may be made and changed.
    #[must_use]
    pub fn takes_writes(&self) -> bool {
        let verbs = self.served.verbs;
        ["create", "update", "patch"].iter().all(|verb| verbs.contains(verb))
    }

    /// Whether stored bytes can go out as they are. A form that came with its kind may be another by now than it was
    /// when they were stored.
    #[must_use]
    pub fn is_verbatim(&self) -> bool {
        self.is_plain() && self.served.form().is_none()
    }

    /// From the stored form to the served one.
    ///
    /// # Errors
    /// 500 with its name when what its kind's definition says by now makes nothing of it.
    pub fn outward(&self, mut value: Value) -> Result<Value, ApiError> {
        if !self.is_verbatim() {
            self.served.from_stored_object(&mut value)?;
        }
        Ok(value)
    }

    /// From the served form to the stored one.
    #[must_use]
    pub fn inward(&self, mut value: Value) -> Value {
        if !self.is_plain() {
            self.served.strategy.to_stored(&mut value);
        }
        value
    }

    /// From what somebody says in the served form, whatever that is, to the stored one.
    ///
    /// # Errors
    /// 400 where it is none of the served kind's.
    pub fn taken_in(&self, mut value: Value) -> Result<Value, ApiError> {
        if !self.is_plain() {
            types::canonicalise(&mut value, &*self.served)?;
        }
        Ok(self.inward(value))
    }

    /// Refuses what the rules of the served kind do, where they are stricter than those of the stored one. Both objects
    /// are in the stored form.
    ///
    /// # Errors
    /// 422 with all of it.
    pub fn check(&self, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
        if self.is_plain() {
            return Ok(());
        }
        let strategy = &self.served.strategy;
        let errors = match old {
            None => strategy.validate(new),
            Some(old) => strategy.validate_update(None, new, old),
        };
        if errors.is_empty() {
            return Ok(());
        }
        let (group, kind) = (self.stored.group(), self.stored.kind());
        let name = new.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        Err(ApiError::invalid(group, kind, name, &errors))
    }

    /// An error that names the stored kind, in the words of the served one.
    #[must_use]
    pub fn error(&self, mut error: ApiError) -> ApiError {
        if !self.is_plain() {
            if let Some(details) = &mut error.details {
                details.group = self.served.group().to_owned();
            }
            let (from, to) = (&self.stored, &self.served);
            error.message = error.message.replace(
                &format!("{} \"", from.plural()),
                &format!("{}.{} \"", to.plural(), to.group()),
            );
        }
        error
    }
}
