//! One metric of a spec, and what it comes to.

use freewheel_hub_schema::quantity::{Format, Quantity};
use k8s_openapi::api::autoscaling::v2::{MetricSpec, MetricTarget};
use serde_json::{Value, json};

use super::replicas::{Observed, Resource, Target, Tolerance, replicas};

/// What client-go says where there is no such API.
const NO_CUSTOM_METRICS: &str = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered";
const NO_EXTERNAL_METRICS: &str = "unable to fetch metrics from external metrics API: the server could not find the requested resource";
const NO_TARGET: &str = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";

/// A metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metric {
    /// What pods take, and what it is to be, when that is said.
    Resource(Resource, Option<Target>),
    /// One that nobody measures here.
    Unserved(Failure),
}

/// What a metric comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// How many replicas it asks for.
    pub replicas: i32,
    /// How people call it.
    pub name: String,
    /// Its item of status.currentMetrics.
    pub status: Value,
}

/// Why it comes to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Reason of the condition and of the event.
    pub reason: &'static str,
    /// Message of the event.
    pub why: String,
    /// The same among those of other metrics.
    pub among_others: String,
}

impl Metric {
    /// From a spec in this namespace.
    #[must_use]
    pub fn read(spec: &MetricSpec, namespace: &str) -> Self {
        if let Some(of) = &spec.resource {
            return Self::resource(&of.name, None, &of.target);
        }
        if let Some(of) = &spec.container_resource {
            return Self::resource(&of.name, Some(of.container.clone()), &of.target);
        }
        if let Some(of) = &spec.pods {
            let why = format!("unable to get metric {}: {NO_CUSTOM_METRICS}", of.metric.name);
            return Self::unserved("FailedGetPodsMetric", why, "pods metric value");
        }
        if let Some(of) = &spec.object {
            let (metric, kind, name) =
                (&of.metric.name, &of.described_object.kind, &of.described_object.name);
            let why = format!(
                "unable to get metric {metric} on {kind} {namespace}/{name}: {NO_CUSTOM_METRICS}"
            );
            return Self::unserved("FailedGetObjectMetric", why, "object metric value");
        }
        if let Some(of) = &spec.external {
            let name = &of.metric.name;
            let why = format!(
                "unable to get external metric {namespace}/{name}: {NO_EXTERNAL_METRICS} (get {name}.external.metrics.k8s.io)"
            );
            let what = format!("{name} external metric value");
            return Self::unserved("FailedGetExternalMetric", why, &what);
        }
        let why = format!("unknown metric source type {:?}", spec.type_);
        let among_others = why.clone();
        Self::Unserved(Failure { reason: "InvalidMetricSourceType", why, among_others })
    }

    fn resource(name: &str, container: Option<String>, target: &MetricTarget) -> Self {
        let average = target.average_value.as_ref();
        let average: Option<Quantity> = average.and_then(|amount| amount.0.parse().ok());
        let average = average.map(|amount| Target::Average(amount.milli_value()));
        let target = average.or(target.average_utilization.map(Target::Utilization));
        Self::Resource(Resource { name: name.to_owned(), container }, target)
    }

    fn unserved(reason: &'static str, why: String, what: &str) -> Self {
        let among_others = format!("failed to get {what}: {why}");
        Self::Unserved(Failure { reason, why, among_others })
    }

    /// What it comes to.
    ///
    /// # Errors
    /// Why it comes to nothing.
    pub fn propose(
        &self,
        observed: &Observed<'_>,
        tolerance: Tolerance,
    ) -> Result<Proposal, Failure> {
        let (resource, target) = match self {
            Self::Unserved(failure) => return Err(failure.clone()),
            Self::Resource(resource, target) => (resource, target),
        };
        let Some(target) = *target else {
            return Err(failed(resource, NO_TARGET.to_owned()));
        };
        let found = replicas(observed, resource, target, tolerance).map_err(|none| {
            let what = match target {
                Target::Utilization(_) => "utilization",
                Target::Average(_) => "usage",
            };
            failed(resource, format!("failed to get {} {what}: {none}", resource.name))
        })?;
        let format = if resource.name == "memory" { Format::Binary } else { Format::Decimal };
        let average = Quantity::of_milli(found.average, format).to_string();
        let mut current = json!({"averageValue": average});
        if let Some(percent) = found.percent {
            current["averageUtilization"] = json!(percent);
        }
        let (name, replicas) = (called(resource, target), found.replicas);
        Ok(Proposal { replicas, name, status: status(resource, &current) })
    }
}

fn status(resource: &Resource, current: &Value) -> Value {
    let name = &resource.name;
    match &resource.container {
        None => json!({"type": "Resource", "resource": {"name": name, "current": current}}),
        Some(container) => json!({"type": "ContainerResource",
            "containerResource": {"name": name, "container": container, "current": current}}),
    }
}

fn called(resource: &Resource, target: Target) -> String {
    let name = &resource.name;
    let of_container = if resource.container.is_some() { "container " } else { "" };
    match target {
        Target::Average(_) => format!("{name} resource"),
        Target::Utilization(_) => {
            format!("{name} {of_container}resource utilization (percentage of request)")
        }
    }
}

fn failed(resource: &Resource, why: String) -> Failure {
    let (reason, what) = match &resource.container {
        None => ("FailedGetResourceMetric", format!("{} resource", resource.name)),
        Some(container) => ("FailedGetContainerResourceMetric", format!("{container} container")),
    };
    let among_others = format!("failed to get {what} metric value: {why}");
    Failure { reason, why, among_others }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(spec: Value) -> Metric {
        Metric::read(&serde_json::from_value(spec).unwrap(), "shop")
    }

    #[test]
    fn what_nobody_measures_says_so() {
        let named = json!({"name": "requests"});
        let target = json!({"type": "AverageValue", "averageValue": "10"});
        let why = |spec: Value| match metric(spec) {
            Metric::Unserved(failure) => (failure.reason, failure.why, failure.among_others),
            Metric::Resource(..) => panic!("it is served"),
        };
        let of_pods = json!({"type": "Pods", "pods": {"metric": named, "target": target}});
        let (reason, said, among_others) = why(of_pods);
        assert_eq!(reason, "FailedGetPodsMetric");
        assert_eq!(
            said,
            "unable to get metric requests: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"
        );
        assert_eq!(among_others, format!("failed to get pods metric value: {said}"));
        let object = json!({"kind": "Service", "name": "web", "apiVersion": "v1"});
        let (reason, said, _) = why(json!({"type": "Object",
            "object": {"metric": named, "target": target, "describedObject": object}}));
        assert_eq!(reason, "FailedGetObjectMetric");
        assert!(said.starts_with("unable to get metric requests on Service shop/web: "), "{said}");
        let (reason, said, _) =
            why(json!({"type": "External", "external": {"metric": named, "target": target}}));
        assert_eq!(reason, "FailedGetExternalMetric");
        assert!(said.ends_with("(get requests.external.metrics.k8s.io)"), "{said}");
    }

    #[test]
    fn a_target_is_a_share_or_an_amount() {
        let resource = |target: Value| {
            metric(json!({"type": "ContainerResource",
            "containerResource": {"name": "cpu", "container": "web", "target": target}}))
        };
        let of = Resource { name: "cpu".to_owned(), container: Some("web".to_owned()) };
        let share = resource(json!({"type": "Utilization", "averageUtilization": 60}));
        assert_eq!(share, Metric::Resource(of.clone(), Some(Target::Utilization(60))));
        let amount = resource(json!({"type": "AverageValue", "averageValue": "1500m"}));
        assert_eq!(amount, Metric::Resource(of.clone(), Some(Target::Average(1500))));
        assert_eq!(
            called(&of, Target::Utilization(60)),
            "cpu container resource utilization (percentage of request)"
        );
        let none = resource(json!({"type": "Value"}));
        assert_eq!(none, Metric::Resource(of, None));
        let (samples, pods, now) = (&[], &[], jiff::Timestamp::UNIX_EPOCH);
        let observed = Observed { pods, samples, current: 1, now };
        let failure = none.propose(&observed, Tolerance { up: 0.1, down: 0.1 }).unwrap_err();
        assert_eq!(failure.reason, "FailedGetContainerResourceMetric");
        assert_eq!(
            failure.among_others,
            format!("failed to get web container metric value: {NO_TARGET}")
        );
    }
}
