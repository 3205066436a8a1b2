//! Which tokens a node gets: of the accounts of its pods, bound to one of these, for somebody whom it names.

use freewheel_hub_objects::{Refusal, Verb};
use serde_json::Value;

use super::write::{Judged, NodeWrite};
use crate::authz::{
    Attributes, Authorizer as _, Authorizers, Decision, Resource, What, ephemeral_claim, text,
    user_of,
};
use crate::tenant::Tenant;

/// The right to tokens for somebody whom no volume names.
const VERB: &str = "request-serviceaccounts-token-audience";

pub(super) async fn admit(write: &NodeWrite<'_>, authorizers: &Authorizers) -> Judged {
    if (write.review.verb, write.review.subresource) != (Verb::Create, Some("token")) {
        return Ok(());
    }
    let refused = |why: &str| Refusal::forbidden(why);
    let bound = |key: &str| text(write.object, &format!("/spec/boundObjectRef/{key}"));
    let (Some("v1"), Some("Pod"), Some(name)) = (bound("apiVersion"), bound("kind"), bound("name"))
    else {
        return Err(refused("node requested token not bound to a pod"));
    };
    let Some(uid) = bound("uid") else {
        return Err(refused("node requested token with a pod binding without a uid"));
    };
    let pod = write.find("pods", &write.review.target.namespace, name);
    let pod = pod.ok_or_else(|| Refusal::NotFound {
        group: String::new(),
        plural: "pods".to_owned(),
        name: name.to_owned(),
    })?;
    if text(&pod, "/metadata/uid") != Some(uid) {
        return Err(refused(&format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The \
             object might have been deleted and then recreated"
        )));
    }
    if text(&pod, "/spec/nodeName") != Some(write.node) {
        return Err(refused("node requested token bound to a pod scheduled on a different node"));
    }
    check_audience(write, authorizers, &pod).await
}

async fn check_audience(write: &NodeWrite<'_>, authorizers: &Authorizers, pod: &Value) -> Judged {
    let audiences = write.object.pointer("/spec/audiences").and_then(Value::as_array);
    let audience = match audiences.map_or(&[][..], Vec::as_slice) {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Err(Refusal::forbidden("node may only request 0 or 1 audiences")),
    };
    if names(write, pod, audience) || may(write, authorizers, audience).await {
        return Ok(());
    }
    Err(Refusal::forbidden(format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens \
         for this audience",
        write.person.name
    )))
}

/// Whether a volume of the pod is for this audience: by a token in it, or by the driver that serves it.
fn names(write: &NodeWrite<'_>, pod: &Value, audience: &str) -> bool {
    let list = |value: &Value, path: &str| {
        value.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let is_for = |token: &Value| token["audience"].as_str().unwrap_or_default() == audience;
    list(pod, "/spec/volumes").iter().any(|volume| {
        let tokens = list(volume, "/projected/sources");
        let mut tokens = tokens.iter().filter_map(|source| source.get("serviceAccountToken"));
        let driver =
            || write.find_of("storage.k8s.io", "csidrivers", "", &driver(write, pod, volume)?);
        tokens.any(is_for)
            || driver().is_some_and(|it| list(&it, "/spec/tokenRequests").iter().any(is_for))
    })
}

/// The CSI driver that serves a volume.
fn driver(write: &NodeWrite<'_>, pod: &Value, volume: &Value) -> Option<String> {
    if let Some(driver) = text(volume, "/csi/driver") {
        return Some(driver.to_owned());
    }
    let name = text(pod, "/metadata/name")?;
    let claim = text(volume, "/persistentVolumeClaim/claimName").map(str::to_owned);
    let claim = claim.or_else(|| ephemeral_claim(name, volume))?;
    let claim = write.find("persistentvolumeclaims", &write.review.target.namespace, &claim)?;
    let volume = write.find("persistentvolumes", "", text(&claim, "/spec/volumeName")?)?;
    text(&volume, "/spec/csi/driver").map(str::to_owned)
}

async fn may(write: &NodeWrite<'_>, authorizers: &Authorizers, audience: &str) -> bool {
    let target = write.review.target;
    let cluster = target.cluster.as_str();
    let Ok(tenant) = Tenant::find(&*write.review.state(), Some(cluster)) else { return false };
    let (namespace, name) = (&*target.namespace, &*target.name);
    let what = Resource { plural: audience, namespace, name, ..Resource::default() };
    let (user, what) = (user_of(write.person), What::Resource(what));
    let asked = Attributes { user: &user, verb: VERB, cluster: tenant.cluster(), what };
    matches!(authorizers.decide(&asked).await, Decision::Allow(_))
}
