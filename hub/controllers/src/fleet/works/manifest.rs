//! A manifest as it is written: without what nobody may say of an object, and in place of what is there.
//!
//! Guarantees:
//! - labels, annotations, owners and finalizers of others stay (`what_is_others_stays`);
//! - what has a wrong form keeps it, so that whoever reads the object tells of it (`a_wrong_form_stays_one`).

use freewheel_hub_schema::uid::Uid;
use serde_json::Value;

/// What nobody may say of an object that is to be made.
pub(super) fn strip(manifest: &mut Value) {
    if let Some(meta) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in
            ["uid", "resourceVersion", "managedFields", "creationTimestamp", "ownerReferences"]
        {
            meta.remove(field);
        }
    }
}

/// Puts the work's reference on, or takes it off; what others own stays theirs.
pub(super) fn put_owner(object: &mut Value, owner: Option<&Value>, uid: &Uid) {
    let list = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let mut list: Vec<Value> = list.into_iter().filter(|it| it["uid"] != uid.as_str()).collect();
    list.extend(owner.cloned());
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.insert("ownerReferences".to_owned(), list.into());
    }
}

/// A manifest in place of what is there; labels, annotations, owners and finalizers of others stay.
pub(super) fn laid_over(live: &Value, manifest: &Value, owner: Option<&Value>, uid: &Uid) -> Value {
    let mut new = manifest.clone();
    let mut meta = live["metadata"].clone();
    for field in ["labels", "annotations"] {
        match &manifest["metadata"][field] {
            Value::Null => {}
            Value::Object(wanted) => {
                for (key, value) in wanted {
                    meta[field][key] = value.clone();
                }
            }
            no_map => meta[field] = no_map.clone(),
        }
    }
    new["metadata"] = meta;
    if let Some(status) = live.get("status") {
        new["status"] = status.clone();
    }
    put_owner(&mut new, owner, uid);
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_others_stays() {
        let live = json!({"metadata": {"name": "a", "resourceVersion": "7", "labels": {"a": "1", "x": "y"},
            "ownerReferences": [{"uid": "other"}], "finalizers": ["f"]}, "data": {"old": "1"}, "status": {"s": 1}});
        let manifest =
            json!({"metadata": {"name": "a", "labels": {"a": "2"}}, "data": {"new": "1"}});
        let (own, uid) = (json!({"uid": "own"}), Uid::from("own"));
        let new = laid_over(&live, &manifest, Some(&own), &uid);
        assert_eq!(new["metadata"]["labels"], json!({"a": "2", "x": "y"}));
        assert_eq!(new["metadata"]["ownerReferences"], json!([{"uid": "other"}, {"uid": "own"}]));
        assert_eq!((&new["data"], &new["status"]), (&json!({"new": "1"}), &json!({"s": 1})));
        assert_eq!(new["metadata"]["finalizers"], json!(["f"]));
        let left = laid_over(&new, &manifest, None, &uid);
        assert_eq!(left["metadata"]["ownerReferences"], json!([{"uid": "other"}]));
    }

    #[test]
    fn a_wrong_form_stays_one() {
        let live = json!({"metadata": {"name": "a", "labels": {"a": "1"}}});
        for (said, stays) in
            [(json!("x"), json!("x")), (json!([1]), json!([1])), (json!(null), json!({"a": "1"}))]
        {
            let manifest = json!({"metadata": {"name": "a", "labels": said}});
            let new = laid_over(&live, &manifest, None, &Uid::from("own"));
            assert_eq!(new["metadata"]["labels"], stays);
        }
    }
}
