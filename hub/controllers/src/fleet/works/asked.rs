//! What is asked for a manifest whose kind is served.

use freewheel_hub_fleet::work::{Identifier, UpdateStrategy, Work};
use freewheel_hub_objects::ObjectRef;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_schema::view::View;
use serde_json::{Value, json};

use super::manifest::{laid_over, put_owner};

/// The reference that an object gets, if it is owned, and whose it is.
pub(super) type Owner<'a> = (Option<&'a Value>, &'a Uid);

/// What is asked for one.
pub(super) struct Asked<'a> {
    /// The object, by the kind that the manifest says.
    pub target: ObjectRef,
    /// How it is written.
    pub view: View,
    pub strategy: Option<&'a UpdateStrategy>,
    pub owned: bool,
    pub may_complete: bool,
}

impl<'a> Asked<'a> {
    pub fn of(work: &'a Work, target: ObjectRef, view: View) -> Self {
        let identifier = Identifier {
            group: target.kind.group().to_owned(),
            resource: target.kind.plural().to_owned(),
            name: target.name.clone(),
            namespace: target.namespace.to_string(),
        };
        let treatment = work.treatment(&identifier);
        let may_complete = treatment.conditions.iter().any(|rule| rule.condition == "Complete");
        let (strategy, owned) = (treatment.strategy, work.owns(&identifier));
        Self { target, view, strategy, owned, may_complete }
    }

    /// The object, by the kind that is written.
    pub fn place(&self) -> ObjectRef {
        ObjectRef { kind: self.view.stored.clone(), ..self.target.clone() }
    }

    /// Whether its changes bring the work here: it is to name the work's record as its owner.
    pub fn is_heard(&self) -> bool {
        self.owned && self.strategy.is_none_or(|it| it.kind != "ReadOnly")
    }

    /// What is made of a manifest where nothing is there, as it is stored.
    pub fn made(&self, mut manifest: Value, (owner, uid): Owner<'_>) -> Result<Value, ApiError> {
        put_owner(&mut manifest, owner, uid);
        let new = self.view.taken_in(manifest)?;
        self.view.check(&new, None)?;
        Ok(new)
    }

    /// What is there with a manifest in its place, both as they are stored.
    pub fn changed(
        &self,
        live: &Value,
        manifest: &Value,
        (owner, uid): Owner<'_>,
    ) -> Result<Value, ApiError> {
        if self.view.is_plain() {
            return Ok(laid_over(live, manifest, owner, uid));
        }
        let shown = self.view.outward(live.clone())?;
        let new = self.view.taken_in(laid_over(&shown, manifest, owner, uid))?;
        self.view.check(&new, Some(live))?;
        Ok(new)
    }

    /// `resourceMeta` of the manifest in this place of its work.
    pub fn meta(&self, at: usize) -> Value {
        let (target, kind) = (&self.target, &self.target.kind);
        json!({
            "ordinal": at, "group": kind.group(), "version": kind.version(), "kind": kind.kind(),
            "resource": kind.plural(), "name": target.name, "namespace": &*target.namespace,
        })
    }
}
