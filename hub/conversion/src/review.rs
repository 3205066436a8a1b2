//! What a webhook is asked, and whether its answer is one: as many objects, the same ones, in the version asked for.
//!
//! Guarantees:
//! - a webhook changes nothing of an object's metadata but labels and annotations
//!   (`metadata_comes_back_as_it_was_but_labels_and_annotations`);
//! - what is no conversion of what was sent is refused with kube-apiserver's words
//!   (`what_is_no_answer_is_refused`, `another_object_is_refused`).

use freewheel_hub_schema::metadata;
use serde_json::{Map, Value, json};
use uuid::Uuid;

const GROUP: &str = "apiextensions.k8s.io";

/// What is wrong with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It says that it failed, or is no answer at all.
    Failed(String),
    /// It answers with something else.
    Wrong(String),
}

/// A question.
pub(crate) struct Review {
    uid: String,
    version: &'static str,
    to: String,
    sent: Vec<Value>,
}

impl Review {
    /// Of these objects, to be brought to this version, in a review of that version.
    pub(crate) fn of(version: &'static str, to: &str, sent: Vec<Value>) -> Self {
        let uid = Uuid::new_v4().hyphenated().to_string();
        Self { uid, version, to: to.to_owned(), sent }
    }

    /// As it is sent, with the texts of its objects.
    pub(crate) fn body(&self, texts: &[String]) -> Vec<u8> {
        let (uid, version, to) = (&self.uid, self.version, &self.to);
        let objects = texts.join(",");
        format!(
            r#"{{"kind":"ConversionReview","apiVersion":"{GROUP}/{version}","request":{{"uid":"{uid}","desiredAPIVersion":"{to}","objects":[{objects}]}}}}"#
        )
        .into_bytes()
    }

    /// What was answered.
    pub(crate) fn read(&self, bytes: &[u8]) -> Result<Vec<Value>, Fault> {
        let mut review: Value =
            serde_json::from_slice(bytes).map_err(|error| Fault::Failed(error.to_string()))?;
        self.check_answer(&review).map_err(Fault::Failed)?;
        let converted = match review["response"]["convertedObjects"].take() {
            Value::Array(objects) => objects,
            _ => Vec::new(),
        };
        let (sent, got) = (self.sent.len(), converted.len());
        if got != sent {
            return Err(Fault::Wrong(format!("{got} objects, expected {sent}")));
        }
        let both = self.sent.iter().zip(converted).enumerate();
        both.map(|(at, (original, converted))| self.settle(at, original, converted)).collect()
    }

    fn check_answer(&self, review: &Value) -> Result<(), String> {
        let said = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (said(&review["apiVersion"]), said(&review["kind"]));
        let expected = format!("{GROUP}/{}", self.version);
        // Of the older version nobody looks at these, as at kube-apiserver.
        if self.version == "v1" && (version != expected || kind != "ConversionReview") {
            let slash = if version.contains('/') { "" } else { "/" };
            return Err(format!(
                "expected webhook response of {expected}, Kind=ConversionReview, got {slash}{version}, Kind={kind}"
            ));
        }
        let response = review.get("response").filter(|response| response.is_object());
        let response = response.ok_or("no response provided")?;
        let uid = said(&response["uid"]);
        if self.version == "v1" && uid != self.uid {
            return Err(format!("expected response.uid={:?}, got {uid:?}", self.uid));
        }
        let (status, message) =
            (said(&response["result"]["status"]), said(&response["result"]["message"]));
        match status.as_str() {
            "Success" => Ok(()),
            _ if !message.is_empty() => Err(message),
            _ => Err(format!("response.result.status was '{status}', not 'Success'")),
        }
    }

    /// One object, with the metadata that it had.
    fn settle(&self, at: usize, original: &Value, mut converted: Value) -> Result<Value, Fault> {
        let invalid =
            |why: String| Fault::Wrong(format!("invalid converted object at index {at}: {why}"));
        let version = &converted["apiVersion"];
        if *version != self.to {
            let got = version.as_str().unwrap_or_default();
            let why = format!("invalid groupVersion (expected {}, received {got})", self.to);
            return Err(invalid(why));
        }
        same(original, &converted).map_err(invalid)?;
        let invalid =
            |why: String| Fault::Wrong(format!("invalid metadata in object at index {at}: {why}"));
        let restored = restored(&original["metadata"], &converted["metadata"]).map_err(invalid)?;
        converted["metadata"] = restored;
        Ok(converted)
    }
}

/// Whether both are about one object.
fn same(original: &Value, converted: &Value) -> Result<(), String> {
    for (pointer, what) in [
        ("/kind", "kind"),
        ("/metadata/name", "name"),
        ("/metadata/namespace", "namespace"),
        ("/metadata/uid", "UID"),
    ] {
        let of = |object: &Value| {
            object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (before, after) = (of(original), of(converted));
        if before != after {
            return Err(format!("must have the same {what}: {before} != {after}"));
        }
    }
    Ok(())
}

/// The metadata that it had, with the labels and annotations that it has.
fn restored(original: &Value, converted: &Value) -> Result<Value, String> {
    let answered = match converted {
        Value::Null => return Err("missing metadata in converted object".to_owned()),
        Value::Object(map) => map,
        _ => return Err("invalid metadata in converted object: it is no object".to_owned()),
    };
    let mut restored = original.as_object().cloned().unwrap_or_default();
    for key in ["labels", "annotations"] {
        let Some(new) = answered.get(key).filter(|new| !new.is_null()) else {
            restored.remove(key);
            continue;
        };
        let new = new
            .as_object()
            .ok_or_else(|| format!("invalid metadata.{key} in converted object: it is no map"))?;
        check_texts(key, new)?;
        if restored.get(key) != Some(&Value::Object(new.clone())) {
            check_changed(key, new)?;
        }
        restored.insert(key.to_owned(), Value::Object(new.clone()));
    }
    Ok(Value::Object(restored))
}

fn check_texts(key: &str, map: &Map<String, Value>) -> Result<(), String> {
    match map.iter().find(|(_, value)| !value.is_string()) {
        Some((name, _)) => {
            Err(format!("metadata.{key}[{name}] must be a string in converted object"))
        }
        None => Ok(()),
    }
}

/// What came of it may be said of an object.
fn check_changed(key: &str, map: &Map<String, Value>) -> Result<(), String> {
    let object = json!({key: map});
    let errors = if key == "labels" {
        metadata::check_labels(&object, "metadata")
    } else {
        metadata::check_annotations(&object, "metadata", None)
    };
    if errors.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
    Err(all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widget(version: &str) -> Value {
        json!({"apiVersion": format!("e.com/{version}"), "kind": "Widget", "metadata": {
            "name": "w", "namespace": "n", "uid": "u", "labels": {"a": "1"}, "finalizers": ["f"],
            "managedFields": [{"manager": "m"}]}, "spec": {}})
    }

    fn review() -> Review {
        let sent = vec![widget("v1")];
        Review { uid: "r-1".to_owned(), version: "v1", to: "e.com/v2".to_owned(), sent }
    }

    fn answered(response: &Value) -> Result<Vec<Value>, Fault> {
        let answer = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "response": response});
        review().read(answer.to_string().as_bytes())
    }

    fn converted(object: &Value) -> Result<Vec<Value>, Fault> {
        answered(
            &json!({"uid": "r-1", "result": {"status": "Success"}, "convertedObjects": [object]}),
        )
    }

    #[test]
    fn a_review_says_what_is_wanted() {
        let review = review();
        let body: Value =
            serde_json::from_slice(&review.body(&[widget("v1").to_string()])).unwrap();
        let expected = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "request": {"uid": "r-1", "desiredAPIVersion": "e.com/v2", "objects": [widget("v1")]}});
        assert_eq!(body, expected);
    }

    #[test]
    fn metadata_comes_back_as_it_was_but_labels_and_annotations() {
        let mut answer = widget("v2");
        answer["spec"] = json!({"new": 1});
        answer["metadata"] = json!({"name": "w", "namespace": "n", "uid": "u",
            "labels": {"b": "2"}, "annotations": {"c": "3"}, "finalizers": [], "generation": 9});
        let got = converted(&answer).unwrap();
        let mut expected = widget("v2");
        expected["spec"] = json!({"new": 1});
        expected["metadata"]["labels"] = json!({"b": "2"});
        expected["metadata"]["annotations"] = json!({"c": "3"});
        assert_eq!(got, [expected]);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let failed = |why: &str| Err(Fault::Failed(why.to_owned()));
        assert_eq!(answered(&Value::Null), failed("no response provided"));
        let other = json!({"uid": "r-2", "result": {"status": "Success"}});
        assert_eq!(answered(&other), failed(r#"expected response.uid="r-1", got "r-2""#));
        let said = json!({"uid": "r-1", "result": {"status": "Failure", "message": "not today"}});
        assert_eq!(answered(&said), failed("not today"));
        let silent = json!({"uid": "r-1", "result": {}});
        assert_eq!(answered(&silent), failed("response.result.status was '', not 'Success'"));
        let none = json!({"uid": "r-1", "result": {"status": "Success"}, "convertedObjects": []});
        assert_eq!(answered(&none), Err(Fault::Wrong("0 objects, expected 1".to_owned())));
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "response": {}});
        assert_eq!(
            review().read(pod.to_string().as_bytes()),
            failed(
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got /v1, Kind=Pod"
            )
        );
        assert!(matches!(review().read(b"<html>"), Err(Fault::Failed(_))));
    }

    #[test]
    fn another_object_is_refused() {
        let wrong = |change: fn(&mut Value), why: &str| {
            let mut answer = widget("v2");
            change(&mut answer);
            let Err(Fault::Wrong(said)) = converted(&answer) else { panic!("{why}") };
            assert!(said.contains(why), "{said}");
        };
        wrong(
            |o| o["apiVersion"] = json!("e.com/v3"),
            "invalid groupVersion (expected e.com/v2, received e.com/v3)",
        );
        wrong(|o| o["kind"] = json!("Gadget"), "must have the same kind: Widget != Gadget");
        wrong(|o| o["metadata"]["name"] = json!("x"), "must have the same name: w != x");
        wrong(|o| o["metadata"]["namespace"] = json!("x"), "must have the same namespace: n != x");
        wrong(|o| o["metadata"]["uid"] = json!("x"), "must have the same UID: u != x");
        wrong(|o| o["metadata"]["labels"]["b"] = json!(1), "metadata.labels[b] must be a string");
        wrong(|o| o["metadata"]["labels"]["b"] = json!("-"), "metadata.labels");
        wrong(|o| o["metadata"]["annotations"] = json!([]), "invalid metadata.annotations");
    }
}
