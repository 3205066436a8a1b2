//! A write, or an action, as a rule sees it: what is done, to what, by whom.

use std::sync::Arc;

use freewheel_hub_cel::Question;
use freewheel_hub_objects::{Review, Verb, stored_value};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::object::{Key, Resource};
use serde_json::{Map, Value, json};

use crate::asker::Who;

const CONNECT: &str = "CONNECT";

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

/// What is shown: an object, or something else that comes by a door of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Object,
    Scale,
    /// What an action is asked by: it is of a kind of its own.
    Action,
}

impl Shown {
    /// Of this.
    pub(crate) fn of(review: &Review<'_>) -> Self {
        match review.subresource {
            _ if !review.stores => Self::Action,
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
            Verb::Update => ("UPDATE", Some(object), review.old),
            Verb::Delete => ("DELETE", None, Some(object)),
            Verb::Connect => (CONNECT, Some(object), None),
        };
        let own_name = || object.or(old).and_then(|it| it.pointer("/metadata/name")?.as_str());
        let name =
            if target.name.is_empty() { own_name().unwrap_or_default() } else { &target.name };
        let namespace = if target.kind.has(Trait::HasContent) { name } else { &*target.namespace };
        Self { review, operation, object, old, name, namespace }
    }

    pub(crate) fn kind(&self) -> &'a Arc<Kind> {
        &self.review.target.kind
    }

    pub(crate) fn subresource(&self) -> &'a str {
        self.review.subresource.unwrap_or_default()
    }

    pub(crate) fn shown(&self) -> Shown {
        Shown::of(self.review)
    }

    /// Whether it is about a namespace itself.
    pub(crate) fn is_about_namespace(&self) -> bool {
        self.kind().has(Trait::HasContent)
    }

    /// An object as rules see it, in this version.
    pub(crate) async fn show(&self, value: &Value, version: &Kind) -> Result<Value, ApiError> {
        Ok(match self.shown() {
            Shown::Object => return converted(value, self.kind(), version).await,
            Shown::Action => value.clone(),
            Shown::Scale => json!({
                "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": self.reference(value),
                "spec": {"replicas": self.replicas(value)},
                "status": {"replicas": value.pointer("/status/replicas").cloned().unwrap_or(json!(0))},
            }),
        })
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
        let (group, version, kind) = match self.shown() {
            Shown::Object => (version.group(), version.version(), version.kind()),
            Shown::Scale => ("autoscaling", "v1", "Scale"),
            Shown::Action => self.object.map(gvk).unwrap_or_default(),
        };
        json!({"group": group, "version": version, "kind": kind})
    }

    /// Of how it is written; nothing is said of how somebody comes in.
    fn options(&self) -> Value {
        let kind = match self.operation {
            CONNECT => return Value::Null,
            "UPDATE" => "UpdateOptions",
            "DELETE" => "DeleteOptions",
            _ => "CreateOptions",
        };
        let mut options = Map::clone(&self.review.options);
        options.insert("apiVersion".to_owned(), json!("meta.k8s.io/v1"));
        options.insert("kind".to_owned(), json!(kind));
        if self.review.dry_run {
            options.insert("dryRun".to_owned(), json!(["All"]));
        }
        options.into()
    }

    /// All that is said of the request but its objects (admission/v1 AdmissionRequest), for who is asked about this
    /// version of it.
    pub(crate) fn request(&self, version: &Kind, who: &Who) -> Value {
        let resource = |kind: &Kind| json!({"group": kind.group(), "version": kind.version(), "resource": kind.plural()});
        let mut request = json!({
            "kind": self.kind_of(version), "resource": resource(version),
            "requestKind": self.kind_of(self.kind()), "requestResource": resource(self.kind()),
            "operation": self.operation, "userInfo": who.info(), "dryRun": self.review.dry_run,
            "options": self.options(),
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

/// Group, version and kind, as an object says them.
pub(crate) fn gvk(object: &Value) -> (&str, &str, &str) {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    (group, version, text("kind"))
}

/// An object in another version of its kind.
pub(crate) async fn converted(value: &Value, from: &Kind, to: &Kind) -> Result<Value, ApiError> {
    let mut value = value.clone();
    if from.id() == to.id() {
        return Ok(value);
    }
    if to.converter().is_some() {
        return to.out_of_store(value).await;
    }
    from.strategy.to_stored(&mut value);
    // Where its defaults find no room some of them are not there, as if they had not been said.
    let _ = to.strategy.from_stored(&mut value);
    Ok(value)
}
