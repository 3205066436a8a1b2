//! Manifests of a template, with what a configuration says of them. As upstream's renderer, but that a value is put into
//! texts and never into the manifest's form: a quote in it is a quote.
//!
//! Guarantees:
//! - variables of the hub's own are nobody else's, and what nobody names is nothing
//!   (`variables_stand_where_they_are_named`);
//! - a namespace that is asked for is that of all that is in one (`all_is_in_the_namespace_that_is_asked_for`).

use serde_json::{Value, json};

use super::pods;
use super::setting::{
    DEFAULT_NAMESPACE, HUB_KUBECONFIG, NotRendered, Setting, Variables, ca_bundle, set,
};
use super::workload::{WORKLOADS, Workload};

/// The manifests of a template's spec on a cluster.
///
/// # Errors
/// When what is said of them does not fit them.
pub fn render(template: &Value, setting: &Setting<'_>) -> Result<Vec<Value>, NotRendered> {
    let variables = variables(template, setting);
    let namespace = namespace(setting.config);
    let pods = pods::Pods::read(template, setting, &variables)?;
    let manifests = template.pointer("/agentSpec/workload/manifests").and_then(Value::as_array);
    let mut out = Vec::new();
    for manifest in manifests.into_iter().flatten() {
        let mut manifest = manifest.clone();
        fill_in(&mut manifest, &variables);
        if Workload::of(&manifest).is_some() {
            pods.set_up(&mut manifest);
        }
        move_to(&mut manifest, namespace)?;
        out.push(manifest);
    }
    if let Some(ca) = ca_bundle(setting.config)? {
        let name = pods::proxy_ca(setting.add_on);
        let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": DEFAULT_NAMESPACE}, "data": {"ca-bundle.crt": ca}});
        move_to(&mut map, namespace)?;
        out.push(map);
    }
    Ok(out)
}

/// Where the agent of a template is, as its first Deployment says, or its first DaemonSet.
#[must_use]
pub fn agent_namespace(template: &Value, config: &Value) -> String {
    let asked = namespace(config);
    if !asked.is_empty() {
        return asked.to_owned();
    }
    let manifests = template.pointer("/agentSpec/workload/manifests").and_then(Value::as_array);
    let first = |workload: &Workload| {
        let found = manifests.into_iter().flatten().find(|it| workload.is(it))?;
        found.pointer("/metadata/namespace")?.as_str().map(str::to_owned)
    };
    WORKLOADS.iter().find_map(first).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

/// The namespace that a configuration asks for.
fn namespace(config: &Value) -> &str {
    config["agentInstallNamespace"].as_str().unwrap_or_default()
}

fn variables(template: &Value, setting: &Setting<'_>) -> Variables {
    let mut out = Variables::new();
    if template["registration"].is_array() {
        out.insert("HUB_KUBECONFIG".to_owned(), HUB_KUBECONFIG.to_owned());
    }
    for variable in setting.config["customizedVariables"].as_array().into_iter().flatten() {
        let text = |key: &str| variable[key].as_str().unwrap_or_default().to_owned();
        out.insert(text("name"), text("value"));
    }
    out.insert("CLUSTER_NAME".to_owned(), setting.cluster.to_owned());
    let namespace = namespace(setting.config);
    if !namespace.is_empty() {
        out.insert("INSTALL_NAMESPACE".to_owned(), namespace.to_owned());
    }
    out
}

/// Puts values in place of `{{NAME}}`, in every text.
fn fill_in(value: &mut Value, variables: &Variables) {
    match value {
        Value::String(text) => {
            if text.contains("{{") {
                *text = filled(text, variables);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill_in(item, variables)),
        Value::Object(map) => {
            let has_places = map.keys().any(|key| key.contains("{{"));
            map.iter_mut().for_each(|(_, item)| fill_in(item, variables));
            if has_places {
                let all = std::mem::take(map).into_iter();
                *map = all.map(|(key, item)| (filled(&key, variables), item)).collect();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn filled(text: &str, variables: &Variables) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        out.push_str(before);
        out.push_str(variables.get(name).map_or("", String::as_str));
        rest = after;
    }
    out.push_str(rest);
    out
}

fn move_to(manifest: &mut Value, namespace: &str) -> Result<(), NotRendered> {
    if namespace.is_empty() {
        return Ok(());
    }
    let is_in_one = manifest.pointer("/metadata/namespace").and_then(Value::as_str);
    let is_in_one = is_in_one.is_some_and(|it| !it.is_empty());
    let kind = manifest["kind"].as_str().unwrap_or_default().to_owned();
    if let Some(meta) = manifest.get_mut("metadata") {
        for (field, is_moved) in [("namespace", is_in_one), ("name", kind == "Namespace")] {
            if is_moved {
                set(meta, field, json!(namespace));
            }
        }
    }
    match &*kind {
        "ClusterRoleBinding" | "RoleBinding" => {
            let subjects = manifest.get_mut("subjects").and_then(Value::as_array_mut);
            for subject in subjects.ok_or(NotRendered::NoField("subjects"))? {
                set(subject, "namespace", json!(namespace));
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(manifests: &Value, config: &Value) -> Vec<Value> {
        let template =
            json!({"addonName": "web", "agentSpec": {"workload": {"manifests": manifests}}});
        let setting = Setting { add_on: "web", cluster: "pi-7", config, image_registries: "" };
        render(&template, &setting).unwrap()
    }

    #[test]
    fn variables_stand_where_they_are_named() {
        let config = json!({"customizedVariables": [
            {"name": "SITE", "value": "a \"b\""}, {"name": "CLUSTER_NAME", "value": "mine"}]});
        let map = json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{CLUSTER_NAME}}-x"},
            "data": {"k-{{CLUSTER_NAME}}": "{{SITE}}{{NOTHING}}!", "open": "{{ no end"}}]);
        let out = rendered(&map, &config);
        assert_eq!(
            out,
            [json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pi-7-x"},
            "data": {"k-pi-7": "a \"b\"!", "open": "{{ no end"}})]
        );
    }

    #[test]
    fn all_is_in_the_namespace_that_is_asked_for() {
        let config = json!({"agentInstallNamespace": "agents"});
        let subject = json!({"kind": "ServiceAccount", "name": "s", "namespace": "old"});
        let manifests = json!([
            {"kind": "Namespace", "metadata": {"name": "old"}},
            {"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "old"}},
            {"kind": "ClusterRole", "metadata": {"name": "{{INSTALL_NAMESPACE}}"}},
            {"kind": "ClusterRoleBinding", "metadata": {"name": "b"}, "subjects": [subject]},
        ]);
        let out = rendered(&manifests, &config);
        assert_eq!(out[0]["metadata"]["name"], "agents");
        assert_eq!(out[1]["metadata"]["namespace"], "agents");
        assert_eq!(out[2]["metadata"], json!({"name": "agents"}));
        assert_eq!(out[3]["subjects"][0]["namespace"], "agents");
        let setting =
            Setting { add_on: "web", cluster: "pi-7", config: &config, image_registries: "" };
        let odd = json!({"agentSpec": {"workload": {"manifests": [{"kind": "RoleBinding", "metadata": {}}]}}});
        assert_eq!(render(&odd, &setting), Err(NotRendered::NoField("subjects")));
    }

    #[test]
    fn the_first_workload_says_where_the_agent_is() {
        let of = |kind: &str, namespace: &str| json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"namespace": namespace}});
        let template = |all: Value| json!({"agentSpec": {"workload": {"manifests": all}}});
        let both = template(json!([of("DaemonSet", "a"), of("Deployment", "b")]));
        assert_eq!(agent_namespace(&both, &Value::Null), "b");
        assert_eq!(agent_namespace(&template(json!([of("DaemonSet", "a")])), &Value::Null), "a");
        assert_eq!(
            agent_namespace(&template(json!([])), &json!({"agentInstallNamespace": ""})),
            DEFAULT_NAMESPACE
        );
        assert_eq!(agent_namespace(&both, &json!({"agentInstallNamespace": "c"})), "c");
    }
}
