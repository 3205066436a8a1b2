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
//!   (`an_add_on_of_its_own_controller_is_registered_as_itself`).

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::conditions::{ADD_ON_REGISTERED, Condition};
use freewheel_hub_fleet::add_on::registration::{Registration, Signer};
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::Stored;
use serde_json::{Value, json};

use super::credentials::{Laid, rotated};
use super::registrar::{Registrar, TRY_AGAIN, agent_of};
use crate::engine::Error;

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
        let all: Vec<Value> = registrations.iter().map(Registration::told).collect();
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
        let mut out = Registered::default();
        let registrations = match Registration::of_template(template, of) {
            Ok(registrations) => registrations,
            // What it has is as it was.
            Err(why) => {
                out.conditions.push(registered(Some(&why.to_string())));
                return Ok(out);
            }
        };
        let (mut kept, denied) = self.bind(stored, &registrations).await?;
        out.look_again = denied.is_some().then_some(TRY_AGAIN);
        out.conditions.push(registered(denied.as_deref()));
        out.tell(object, &registrations);
        let laid = self.lay(stored, &registrations, namespace).await?;
        kept.extend_from_slice(&laid.secrets);
        self.keep_only(of, &kept).await?;
        out.laid(laid);
        Ok(out)
    }

    /// What it was registered as, and is still: of a template that changes the rest waits for its rollout.
    pub async fn renew(
        &self,
        (stored, object): (&Arc<Stored>, &Value),
        (template, namespace): (&Value, &str),
    ) -> Result<Registered, Error> {
        let told = object["status"]["registrations"].as_array().map(Vec::as_slice);
        let mut all =
            Registration::of_template(template, agent_of(&stored.key)).unwrap_or_default();
        all.retain(|it| told.unwrap_or_default().contains(&it.told()));
        let mut out = Registered::default();
        out.laid(self.lay(stored, &all, namespace).await?);
        Ok(out)
    }

    /// As a controller of the add-on's own asks for it, in the status of the instance.
    pub async fn follow(
        &self,
        (stored, object): (&Arc<Stored>, &Value),
        namespace: &str,
    ) -> Result<Registered, Error> {
        let of = agent_of(&stored.key);
        let (registrations, refused) = Registration::of_status(&object["status"], of);
        let mut out = Registered::default();
        if !registrations.is_empty() {
            out.fields.push(("kubeClientDriver", json!("csr")));
        }
        let laid = self.lay(stored, &registrations, namespace).await?;
        self.keep_only(of, &laid.secrets).await?;
        out.laid(laid);
        if let Some(name) = refused.first() {
            let why = format!("{name:?} is no name of an agent of this add-on on this cluster");
            out.conditions.push(rotated(Err(&*why)));
        }
        Ok(out)
    }

    /// Of an instance that is gone, or that is nobody's.
    pub async fn forget(&self, instance: &Key) -> Result<(), Error> {
        self.keep_only(agent_of(instance), &[]).await
    }
}

fn registered(denied: Option<&str>) -> Condition<'static> {
    let Some(why) = denied else {
        let text = "Registration of the addon agent is configured";
        return Condition::new(&ADD_ON_REGISTERED, true, "SetPermissionApplied", text);
    };
    let text = format!("Failed to set permission for hub agent: {why}");
    Condition::new(&ADD_ON_REGISTERED, false, "SetPermissionFailed", text)
}
