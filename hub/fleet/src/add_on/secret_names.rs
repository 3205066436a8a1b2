//! Which of the registrations of one add-on have a Secret of their own: agents know theirs by its name, which several may
//! come to.
//!
//! Guarantees:
//! - Secrets do not take each other's place: the first that asks for one has it (`a_secret_is_of_the_first_that_asks_for_it`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::registration::{Registration, Signer};

/// A registration that would take the place of another one of its add-on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("registration {second} is left out: its Secret {secret:?} is that of registration {first}")]
pub struct Clash {
    /// The Secret of both.
    pub secret: String,
    /// Whose it is.
    pub first: String,
    /// Whose it is not.
    pub second: String,
}

/// Those that have a Secret of their own, and the first that has not. What is said twice is said once.
#[must_use]
pub fn apart(all: Vec<Registration>, add_on: &str) -> (Vec<Registration>, Option<Clash>) {
    let (mut out, mut clash) = (Vec::<Registration>::new(), None);
    let mut places = HashMap::new();
    for one in all {
        match places.entry(one.secret(add_on)) {
            Entry::Vacant(free) => {
                free.insert(out.len());
                out.push(one);
            }
            Entry::Occupied(taken) => {
                let Some(first) = out.get_mut(*taken.get()) else { continue };
                if !takes_in(first, &one) {
                    clash.get_or_insert_with(|| Clash {
                        secret: taken.key().clone(),
                        first: label(first),
                        second: label(&one),
                    });
                }
            }
        }
    }
    (out, clash)
}

/// Whether another one is of the same agent and signer; what that may do, this may do then.
fn takes_in(first: &mut Registration, other: &Registration) -> bool {
    if first.subject == other.subject
        && let (Signer::Hub(own), Signer::Hub(more)) = (&mut first.signer, &other.signer)
    {
        own.extend_from_slice(more);
        return true;
    }
    first == other
}

fn label(one: &Registration) -> String {
    format!("of {:?} by {:?}", one.subject.user, one.signer_name())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::registration::AgentOf;
    use super::*;

    const OF: AgentOf<'_> = AgentOf { add_on: "web", cluster: "pi-7" };

    fn template(registration: &Value) -> Vec<Registration> {
        Registration::of_template(&json!({"registration": registration}), OF).unwrap()
    }

    #[test]
    fn a_secret_is_of_the_first_that_asks_for_it() {
        let kube = |role: &str| {
            let current = json!({"clusterRoleName": role});
            let permission = json!({"type": "CurrentCluster", "currentCluster": current});
            json!({"type": "KubeClient", "kubeClient": {"hubPermissions": [permission]}})
        };
        let signer = |name: &str, ca: &str| {
            let asked = json!({"signerName": name, "signingCA": {"name": ca}});
            json!({"type": "CustomSigner", "customSigner": asked})
        };
        let all = json!([
            kube("a"),
            signer("a.io/b", "ca"),
            kube("b"),
            signer("a.io/b", "ca"),
            signer("a.io-b", "ca"),
            signer("a.io/b", "other"),
        ]);
        let (own, clash) = apart(template(&all), "web");
        let secrets: Vec<String> = own.iter().map(|it| it.secret("web")).collect();
        assert_eq!(secrets, ["web-hub-kubeconfig", "web-a.io-b-client-cert"]);
        assert_eq!(
            OF.bindings(&own).len(),
            2,
            "an agent that is named twice has the rights of both"
        );
        let why = clash.unwrap().to_string();
        assert!(why.contains("by \"a.io-b\" is left out"), "{why}");
        assert!(why.contains("by \"a.io/b\"") && why.contains("web-a.io-b-client-cert"), "{why}");
        let (_, clash) = apart(template(&json!([signer("a.io/b", "ca")])), "web");
        assert_eq!(clash, None);
        let user = |agent: &str| format!("{}:agent:{agent}", OF.group());
        let named = |agent: &str| json!({"signerName": "kubernetes.io/kube-apiserver-client", "subject": {"user": user(agent)}});
        let status = json!({"registrations": [named("x"), named("y"), named("x")]});
        let (given, _) = Registration::of_status(&status, OF);
        let (own, clash) = apart(given, "web");
        assert_eq!((own.len(), clash.is_some()), (1, true));
    }
}
