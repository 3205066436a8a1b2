//! `hub get kubeconfig`: the kubeconfig in use, for the root or for one spoke's own API.

use freewheel_link::names::ClusterName;
use http::StatusCode;
use serde_json::Value;

use crate::cli::KubeconfigOptions;
use crate::client::{Client, ClientError};
use crate::kubeconfig;

const CLUSTERS: &str = "/apis/cluster.open-cluster-management.io/v1/managedclusters";

/// So many names help; all of a large fleet do not.
const SHOWN: usize = 10;

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
}

/// Prints it.
///
/// # Errors
/// When there is no kubeconfig, or no such cluster.
pub async fn kubeconfig(options: KubeconfigOptions) -> Result<(), GetError> {
    let client = Client::new(options.kubeconfig.as_deref())?.at_root();
    let access = client.access();
    let root = access.server.split("/clusters/").next().unwrap_or_default();
    let (name, server) = match &options.cluster {
        Some(cluster) => {
            check(&client, cluster).await?;
            (cluster.as_str(), format!("{root}/clusters/{cluster}"))
        }
        None => ("freewheel", root.to_owned()),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (ca, cert, key) = (text(&access.ca_pem), text(&access.cert_pem), text(&access.key_pem));
    print!("{}", kubeconfig::write(name, &server, (&ca, &cert, &key)));
    Ok(())
}

/// Whether the hub serves this cluster.
async fn check(client: &Client, name: &str) -> Result<(), GetError> {
    let found = match ClusterName::try_from(name) {
        Ok(cluster) if cluster.is_root() => return Ok(()),
        Ok(_) => client.get(&format!("{CLUSTERS}/{name}")).await.map(drop),
        // No cluster can have this name, and it may not even fit into a path.
        Err(_) => return Err(none(client, name).await?),
    };
    match found {
        Err(ClientError::Refused { code: StatusCode::NOT_FOUND, .. }) => {
            Err(none(client, name).await?)
        }
        found => Ok(found?),
    }
}

async fn none(client: &Client, name: &str) -> Result<GetError, ClientError> {
    let list = client.get(&format!("{CLUSTERS}?limit={SHOWN}")).await?;
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
