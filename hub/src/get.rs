//! `hub get kubeconfig`: the kubeconfig in use for the root; for one spoke's own API, and for somebody else, one with a
//! certificate of its own. One for a spoke opens that cluster alone, whatever its holder would have elsewhere.
//!
//! ```text
//! key made here ─▶ CertificateSigningRequest ─▶ approved with the caller's rights ─▶ signed ─▶ printed
//! ```

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_apiserver::{CLUSTER_ADMIN, CONFINED};
use freewheel_hub_pki::{RequestError, signing_request};
use freewheel_hub_schema::time;
use freewheel_link::names::ClusterName;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::cli::KubeconfigOptions;
use crate::client::{Client, ClientError};
use crate::kubeconfig;

const CLUSTERS: &str = "/apis/cluster.open-cluster-management.io/v1/managedclusters";

const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// A hub signs at once.
const SIGNING_TIMEOUT: Duration = Duration::from_secs(20);
const SIGNING_POLL_EVERY: Duration = Duration::from_millis(50);

/// So many names help; all of a large fleet do not.
const NAMES_SHOWN_MAX: usize = 10;

/// Why there is no kubeconfig to print.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The hub.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody has this name.
    #[error("there is no cluster {name:?}; {known}")]
    NoCluster {
        /// What was asked for.
        name: String,
        /// What there is instead.
        known: String,
    },
    /// No key or request.
    #[error("cannot make a key")]
    Key(#[from] RequestError),
    /// The hub has not signed.
    #[error("the hub has not signed the certificate of {0} in time: see `kubectl get csr {0}`")]
    Unsigned(String),
}

/// Prints it.
///
/// # Errors
/// When there is no kubeconfig, or no such cluster.
pub async fn kubeconfig(options: KubeconfigOptions) -> Result<(), GetError> {
    let client = Client::new(options.kubeconfig.as_deref())?.at_root();
    let access = client.access();
    let root = access.server.split("/clusters/").next().unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let ca = text(&access.ca_pem);
    let cluster = options.cluster.as_deref().filter(|name| *name != "root");
    let home = match cluster {
        Some(cluster) => Some((cluster, find(&client, cluster).await?)),
        None => None,
    };
    let server = cluster.map_or_else(|| root.to_owned(), |name| format!("{root}/clusters/{name}"));
    let (cert, key) = match Holder::of(&options, home.as_ref()) {
        Some(holder) => holder.certificate(&client).await?,
        None => (text(&access.cert_pem), text(&access.key_pem)),
    };
    let name = cluster.unwrap_or("freewheel");
    print!("{}", kubeconfig::write(name, &server, (&ca, &cert, &key)));
    Ok(())
}

/// Whom a certificate is for.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    name: String,
    groups: Vec<String>,
    /// What stands in the name of the request, and in its approval.
    label: &'static str,
    why: String,
}

impl Holder {
    /// `None` for who has one already: the caller, in the root. `home` is the cluster that they are let into alone, and
    /// its UID.
    fn of(options: &KubeconfigOptions, home: Option<&(&str, String)>) -> Option<Self> {
        let confined = home.map(|(cluster, uid)| format!("{CONFINED}{cluster}:{uid}"));
        let place = home.map_or("the root", |(cluster, _)| *cluster);
        let Some(user) = &options.user else {
            let (cluster, uid) = home?;
            let groups = [Some(format!("{CLUSTER_ADMIN}{cluster}:{uid}")), confined];
            return Some(Self {
                name: format!("cluster-admin:{cluster}"),
                groups: groups.into_iter().flatten().collect(),
                label: "cluster-admin",
                why: format!("for the administrator of {cluster} alone"),
            });
        };
        let groups = options.groups.iter().cloned().chain(confined).collect();
        let why = format!("for {user} in {place}, who may do what roles give them there");
        Some(Self { name: user.clone(), groups, label: "user", why })
    }

    /// A certificate and its key.
    async fn certificate(&self, client: &Client) -> Result<(String, String), GetError> {
        let groups: Vec<&str> = self.groups.iter().map(String::as_str).collect();
        let (request, key_pem) = signing_request(&self.name, &groups)?;
        let signed = signed(client, self, &request).await?;
        Ok((signed, key_pem))
    }
}

/// A request, approved with the caller's rights and signed.
async fn signed(client: &Client, holder: &Holder, request: &str) -> Result<String, GetError> {
    let asked = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"generateName": format!("{}-", holder.label)},
        "spec": {
            "request": STANDARD.encode(request), "signerName": SIGNER,
            "usages": ["digital signature", "client auth"],
        },
    });
    let mut made = client.json(Method::POST, CSRS, "application/json", &asked).await?;
    let name = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    made["status"]["conditions"] = json!([{
        "type": "Approved", "status": "True", "reason": "HubGetKubeconfig",
        "message": holder.why, "lastUpdateTime": time::now(),
    }]);
    let path = format!("{CSRS}/{name}");
    client.json(Method::PUT, &format!("{path}/approval"), "application/json", &made).await?;
    let deadline = tokio::time::Instant::now() + SIGNING_TIMEOUT;
    while tokio::time::Instant::now() < deadline {
        let now = client.get(&path).await?;
        let signed =
            now["status"]["certificate"].as_str().and_then(|text| STANDARD.decode(text).ok());
        if let Some(signed) = signed.filter(|signed| !signed.is_empty()) {
            return Ok(String::from_utf8_lossy(&signed).into_owned());
        }
        tokio::time::sleep(SIGNING_POLL_EVERY).await;
    }
    Err(GetError::Unsigned(name))
}

/// UID of this cluster, if the hub serves it.
async fn find(client: &Client, name: &str) -> Result<String, GetError> {
    let found = match ClusterName::try_from(name) {
        Ok(_) => client.get(&format!("{CLUSTERS}/{name}")).await,
        // No cluster can have this name, and it may not even fit into a path.
        Err(_) => return Err(none(client, name).await?),
    };
    match found {
        Err(ClientError::Refused { code: StatusCode::NOT_FOUND, .. }) => {
            Err(none(client, name).await?)
        }
        found => Ok(found?["metadata"]["uid"].as_str().unwrap_or_default().to_owned()),
    }
}

async fn none(client: &Client, name: &str) -> Result<GetError, ClientError> {
    let list = client.get(&format!("{CLUSTERS}?limit={NAMES_SHOWN_MAX}")).await?;
    Ok(GetError::NoCluster { name: name.to_owned(), known: known(&list) })
}

/// The clusters that there are, from the first page of them.
fn known(list: &Value) -> String {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> =
        items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect();
    if names.is_empty() {
        return "no spoke has joined yet: `hub token create` prints how".to_owned();
    }
    let more = list["metadata"]["continue"].as_str().is_some_and(|token| !token.is_empty());
    let rest = if more { ", …" } else { "" };
    format!("there are {}{rest} (`kubectl get managedclusters` lists them)", names.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whoever_is_given_one_for_a_cluster_is_confined_to_it() {
        let options = |user: Option<&str>, groups: &[&str]| KubeconfigOptions {
            cluster: None,
            user: user.map(str::to_owned),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            kubeconfig: None,
        };
        let home = ("pi-7", "u-1".to_owned());
        let holder = |options, home| Holder::of(&options, home).map(|it| (it.name, it.groups));
        let list = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        assert_eq!(holder(options(None, &[]), None), None);
        let admin = ["freewheel:cluster-admin:pi-7:u-1", "freewheel:cluster:pi-7:u-1"];
        let expected = ("cluster-admin:pi-7".to_owned(), list(&admin));
        assert_eq!(holder(options(None, &[]), Some(&home)), Some(expected));
        let jane = ("jane".to_owned(), list(&["dev", "ops", "freewheel:cluster:pi-7:u-1"]));
        assert_eq!(holder(options(Some("jane"), &["dev", "ops"]), Some(&home)), Some(jane));
        let anywhere = ("jane".to_owned(), list(&["dev"]));
        assert_eq!(holder(options(Some("jane"), &["dev"]), None), Some(anywhere));
    }

    #[test]
    fn whoever_mistypes_a_name_sees_those_that_there_are() {
        let list =
            json!({"items": [{"metadata": {"name": "pi-1"}}, {"metadata": {"name": "pi-2"}}]});
        assert!(known(&list).starts_with("there are pi-1, pi-2 (`kubectl"));
        let page =
            json!({"metadata": {"continue": "x"}, "items": [{"metadata": {"name": "pi-1"}}]});
        assert!(known(&page).starts_with("there are pi-1, … (`kubectl"));
        assert!(known(&json!({"items": []})).contains("hub token create"));
    }
}
