//! Service: one address for several pods.
//!
//! ```text
//! service           defaults, doors, columns
//! service/check     what a valid Service is
//! service/allocated addresses and node ports over an update
//! service/has       which types have which of them
//! service/quota     what one counts for in quotas
//! ```
//!
//! Allocating addresses and node ports is the pipeline's.
//!
//! Guarantees:
//! - addresses and node ports that an update leaves out stay as they were, and go when the type no longer has them
//!   (`an_update_keeps_addresses_it_does_not_name`).

mod allocated;
mod check;
mod has;
mod quota;

use std::collections::BTreeMap;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{
    Column, Concern, Kind, NameRule, Selection, Strategy, Trait, keep_other_half,
};
use freewheel_hub_schema::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::accessors::{
    AGE, NAME, age, child, column, int, items, list, name, set_default, strings, text, wide,
};
use super::node::PROXY;
use super::pod_spec::classes;

use has::{has_cluster_ip, has_node_port};

pub use check::{CLUSTER_IPS, NODE_PORTS};

/// Seconds that a client stays with its pod under session affinity.
const DEFAULT_AFFINITY_SECONDS: i64 = 10_800;
const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "How it can be reached."),
    column("Cluster-IP", "string", "Its address inside of the cluster."),
    column("External-IP", "string", "Its addresses from outside."),
    column("Port(s)", "string", "Ports, and node ports behind the colon."),
    AGE,
    wide("Selector", "string", "Which pods are behind it."),
];

/// Service of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "Service"), "services", Rules)
        .short(["svc"])
        .category(["all"])
        .with_status()
        .subresource_of("proxy", "ServiceProxyOptions", PROXY)
        .concerns(Concern::Everybody)
        .selects_by(Selection::Labels)
        .columns(COLUMNS)
        .names_are(NameRule::Dns1035Label)
        .fields(["spec.clusterIP", "spec.type"])
        .with(&[
            Trait::HoldsAddresses,
            Trait::GrowsInQuota,
            Trait::ShowsTheDeleted,
            Trait::CountsNoGeneration,
            Trait::CreatesOnUpdate,
        ])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            default_spec(spec);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({"loadBalancer": {}}));
        }
        if let Some(spec) = child(object, "spec") {
            complete(spec);
        }
    }

    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        keep_other_half(subresource, new, old);
        if subresource.is_none()
            && let (Some(spec), Some(old)) = (child(new, "spec"), old.get("spec"))
        {
            complete(spec);
            allocated::follow_cluster_ip(spec, old);
            allocated::keep_allocated(spec, old);
            allocated::drop_what_the_type_has_not(spec, old);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        check::service(object)
    }

    fn validate_update(
        &self,
        subresource: Option<&str>,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        match subresource {
            Some("status") => check::status(new),
            Some(_) | None => check::update(new, old),
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let mut found = classes::warnings(classes::SERVICE, spec, "spec");
        if text(spec, "/type") == "LoadBalancer" {
            found.push(
                "spec.type: a LoadBalancer gets node ports here and stays without an address of its own"
                    .to_owned(),
            );
        }
        found
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("spec.clusterIP".to_owned(), text(object, "/spec/clusterIP").to_owned()),
            ("spec.type".to_owned(), text(object, "/spec/type").to_owned()),
        ])
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let cluster_ip = match list(object, "/spec/clusterIPs").first().and_then(Value::as_str) {
            Some(ip) => ip,
            None => text(object, "/spec/clusterIP"),
        };
        let selector: Vec<_> = strings(object, "/spec/selector")
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
        vec![
            name(object),
            text(object, "/spec/type").into(),
            or_none(cluster_ip.to_owned()).into(),
            external_ip(object).into(),
            or_none(ports(object)).into(),
            age(object, now),
            or_none(selector.join(",")).into(),
        ]
    }

    fn is_quota_name(&self, name: &str) -> bool {
        quota::is_name(name)
    }

    fn quota_usage(&self, object: &Value) -> BTreeMap<String, Quantity> {
        quota::usage(object)
    }
}

fn default_spec(spec: &mut Map<String, Value>) {
    set_default(spec, "type", "ClusterIP");
    set_default(spec, "sessionAffinity", "None");
    if spec.get("sessionAffinity").and_then(Value::as_str) == Some("ClientIP") {
        set_default(spec, "sessionAffinityConfig", json!({}));
        let config = spec.get_mut("sessionAffinityConfig").and_then(Value::as_object_mut);
        if let Some(config) = config {
            set_default(config, "clientIP", json!({}));
            if let Some(ip) = config.get_mut("clientIP").and_then(Value::as_object_mut) {
                set_default(ip, "timeoutSeconds", DEFAULT_AFFINITY_SECONDS);
            }
        }
    } else {
        spec.remove("sessionAffinityConfig");
    }
    for port in items(spec, "ports") {
        set_default(port, "protocol", "TCP");
        let unset = match port.get("targetPort") {
            None => true,
            Some(value) => value == &json!(0) || value == &json!(""),
        };
        if unset && let Some(number) = port.get("port").cloned() {
            port.insert("targetPort".to_owned(), number);
        }
    }
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if has_cluster_ip(&kind) {
        set_default(spec, "internalTrafficPolicy", "Cluster");
    }
    if has_node_port(&kind) {
        set_default(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set_default(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// What goes with an address. It is no default: the server chooses it, and nobody owns it who has not named it.
fn complete(spec: &mut Map<String, Value>) {
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default();
    if has_cluster_ip(kind) {
        set_default(spec, "ipFamilies", json!(["IPv4"]));
        set_default(spec, "ipFamilyPolicy", "SingleStack");
        mirror_addresses(spec);
    }
}

/// `clusterIP` and `clusterIPs` say the same in two forms.
fn mirror_addresses(spec: &mut Map<String, Value>) {
    let one = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default().to_owned();
    let first = spec.get("clusterIPs").and_then(|ips| ips.get(0)).and_then(Value::as_str);
    match (one.as_str(), first.map(str::to_owned)) {
        ("", Some(first)) => {
            spec.insert("clusterIP".to_owned(), first.into());
        }
        ("", None) | (_, Some(_)) => {}
        (one, None) => {
            spec.insert("clusterIPs".to_owned(), json!([one]));
        }
    }
}

fn external_ip(object: &Value) -> String {
    let external: Vec<_> =
        list(object, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    match text(object, "/spec/type") {
        "ExternalName" => text(object, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = list(object, "/status/loadBalancer/ingress").iter();
            let mut all: Vec<_> =
                ingress
                    .map(|i| {
                        if text(i, "/ip").is_empty() {
                            text(i, "/hostname")
                        } else {
                            text(i, "/ip")
                        }
                    })
                    .filter(|address| !address.is_empty())
                    .collect();
            all.extend(external);
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ if external.is_empty() => "<none>".to_owned(),
        _ => external.join(","),
    }
}

fn ports(object: &Value) -> String {
    let port = |port: &Value| {
        let (number, node_port) = (int(port, "/port"), int(port, "/nodePort"));
        let protocol = text(port, "/protocol");
        if node_port > 0 {
            format!("{number}:{node_port}/{protocol}")
        } else {
            format!("{number}/{protocol}")
        }
    };
    list(object, "/spec/ports").iter().map(port).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: Value) -> Value {
        let mut object = json!({"metadata": {"name": "s"}});
        object["spec"] = spec;
        Rules.default(&mut object);
        complete(object["spec"].as_object_mut().unwrap());
        object
    }

    #[test]
    fn defaults_are_those_of_kubernetes() {
        assert_eq!(
            service(json!({"ports": [{"port": 80}], "selector": {"a": "b"}}))["spec"],
            json!({
                "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "selector": {"a": "b"},
                "sessionAffinity": "None", "type": "ClusterIP",
            })
        );
        let headless = service(json!({"clusterIP": "None"}));
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
        let sticky = service(json!({"sessionAffinity": "ClientIP"}));
        assert_eq!(sticky["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
    }

    #[test]
    fn an_update_keeps_addresses_it_does_not_name() {
        let mut old = service(json!({"type": "NodePort", "ports": [{"port": 80}]}));
        old["spec"]["clusterIP"] = json!("10.128.0.9");
        old["spec"]["clusterIPs"] = json!(["10.128.0.9"]);
        old["spec"]["ports"][0]["nodePort"] = json!(30_080);

        let mut new = service(json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}));
        Rules.prepare_update(None, &mut new, &old);
        assert_eq!(new["spec"]["clusterIP"], "10.128.0.9");
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30_080);
        assert_eq!(new["spec"]["ports"][1].get("nodePort"), None);

        let mut moved = old.clone();
        moved["spec"]["clusterIP"] = json!("10.128.0.8");
        Rules.prepare_update(None, &mut moved, &old);
        let errors: Vec<_> = Rules.validate_update(None, &moved, &old);
        assert_eq!(errors[0].message, "Invalid value: [\"10.128.0.8\"]: may not change once set");
        assert_eq!(Rules.validate(&moved), []);

        let mut plain = old.clone();
        plain["spec"]["type"] = json!("ClusterIP");
        Rules.prepare_update(None, &mut plain, &old);
        assert_eq!(plain["spec"]["ports"][0].get("nodePort"), None);
        assert_eq!(plain["spec"].get("externalTrafficPolicy"), None);
        assert_eq!(plain["spec"]["clusterIP"], "10.128.0.9");

        let mut elsewhere = old.clone();
        elsewhere["spec"]["type"] = json!("ExternalName");
        // A writer who takes the address away means the rest of it, too.
        for key in ["clusterIP", "clusterIPs"] {
            elsewhere["spec"].as_object_mut().unwrap().remove(key);
        }
        Rules.prepare_update(None, &mut elsewhere, &old);
        let spec = elsewhere["spec"].as_object().unwrap();
        assert_eq!(spec.keys().collect::<Vec<_>>(), ["ports", "sessionAffinity", "type"]);
    }

    #[test]
    fn only_a_load_balancer_has_an_address_from_outside() {
        let with = |kind: &str| {
            let mut object = service(json!({"type": kind, "ports": [{"port": 80}]}));
            object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}});
            Rules.validate_update(Some("status"), &object, &object).len()
        };
        assert_eq!((with("LoadBalancer"), with("NodePort")), (0, 1));
    }

    #[test]
    fn a_row_shows_addresses_and_ports() {
        let mut object = service(
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_080}, {"port": 53, "protocol": "UDP"}]}),
        );
        object["spec"]["clusterIPs"] = json!(["10.128.0.9"]);
        let row = Rules.row(&object, 0);
        assert_eq!(
            row[1..5],
            [json!("NodePort"), json!("10.128.0.9"), json!("<none>"), json!("80:30080/TCP,53/UDP")]
        );
        let row = Rules.row(&service(json!({"type": "LoadBalancer"})), 0);
        assert_eq!(row[3], "<pending>");
        let row = Rules.row(&service(json!({"type": "ExternalName", "externalName": "a.b"})), 0);
        assert_eq!(row[2..4], [json!("<none>"), json!("a.b")]);
    }
}
