//! AddOnDeploymentConfig: how an add-on is set up on a cluster.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::Kind;
use serde_json::Value;

use super::{NEWER, STORED};
use crate::kinds::field_value::FieldValue;
use crate::kinds::fleet::view::View;
use crate::kinds::fleet::{ADD_ON_GROUP, Rules, follows};

const PLURAL: &str = "addondeploymentconfigs";
/// As the CRD has them.
const VARIABLE: &str = "^[a-zA-Z_][_a-zA-Z0-9]*$";
const NAMESPACE: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$";
const CONTAINER: &str =
    r"^(deployments|daemonsets|statefulsets|replicasets|jobs|cronjobs|pods|\*):.+:.+$";

/// AddOnDeploymentConfig of addon.open-cluster-management.io/v1alpha1.
pub(crate) fn kind() -> Kind {
    rules(STORED).kind_without_status(PLURAL)
}

/// The same of v1beta1, in the same form.
pub(crate) fn newer() -> Kind {
    let same: fn(&mut Value) = |_| {};
    let rules = rules(NEWER);
    View { rules, stored: STORED, into_stored: same, out_of_stored: same }.kind(PLURAL)
}

fn rules(version: &'static str) -> Rules {
    Rules { mistakes, ..Rules::new(ADD_ON_GROUP, version, "AddOnDeploymentConfig") }
}

fn mistakes(object: &Value) -> Vec<FieldError> {
    let spec = FieldValue::of(object, "spec");
    let mut found = Vec::new();
    for variable in spec.child("customizedVariables").items() {
        let (name, value) = (variable.child("name"), variable.child("value"));
        found.extend(follows(&name, VARIABLE).or_else(|| name.no_longer(255)));
        found.extend(value.no_longer(1024));
    }
    let namespace = spec.child("agentInstallNamespace");
    found.extend(follows(&namespace, NAMESPACE).or_else(|| namespace.no_longer(63)));
    for required in spec.child("resourceRequirements").items() {
        found.extend(follows(&required.child("containerID"), CONTAINER));
    }
    found
}
