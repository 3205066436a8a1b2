//! Parameters of policies: objects that a binding names.
//!
//! Guarantees:
//! - a parameter that is looked for in the request's own namespace is one of no other
//!   (`parameters_are_those_of_the_requests_namespace`).

use std::sync::Arc;

use freewheel_hub_objects::{ObjectRef, stored_value};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::registry::Registry;
use freewheel_hub_schema::selector::LabelSelector;
use freewheel_hub_store::{Scope, Stored};
use serde_json::Value;

use crate::attributes::Attributes;

/// A parameter; a policy without any is asked once all the same.
pub(super) type Param = Option<Arc<Value>>;

/// The kind of a policy's parameters.
pub(super) fn kind<'a>(
    named: Option<&(String, String)>,
    registry: &'a Registry,
) -> Result<Option<&'a Arc<Kind>>, String> {
    let Some((version, kind)) = named else { return Ok(None) };
    registry.by_kind(version, kind).map(Some).ok_or_else(|| {
        let slash = if version.contains('/') { "" } else { "/" };
        format!("failed to find resource referenced by paramKind: '{slash}{version}, Kind={kind}'")
    })
}

/// Those that a binding names for this request.
pub(super) async fn collect<'a>(
    kind: Option<&Arc<Kind>>,
    reference: Option<&'a Value>,
    asked: &Attributes<'a>,
) -> Result<Vec<Param>, String> {
    let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![None]) };
    let said = |key: &str| reference[key].as_str().unwrap_or_default();
    let namespace = home(kind, said("namespace"), asked)?;
    let (state, cluster) = (asked.review.state(), asked.review.target.cluster.clone());
    let found: Vec<Arc<Stored>> = match said("name") {
        "" => {
            let selector = LabelSelector::from_json(reference.get("selector"), "selector")
                .map_err(|_| "one of name or selector must be provided".to_owned())?;
            let namespace = Some(namespace).filter(|_| kind.namespaced).map(Into::into);
            let scope =
                Scope { resource: kind.storage().clone(), cluster: Some(cluster), namespace };
            let all = state.range(&scope, None);
            all.filter(|one| selector.matches(&one.object.header.labels)).collect()
        }
        name => {
            let place = ObjectRef {
                kind: kind.clone(),
                cluster,
                namespace: namespace.into(),
                name: name.to_owned(),
            };
            state.get(&place.key()).into_iter().collect()
        }
    };
    if found.is_empty() && said("parameterNotFoundAction") == "Deny" {
        return Err(
            "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned()
        );
    }
    let mut all = Vec::new();
    for stored in found {
        let value = stored_value(&stored).map_err(|error| error.message)?;
        let value = kind.out_of_store(value).await.map_err(|error| error.message)?;
        all.push(Some(Arc::new(value)));
    }
    Ok(all)
}

/// The namespace in which they are looked for.
fn home<'a>(kind: &Kind, said: &'a str, asked: &Attributes<'a>) -> Result<&'a str, String> {
    let why = match (kind.namespaced, said) {
        (false, "") => return Ok(""),
        (false, _) => "paramRef.namespace must not be provided for a cluster-scoped `paramKind`",
        (true, "") if asked.namespace.is_empty() => {
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
        }
        (true, "") => return Ok(asked.namespace),
        (true, own) => return Ok(own),
    };
    Err(why.to_owned())
}
