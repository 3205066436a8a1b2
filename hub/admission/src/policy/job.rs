//! One policy by one binding for one parameter, about one write: ready to be evaluated elsewhere.

use std::sync::Arc;

use freewheel_hub_cel::{Ask, Authorizer, Question, Scope};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::registry::Registry;
use serde_json::Value;

use super::definition::{Binding, Hook, Policy};
use super::params::{self, Param, Params};
use crate::attributes::Attributes;
use crate::selection::NoNamespace;

/// Jobs of one write. kube-apiserver has no such bound.
const JOBS_MAX: usize = 1_000;

/// A write as the expressions of one policy or webhook see it.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) object: Arc<Value>,
    pub(crate) old: Arc<Value>,
    pub(crate) request: Arc<Value>,
    asker: Arc<dyn Ask>,
    question: Question,
}

impl Seen {
    /// In this version.
    pub(crate) async fn of(
        asked: &Attributes<'_>,
        version: &Kind,
        request: Value,
        asker: Arc<dyn Ask>,
    ) -> Result<Self, ApiError> {
        let (mut object, mut old) = (Value::Null, Value::Null);
        for (shown, value) in [(&mut object, asked.object), (&mut old, asked.old)] {
            if let Some(value) = value {
                *shown = asked.show(value, version).await?;
            }
        }
        let (object, old, request) = (Arc::new(object), Arc::new(old), Arc::new(request));
        Ok(Self { object, old, request, asker, question: asked.question() })
    }

    /// The same write with another object.
    pub(crate) fn with(&self, object: Value) -> Self {
        Self { object: Arc::new(object), ..self.clone() }
    }

    /// What its expressions speak of.
    pub(crate) fn scope(&self, namespace: Option<&Arc<Value>>, param: Option<&Param>) -> Scope {
        let mut scope = Scope::default();
        scope.put("object", self.object.clone());
        scope.put("oldObject", self.old.clone());
        scope.put("request", self.request.clone());
        scope.put("namespaceObject", namespace.cloned().unwrap_or_default());
        if let Some(param) = param {
            scope.put("params", param.clone().unwrap_or_default());
        }
        scope.put_value("authorizer", Authorizer::value(self.asker.clone()));
        let here = Authorizer::of_resource(self.asker.clone(), self.question.clone());
        scope.put_value("authorizer.requestResource", here);
        scope
    }
}

/// One policy by one binding for one parameter.
#[derive(Clone)]
pub(crate) struct Job {
    pub(super) policy: Arc<Policy>,
    pub(super) binding: Arc<Binding>,
    /// The version in which it is shown the object.
    pub(crate) version: Arc<Kind>,
    pub(super) param: Param,
}

impl Job {
    /// By what it is known from one round to the next.
    pub(super) fn id(&self) -> String {
        let meta = |key: &str| {
            let value = self.param.as_ref().and_then(|param| param["metadata"].get(key)?.as_str());
            value.unwrap_or_default().to_owned()
        };
        format!("{}/{}/{}/{}", self.policy.name, self.binding.name, meta("namespace"), meta("name"))
    }

    /// `params`, where its policy has any.
    pub(super) fn params(&self) -> Option<&Param> {
        self.policy.params.as_ref().map(|_| &self.param)
    }
}

/// Which policies are asked about a write, and which cannot be.
#[derive(Default)]
pub(crate) struct Selected {
    pub(super) jobs: Vec<Job>,
    pub(super) errors: Vec<ConfigError>,
    params: Params,
}

/// A policy that cannot be asked, and by which binding.
pub(super) struct ConfigError {
    pub(super) policy: Arc<Policy>,
    pub(super) binding: Option<Arc<Binding>>,
    pub(super) why: String,
}

impl Selected {
    /// Of these.
    pub(crate) async fn of(hooks: &[&Hook], asked: &Attributes<'_>, registry: &Registry) -> Self {
        let mut selected = Self::default();
        for hook in hooks {
            selected.look_at(hook, asked, registry).await;
        }
        selected
    }

    async fn look_at(&mut self, hook: &Hook, asked: &Attributes<'_>, registry: &Registry) {
        let policy = &hook.policy;
        let no_namespace = |NoNamespace| format!("namespaces {:?} not found", asked.namespace);
        let version = match policy.selection.of(asked, registry).map_err(no_namespace) {
            Ok(Some(version)) => version,
            Ok(None) => return,
            Err(why) => return self.fail(policy, None, why),
        };
        let kind = match params::kind(policy.params.as_ref(), registry) {
            Ok(kind) => kind,
            Err(why) => return self.fail(policy, None, why),
        };
        for binding in &hook.bindings {
            let left = JOBS_MAX.saturating_sub(self.jobs.len());
            let params = match binding.selection.of(asked, registry).map_err(no_namespace) {
                Ok(None) => continue,
                Ok(Some(_)) if left == 0 => Err(format!(
                    "{JOBS_MAX} bindings and parameters of policies are asked about a request"
                )),
                Ok(Some(_)) => self.params.of(kind, binding.param.as_ref(), asked, left).await,
                Err(why) => Err(why),
            };
            match params {
                Err(why) => self.fail(policy, Some(binding), why),
                Ok(params) => self.jobs.extend(params.into_iter().map(|param| Job {
                    policy: policy.clone(),
                    binding: binding.clone(),
                    version: version.clone(),
                    param,
                })),
            }
        }
    }

    fn fail(&mut self, policy: &Arc<Policy>, binding: Option<&Arc<Binding>>, why: String) {
        let (policy, binding) = (policy.clone(), binding.cloned());
        self.errors.push(ConfigError { policy, binding, why });
    }
}

impl ConfigError {
    /// What is told of it.
    pub(super) fn message(&self) -> String {
        let of = if self.binding.is_some() { "binding" } else { "policy" };
        format!("failed to configure {of}: {}", self.why)
    }
}
