//! Parameters of policies: objects that a binding names.
//!
//! Guarantees:
//! - a parameter that is looked for in the request's own namespace is one of no other
//!   (`parameters_are_those_of_the_requests_namespace`), and is shown as its kind, which may be a view of what is stored,
//!   or is of no kind that has parameters (`who_names_figures_for_parameters_reads_no_pods`);
//! - each of them is read once for a write in each version that is asked for, and a write takes no more of them than it
//!   may (`a_write_takes_as_many_parameters_as_it_may`, `a_parameter_is_shown_in_the_version_of_its_policy`);
//! - what one binding asks for beyond that takes nothing from the others
//!   (`parameters_that_are_too_many_for_one_policy_are_there_for_another`,
//!   `a_collection_that_is_too_large_for_one_policy_leaves_others_theirs`), nor does what cannot be converted, which is
//!   tried once (`a_parameter_that_cannot_be_converted_takes_no_room`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use freewheel_hub_objects::{ObjectRef, stored_value};
use freewheel_hub_schema::kind::{Kind, KindId};
use freewheel_hub_schema::namespace::NamespaceName;
use freewheel_hub_schema::object::{Key, Resource};
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
    // What is only answered has no objects here, but for those of the kind that it tells of.
    registry.by_kind(version, kind).filter(|kind| kind.is_kept()).map(Some).ok_or_else(|| {
        let slash = if version.contains('/') { "" } else { "/" };
        format!("failed to find resource referenced by paramKind: '{slash}{version}, Kind={kind}'")
    })
}

/// Objects that are looked at for one write, whether they are parameters or not. kube-apiserver has no such bounds.
const LOOKED_AT_MAX: usize = 100_000;
/// Bytes of those that are.
const PARAMS_BYTES_MAX: usize = 4 << 20;

/// The parameters of one write.
#[derive(Default)]
pub(super) struct Params {
    /// What was read, or why it cannot be.
    read: HashMap<(KindId, Key), Result<Arc<Value>, String>>,
    /// Bytes of what was.
    bytes: usize,
    looked_at: usize,
    /// Collections of which not all can be looked at: no object is looked at twice in vain.
    too_large: HashSet<(Resource, Option<NamespaceName>)>,
}

impl Params {
    /// Those that a binding names for this request, which may be so many.
    pub(super) async fn of<'a>(
        &mut self,
        kind: Option<&Arc<Kind>>,
        reference: Option<&'a Value>,
        asked: &Attributes<'a>,
        most: usize,
    ) -> Result<Vec<Param>, String> {
        let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![None]) };
        let found = self.find(kind, reference, asked, most)?;
        if found.is_empty() && reference["parameterNotFoundAction"] == "Deny" {
            return Err(
                "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned()
            );
        }
        let new = |it: &&Arc<Stored>| !self.read.contains_key(&(kind.id(), it.key.clone()));
        let more: usize = found.iter().filter(new).map(|it| it.object.body.len()).sum();
        // Before any of them is read: what is too much for one binding takes nothing from the others.
        if PARAMS_BYTES_MAX < self.bytes + more {
            return Err(format!(
                "the parameters of a request may have {PARAMS_BYTES_MAX} bytes together"
            ));
        }
        let mut all = Vec::new();
        for stored in found {
            all.push(Some(self.read(kind, &stored).await?));
        }
        Ok(all)
    }

    fn find<'a>(
        &mut self,
        kind: &Arc<Kind>,
        reference: &'a Value,
        asked: &Attributes<'a>,
        most: usize,
    ) -> Result<Vec<Arc<Stored>>, String> {
        let field = |key: &str| reference[key].as_str().unwrap_or_default();
        let namespace = home(kind, field("namespace"), asked)?;
        let (state, cluster) = (asked.review.state(), asked.review.target.cluster.clone());
        if !field("name").is_empty() {
            let (namespace, name) = (namespace.into(), field("name").to_owned());
            let place = ObjectRef { kind: kind.clone(), cluster, namespace, name };
            return Ok(state.get(&place.key()).into_iter().collect());
        }
        let selector = LabelSelector::from_json(reference.get("selector"), "selector")
            .map_err(|_| "one of name or selector must be provided".to_owned())?;
        let namespace = Some(namespace).filter(|_| kind.namespaced).map(Into::into);
        let collection = (kind.storage().clone(), namespace.clone());
        let too_large = || format!("a request looks at {LOOKED_AT_MAX} objects for parameters");
        if self.too_large.contains(&collection) {
            return Err(too_large());
        }
        let scope = Scope { resource: kind.storage().clone(), cluster: Some(cluster), namespace };
        let (mut found, before) = (Vec::new(), self.looked_at);
        for one in state.range(&scope, None) {
            self.looked_at += 1;
            if LOOKED_AT_MAX < self.looked_at {
                self.looked_at = before;
                self.too_large.insert(collection);
                return Err(too_large());
            }
            if !selector.matches(&one.object.header.labels) {
                continue;
            }
            if most <= found.len() {
                return Err("a request is asked about with no more parameters".to_owned());
            }
            found.push(one);
        }
        Ok(found)
    }

    async fn read(&mut self, kind: &Kind, stored: &Stored) -> Result<Arc<Value>, String> {
        let key = (kind.id(), stored.key.clone());
        if let Some(read) = self.read.get(&key) {
            return read.clone();
        }
        let read = shown(kind, stored).await.map(Arc::new);
        if read.is_ok() {
            self.bytes += stored.object.body.len();
        }
        self.read.insert(key, read.clone());
        read
    }
}

/// A stored object in this version.
async fn shown(kind: &Kind, stored: &Stored) -> Result<Value, String> {
    let value = stored_value(stored).map_err(|error| error.message)?;
    kind.out_of_store(value).await.map_err(|error| error.message)
}

/// The namespace in which they are looked for.
fn home<'a>(kind: &Kind, namespace: &'a str, asked: &Attributes<'a>) -> Result<&'a str, String> {
    let why = match (kind.namespaced, namespace) {
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
