//! What a configuration says of pods of a template: variables, where they run, images, a proxy, resources.
//!
//! Guarantees:
//! - the last rule that names a container counts, and of mirrors the last one that names its image
//!   (`containers_get_what_is_said_of_them`);
//! - tolerations are given without a node selector, too, which upstream leaves out
//!   (`containers_get_what_is_said_of_them`).

use freewheel_hub_cel::Pattern;
use serde_json::{Value, json};

use super::setting::{NotRendered, Setting, Variables, ca_bundle, set};

const PROXY_CA_FOLDER: &str = "/managed/proxy-ca";

/// What pods get.
pub(super) struct Pods<'a> {
    /// Of each container.
    env: Vec<Value>,
    mounts: Vec<Value>,
    volumes: Vec<Value>,
    placement: &'a Value,
    mirrors: Vec<(String, String)>,
    /// By which containers are named, and what they ask for.
    resources: Vec<(Pattern, &'a Value)>,
}

/// The ConfigMap with what a proxy is known by.
pub(super) fn proxy_ca(add_on: &str) -> String {
    format!("{add_on}-proxy-ca")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

impl<'a> Pods<'a> {
    /// As a configuration says it, and what a template is registered for.
    pub fn read(
        template: &'a Value,
        setting: &Setting<'a>,
        variables: &Variables,
    ) -> Result<Self, NotRendered> {
        let config = setting.config;
        let preset = ["HUB_KUBECONFIG", "CLUSTER_NAME", "INSTALL_NAMESPACE"];
        let preset = preset.iter().filter_map(|name| Some((*name, variables.get(*name)?)));
        let mut env: Vec<Value> =
            preset.map(|(name, value)| json!({"name": name, "value": value})).collect();
        let (mut mounts, mut volumes) = registered(template, setting.add_on);
        let proxied = proxy(&config["proxyConfig"]);
        if !proxied.is_empty() && ca_bundle(config)?.is_some() {
            let path = format!("{PROXY_CA_FOLDER}/ca-bundle.crt");
            mounts.push(json!({"name": "proxy-ca-bundle", "mountPath": PROXY_CA_FOLDER}));
            let map = json!({"name": proxy_ca(setting.add_on)});
            volumes.push(json!({"name": "proxy-ca-bundle", "configMap": map}));
            env.extend(proxied);
            env.push(json!({"name": "CA_BUNDLE_FILE_PATH", "value": path}));
        } else {
            env.extend(proxied);
        }
        let placement = &config["nodePlacement"];
        let mirrors = mirrors(setting)?;
        let resources = list(config, "resourceRequirements")
            .map(|one| (container_pattern(text(one, "containerID")), &one["resources"]))
            .collect();
        Ok(Self { env, mounts, volumes, placement, mirrors, resources })
    }

    /// Sets up the pods of a Deployment or a DaemonSet.
    pub fn set_up(&self, workload: &mut Value) {
        let plural = format!("{}s", text(workload, "kind").to_lowercase());
        let name = workload["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let Some(spec) = workload.pointer_mut("/spec/template/spec") else { return };
        for field in ["nodeSelector", "tolerations"] {
            if !self.placement[field].is_null() {
                set(spec, field, self.placement[field].clone());
            }
        }
        append(spec, "volumes", &self.volumes);
        let containers = spec.get_mut("containers").and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            append(container, "env", &self.env);
            append(container, "volumeMounts", &self.mounts);
            if !self.mirrors.is_empty() {
                let image = self.mirrored(text(container, "image"));
                set(container, "image", json!(image));
            }
            let id = format!("{plural}:{name}:{}", text(container, "name"));
            let wanted = self.resources.iter().rev().find(|(pattern, _)| pattern.matches(&id));
            if let Some((_, resources)) = wanted {
                set(container, "resources", (*resources).clone());
            }
        }
    }

    fn mirrored(&self, image: &str) -> String {
        let of = |(source, mirror): &(String, String)| {
            let (source, mirror) = (source.trim_end_matches('/'), mirror.trim_end_matches('/'));
            if source.is_empty() {
                let last = image.rsplit('/').next().unwrap_or_default();
                let slash = if mirror.is_empty() { "" } else { "/" };
                return Some(format!("{mirror}{slash}{last}"));
            }
            image.strip_prefix(source).map(|rest| format!("{mirror}{rest}"))
        };
        let found = self.mirrors.iter().rev().filter_map(of).find(|it| it != image);
        found.unwrap_or_else(|| image.to_owned())
    }
}

fn append(of: &mut Value, field: &str, more: &[Value]) {
    if more.is_empty() {
        return;
    }
    let mut all = of[field].as_array().cloned().unwrap_or_default();
    all.extend_from_slice(more);
    set(of, field, json!(all));
}

/// Where containers find credentials that a template is registered for.
fn registered(template: &Value, add_on: &str) -> (Vec<Value>, Vec<Value>) {
    let (mut mounts, mut volumes) = (Vec::new(), Vec::new());
    for registration in list(template, "registration") {
        let signer = text(&registration["customSigner"], "signerName").replace('/', "-");
        let (name, path, secret) = match text(registration, "type") {
            "KubeClient" => {
                let name = "hub-kubeconfig".to_owned();
                (name, "/managed/hub-kubeconfig".to_owned(), format!("{add_on}-hub-kubeconfig"))
            }
            "CustomSigner" => {
                let name = format!("cert-{}", signer.replace('.', "-"));
                (name, format!("/managed/{signer}"), format!("{add_on}-{signer}-client-cert"))
            }
            _ => continue,
        };
        mounts.push(json!({"name": name, "mountPath": path}));
        volumes.push(json!({"name": name, "secret": {"secretName": secret}}));
    }
    (mounts, volumes)
}

/// Variables that name a proxy, in both ways that programs know.
fn proxy(config: &Value) -> Vec<Value> {
    let known =
        [("httpProxy", "HTTP_PROXY"), ("httpsProxy", "HTTPS_PROXY"), ("noProxy", "NO_PROXY")];
    let given = known.iter().filter(|(field, _)| !text(config, field).is_empty());
    let both = |(field, name): &(&str, &str)| {
        let value = text(config, field);
        [(*name).to_owned(), name.to_lowercase()].map(|name| json!({"name": name, "value": value}))
    };
    given.flat_map(both).collect()
}

fn mirrors(setting: &Setting<'_>) -> Result<Vec<(String, String)>, NotRendered> {
    let pair = |one: &Value| (text(one, "source").to_owned(), text(one, "mirror").to_owned());
    if setting.config["registries"].is_array() {
        return Ok(list(setting.config, "registries").map(pair).collect());
    }
    if setting.image_registries.is_empty() {
        return Ok(Vec::new());
    }
    let of_cluster: Value =
        serde_json::from_str(setting.image_registries).map_err(|_| NotRendered::ImageRegistries)?;
    Ok(list(&of_cluster, "registries").map(pair).collect())
}

/// `deployments:web:*`
fn container_pattern(id: &str) -> Pattern {
    let parts: Vec<&str> =
        id.split(':').map(|part| if part == "*" { ".+" } else { part }).collect();
    Pattern::new(&format!("^{}$", parts.join(":")))
}

#[cfg(test)]
mod tests {
    use super::super::template::render;
    use super::*;

    fn container(template: &Value, config: &Value, registries: &str) -> (Value, Value) {
        let setting =
            Setting { add_on: "web", cluster: "pi-7", config, image_registries: registries };
        let out = render(template, &setting).unwrap();
        let spec = out[0]["spec"]["template"]["spec"].clone();
        (spec["containers"][0].clone(), spec)
    }

    fn template() -> Value {
        let container = json!({"name": "agent", "image": "quay.io/a/agent:1", "env": [{"name": "X", "value": "1"}]});
        json!({"agentSpec": {"workload": {"manifests": [{"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "n"}, "spec": {"template": {"spec": {"containers": [container]}}}}]}}})
    }

    #[test]
    fn containers_get_what_is_said_of_them() {
        let config = json!({
            "nodePlacement": {"tolerations": [{"key": "a"}]},
            "registries": [{"source": "quay.io/a", "mirror": "local/b/"}, {"source": "else", "mirror": "no"}],
            "proxyConfig": {"httpsProxy": "https://p", "caBundle": "Q0E="},
            "resourceRequirements": [
                {"containerID": "*:*:*", "resources": {"limits": {"cpu": "1"}}},
                {"containerID": "deployments:web:agent", "resources": {"limits": {"cpu": "2"}}},
                {"containerID": "daemonsets:*:*", "resources": {"limits": {"cpu": "3"}}}]});
        let (got, spec) = container(&template(), &config, "");
        assert_eq!(got["image"], "local/b/agent:1");
        assert_eq!(got["resources"], json!({"limits": {"cpu": "2"}}));
        assert_eq!(spec["tolerations"], json!([{"key": "a"}]));
        assert!(spec["nodeSelector"].is_null());
        let env: Vec<&str> =
            got["env"].as_array().unwrap().iter().map(|it| text(it, "name")).collect();
        assert_eq!(env, ["X", "CLUSTER_NAME", "HTTPS_PROXY", "https_proxy", "CA_BUNDLE_FILE_PATH"]);
        assert_eq!(spec["volumes"][0]["configMap"]["name"], "web-proxy-ca");
        let setting =
            Setting { add_on: "web", cluster: "pi-7", config: &config, image_registries: "" };
        let all = render(&template(), &setting).unwrap();
        assert_eq!(all[1]["data"]["ca-bundle.crt"], "CA");
    }

    #[test]
    fn a_cluster_s_registries_are_taken_where_nobody_says_others() {
        let of_cluster = r#"{"registries": [{"mirror": "pi.local"}]}"#;
        let (got, _) = container(&template(), &Value::Null, of_cluster);
        assert_eq!(got["image"], "pi.local/agent:1");
        let (got, _) = container(&template(), &json!({"registries": []}), of_cluster);
        assert_eq!(got["image"], "quay.io/a/agent:1");
    }

    #[test]
    fn credentials_are_mounted_where_upstream_has_them() {
        let mut registered = template();
        registered["registration"] = json!([{"type": "KubeClient"},
            {"type": "CustomSigner", "customSigner": {"signerName": "a.io/b"}}]);
        let (got, spec) = container(&registered, &Value::Null, "");
        assert_eq!(
            got["volumeMounts"][0],
            json!({"name": "hub-kubeconfig", "mountPath": "/managed/hub-kubeconfig"})
        );
        assert_eq!(
            got["volumeMounts"][1],
            json!({"name": "cert-a-io-b", "mountPath": "/managed/a.io-b"})
        );
        assert_eq!(spec["volumes"][1]["secret"]["secretName"], "web-a.io-b-client-cert");
        assert_eq!(got["env"][1]["value"], "/managed/hub-kubeconfig/kubeconfig");
    }
}
