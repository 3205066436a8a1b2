//! Registers the agent of an add-on at the hub, and says what came of it.
//!
//! ```text
//! registration of the template ─▶ RoleBindings in the root ─▶ RegistrationApplied
//!                              └▶ status.registrations ─▶ Secret in its cluster ─▶ ClusterCertificateRotated
//! ```
//!
//! Guarantees:
//! - an agent gets its credentials and its rights, and loses both with its add-on
//!   (`an_agent_gets_credentials_and_rights_that_go_with_it`), or with its registration
//!   (`what_is_registered_no_more_goes`);
//! - what others say of their own agents is followed, and no other name is given out
//!   (`an_add_on_of_its_own_controller_is_registered_as_itself`);
//! - by a template that is broken or gone nothing is given and nothing taken away: what the last good one gave stays and is
//!   made anew in time, until it is mended or the add-on goes (`a_broken_template_leaves_agents_what_they_have`);
//! - on a cluster that the hub does not accept nobody has anything (`who_is_not_accepted_has_no_credentials`).

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::conditions::{ADD_ON_REGISTERED, Condition};
use freewheel_hub_fleet::add_on::registration::{Registration, Signer};
use freewheel_hub_fleet::add_on::secret_names::apart;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::Stored;
use serde_json::{Value, json};

use super::credentials::{Laid, rotated};
use super::registrar::{Registrar, TRY_AGAIN, agent_of};
use crate::engine::Error;

/// Why an agent of a cluster has nothing.
const NOT_ACCEPTED: &str = "the hub does not accept the cluster";

/// What is to be said of a registration.
#[derive(Default)]
pub(super) struct Registered {
    pub conditions: Vec<Condition<'static>>,
    /// Fields of the status.
    pub fields: Vec<(&'static str, Value)>,
    pub look_again: Option<Duration>,
}

impl Registered {
    /// The registrations, where there are some or were.
    fn tell(&mut self, object: &Value, registrations: &[Registration]) {
        let told = |key: &str| !object["status"][key].is_null();
        if registrations.is_empty() && !told("registrations") && !told("kubeClientDriver") {
            return;
        }
        let all: Vec<Value> = registrations.iter().map(Registration::to_status).collect();
        let by_hub = registrations.iter().any(|it| matches!(it.signer, Signer::Hub(_)));
        self.fields.push(("registrations", if all.is_empty() { Value::Null } else { all.into() }));
        self.fields.push(("kubeClientDriver", if by_hub { json!("csr") } else { Value::Null }));
    }

    fn laid(&mut self, laid: Laid) {
        self.conditions.extend(laid.condition);
        self.look_again = self.look_again.into_iter().chain(laid.look_again).min();
    }
}

impl Registrar {
    /// As the template of an instance asks for it.
    pub async fn register(
        &self,
        (stored, object): (&Arc<Stored>, &Value),
        (template, namespace): (&Value, &str),
    ) -> Result<Registered, Error> {
        let of = agent_of(&stored.key);
        if let Some(out) = self.unless_accepted(stored).await? {
            return Ok(out);
        }
        let registrations = match Registration::of_template(template, of) {
            Ok(registrations) => registrations,
            Err(why) => {
                let now = (Some(template), namespace);
                return self.keep((stored, object), now, &why.to_string()).await;
            }
        };
        let mut out = Registered::default();
        let (registrations, clash) = apart(registrations, of.add_on);
        let (mut kept, denied) = self.bind(stored, &registrations).await?;
        out.look_again = denied.is_some().then_some(TRY_AGAIN);
        let why = denied.or_else(|| clash.map(|it| it.to_string()));
        out.conditions.push(registered(why.as_deref()));
        out.tell(object, &registrations);
        kept.extend(self.places(&stored.key, &registrations, namespace));
        // What is taken away does not wait for what may fail.
        self.keep_only(of, &kept).await?;
        out.laid(self.lay(stored, &registrations, namespace).await?);
        Ok(out)
    }

    /// What it was registered as, and is still: of a template that changes the rest waits for its rollout. Where there is
    /// no template, what the hub signs itself: who else signs is said there alone, as agents write their status.
    pub async fn renew(
        &self,
        (stored, object): (&Arc<Stored>, &Value),
        (template, namespace): (Option<&Value>, &str),
    ) -> Result<Registered, Error> {
        if let Some(out) = self.unless_accepted(stored).await? {
            return Ok(out);
        }
        let of = agent_of(&stored.key);
        let all = match template {
            Some(template) => {
                let told = registrations_of(object);
                let mut all = Registration::readable(template, of);
                all.retain(|it| told.contains(&it.to_status()));
                all
            }
            None => Registration::of_status(&object["status"], of).0,
        };
        let (all, _) = apart(all, of.add_on);
        let mut out = Registered::default();
        out.laid(self.lay(stored, &all, namespace).await?);
        Ok(out)
    }

    /// What it was registered as last: what it is to be instead cannot be told, and that is said.
    pub async fn keep(
        &self,
        (stored, object): (&Arc<Stored>, &Value),
        now: (Option<&Value>, &str),
        why: &str,
    ) -> Result<Registered, Error> {
        let mut out = self.renew((stored, object), now).await?;
        if !out.conditions.iter().any(|it| it.kind == &ADD_ON_REGISTERED) {
            let is_anything = !registrations_of(object).is_empty();
            let what = "the agent keeps the rights and credentials that it has until this is mended or the add-on goes";
            let text = if is_anything { format!("{why}; {what}") } else { why.to_owned() };
            out.conditions.push(registered(Some(&text)));
        }
        Ok(out)
    }

    /// What is said of an instance whose cluster the hub does not accept, or no more: its agent has nothing.
    async fn unless_accepted(&self, stored: &Stored) -> Result<Option<Registered>, Error> {
        if self.accepts(&stored.key)? {
            return Ok(None);
        }
        self.forget(&stored.key).await?;
        let why = registered(Some(NOT_ACCEPTED));
        Ok(Some(Registered { conditions: vec![why], ..Registered::default() }))
    }

    /// As a controller of the add-on's own asks for it, in the status of the instance.
    pub async fn follow(
        &self,
        (stored, object): (&Arc<Stored>, &Value),
        namespace: &str,
    ) -> Result<Registered, Error> {
        let of = agent_of(&stored.key);
        let (registrations, refused) = Registration::of_status(&object["status"], of);
        let (registrations, clash) = apart(registrations, of.add_on);
        let mut out = Registered::default();
        if !self.accepts(&stored.key)? {
            self.forget(&stored.key).await?;
            out.conditions.extend((!registrations.is_empty()).then(|| rotated(Err(NOT_ACCEPTED))));
            return Ok(out);
        }
        if !registrations.is_empty() {
            out.fields.push(("kubeClientDriver", json!("csr")));
        }
        self.keep_only(of, &self.places(&stored.key, &registrations, namespace)).await?;
        out.laid(self.lay(stored, &registrations, namespace).await?);
        let foreign = refused
            .first()
            .map(|name| format!("{name:?} is no name of an agent of this add-on on this cluster"));
        if let Some(why) = foreign.or_else(|| clash.map(|it| it.to_string())) {
            out.conditions.push(rotated(Err(&*why)));
        }
        Ok(out)
    }

    /// Of an instance that is gone, or that is nobody's.
    pub async fn forget(&self, instance: &Key) -> Result<(), Error> {
        self.note_signers(instance, &[]);
        self.keep_only(agent_of(instance), &[]).await
    }
}

/// As what it is registered, as far as that is said.
fn registrations_of(object: &Value) -> &[Value] {
    object["status"]["registrations"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn registered(denied: Option<&str>) -> Condition<'static> {
    let Some(why) = denied else {
        let text = "Registration of the addon agent is configured";
        return Condition::new(&ADD_ON_REGISTERED, true, "SetPermissionApplied", text);
    };
    let text = format!("Failed to set permission for hub agent: {why}");
    Condition::new(&ADD_ON_REGISTERED, false, "SetPermissionFailed", text)
}
