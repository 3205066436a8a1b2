//! From a token to an identity. Writes nothing: the binary keeps what comes out.
//!
//! Of the device's key, a signing request comes here and nothing else.
//!
//! Guarantees:
//! - what the hub answers is used only when its CA is the pinned one and the name the one that was asked for
//!   (`what_the_hub_gives_is_of_the_pinned_ca_and_for_the_asked_name`).

use freewheel_link::digest::Digest;
use freewheel_link::join::{self, AcceptedV1, JoinError, JoinRequestV1, RenewRequestV1, Token};
use freewheel_link::names::ClusterName;
use freewheel_link::tls;
use freewheel_link::transport::Transport;

/// What a spoke keeps of its joining.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub cluster: ClusterName,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// The fleet's CA, DER.
    pub ca: Vec<u8>,
    /// Root of trust for compiled modules.
    pub fleet_root: [u8; 32],
}

/// What to ask for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The token.
    pub token: Token,
    /// Name to have.
    pub name: ClusterName,
    /// Certificate signing request, DER, made with the device's key.
    pub csr: Vec<u8>,
    /// Hash of the CA's key that the device was given.
    pub ca_hash: Digest,
    /// Labels, sorted.
    pub labels: Vec<(String, String)>,
    /// Version of the agent.
    pub version: String,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum NoIdentity {
    /// The hub did not give one.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// What it gave does not fit together.
    #[error("the hub's answer does not fit: {0}")]
    Odd(String),
}

/// Joins over a connection made with [`tls::join_client`]; `pending` hears what the hub waits for.
///
/// # Errors
/// When the hub refuses or goes away, or answers with something that cannot be trusted.
pub async fn join(
    link: &dyn Transport,
    ask: &Ask,
    pending: impl FnMut(&str) + Send,
) -> Result<Identity, NoIdentity> {
    let request = JoinRequestV1 {
        token: ask.token.clone().into(),
        name: ask.name.to_string(),
        csr: ask.csr.clone(),
        labels: ask.labels.clone(),
        version: ask.version.clone(),
    };
    let accepted = join::submit(link, &request, pending).await?;
    check(accepted, Some(&ask.name), ask.ca_hash)
}

/// Asks for a new certificate with an old one, which may have expired, over a connection made with
/// [`tls::join_client`]. `ca_hash` is that of the CA that the device keeps. Where the hub has given this device another's
/// place, the certificate is for that one's name.
///
/// # Errors
/// When the hub refuses or goes away, or answers with something that cannot be trusted.
pub async fn renew(
    link: &dyn Transport,
    ca_hash: Digest,
    request: RenewRequestV1,
) -> Result<Identity, NoIdentity> {
    check(join::renew(link, request).await?, None, ca_hash)
}

fn check(
    accepted: AcceptedV1,
    name: Option<&ClusterName>,
    ca_hash: Digest,
) -> Result<Identity, NoIdentity> {
    let hash = tls::key_hash(&accepted.ca.as_slice().into())
        .map_err(|error| NoIdentity::Odd(error.to_string()))?;
    if hash != ca_hash {
        return Err(NoIdentity::Odd(format!("its CA is {hash}, pinned is {ca_hash}")));
    }
    if name.is_some_and(|name| accepted.cluster != *name) {
        return Err(NoIdentity::Odd(format!("it is for {}", accepted.cluster)));
    }
    Ok(Identity {
        cluster: accepted.cluster,
        certificate: accepted.certificate,
        ca: accepted.ca,
        fleet_root: accepted.fleet_root,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn what_the_hub_gives_is_of_the_pinned_ca_and_for_the_asked_name() {
        let (pinned, other) = (ca(), ca());
        let hash = tls::key_hash(&pinned.as_slice().into()).unwrap();
        let name = ClusterName::try_from("pi-7").unwrap();
        let given = |ca: &[u8], cluster: &str| AcceptedV1 {
            cluster: ClusterName::try_from(cluster).unwrap(),
            certificate: vec![1],
            ca: ca.to_vec(),
            fleet_root: [3; 32],
        };
        assert!(check(given(&pinned, "pi-7"), Some(&name), hash).is_ok());
        assert!(check(given(&pinned, "pi-8"), None, hash).is_ok(), "it takes another's place");
        assert!(check(given(&other, "pi-8"), None, hash).is_err());
        for wrong in
            [given(&other, "pi-7"), given(b"no certificate", "pi-7"), given(&pinned, "pi-8")]
        {
            assert!(matches!(check(wrong, Some(&name), hash), Err(NoIdentity::Odd(_))));
        }
    }
}
