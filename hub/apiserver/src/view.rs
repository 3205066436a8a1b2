//! The kind that is served and the kind that is written: the same, but for events. A request looks them up once, and
//! holds them as long as it goes on.
//!
//! events.k8s.io/v1 Events are a view of core/v1 Events: other names for the same facts. They are
//! converted on the way in and out; patches apply to what the client sees.

use std::sync::Arc;

use freewheel_hub_objects::Canonical;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::gvk::Gvr;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::registry::Registry;
use serde_json::Value;

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
        let served = registry.find(group, version, plural)?;
        let stored = match &served.stored_as {
            None => served,
            // It is written in any of its versions, and says itself how that is stored.
            Some(_) if served.form().is_some() => served,
            Some(Gvr { group, version, resource }) => registry.find(group, version, resource)?,
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
        self.served.stored_as.is_none() || self.served.id() == self.stored.id()
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

    /// The same of what was decoded.
    #[must_use]
    pub fn taken_in(&self, value: Canonical) -> Canonical {
        if self.is_plain() { value } else { value.inward(&self.served) }
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

#[cfg(test)]
mod tests {
    use freewheel_hub_api::kinds;
    use serde_json::json;

    use super::*;

    #[test]
    fn events_have_two_faces() {
        let registry = kinds::registry(&freewheel_link::names::ClusterName::root());
        let view = View::find(&registry, "events.k8s.io", "v1", "events").unwrap();
        assert!(!view.is_plain());
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "p"}, "message": "hello", "reason": "Started",
            "source": {"component": "kubelet"}, "count": 3, "reportingComponent": "kubelet",
        });
        let new = view.outward(core.clone()).unwrap();
        assert_eq!(
            new,
            json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event",
                "metadata": {"name": "e", "namespace": "default"},
                "regarding": {"kind": "Pod", "name": "p"}, "note": "hello", "reason": "Started",
                "deprecatedSource": {"component": "kubelet"}, "deprecatedCount": 3,
                "reportingController": "kubelet",
            })
        );
        assert_eq!(view.inward(new), core);
    }
}
