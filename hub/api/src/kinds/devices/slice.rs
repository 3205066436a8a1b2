//! ResourceSlice: devices that a driver has somewhere.

use std::collections::{BTreeMap, BTreeSet};

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::{GROUP, UNUSED, device};
use crate::kinds::accessors::{AGE, NAME, age, column, flag, list, name, text};
use crate::kinds::field_value::FieldValue;
use crate::kinds::pod_spec::check_node_selector;
use crate::kinds::volume_words::check_driver;

const COLUMNS: &[Column] = &[
    NAME,
    column("Node", "string", "Where they are."),
    column("Driver", "string", "Whose they are."),
    column("Pool", "string", "What they are a part of."),
    AGE,
];
const DEVICES_MAX: usize = 128;
const DEVICES_WITH_TAINTS_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
const COUNTERS_MAX: usize = 32;
const POOL_NAME_BYTES_MAX: usize = 253;

/// ResourceSlice of resource.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new(GROUP, "v1", "ResourceSlice"), "resourceslices", Rules)
        .cluster_scoped()
        .columns(COLUMNS)
        .fields(["spec.driver", "spec.nodeName"])
        .with(&[Trait::BelongsToNodeThatItNames, Trait::ShowsTheDeleted])
        .without_effect(UNUSED)
}

struct Rules;

impl Strategy for Rules {
    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let mut errors = check_driver(&spec.child("driver"));
        errors.extend(check_pool(&spec.child("pool")));
        errors.extend(check_nodes(&spec));
        let (devices, counters) = (spec.child("devices"), spec.child("sharedCounters"));
        if devices.is_there() && counters.is_there() {
            let text = "only one of `sharedCounters` or `devices` is allowed";
            errors.push(FieldError::invalid(&*spec.path, &json!(""), text));
        }
        let special = |device: &Value| {
            ["/taints", "/consumesCounters"].iter().any(|field| !list(device, field).is_empty())
        };
        let some = list(devices.value, "").iter().any(special);
        errors.extend(devices.no_more(if some { DEVICES_WITH_TAINTS_MAX } else { DEVICES_MAX }));
        let chooses = flag(object, "/spec/perDeviceNodeSelection");
        errors.extend(each_once(&devices));
        errors.extend(devices.items().flat_map(|one| device::check(&one, chooses)));
        errors.extend(counters.no_more(COUNTER_SETS_MAX));
        errors.extend(each_once(&counters));
        for set in counters.items() {
            errors.extend(set.child("name").named(names::dns_label));
            let counted = set.child("counters");
            errors.extend(counted.must_be());
            let many = COUNTERS_MAX < counted.entries().count();
            let count = counted.entries().count();
            errors.extend(many.then(|| FieldError::too_many(&*counted.path, count, COUNTERS_MAX)));
        }
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let (now, was) = (FieldValue::of(new, "spec"), FieldValue::of(old, "spec"));
        let (name, before) = (now.child("pool").child("name"), was.child("pool").child("name"));
        let mut errors: Vec<_> = name.stays(&before).into_iter().collect();
        for field in ["driver", "nodeName"] {
            errors.extend(now.child(field).stays(&was.child(field)));
        }
        errors
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        let fields = ["driver", "nodeName"].map(|field| {
            (format!("spec.{field}"), text(object, &format!("/spec/{field}")).to_owned())
        });
        fields.into()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![
            name(object),
            text(object, "/spec/nodeName").into(),
            text(object, "/spec/driver").into(),
            text(object, "/spec/pool/name").into(),
            age(object, now),
        ]
    }
}

fn each_once(list: &FieldValue<'_>) -> Vec<FieldError> {
    let mut taken = BTreeSet::new();
    let twice = list.items().filter(|item| !taken.insert(item.child("name").text()));
    twice.map(|item| FieldError::duplicate(&*item.path, item.child("name").value)).collect()
}

fn check_pool(pool: &FieldValue<'_>) -> Vec<FieldError> {
    let name = pool.child("name");
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(name.required(""));
    } else {
        errors.extend(name.no_longer(POOL_NAME_BYTES_MAX));
        for part in name.text().split('/') {
            let part = json!(part);
            errors.extend(FieldValue::at(&part, &*name.path).follows(names::dns_subdomain));
        }
    }
    let (slices, generation) = (pool.child("resourceSliceCount"), pool.child("generation"));
    if slices.int().unwrap_or_default() <= 0 {
        errors.push(slices.invalid("must be greater than zero"));
    }
    if generation.int().is_some_and(|generation| generation < 0) {
        errors.push(generation.invalid("must be greater than or equal to zero"));
    }
    errors
}

fn check_nodes(spec: &FieldValue<'_>) -> Vec<FieldError> {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut errors = Vec::new();
    let mut given = Vec::new();
    let node = spec.child("nodeName");
    if node.is_there() && node.is_empty() {
        errors.push(node.invalid("must be either unset or set to a non-empty string"));
    } else if node.is_there() {
        given.push("`nodeName`");
        errors.extend(node.follows(names::dns_subdomain));
    }
    let selector = spec.child("nodeSelector");
    if selector.is_there() {
        given.push("`nodeSelector`");
        errors.extend(check_node_selector(selector.value, &selector.path));
        let terms = selector.child("nodeSelectorTerms");
        if terms.items().count() != 1 {
            errors.push(terms.invalid("must have exactly one node selector term"));
        }
    }
    for (field, shown) in
        [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        let at = spec.child(field);
        match at.value.as_bool() {
            Some(true) => given.push(shown),
            Some(false) => errors.push(at.invalid("must be either unset or set to true")),
            None => {}
        }
    }
    match given.len() {
        0 => errors.push(spec.required(ONE)),
        1 => {}
        _ => {
            let shown = json!(format!("{{{}}}", given.join(", ")));
            let text = format!("{ONE}, but multiple fields are set");
            errors.push(FieldError::invalid(&*spec.path, &shown, &text));
        }
    }
    errors
}
