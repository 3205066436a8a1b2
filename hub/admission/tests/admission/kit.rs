//! A pipeline with rules, a webhook that says what a test wants, and short ways to write objects.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_admission::{Address, Authorizer, CallError, Caller, Index, Who, add_to};
use freewheel_hub_api::kinds;
use freewheel_hub_cel::{Answer, Question};
use freewheel_hub_objects::{
    Actor, DeleteOptions, Notes, ObjectRef, Objects, Person, WriteOptions, stored_value,
};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

const GROUP: &str = "admissionregistration.k8s.io/v1";

/// Lets `ada` do everything, and nobody else anything.
struct Rights;

#[async_trait]
impl Authorizer for Rights {
    async fn may(&self, who: &Who, _: &ClusterName, question: &Question) -> Answer {
        let reason = format!("{} {} {}", who.name, question.verb, question.resource);
        Answer { allowed: who.name == "ada", reason, error: String::new() }
    }
}

/// What a webhook was asked.
#[derive(Clone, Debug)]
pub struct Call {
    pub address: Address,
    pub request: Value,
}

type Says = dyn Fn(&Call) -> Result<Value, CallError> + Send + Sync;

/// How long a webhook takes whose path is `/late`: in time, even for a controller.
const LATE: Duration = Duration::from_millis(900);

/// All webhooks of a test. One whose path is `/slow` never answers.
pub struct Webhooks {
    pub calls: Mutex<Vec<Call>>,
    says: Box<Says>,
}

#[async_trait]
impl Caller for Webhooks {
    async fn call(&self, address: &Address, review: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let review: Value = serde_json::from_slice(&review).unwrap();
        assert_eq!(review["kind"], "AdmissionReview");
        let call = Call { address: address.clone(), request: review["request"].clone() };
        self.calls.lock().push(call.clone());
        if address.url.contains("/slow") {
            std::future::pending::<()>().await;
        }
        if address.url.contains("/late") {
            tokio::time::sleep(LATE).await;
        }
        let mut response = (self.says)(&call)?;
        response["uid"] = call.request["uid"].clone();
        let version = &review["apiVersion"];
        let answer =
            json!({"kind": "AdmissionReview", "apiVersion": version, "response": response});
        Ok(answer.to_string().into_bytes())
    }
}

/// An answer that changes an object.
pub fn patch(operations: &Value) -> Value {
    let patch = STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

pub struct World {
    pub objects: Objects,
    pub webhooks: Arc<Webhooks>,
}

pub fn place(cluster: &str, version: &str, kind: &str, name: &str) -> ObjectRef {
    let cluster = ClusterName::try_from(cluster).unwrap();
    let kind = kinds::registry(&cluster).by_kind(version, kind).unwrap().clone();
    let namespace = if kind.namespaced { "default" } else { "" }.into();
    ObjectRef { kind, cluster, namespace, name: name.to_owned() }
}

pub fn person(name: &str) -> Actor {
    let groups = vec!["system:authenticated".to_owned()];
    Person { name: name.to_owned(), groups, ..Person::default() }.into()
}

/// By somebody, who listens.
pub fn by(actor: Actor) -> (WriteOptions, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    (WriteOptions { notes: Some(notes.clone()), ..WriteOptions::by(actor) }, notes)
}

impl World {
    /// Without webhooks.
    pub async fn new() -> Self {
        Self::with(|_| Ok(json!({"allowed": true}))).await
    }

    /// With webhooks that say this.
    pub async fn with(
        says: impl Fn(&Call) -> Result<Value, CallError> + Send + Sync + 'static,
    ) -> Self {
        let (index, store) = Index::over(Arc::new(MemoryStore::new()));
        let webhooks = Arc::new(Webhooks { calls: Mutex::default(), says: Box::new(says) });
        let objects = add_to(Objects::new(store), index, Arc::new(Rights), Some(webhooks.clone()));
        let world = Self { objects, webhooks };
        for cluster in ["root", "pi-7"] {
            let at = place(cluster, "v1", "Namespace", "");
            let home = json!({"metadata": {"name": "default", "labels": {"stage": "test"}}});
            world.objects.create(&WriteOptions::default(), &at, home).await.unwrap();
        }
        world
    }

    /// Somebody makes something in the root.
    pub async fn create(&self, version: &str, kind: &str, value: Value) -> Result<Value, ApiError> {
        self.create_in("root", person("ada"), (version, kind), value).await
    }

    pub async fn create_in(
        &self,
        cluster: &str,
        actor: Actor,
        (version, kind): (&str, &str),
        value: Value,
    ) -> Result<Value, ApiError> {
        let at = place(cluster, version, kind, "");
        let written = self.objects.create(&WriteOptions::by(actor), &at, value).await?;
        stored_value(&written.stored)
    }

    pub async fn config_map(&self, name: &str, data: Value) -> Result<Value, ApiError> {
        self.create("v1", "ConfigMap", json!({"metadata": {"name": name}, "data": data})).await
    }

    pub async fn remove(&self, kind: &str, name: &str) {
        let at = place("root", GROUP, kind, name);
        let how = WriteOptions::by(person("ada"));
        self.objects.delete(&how, &at, &DeleteOptions::default()).await.unwrap();
    }

    /// A policy, and a binding of it.
    pub async fn policy(&self, kind: &str, spec: Value, binding: Value) {
        self.policy_in("root", kind, spec, binding).await;
    }

    pub async fn policy_in(&self, cluster: &str, kind: &str, mut spec: Value, mut binding: Value) {
        let name = spec["name"].as_str().unwrap_or("rule").to_owned();
        spec.as_object_mut().unwrap().remove("name");
        let value = json!({"metadata": {"name": name}, "spec": spec});
        self.create_in(cluster, person("ada"), (GROUP, kind), value).await.unwrap();
        binding["policyName"] = json!(name);
        let value = json!({"metadata": {"name": format!("{name}-here")}, "spec": binding});
        let kind = format!("{kind}Binding");
        self.create_in(cluster, person("ada"), (GROUP, &kind), value).await.unwrap();
    }

    /// A webhook that is asked about ConfigMaps, at this path.
    pub async fn webhook(&self, kind: &str, path: &str, more: Value) {
        self.webhook_in("root", kind, path, more).await;
    }

    pub async fn webhook_in(&self, cluster: &str, kind: &str, path: &str, more: Value) {
        let name = format!("{path}.example.com");
        let mut hook = json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": format!("https://hooks.example.com/{path}")},
            "rules": [about(&["*"], "", "configmaps")],
        });
        hook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let value = json!({"metadata": {"name": path}, "webhooks": [hook]});
        let kind = format!("{kind}WebhookConfiguration");
        self.create_in(cluster, person("ada"), (GROUP, &kind), value).await.unwrap();
    }

    /// How often webhooks were asked.
    pub fn asked(&self) -> usize {
        self.webhooks.calls.lock().len()
    }
}

/// A rule about one resource in v1.
pub fn about(operations: &[&str], group: &str, plural: &str) -> Value {
    json!({"operations": operations, "apiGroups": [group], "apiVersions": ["v1"], "resources": [plural]})
}

/// What a policy is about.
pub fn constraints(group: &str, plural: &str) -> Value {
    let operations = if plural == "configmaps" { vec!["CREATE", "UPDATE"] } else { vec!["*"] };
    json!({"resourceRules": [about(&operations, group, plural)]})
}

pub fn deny() -> Value {
    json!({"validationActions": ["Deny"]})
}
