//! Whether what was applied of an add-on is well, as upstream's prober of workloads says it.
//!
//! Guarantees:
//! - nothing is well before its work is there, and has told of one of its workloads where it has some: as upstream, of
//!   others it is not waited for (`workloads_say_whether_an_add_on_is_well`).

use serde_json::Value;

use super::agent::value;
use super::workload::Workload;

/// What is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `True`, `False`, `Unknown`
    pub status: &'static str,
    /// Why.
    pub reason: &'static str,
    /// In words.
    pub message: String,
}

impl Health {
    fn new(status: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }
}

/// How the add-on of this name is by what its work says of these manifests.
#[must_use]
pub fn of_work(add_on: &str, manifests: &[Value], work: Option<&Value>) -> Health {
    let Some(work) = work else {
        return Health::new("Unknown", "WorkNotFound", "Addon manifestWork is not found");
    };
    let mut conditions = work["status"]["conditions"].as_array().into_iter().flatten();
    let Some(available) = conditions.find(|it| it["type"] == "Available") else {
        let text = "Addon manifestWork is not applied yet";
        return Health::new("Unknown", "WorkNotApplied", text);
    };
    let status = match available["status"].as_str() {
        Some("True") => None,
        Some("False") => Some("False"),
        // Upstream takes that for well where nothing is probed.
        _ => Some("Unknown"),
    };
    if let Some(status) = status {
        let text = available["message"].as_str().unwrap_or_default();
        return Health::new(status, "WorkNotApplied", text);
    }
    let workloads = manifests.iter().filter_map(|it| Some((it, Workload::of(it)?)));
    let probed: Vec<_> = workloads.filter(|(it, workload)| !workload.rests(it)).collect();
    let probes: Vec<_> =
        probed.iter().filter_map(|(it, workload)| counted(it, workload, work)).collect();
    if !probed.is_empty() && probes.is_empty() {
        return Health::new("Unknown", "NoProbeResult", "Probe results are not returned");
    }
    if let Some(wrong) = probes.into_iter().find_map(Result::err) {
        let text = format!("Probe addon unavailable with err {wrong}");
        return Health::new("False", "ProbeUnavailable", text);
    }
    Health::new("True", "ProbeAvailable", format!("{add_on} add-on is available."))
}

/// Whether a workload has what it wants; nothing, when it has not told.
fn counted(manifest: &Value, workload: &Workload, work: &Value) -> Option<Result<(), String>> {
    let resource = workload.plural;
    let (name, namespace) = (&manifest["metadata"]["name"], &manifest["metadata"]["namespace"]);
    let of = serde_json::json!({"group": "apps", "resource": resource, "name": name, "namespace": namespace});
    let [wanted, ready] =
        [workload.wanted, workload.ready].map(|it| value(work, &of, it)["integer"].as_i64());
    if wanted.is_none() && ready.is_none() {
        return None;
    }
    let Some(ready) = ready else { return Some(Err("readyReplica is not probed".to_owned())) };
    let Some(wanted) = wanted else {
        return Some(Err("desiredNumberReplicas is not probed".to_owned()));
    };
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    let wrong = || {
        let place = format!("{}/{}", text(namespace), text(name));
        format!(
            "desiredNumberReplicas is {wanted} but readyReplica is {ready} for {resource} {place}"
        )
    };
    Some(if workload.is_well(wanted, ready) { Ok(()) } else { Err(wrong()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn workloads_say_whether_an_add_on_is_well() {
        let manifest = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "n"}});
        let work = |available: &str, ready: Option<i64>| {
            let integer = |name: &str, n: i64| json!({"name": name, "fieldValue": {"type": "Integer", "integer": n}});
            let values =
                ready.map(|n| json!([integer("Replicas", 2), integer("ReadyReplicas", n)]));
            json!({"status": {"conditions": [{"type": "Available", "status": available, "message": "m"}],
                "resourceStatus": {"manifests": [{"resourceMeta": {"group": "apps", "resource": "deployments",
                    "name": "a", "namespace": "n"}, "statusFeedback": {"values": values}}]}}})
        };
        let of = |manifests: &[Value], work: Option<Value>| {
            let health = of_work("web", manifests, work.as_ref());
            (health.status, health.reason)
        };
        let one = std::slice::from_ref(&manifest);
        assert_eq!(of(one, None), ("Unknown", "WorkNotFound"));
        assert_eq!(of(one, Some(json!({}))), ("Unknown", "WorkNotApplied"));
        assert_eq!(of(one, Some(work("False", None))), ("False", "WorkNotApplied"));
        assert_eq!(of(&[], Some(work("Unknown", None))), ("Unknown", "WorkNotApplied"));
        assert_eq!(of(one, Some(work("True", None))), ("Unknown", "NoProbeResult"));
        assert_eq!(of(one, Some(work("True", Some(0)))), ("False", "ProbeUnavailable"));
        assert_eq!(of(one, Some(work("True", Some(1)))), ("True", "ProbeAvailable"));
        assert_eq!(of(&[], Some(work("True", None))), ("True", "ProbeAvailable"));
        let mut untold = manifest.clone();
        untold["metadata"]["name"] = json!("b");
        let both = [manifest.clone(), untold.clone()];
        assert_eq!(of(&both, Some(work("True", Some(1)))), ("True", "ProbeAvailable"));
        assert_eq!(of(&[untold], Some(work("True", Some(1)))), ("Unknown", "NoProbeResult"));
        let mut resting = manifest.clone();
        resting["spec"]["replicas"] = json!(0);
        assert_eq!(of(&[resting], Some(work("True", None))), ("True", "ProbeAvailable"));
        let wrong = of_work("web", one, Some(&work("True", Some(0))));
        assert_eq!(
            wrong.message,
            "Probe addon unavailable with err desiredNumberReplicas is 2 but readyReplica is 0 for deployments n/a"
        );
    }
}
