//! A write as a rule sees it: what is done, to what, by whom.

use std::sync::Arc;

use freewheel_hub_cel::Question;
use freewheel_hub_objects::{Review, Verb, stored_value};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::{Key, Resource};
use serde_json::{Value, json};

use crate::asker::Who;

/// A write as a rule sees it.
pub(crate) struct Attributes<'a> {
    pub(crate) review: &'a Review<'a>,
    pub(crate) operation: &'static str,
    /// As it is to be; nothing where it goes.
    pub(crate) object: Option<&'a Value>,
    /// As it was; nothing where it comes.
    pub(crate) old: Option<&'a Value>,
    pub(crate) name: &'a str,
    /// Of a namespace, itself.
    pub(crate) namespace: &'a str,
}

/// What a door shows: the object, or something that is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Object,
    Binding,
    Scale,
}

impl Shown {
    /// By this door.
    pub(crate) fn by(subresource: Option<&str>) -> Self {
        match subresource {
            Some("binding") => Self::Binding,
            Some("scale") => Self::Scale,
            Some(_) | None => Self::Object,
        }
    }
}

impl<'a> Attributes<'a> {
    /// Of a write to this object: as it is to be or, where it goes, as it is.
    pub(crate) fn of(review: &'a Review<'a>, object: &'a Value) -> Self {
        let target = review.target;
        let (operation, object, old) = match review.verb {
            Verb::Create => ("CREATE", Some(object), None),
            Verb::Update if review.subresource == Some("binding") => ("CREATE", Some(object), None),
            Verb::Update => ("UPDATE", Some(object), review.old),
            Verb::Delete => ("DELETE", None, Some(object)),
        };
        let said = || object.or(old).and_then(|it| it.pointer("/metadata/name")?.as_str());
        let name = if target.name.is_empty() { said().unwrap_or_default() } else { &target.name };
        let namespace = if is_namespace(&target.kind) { name } else { &*target.namespace };
        Self { review, operation, object, old, name, namespace }
    }

    pub(crate) fn kind(&self) -> &'a Arc<Kind> {
        &self.review.target.kind
    }

    pub(crate) fn subresource(&self) -> &'a str {
        self.review.subresource.unwrap_or_default()
    }

    pub(crate) fn shown(&self) -> Shown {
        Shown::by(self.review.subresource)
    }

    /// Whether it is about a namespace itself.
    pub(crate) fn is_about_namespace(&self) -> bool {
        is_namespace(self.kind())
    }

    /// An object as rules see it, in this version.
    pub(crate) fn show(&self, value: &Value, version: &Kind) -> Value {
        match self.shown() {
            Shown::Object => converted(value, self.kind(), version),
            Shown::Binding => json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": self.reference(value),
                "target": {"kind": "Node", "name": value.pointer("/spec/nodeName")},
            }),
            Shown::Scale => json!({
                "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": self.reference(value),
                "spec": {"replicas": self.replicas(value)},
                "status": {"replicas": value.pointer("/status/replicas").cloned().unwrap_or(json!(0))},
            }),
        }
    }

    fn replicas(&self, value: &Value) -> Value {
        let paths = self.kind().strategy.scale();
        let path = paths.map_or("/spec/replicas", |paths| &*paths.wanted);
        value.pointer(path).cloned().unwrap_or(json!(0))
    }

    fn reference(&self, value: &Value) -> Value {
        let mut meta = json!({"name": self.name, "namespace": self.namespace});
        if let Some(uid) = value.pointer("/metadata/uid") {
            meta["uid"] = uid.clone();
        }
        meta
    }

    /// Group, version and kind of what is shown.
    fn kind_of(&self, version: &Kind) -> Value {
        let own = (version.group(), version.version(), version.kind());
        let (group, version, kind) = match self.shown() {
            Shown::Object => own,
            Shown::Binding => ("", "v1", "Binding"),
            Shown::Scale => ("autoscaling", "v1", "Scale"),
        };
        json!({"group": group, "version": version, "kind": kind})
    }

    /// All that is said of the request but its objects (admission/v1 AdmissionRequest), for who is asked about this
    /// version of it.
    pub(crate) fn request(&self, version: &Kind, who: &Who) -> Value {
        let resource = |kind: &Kind| json!({"group": kind.group(), "version": kind.version(), "resource": kind.plural()});
        let mut options = json!({
            "apiVersion": "meta.k8s.io/v1",
            "kind": match self.operation {
                "UPDATE" => "UpdateOptions",
                "DELETE" => "DeleteOptions",
                _ => "CreateOptions",
            },
        });
        if self.review.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        let mut request = json!({
            "kind": self.kind_of(version), "resource": resource(version),
            "requestKind": self.kind_of(self.kind()), "requestResource": resource(self.kind()),
            "operation": self.operation, "userInfo": who.info(), "dryRun": self.review.dry_run,
            "options": options,
        });
        for (key, text) in [
            ("name", self.name),
            ("namespace", self.namespace),
            ("subResource", self.subresource()),
            ("requestSubResource", self.subresource()),
        ] {
            if !text.is_empty() {
                request[key] = json!(text);
            }
        }
        request
    }

    /// What a right to this very write is asked by (`authorizer.requestResource`).
    pub(crate) fn question(&self) -> Question {
        let kind = self.kind();
        Question {
            group: kind.group().to_owned(),
            resource: kind.plural().to_owned(),
            subresource: self.subresource().to_owned(),
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
            ..Question::default()
        }
    }

    /// The namespace that it is in, as it is stored.
    pub(crate) fn home(&self) -> Option<Value> {
        if self.is_about_namespace() || self.namespace.is_empty() {
            return None;
        }
        let key = Key::new(
            &Resource::new("", "namespaces"),
            &self.review.target.cluster,
            "",
            self.namespace,
        );
        let mut value = stored_value(&*self.review.state().get(&key)?).ok()?;
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.retain(|key, _| {
                !matches!(key.as_str(), "managedFields" | "ownerReferences" | "selfLink")
            });
        }
        Some(value)
    }
}

fn is_namespace(kind: &Kind) -> bool {
    kind.group().is_empty() && kind.plural() == "namespaces"
}

/// An object in another version of its kind.
pub(crate) fn converted(value: &Value, from: &Kind, to: &Kind) -> Value {
    let mut value = value.clone();
    if from.id() != to.id() {
        from.strategy.to_stored(&mut value);
        to.strategy.from_stored(&mut value);
    }
    value
}
