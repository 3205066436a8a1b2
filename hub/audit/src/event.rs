//! One event of audit.k8s.io/v1, as kube-apiserver writes it: one line of JSON with fields in its order.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::level::Level;

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It has come, and nothing was done yet.
    RequestReceived,
    /// The answer of one that lasts has begun.
    ResponseStarted,
    /// The answer is out.
    ResponseComplete,
    /// The hub has failed over it.
    Panic,
}

/// A caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UserInfo {
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// UID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What else is known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Plural.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// UID that the request's object says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// API version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Resource version that the request's object says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Subresource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// An event.
#[derive(Clone, Debug)]
pub struct Event {
    /// How much is told.
    pub level: Level,
    /// The request's number.
    pub audit_id: String,
    /// How far it has come.
    pub stage: Stage,
    /// Path and query as they came.
    pub request_uri: String,
    /// Verb; of a path its method in small letters.
    pub verb: String,
    /// Whose it is.
    pub user: UserInfo,
    /// As whom it runs.
    pub impersonated_user: Option<UserInfo>,
    /// Where it comes from: by which ways it says to have come, and at last the connection's address.
    pub source_ips: Vec<String>,
    /// What its client calls itself.
    pub user_agent: String,
    /// What it is about.
    pub object_ref: Option<ObjectRef>,
    /// How it ended: of a Status what is bounded, else the code.
    pub response_status: Option<Value>,
    /// Its object, as it came, in JSON without line breaks.
    pub request_object: Option<String>,
    /// The answer's.
    pub response_object: Option<String>,
    /// When it came.
    pub request_received: Timestamp,
    /// When it came to this stage.
    pub stage_began: Timestamp,
    /// What those say of it that it went through.
    pub annotations: BTreeMap<String, String>,
}

/// What stands before the objects.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    kind: &'a str,
    api_version: &'a str,
    level: Level,
    #[serde(rename = "auditID")]
    audit_id: &'a str,
    stage: Stage,
    #[serde(rename = "requestURI")]
    request_uri: &'a str,
    verb: &'a str,
    user: &'a UserInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<&'a UserInfo>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "<[_]>::is_empty")]
    source_ips: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<&'a ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<&'a Value>,
}

/// What stands behind them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tail<'a> {
    #[serde(serialize_with = "micro_time")]
    request_received_timestamp: Timestamp,
    #[serde(serialize_with = "micro_time")]
    stage_timestamp: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl Event {
    /// Of a request that has just come.
    #[must_use]
    pub fn new(level: Level, audit_id: String, now: Timestamp) -> Self {
        Self {
            level,
            audit_id,
            stage: Stage::RequestReceived,
            request_uri: String::new(),
            verb: String::new(),
            user: UserInfo::default(),
            impersonated_user: None,
            source_ips: Vec::new(),
            user_agent: String::new(),
            object_ref: None,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received: now,
            stage_began: now,
            annotations: BTreeMap::new(),
        }
    }

    /// As one line.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let head = Head {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: self.level,
            audit_id: &self.audit_id,
            stage: self.stage,
            request_uri: &self.request_uri,
            verb: &self.verb,
            user: &self.user,
            impersonated_user: self.impersonated_user.as_ref(),
            source_ips: &self.source_ips,
            user_agent: &self.user_agent,
            object_ref: self.object_ref.as_ref(),
            response_status: self.response_status.as_ref(),
        };
        let tail = Tail {
            request_received_timestamp: self.request_received,
            stage_timestamp: self.stage_began,
            annotations: &self.annotations,
        };
        // There is nothing in them that JSON has not. Objects are JSON already, and large.
        let mut line = serde_json::to_vec(&head).unwrap_or_default();
        line.pop();
        for (name, object) in
            [("requestObject", &self.request_object), ("responseObject", &self.response_object)]
        {
            let Some(object) = object else { continue };
            line.extend(format!(",\"{name}\":").as_bytes());
            line.extend(object.as_bytes());
        }
        line.push(b',');
        line.extend(serde_json::to_vec(&tail).unwrap_or_default().get(1..).unwrap_or_default());
        line.push(b'\n');
        line
    }
}

fn micro_time<S: Serializer>(time: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_kube_apiserver_s() {
        let came: Timestamp = "2026-11-29T15:50:03.0000012Z".parse().unwrap();
        let mut event = Event::new(Level::Metadata, "mine-1".to_owned(), came);
        event.stage = Stage::ResponseComplete;
        event.request_uri = "/api/v1/namespaces/default/secrets".to_owned();
        event.verb = "create".to_owned();
        event.user = UserInfo { username: "jane".to_owned(), ..UserInfo::default() };
        event.source_ips = vec!["127.0.0.1".to_owned()];
        event.object_ref = Some(ObjectRef {
            resource: "secrets".to_owned(),
            namespace: "default".to_owned(),
            api_version: "v1".to_owned(),
            ..ObjectRef::default()
        });
        event.response_status = Some(json!({"metadata": {}, "code": 201}));
        event.request_object = Some(r#"{"kind":"Secret"}"#.to_owned());
        event.annotations.insert("a".to_owned(), "b".to_owned());
        let line = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"mine-1",
            "stage":"ResponseComplete","requestURI":"/api/v1/namespaces/default/secrets","verb":"create",
            "user":{"username":"jane"},"sourceIPs":["127.0.0.1"],
            "objectRef":{"resource":"secrets","namespace":"default","apiVersion":"v1"},
            "responseStatus":{"code":201,"metadata":{}},"requestObject":{"kind":"Secret"},"requestReceivedTimestamp":"2026-11-29T15:50:03.000001Z",
            "stageTimestamp":"2026-11-29T15:50:03.000001Z","annotations":{"a":"b"}}"#;
        let line: String = line.lines().map(str::trim).collect();
        assert_eq!(String::from_utf8(event.line()).unwrap(), line + "\n");
    }
}
