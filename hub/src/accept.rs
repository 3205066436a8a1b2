//! `hub accept`: both halves of the double opt-in, for each name.

use freewheel_hub_schema::time;
use http::Method;
use serde_json::{Value, json};

use crate::cli::AcceptOptions;
use crate::client::{Client, ClientError};

const CLUSTERS: &str = "/apis/cluster.open-cluster-management.io/v1/managedclusters";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// Accepts every name; stops at the first that cannot be.
///
/// # Errors
/// When a spoke has not asked to join, or the hub refuses.
pub async fn run(options: AcceptOptions) -> Result<(), ClientError> {
    let client = Client::new(options.kubeconfig.as_deref())?.at_root();
    for name in &options.names {
        let cluster = client.get(&format!("{CLUSTERS}/{name}")).await?;
        let approved = approve(&client, name).await?;
        if cluster["spec"]["hubAcceptsClient"] != true {
            let patch = json!({"spec": {"hubAcceptsClient": true}});
            client
                .json(
                    Method::PATCH,
                    &format!("{CLUSTERS}/{name}"),
                    "application/merge-patch+json",
                    &patch,
                )
                .await?;
        }
        println!("{name} accepted, {approved} certificate request(s) approved");
    }
    Ok(())
}

/// Approves what this spoke has asked for and nobody has decided; how many those were.
async fn approve(client: &Client, name: &str) -> Result<usize, ClientError> {
    let selector = format!("open-cluster-management.io%2Fcluster-name%3D{name}");
    let list = client.get(&format!("{CSRS}?labelSelector={selector}")).await?;
    let mut approved = 0;
    for csr in list["items"].as_array().into_iter().flatten().filter(|csr| is_open(csr)) {
        let Some(csr_name) = csr["metadata"]["name"].as_str() else { continue };
        let mut csr = csr.clone();
        csr["apiVersion"] = json!("certificates.k8s.io/v1");
        csr["kind"] = json!("CertificateSigningRequest");
        csr["status"]["conditions"] = json!([{
            "type": "Approved", "status": "True", "reason": "HubAccept",
            "message": "approved by hub accept", "lastUpdateTime": time::now(),
        }]);
        client
            .json(Method::PUT, &format!("{CSRS}/{csr_name}/approval"), "application/json", &csr)
            .await?;
        approved += 1;
    }
    Ok(approved)
}

fn is_open(csr: &Value) -> bool {
    csr["status"]["conditions"].as_array().is_none_or(Vec::is_empty)
}
