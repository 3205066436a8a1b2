//! What came of a work's manifests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_objects::ObjectRef;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::Stored;
use serde_json::{Value, json};

use super::fault::Fault;
use crate::engine::Error;

/// What is known of the object of a manifest.
#[derive(Clone, Debug)]
pub(super) enum There {
    Is(Arc<Stored>),
    IsNot,
    /// Nobody has looked, for this reason.
    Unseen(String),
}

impl There {
    /// What was found.
    pub fn of(found: Option<Arc<Stored>>) -> Self {
        found.map_or(Self::IsNot, Self::Is)
    }

    /// The object, if it is there and was seen.
    pub fn object(&self) -> Option<&Arc<Stored>> {
        match self {
            Self::Is(object) => Some(object),
            Self::IsNot | Self::Unseen(_) => None,
        }
    }
}

/// What came of one manifest.
pub(super) struct OneResult {
    /// `resourceMeta`
    pub meta: Value,
    /// Which resource it is; nothing, when its kind is not served.
    pub target: Option<ObjectRef>,
    /// The object.
    pub there: There,
    /// Why it could not be applied, if it could not.
    pub fault: Option<Fault>,
    /// Its changes bring the work here: it names the work's record as its owner.
    pub heard: bool,
    /// Its rules may say that it is complete.
    pub may_complete: bool,
}

impl OneResult {
    /// Of a manifest, the one in this place, whose kind is not served.
    pub fn unserved(at: usize, manifest: &Value) -> Self {
        let text =
            |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        let why = format!("no matches for kind {kind:?} in version {version:?}");
        let (name, namespace) = (text("/metadata/name"), text("/metadata/namespace"));
        let meta = json!({"ordinal": at, "kind": kind, "name": name, "namespace": namespace});
        let (there, fault) = (There::IsNot, Some(Fault::failed(&why)));
        Self { meta, target: None, there, fault, heard: true, may_complete: false }
    }
}

/// Which work it is, and in which generation: another of its name begins anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    uid: Uid,
    generation: i64,
}

impl Version {
    /// Of a work as it is.
    pub fn of(work: &Stored) -> Self {
        let header = &work.object.header;
        Self { uid: header.uid.clone(), generation: header.generation }
    }
}

/// What came of some of them, and how many that are, in the order in which they are applied.
#[derive(Default)]
pub(super) struct Unfinished {
    pub of: Version,
    pub done: usize,
    pub results: Vec<(usize, OneResult)>,
    /// Whether something was written.
    pub wrote: bool,
}

/// What came of all of them, in the order in which the work has them.
pub(super) struct Outcome {
    pub results: Vec<OneResult>,
    /// The work was complete: it was looked at, and nothing was applied.
    pub complete: bool,
    /// Why what the work no longer names could not be removed, or not be written down.
    pub left: Option<Error>,
    /// What holds the rest of that, as far as that was seen.
    pub held: Option<String>,
    pub look_again: Option<Duration>,
}

/// What a work's status says of its manifests, by resource, wherever the work has them.
pub(super) struct ManifestStatuses<'a>(HashMap<[&'a str; 5], &'a Value>);

impl<'a> ManifestStatuses<'a> {
    /// By the work.
    pub fn of(work: &'a Value) -> Self {
        let all = work["status"]["resourceStatus"]["manifests"].as_array().into_iter().flatten();
        // The first one counts.
        Self(all.rev().map(|it| (resource(&it["resourceMeta"]), it)).collect())
    }

    /// Of the resource of this `resourceMeta`.
    pub fn get(&self, meta: &Value) -> Option<&'a Value> {
        self.0.get(&resource(meta)).copied()
    }
}

fn resource(meta: &Value) -> [&str; 5] {
    ["group", "version", "kind", "namespace", "name"]
        .map(|field| meta[field].as_str().unwrap_or_default())
}
