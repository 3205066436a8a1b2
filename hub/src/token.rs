//! `hub token create`: a bootstrap token (Kubernetes' format and Secret type) and the line to paste; with
//! `--registry` a login to the hub's registry.
//!
//! A token is for one device, the first that uses it, unless it is asked for with `--reusable`.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_pki::{certificates, letters};
use http::Method;
use serde_json::{Value, json};

use crate::cli::TokenOptions;
use crate::client::{Client, ClientError};

/// ConfigMap in kube-public where a hub says how spokes reach it.
pub const HUB_INFO: &str = "freewheel-hub";

/// Makes the token and prints the line.
///
/// # Errors
/// When the hub cannot be reached or refuses.
pub async fn create(options: TokenOptions) -> Result<(), ClientError> {
    let client = Client::new(options.kubeconfig.as_deref())?.at_root();
    if options.registry {
        return login(client, &options).await;
    }
    let info = client.get(&format!("/api/v1/namespaces/kube-public/configmaps/{HUB_INFO}")).await?;
    let link = info["data"]["link"].as_str().unwrap_or_default().to_owned();
    let ca = certificates(&client.access().ca_pem).unwrap_or_default();
    let ca_hash = ca
        .first()
        .and_then(|ca| freewheel_link::tls::key_hash(ca).ok())
        .ok_or_else(unreadable_ca)?;
    let (id, secret) = (letters(6)?, letters(16)?);
    let secret_object = body(&id, &secret, &options);
    client
        .json(
            Method::POST,
            "/api/v1/namespaces/kube-system/secrets",
            "application/json",
            &secret_object,
        )
        .await?;
    println!(
        "spoke run --data /var/lib/freewheel --hub {link} --token {id}.{secret} --ca-hash {ca_hash}"
    );
    if let Some(warning) = only_here(&link) {
        eprintln!("hub: {warning}");
    }
    Ok(())
}

/// Makes a login and prints the line that gives it to a tool.
async fn login(client: Client, options: &TokenOptions) -> Result<(), ClientError> {
    let (name, password) = (letters(6)?, letters(24)?);
    let secret = crate::serve::registry_login(&name, &password, &expiration(options));
    let path = "/api/v1/namespaces/kube-system/secrets";
    client.json(Method::POST, path, "application/json", &secret).await?;
    println!("docker login {} --username {name} --password {password}", client.registry());
    eprintln!(
        "hub: oras, wkg, wash and docker take the same name and password; they have to trust the hub's \
         CA: `kubectl config view --raw -o jsonpath='{{.clusters[0].cluster.certificate-authority-data}}' \
         | base64 -d > ca.crt`"
    );
    Ok(())
}

/// What to say about a link that leads every device to itself. Not a part of the line to paste.
fn only_here(link: &str) -> Option<String> {
    let (host, port) = link.rsplit_once(':')?;
    let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    let leads_nowhere = match address {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => host == "localhost",
    };
    leads_nowhere.then(|| {
        format!(
            "warning: only a spoke on the hub's own machine finds it at {host}; for others start the hub \
             with --link 0.0.0.0:{port} --advertise HOST (and --listen 0.0.0.0:PORT for the API), then make a new token"
        )
    })
}

fn unreadable_ca() -> ClientError {
    ClientError::Answer("the kubeconfig's CA is no certificate".into())
}

/// When the token ends.
fn expiration(options: &TokenOptions) -> String {
    let end = jiff::Timestamp::now()
        .saturating_add(jiff::SignedDuration::try_from(options.ttl).unwrap_or_default());
    end.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

fn body(id: &str, secret: &str, options: &TokenOptions) -> Value {
    let expiration = expiration(options);
    let encode = |text: &str| json!(STANDARD.encode(text));
    let mut data = json!({
        "token-id": encode(id),
        "token-secret": encode(secret),
        "expiration": encode(&expiration),
        // For the link alone: with kubeadm's word it would be a caller of the API, too.
        "usage-freewheel-join": encode("true"),
        "description": encode("made by hub token create"),
    });
    if !options.reusable {
        data["freewheel-single-use"] = encode("true");
    }
    if options.accept {
        data["freewheel-auto-accept"] = encode("true");
    }
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {
            "name": format!("bootstrap-token-{id}"), "namespace": "kube-system",
            // By this tools for Open Cluster Management find the newest one, to show or to remove it.
            "labels": {"app": "cluster-manager"},
        },
        "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_the_link_and_not_for_the_api() {
        let options = TokenOptions {
            ttl: std::time::Duration::from_secs(60),
            accept: true,
            reusable: false,
            registry: false,
            kubeconfig: None,
        };
        let made = body("abcdef", "0123456789abcdef", &options);
        assert_eq!(made["data"]["usage-freewheel-join"], STANDARD.encode("true"));
        assert_eq!(made["data"].get("usage-bootstrap-authentication"), None);
    }

    #[test]
    fn a_line_that_works_on_this_machine_alone_comes_with_a_warning() {
        for link in ["127.0.0.1:6444", "[::1]:6444", "localhost:6444", "0.0.0.0:6444"] {
            assert!(only_here(link).is_some_and(|text| text.contains("--advertise")), "{link}");
        }
        for link in ["hub.example.com:6444", "10.1.2.3:6444", "[fd00::1]:6444"] {
            assert_eq!(only_here(link), None);
        }
    }
}
