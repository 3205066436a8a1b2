//! Whose rights decide what of a work may be applied: a service account of the cluster itself.
//!
//! Guarantees:
//! - it gives away nothing that it does not have, whatever is there already and however it is asked for
//!   (`an_executor_gives_away_nothing_by_another_way`).

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_fleet::work::{Executor, Work};
use freewheel_hub_objects::{ObjectRef, Person};

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
    /// The account may not see this.
    #[error("not allowed to get the resource {group} {resource}, {place}")]
    Read { group: String, resource: String, place: String },
    /// It would give away what it does not have, or something else stands in its way.
    #[error(
        "not allowed to apply the resource {group} {resource}, {place}, error: {why}, will try again in 1m0s"
    )]
    Refused { group: String, resource: String, place: String, why: String },
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
        (target, is_owned): (&ObjectRef, bool),
    ) -> Result<(), NotAllowed> {
        for verb in VERBS.into_iter().filter(|verb| is_owned || *verb != "delete") {
            if !rights.may(self.asks(verb, target)).await {
                let (group, resource, place) = target_names(target);
                return Err(NotAllowed::Rights { group, resource, place });
            }
        }
        Ok(())
    }

    /// Whether it may see an object: what is said of it is said to whoever reads the work.
    pub async fn may_see(
        &self,
        rights: &Arc<dyn Rights>,
        target: &ObjectRef,
    ) -> Result<(), NotAllowed> {
        if rights.may(self.asks("get", target)).await {
            return Ok(());
        }
        let (group, resource, place) = target_names(target);
        Err(NotAllowed::Read { group, resource, place })
    }

    fn asks<'a>(&'a self, verb: &'a str, target: &'a ObjectRef) -> RightAsked<'a> {
        RightAsked {
            cluster: &target.cluster,
            user: &self.user,
            groups: &self.groups,
            verb,
            group: target.kind.group(),
            resource: target.kind.plural(),
            namespace: &target.namespace,
            name: &target.name,
        }
    }

    /// Who writes what gives rights away: the account itself, so that the very write that is made is looked at, and not one
    /// that is like it.
    pub fn gives(&self, target: &ObjectRef) -> Option<Person> {
        let (name, groups) = (self.user.clone(), self.groups.clone());
        let person = Person { name, groups, by_controller: true, ..Person::default() };
        (target.kind.group() == RBAC).then_some(person)
    }
}

impl NotAllowed {
    /// What was written in the account's own name, and refused for this reason.
    pub fn to_write(target: &ObjectRef, why: String) -> Self {
        let (group, resource, place) = target_names(target);
        Self::Refused { group, resource, place, why }
    }
}

/// What is not to be applied, and where.
fn target_names(target: &ObjectRef) -> (String, String, String) {
    let place = format!("{} {}", target.namespace, target.name);
    (target.kind.group().to_owned(), target.kind.plural().to_owned(), place)
}
