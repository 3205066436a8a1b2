//! Whose rights decide what of a work may be applied: a service account of the cluster itself.

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_fleet::work::{Executor, Work};
use freewheel_hub_objects::{Actor, FieldValidation, ObjectRef, Objects, Person, WriteOptions};
use serde_json::Value;

use crate::rights::{RightAsked, Rights};

/// Between two tries of what was not allowed.
pub(super) const TRY_AGAIN: Duration = Duration::from_mins(1);
/// What upstream asks for, whatever is to be done.
const VERBS: [&str; 5] = ["create", "update", "patch", "get", "delete"];
const RBAC: &str = "rbac.authorization.k8s.io";

/// The account of a work with an executor.
pub(super) struct Account {
    user: String,
    groups: Vec<String>,
}

/// Why something is not applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAllowed {
    /// The work names nobody whose rights are known.
    #[error("{0}")]
    NoAccount(&'static str),
    /// The account may not do this.
    #[error(
        "not allowed to apply the resource {group} {resource}, {place}, will try again in 1m0s"
    )]
    Rights { group: String, resource: String, place: String },
    /// It would give away what it does not have.
    #[error(
        "not allowed to apply the resource {group} {resource}, {place}, error: permission escalation, will try again in 1m0s"
    )]
    Escalation { group: String, resource: String, place: String },
}

impl Account {
    /// Of a work; nothing, when it is applied with all rights.
    pub fn of(work: &Work) -> Result<Option<Self>, NotAllowed> {
        let Some(Executor { subject }) = &work.executor else { return Ok(None) };
        if subject.kind != "ServiceAccount" {
            let why = "only support ServiceAccount type for the executor";
            return Err(NotAllowed::NoAccount(why));
        }
        let account = subject.service_account.as_ref();
        let account =
            account.ok_or(NotAllowed::NoAccount("the executor service account is nil"))?;
        let (namespace, name) = (&account.namespace, &account.name);
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        let groups = ["system:serviceaccounts", "system:authenticated", &of_namespace];
        Ok(Some(Self {
            user: format!("system:serviceaccount:{namespace}:{name}"),
            groups: groups.map(str::to_owned).into(),
        }))
    }

    /// Whether it may apply a manifest, and delete it where it goes with the work.
    pub async fn may_apply(
        &self,
        rights: &Arc<dyn Rights>,
        objects: &Objects,
        (target, manifest, is_owned): (&ObjectRef, &Value, bool),
    ) -> Result<(), NotAllowed> {
        let (group, resource) = (target.kind.group(), target.kind.plural());
        let place = format!("{} {}", target.namespace, target.name);
        let told = || (group.to_owned(), resource.to_owned(), place.clone());
        for verb in VERBS.into_iter().filter(|verb| is_owned || *verb != "delete") {
            let asked = RightAsked {
                cluster: &target.cluster,
                user: &self.user,
                groups: &self.groups,
                verb,
                group,
                resource,
                namespace: &target.namespace,
                name: &target.name,
            };
            if !rights.may(asked).await {
                let (group, resource, place) = told();
                return Err(NotAllowed::Rights { group, resource, place });
            }
        }
        if group == RBAC && self.is_refused(objects, target, manifest).await {
            let (group, resource, place) = told();
            return Err(NotAllowed::Escalation { group, resource, place });
        }
        Ok(())
    }

    /// Whether it is refused to make this, were it not there.
    async fn is_refused(&self, objects: &Objects, target: &ObjectRef, manifest: &Value) -> bool {
        let person = Person {
            name: self.user.clone(),
            groups: self.groups.clone(),
            by_controller: true,
            ..Person::default()
        };
        let how = WriteOptions {
            field_validation: FieldValidation::Ignore,
            dry_run: true,
            ..WriteOptions::by(Actor::from(person))
        };
        let made = objects.create(&how, target, manifest.clone()).await;
        made.is_err_and(|error| error.code == 403)
    }
}
