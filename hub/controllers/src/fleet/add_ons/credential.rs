//! What an agent finds in its Secret, and when that is made anew.
//!
//! Guarantees:
//! - it is made anew with a quarter to a fifth of its life left, so that not all agents have theirs at once, and when it is
//!   for somebody else, on another board too, or somebody has changed it (`a_credential_is_made_anew_in_time`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_fleet::add_on::registration::{Registration, Signer};
use freewheel_link::digest::Digest;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::signing::Issued;

/// Annotation of a Secret: the digest of what it is for and of what it holds.
pub(super) const MARK: &str = "freewheel.dev/credential";

const CERTIFICATE: &str = "tls.crt";

/// A credential as it is to be.
#[derive(Clone, Copy)]
pub(super) struct Credential<'a> {
    /// UID of the ManagedClusterAddOn.
    pub uid: &'a str,
    /// UID of the ManagedCluster.
    pub cluster_uid: &'a str,
    /// The key of the cluster's device.
    pub agent_key: &'a str,
    pub cluster: &'a str,
    pub registration: &'a Registration,
    /// The certificate of the custom signer, whose change is a reason for another one.
    pub signer: Option<&'a [u8]>,
    /// How the hub is reached, in base64.
    pub kubeconfig: &'a str,
}

/// From when to when one holds, and when there is to be another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CertificateValidity {
    pub from: Timestamp,
    pub to: Timestamp,
    pub again: Timestamp,
}

impl Credential<'_> {
    /// What is in it beside key and certificate.
    fn fixed(&self) -> Vec<(&'static str, String)> {
        let cluster = ("cluster-name", STANDARD.encode(self.cluster));
        match &self.registration.signer {
            Signer::Custom { .. } => vec![cluster],
            Signer::Hub(_) => {
                let user = &self.registration.subject.user;
                let agent = user.rsplit(':').next().unwrap_or_default();
                let agent = ("agent-name", STANDARD.encode(agent));
                vec![cluster, agent, ("kubeconfig", self.kubeconfig.to_owned())]
            }
        }
    }

    /// What is in it.
    pub fn data(&self, issued: &Issued) -> Value {
        let mut data = json!({
            CERTIFICATE: STANDARD.encode(&issued.certificate),
            "tls.key": STANDARD.encode(&issued.key),
        });
        for (key, value) in self.fixed() {
            data[key] = json!(value);
        }
        data
    }

    pub fn mark(&self, data: &Value) -> String {
        let fixed: Vec<&Value> = self.fixed().iter().map(|(key, _)| &data[*key]).collect();
        let held = json!([data[CERTIFICATE], data["tls.key"], fixed]);
        let whose = json!([self.uid, self.cluster_uid, self.agent_key]);
        let mut of = vec![json!([whose, self.registration.to_status(), held])];
        of.extend(self.signer.map(|it| json!(Digest::of(it).hex())));
        Digest::of(json!(of).to_string().as_bytes()).hex()
    }

    /// How long the one in a Secret is good; nothing, where it is to be made.
    pub fn life(
        &self,
        secret: Option<&Value>,
        holds: impl Fn(&[u8]) -> Option<(Timestamp, Timestamp)>,
        now: Timestamp,
    ) -> Option<CertificateValidity> {
        let secret = secret?;
        let (data, mark) = (&secret["data"], &secret["metadata"]["annotations"][MARK]);
        let is_fixed = self.fixed().iter().all(|(key, value)| data[*key] == **value);
        if !is_fixed || *mark != *self.mark(data) {
            return None;
        }
        let pem = STANDARD.decode(data[CERTIFICATE].as_str()?).ok()?;
        let (from, to) = holds(&pem)?;
        // The same each time it is asked for, and another one for each agent.
        let share = 20 + i32::try_from(self.uid.bytes().map(u32::from).sum::<u32>() % 6).ok()?;
        let left = to.duration_since(from) * share / 100;
        let again = to.checked_sub(left).unwrap_or(to);
        (from <= now && now < again).then_some(CertificateValidity { from, to, again })
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_fleet::add_on::registration::AgentOf;

    use super::*;

    fn holds(pem: &[u8]) -> Option<(Timestamp, Timestamp)> {
        let (from, to) = std::str::from_utf8(pem).ok()?.split_once(' ')?;
        Some((from.parse().ok()?, to.parse().ok()?))
    }

    #[test]
    fn a_credential_is_made_anew_in_time() {
        let template = json!({"registration": [{"type": "KubeClient"}]});
        let of = AgentOf { add_on: "web", cluster: "pi-7" };
        let all = Registration::of_template(&template, of).unwrap();
        let one = Credential {
            uid: "a",
            cluster_uid: "c",
            agent_key: "k",
            cluster: "pi-7",
            registration: &all[0],
            signer: None,
            kubeconfig: "aw==",
        };
        let certificate = "2026-01-01T00:00:00Z 2026-04-11T00:00:00Z".to_owned();
        let data = one.data(&Issued { certificate, key: "k".to_owned() });
        assert_eq!(data["cluster-name"], STANDARD.encode("pi-7"));
        assert_eq!(data["agent-name"], STANDARD.encode("web-agent"));
        let secret = json!({"metadata": {"annotations": {MARK: one.mark(&data)}}, "data": data});
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let life = |one: &Credential<'_>, secret: &Value, now: &str| {
            one.life(Some(secret), holds, at(now)).map(|it| it.again)
        };
        // 'a' is 97, which leaves 1: 21 of a hundred days.
        let again = at("2026-03-21T00:00:00Z");
        assert_eq!(life(&one, &secret, "2026-01-01T00:00:00Z"), Some(again));
        assert_eq!(life(&one, &secret, "2026-03-20T23:59:59Z"), Some(again));
        for now in ["2026-03-21T00:00:00Z", "2026-05-01T00:00:00Z", "2025-12-31T00:00:00Z"] {
            assert_eq!(life(&one, &secret, now), None, "{now}");
        }
        assert_eq!(one.life(None, holds, again), None);
        let noon = "2026-01-01T12:00:00Z";
        assert_eq!(life(&Credential { uid: "b", ..one }, &secret, noon), None);
        assert_eq!(life(&Credential { cluster_uid: "d", ..one }, &secret, noon), None);
        assert_eq!(life(&Credential { agent_key: "l", ..one }, &secret, noon), None);
        assert_eq!(life(&Credential { kubeconfig: "eA==", ..one }, &secret, noon), None);
        assert_eq!(life(&Credential { signer: Some(b"another"), ..one }, &secret, noon), None);
        for key in ["tls.crt", "tls.key", "cluster-name"] {
            let mut changed = secret.clone();
            changed["data"][key] = json!("eA==");
            assert_eq!(life(&one, &changed, noon), None, "{key}");
        }
    }
}
