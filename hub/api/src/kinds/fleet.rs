//! Kinds of Open Cluster Management, which select clusters and say what goes to them. Elsewhere they are custom
//! resources: the status door takes the status alone, and what their CRDs ask for is asked for here.
//!
//! ```text
//! add_ons                                add-ons, on which clusters they are, how they are set up
//! cluster_claim                          what a cluster tells of itself, in that cluster
//! cluster_profile                        a cluster, for tools that know nothing of Open Cluster Management
//! cluster_set, cluster_set_binding       groups of clusters, and who may choose from them
//! placement, placement_decision          what is asked for, and who was chosen
//! add_on_placement_score                 what others say of a cluster
//! multicluster_decision                  who was chosen, for the same tools
//! manifest_work, applied_manifest_work   what is applied in a cluster, and what of it was
//! manifest_work_replica_set              that for each cluster that is chosen
//! operators                              what hubs and agents are installed by elsewhere: what they are
//! view                                   a version that is stored in another one's form
//! descriptions                           prose for `explain`
//! ```

pub(super) mod add_on_placement_score;
pub(super) mod add_ons;
pub(super) mod applied_manifest_work;
pub(super) mod cluster_claim;
pub mod cluster_profile;
pub(super) mod cluster_set;
pub(super) mod cluster_set_binding;
pub(super) mod descriptions;
pub(super) mod manifest_work;
pub(super) mod manifest_work_replica_set;
pub mod multicluster_decision;
pub mod operators;
pub(super) mod placement;
pub(super) mod placement_decision;
mod view;

use freewheel_hub_cel::Pattern;
use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{
    Column, FieldPaths, Kind, Strategy, Trait, keep_all_but_status, reset_all_but_status,
};
use freewheel_hub_schema::types::{TypeFacts, mistakes_of_facts};
use serde_json::Value;

use super::accessors::{AGE, NAME, age, name};
use super::field_value::FieldValue;

/// Of `addon.open-cluster-management.io`.
pub(super) const ADD_ON_GROUP: &str = "addon.open-cluster-management.io";

/// Of `cluster.open-cluster-management.io`.
pub(super) const CLUSTER_GROUP: &str = "cluster.open-cluster-management.io";

/// Of kinds that nothing else is shown of.
const PLAIN: &[Column] = &[NAME, AGE];

/// Of `work.open-cluster-management.io`.
pub(super) const WORK_GROUP: &str = "work.open-cluster-management.io";

/// What is special about one of these kinds.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    gvk: (&'static str, &'static str, &'static str),
    /// Mistakes beyond those that the facts show.
    pub mistakes: fn(&Value) -> Vec<FieldError>,
    /// What may not change.
    pub changes: fn(&Value, &Value) -> Vec<FieldError>,
    /// What is kept without effect.
    pub warnings: fn(&Value) -> Vec<String>,
    /// Its row.
    pub cells: fn(&Value, i64) -> Vec<Value>,
}

impl Rules {
    /// Of a kind that is shown by its name and age, and in which nothing is wrong that its facts do not show.
    pub const fn new(group: &'static str, version: &'static str, kind: &'static str) -> Self {
        Self {
            gvk: (group, version, kind),
            mistakes: |_| Vec::new(),
            changes: |_, _| Vec::new(),
            warnings: |_| Vec::new(),
            cells: |object, now| vec![name(object), age(object, now)],
        }
    }

    /// The kind, served in the root only, with a status.
    pub fn kind(self, plural: &'static str) -> Kind {
        self.kind_without_status(plural).with_status()
    }

    /// The same of a kind without one.
    pub fn kind_without_status(self, plural: &'static str) -> Kind {
        let (group, version, kind) = self.gvk;
        of_the_root(Kind::new(Gvk::new(group, version, kind), plural, self))
    }
}

/// What all of these kinds have in common.
fn of_the_root(kind: Kind) -> Kind {
    let traits = &[Trait::NamesWhatItReplaces, Trait::HasDefinition];
    kind.in_the_root_only().columns(PLAIN).with(traits)
}

impl Strategy for Rules {
    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        keep_all_but_status(subresource, new, old);
    }

    fn reset_fields(&self, subresource: Option<&str>) -> FieldPaths {
        reset_all_but_status(subresource)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let (group, version, kind) = self.gvk;
        let facts = TypeFacts::find(group, version, kind);
        let mut found = facts.map(|facts| mistakes_of_facts(object, facts)).unwrap_or_default();
        found.extend((self.mistakes)(object));
        found
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        if door.is_none() { (self.changes)(new, old) } else { Vec::new() }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        (self.warnings)(object)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        (self.cells)(object, now)
    }
}

/// A text, if there is one, has to match.
pub(super) fn follows(place: &FieldValue<'_>, pattern: &str) -> Option<FieldError> {
    let text = place.value.as_str()?;
    let wrong = format!("{} in body should match '{pattern}'", place.path);
    (!Pattern::new(pattern).matches(text)).then(|| place.invalid(&wrong))
}

/// A number, if there is one, has to be so large.
pub(super) fn no_less(place: &FieldValue<'_>, least: i64) -> Option<FieldError> {
    let wrong = format!("{} in body should be greater than or equal to {least}", place.path);
    place.int().filter(|number| *number < least).map(|_| place.invalid(&wrong))
}

/// A number, if there is one, has to be so small.
pub(super) fn no_more(place: &FieldValue<'_>, most: i64) -> Option<FieldError> {
    let wrong = format!("{} in body should be less than or equal to {most}", place.path);
    place.int().filter(|number| most < *number).map(|_| place.invalid(&wrong))
}

/// The LabelSelector that is here, if one is.
pub(super) fn selector(place: &FieldValue<'_>) -> Vec<FieldError> {
    if place.is_there() { place.selector() } else { Vec::new() }
}
