//! Credentials of agents of add-ons: a Secret for each registration, in the namespace of the agent in its own cluster.
//!
//! Guarantees:
//! - it is made anew before it ends (`credentials_are_made_anew_before_they_end`), when another board has taken the place of
//!   its cluster's device (`another_board_gets_credentials_of_its_own`), and when somebody has changed it, once in ten
//!   seconds (`what_somebody_does_to_credentials_is_set_right`);
//! - by a CA that upstream's manager of add-ons may not read nothing is signed, and that is told
//!   (`a_custom_signer_signs_with_its_own_ca`), and when it becomes another one, all is signed anew
//!   (`a_ca_that_changes_signs_anew`);
//! - a Secret that was not made for the agent is left alone (`what_is_not_an_agents_is_left_alone`);
//! - what its cluster refuses is told and tried again, and holds up nothing else of the add-on
//!   (`a_cluster_that_refuses_the_namespace_of_agents_keeps_no_add_on_from_others`,
//!   `an_agent_whose_namespace_is_refused_says_so_until_it_is_let_in`);
//! - the namespace of agents is made anew when somebody has deleted it, and so is what is to be in it
//!   (`a_namespace_of_agents_that_goes_is_made_anew`).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_api::conditions::{ADD_ON_CERTIFICATE_ROTATED, Condition};
use freewheel_hub_api::kinds::managed_cluster::AGENT_KEY_ANNOTATION;
use freewheel_hub_fleet::add_on::registration::{Registration, Signer, SigningCa};
use freewheel_hub_fleet::add_on::setting::DEFAULT_NAMESPACE;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::Stored;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::bindings::{MANAGER, manager_groups};
use super::credential::{CertificateValidity, Credential, MARK};
use super::grant::{Whose, labels, taken};
use super::registrar::{Registrar, TRY_AGAIN, agent_of};
use crate::engine::client::key as key_of;
use crate::engine::{Client, Error};
use crate::rights::RightAsked;
use crate::signing::{AgentCertificate, AgentSigner, Issued, SigningError};

/// Life of a certificate for the hub. Short, as nobody takes one back; of the last fifth, six days, a device may be away
/// and is still let in.
const HUB_VALIDITY: Duration = Duration::from_secs(30 * 86_400);
/// Of one of a custom signer, as upstream has it.
const CUSTOM_VALIDITY: Duration = Duration::from_secs(86_400);

/// What was laid into a cluster.
#[derive(Default)]
pub(super) struct Laid {
    pub condition: Option<Condition<'static>>,
    pub look_again: Option<Duration>,
}

/// Why an agent has no credentials, and when that may be another.
#[derive(Clone)]
struct NotLaid {
    why: String,
    look_again: Option<Duration>,
}

impl NotLaid {
    fn denied(why: String) -> Self {
        Self { why, look_again: Some(TRY_AGAIN) }
    }
}

/// Certificate and key of a custom signer.
type Pair = (Vec<u8>, Vec<u8>);

/// What one credential is for.
struct CredentialSubject<'a> {
    instance: &'a Stored,
    cluster: &'a ClusterName,
    /// UID of the ManagedCluster.
    cluster_uid: &'a str,
    /// The key of its device, where one has come.
    agent_key: &'a str,
    /// What writes only as long as the instance and its cluster are there.
    client: Client,
}

/// What is said of credentials.
pub(super) fn rotated(what: Result<&CertificateValidity, &str>) -> Condition<'static> {
    let (is, reason, text) = match what {
        Ok(life) => {
            let text =
                format!("client certificate rotated starting from {} to {}", life.from, life.to);
            (true, "ClientCertificateUpdated", text)
        }
        Err(why) => {
            let text = format!("Failed to rotated client certificate {why}");
            (false, "ClientCertificateUpdateFailed", text)
        }
    };
    Condition::new(&ADD_ON_CERTIFICATE_ROTATED, is, reason, text)
}

impl Registrar {
    /// Where the credentials of an agent are to be.
    pub fn places(
        &self,
        instance: &Key,
        registrations: &[Registration],
        namespace: &str,
    ) -> Vec<Key> {
        let Ok(cluster) = ClusterName::try_from(&*instance.namespace) else { return Vec::new() };
        let place = |it: &Registration| {
            key_of(&self.secrets, &cluster, namespace, &it.secret(&instance.name))
        };
        registrations.iter().map(place).collect()
    }

    /// Has the credentials of an agent be in a namespace of its cluster.
    pub async fn lay(
        &self,
        instance: &Arc<Stored>,
        registrations: &[Registration],
        namespace: &str,
    ) -> Result<Laid, Error> {
        // Before anything is read of them: who changes one from now on is heard.
        self.note_signers(&instance.key, registrations);
        let Ok(cluster) = ClusterName::try_from(&*instance.key.namespace) else {
            return Ok(Laid::default());
        };
        let managed = key_of(&self.clusters, &ClusterName::root(), "", cluster.as_str());
        let managed = self.client.snapshot().get(&managed);
        let Some(managed) = managed.filter(|it| !it.object.header.deleting) else {
            return Ok(Laid::default());
        };
        let client = self.client.while_there(&managed).while_there(instance);
        let cluster_uid = &managed.object.header.uid;
        let object = managed.object.value().map_err(Error::api("read a ManagedCluster"))?;
        let agent_key = &object["metadata"]["annotations"][AGENT_KEY_ANNOTATION];
        let agent_key = agent_key.as_str().unwrap_or_default();
        let place =
            CredentialSubject { instance, cluster: &cluster, cluster_uid, agent_key, client };
        let room = self.room(&place, namespace).await?;
        // Agents that ask for no credentials go on without it: what is to lie in it says so.
        let again = room.as_ref().err().and_then(|not| not.look_again);
        let mut out = Laid { look_again: again, ..Laid::default() };
        let (mut soonest, mut failed): (Option<CertificateValidity>, Option<String>) = (None, None);
        let places = self.places(&instance.key, registrations, namespace);
        for (registration, key) in registrations.iter().zip(places) {
            let look_again = match self.one(&place, &key, registration, &room).await? {
                Ok(life) => {
                    let left = life.again.duration_since(self.client.clock.now());
                    soonest = soonest.into_iter().chain([life]).min_by_key(|it| it.again);
                    Some(Duration::try_from(left).unwrap_or_default())
                }
                Err(not) => {
                    failed.get_or_insert(not.why);
                    not.look_again
                }
            };
            out.look_again = out.look_again.into_iter().chain(look_again).min();
        }
        out.condition = match (failed, soonest) {
            (Some(why), _) => Some(rotated(Err(&*why))),
            (None, Some(life)) => Some(rotated(Ok(&life))),
            (None, None) => None,
        };
        Ok(out)
    }

    /// One Secret: how long it is good, or why it is not there.
    async fn one(
        &self,
        place: &CredentialSubject<'_>,
        key: &Key,
        registration: &Registration,
        room: &Result<(), NotLaid>,
    ) -> Result<Result<CertificateValidity, NotLaid>, Error> {
        let there = self.client.snapshot().get(key);
        let of = agent_of(&place.instance.key);
        let whose = there.as_ref().map(|it| Whose::stored(of, it));
        if whose == Some(Whose::Others) {
            return Ok(Err(NotLaid::denied(taken(key))));
        }
        let ca = match self.signer(registration).await? {
            Ok(ca) => ca,
            Err(why) => return Ok(Err(NotLaid::denied(why))),
        };
        let credential = Credential {
            uid: &place.instance.object.header.uid,
            cluster_uid: place.cluster_uid,
            agent_key: place.agent_key,
            cluster: place.cluster.as_str(),
            registration,
            signer: ca.as_ref().map(|(certificate, _)| &**certificate),
            kubeconfig: &self.kubeconfig,
        };
        let life = |secret: Option<&Value>| {
            let now = self.client.clock.now();
            credential.life(secret, |pem| self.hub.authority.holds(pem), now)
        };
        let there = there.map(|it| it.object.value()).transpose();
        let there = there.map_err(Error::api("read the credentials of an agent"))?;
        // What is not marked as made there would not go with the add-on.
        if let Some(life) = life(there.as_ref()).filter(|_| whose == Some(Whose::Agents)) {
            return Ok(Ok(life));
        }
        if let Some(look_again) = self.turn(key) {
            let why = "it was written just now, and is another by now".to_owned();
            return Ok(Err(NotLaid { why, look_again: Some(look_again) }));
        }
        if let Err(not) = room {
            return Ok(Err(not.clone()));
        }
        let issued = match self.issue(place, registration, ca.as_ref())? {
            Ok(issued) => issued,
            Err(why) => return Ok(Err(NotLaid::denied(why))),
        };
        let written = self.write(place, key, &credential, &issued).await?;
        Ok(written.and_then(|secret| {
            let changed = || NotLaid::denied("it is not what was written".to_owned());
            life(Some(&secret)).ok_or_else(changed)
        }))
    }

    /// How long a Secret stays as others have changed it: it was written just now.
    fn turn(&self, key: &Key) -> Option<Duration> {
        self.written.lock().left(key, Instant::now())
    }

    async fn write(
        &self,
        place: &CredentialSubject<'_>,
        key: &Key,
        credential: &Credential<'_>,
        issued: &Issued,
    ) -> Result<Result<Value, NotLaid>, Error> {
        let of = agent_of(&place.instance.key);
        let data = credential.data(issued);
        let mark = credential.mark(&data);
        let change = |old: Option<Value>| {
            if old.as_ref().is_some_and(|old| Whose::there(of, key, old) == Whose::Others) {
                return Err(ApiError::new(403, "Forbidden", taken(key)));
            }
            let mut value = old.unwrap_or_else(|| json!({"metadata": {}}));
            let meta = &mut value["metadata"];
            for (label, said) in labels(of, key) {
                meta["labels"][label] = json!(said);
            }
            meta["annotations"][MARK] = json!(mark);
            for (name, held) in data.as_object().into_iter().flatten() {
                value["data"][name] = held.clone();
            }
            Ok(value)
        };
        self.written.lock().note(key, Instant::now());
        match place.client.insist(&self.secrets, key, change).await {
            Ok(written) => {
                let value = written.stored.object.value();
                value.map(Ok).map_err(Error::api("read the credentials of an agent"))
            }
            // The instance or its cluster is gone, or somebody else writes: it is looked at anew.
            Err(overtaken) if overtaken.code == 409 => {
                Err(Error::api("lay the credentials of an agent")(overtaken))
            }
            Err(refused) => Ok(Err(NotLaid::denied(refused.message))),
        }
    }

    /// Whether the namespace of an agent is there, or why not. Upstream's is made before any agent comes, for those that
    /// ask for no credentials as well; others come with theirs.
    async fn room(
        &self,
        place: &CredentialSubject<'_>,
        namespace: &str,
    ) -> Result<Result<(), NotLaid>, Error> {
        let key = key_of(&self.namespaces, place.cluster, "", namespace);
        let there = self.client.snapshot().get(&key);
        if there.as_ref().is_some_and(|it| !it.object.header.deleting) {
            return Ok(Ok(()));
        }
        if there.is_some() || namespace != DEFAULT_NAMESPACE {
            // It is told when the namespace comes, or has gone.
            let why = format!("namespaces {namespace:?} not found");
            return Ok(Err(NotLaid { why, look_again: None }));
        }
        let new = json!({"metadata": {"name": namespace}});
        match place.client.create(&self.namespaces, place.cluster, "", &new).await {
            Ok(_) => Ok(Ok(())),
            Err(taken) if taken.reason == "AlreadyExists" => Ok(Ok(())),
            Err(overtaken) if overtaken.code == 409 => {
                Err(Error::api("make the namespace of agents")(overtaken))
            }
            Err(refused) => {
                let why = format!("namespace {namespace:?} cannot be made: {}", refused.message);
                Ok(Err(NotLaid::denied(why)))
            }
        }
    }

    /// A certificate with its key, or why there is none.
    fn issue(
        &self,
        place: &CredentialSubject<'_>,
        registration: &Registration,
        ca: Option<&Pair>,
    ) -> Result<Result<Issued, String>, Error> {
        let (signer, life) = match ca {
            None => (AgentSigner::Hub, HUB_VALIDITY),
            Some((certificate, key)) => (AgentSigner::Custom { certificate, key }, CUSTOM_VALIDITY),
        };
        let asked = AgentCertificate {
            cluster: place.cluster,
            add_on: &place.instance.key.name,
            uid: &place.instance.object.header.uid,
            cluster_uid: place.cluster_uid,
            agent_key: place.agent_key,
            user: &registration.subject.user,
            groups: &registration.subject.groups,
            units: &registration.subject.units,
            signer,
            life,
            now: self.client.clock.now(),
        };
        match self.hub.authority.issue(&asked) {
            Ok(issued) => Ok(Ok(issued)),
            Err(SigningError::Refused(why)) => Ok(Err(why)),
            Err(failed @ SigningError::Failed(_)) => Err(Error::SigningError(failed)),
        }
    }

    /// Who signs where the hub does not; or why nobody.
    async fn signer(
        &self,
        registration: &Registration,
    ) -> Result<Result<Option<Pair>, String>, Error> {
        match &registration.signer {
            Signer::Hub(_) => Ok(Ok(None)),
            Signer::Custom { ca, .. } => Ok(self.ca(ca).await?.map(Some)),
        }
    }

    /// Certificate and key of a CA in the root, as far as upstream's manager of add-ons may read it.
    async fn ca(&self, ca: &SigningCa) -> Result<Result<Pair, String>, Error> {
        let SigningCa { namespace, name } = ca;
        let failed = |why: String| format!("get custom signer ca {namespace}/{name} failed: {why}");
        let (root, groups) = (ClusterName::root(), manager_groups());
        let asked = RightAsked {
            cluster: &root,
            user: MANAGER,
            groups: &groups,
            verb: "get",
            group: "",
            resource: "secrets",
            namespace,
            name,
        };
        if !self.hub.rights.may(asked).await {
            return Ok(Err(failed(format!(
                "secrets {name:?} is forbidden: User {MANAGER:?} cannot get resource \"secrets\" in API group \"\" in \
                 the namespace {namespace:?}"
            ))));
        }
        let there = self.client.snapshot().get(&key_of(&self.secrets, &root, namespace, name));
        let Some(there) = there else {
            return Ok(Err(failed(format!("secrets {name:?} not found"))));
        };
        let secret = there.object.value().map_err(Error::api("read the CA of a signer"))?;
        let of = |key: &str| {
            let text = secret["data"][key].as_str().unwrap_or_default();
            STANDARD.decode(text).unwrap_or_default()
        };
        Ok(Ok((of("tls.crt"), of("tls.key"))))
    }
}
