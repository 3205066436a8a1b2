//! What the API says of the pods that a device counts for: figures travel without it.

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::Snapshot;
use freewheel_link::figures::PodUseV1;
use serde_json::Value;

/// Pods' figures, with what the API says of each.
pub(super) type Pods = Arc<[(PodUseV1, StoredPod)]>;

/// Of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoredPod {
    /// metadata.uid
    pub(crate) uid: String,
    /// status.startTime, empty before it has one.
    pub(crate) started: String,
    images: BTreeMap<String, String>,
}

impl StoredPod {
    /// The pod of this name in its realm. Of one that is gone there is nothing to say.
    pub(crate) fn of(pod: &PodUseV1, at: &dyn Snapshot) -> Self {
        let key = Key::new(&Resource::new("", "pods"), &pod.realm, &pod.namespace, &pod.name);
        let value = at.get(&key).and_then(|stored| stored.object.value().ok());
        value.as_ref().map(Self::read).unwrap_or_default()
    }

    fn read(pod: &Value) -> Self {
        let text = |path| pod.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let lists = ["/spec/initContainers", "/spec/containers"];
        let containers = lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
        let image = |container: &Value| {
            let of = |field: &str| container[field].as_str().map(str::to_owned);
            Some((of("name")?, of("image")?))
        };
        Self {
            uid: text("/metadata/uid"),
            started: text("/status/startTime"),
            images: containers.filter_map(image).collect(),
        }
    }

    /// The image of a container, empty where none is known.
    pub(crate) fn image(&self, container: &str) -> &str {
        self.images.get(container).map_or("", String::as_str)
    }
}
