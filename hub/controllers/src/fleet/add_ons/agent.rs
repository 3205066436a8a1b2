//! What the template of an add-on comes to on a cluster.

use freewheel_hub_fleet::add_on::configs::{Config, Reference};
use freewheel_hub_fleet::add_on::setting::Setting;
use freewheel_hub_fleet::add_on::template::{agent_namespace, render};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::Snapshot;
use serde_json::Value;

use super::super::api_group::ADD_ON_GROUP;
use super::config_object::{ConfigKinds, ConfigObject, DEPLOYMENT_CONFIGS, TEMPLATES};

const IMAGE_REGISTRIES: &str = "open-cluster-management.io/image-registries";

/// An add-on that is made of a template.
pub(super) struct Agent {
    /// The template's spec.
    pub template: Value,
    /// Its manifests on the cluster.
    pub manifests: Vec<Value>,
    /// Where it is there.
    pub namespace: String,
    /// By what it is set up.
    pub references: Vec<Reference>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAgent {
    /// Something that it is made by is another than what it is to be made by now: it is as it was until then.
    #[error("its configuration is on its way")]
    Later,
    /// There is no template.
    #[error("{0}")]
    NoTemplate(String),
    /// It cannot be made.
    #[error("{0}")]
    Wrong(String),
    /// What is stored cannot be read.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Whether an add-on is made of templates.
pub(super) fn is_by_template(add_on: &Value) -> bool {
    let supported = add_on["spec"]["supportedConfigs"].as_array().into_iter().flatten();
    supported.into_iter().any(|it| it["group"] == ADD_ON_GROUP && it["resource"] == TEMPLATES)
}

/// As what an add-on is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// As it was given: what has changed since waits for its rollout.
    AsGiven,
    /// As all of it is now, as upstream does at the end of an add-on: no rollout goes on to one that goes.
    AsItIs,
}

impl Agent {
    /// Of an instance on its cluster.
    pub fn of(
        (instance, cluster): (&Value, &Value),
        made: Made,
        (kinds, now): (&ConfigKinds, &dyn Snapshot),
    ) -> Result<Self, NoAgent> {
        let name = text(instance, "/metadata/name");
        let references = Reference::all(&instance["status"]["configReferences"]);
        let Some(template) = wanted(&references, TEMPLATES) else {
            let namespace = text(instance, "/metadata/namespace");
            let why = format!("addon {namespace}/{name} template not found in status");
            return Err(NoAgent::NoTemplate(why));
        };
        let sources = (made, kinds, now);
        let template = read(name, template, "template", sources)?;
        let template = template.map_err(NoAgent::NoTemplate)?.value["spec"].take();
        let config = match wanted(&references, DEPLOYMENT_CONFIGS) {
            Some(wanted) => {
                let config = read(name, wanted, "deployment config", sources)?;
                config.map_err(NoAgent::Wrong)?.value["spec"].take()
            }
            None => Value::Null,
        };
        let registries = cluster["metadata"]["annotations"][IMAGE_REGISTRIES].as_str();
        let setting = Setting {
            add_on: name,
            cluster: text(cluster, "/metadata/name"),
            config: &config,
            image_registries: registries.unwrap_or_default(),
        };
        let manifests = render(&template, &setting);
        let manifests = manifests.map_err(|wrong| NoAgent::Wrong(wrong.to_string()))?;
        let namespace = agent_namespace(&template, &config);
        Ok(Self { template, manifests, namespace, references })
    }
}

/// The template's spec as it is now, whatever else the instance is made by; nothing, where there is none.
pub(super) fn template_now(
    instance: &Value,
    (kinds, now): (&ConfigKinds, &dyn Snapshot),
) -> Option<Value> {
    let references = Reference::all(&instance["status"]["configReferences"]);
    let wanted = wanted(&references, TEMPLATES)?;
    let name = text(instance, "/metadata/name");
    let found = read(name, wanted, "template", (Made::AsItIs, kinds, now)).ok()?;
    found.ok().map(|mut it| it.value["spec"].take())
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The first of this kind, as upstream.
fn wanted<'a>(references: &'a [Reference], resource: &str) -> Option<&'a Reference> {
    references.iter().find(|it| it.desired.config.is(ADD_ON_GROUP, resource))
}

/// The object as it is to be; or why there is none.
fn read(
    add_on: &str,
    wanted: &Reference,
    what: &str,
    (made, kinds, now): (Made, &ConfigKinds, &dyn Snapshot),
) -> Result<Result<ConfigObject, String>, NoAgent> {
    let Config { resource, name, .. } = &wanted.desired.config;
    let as_given = made == Made::AsGiven;
    if as_given && wanted.desired.hash.is_empty() {
        return Ok(Err(format!("addon {add_on} {what} desired spec hash is empty")));
    }
    let object = kinds.get(now, &wanted.desired.config)?;
    let Some(object) = object else {
        return Ok(Err(format!("{resource}.{ADD_ON_GROUP} {name:?} not found")));
    };
    if as_given && object.hash != wanted.desired.hash {
        Err(NoAgent::Later)
    } else {
        Ok(Ok(object))
    }
}
