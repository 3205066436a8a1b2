//! Others who are asked over HTTPS: webhooks who callers are and what they may do, as a kubeconfig says; OpenID
//! providers for their keys.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_apiserver::{Fetch, Remote};
use freewheel_hub_pki::read_text;
use serde_json::Value;
use tokio::time::timeout;

use crate::client::Client;
use crate::kubeconfig::Access;

/// How long a document is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// One of them.
pub(super) struct Webhook(pub(super) Client);

#[async_trait]
impl Remote for Webhook {
    async fn ask(&self, review: &Value) -> Result<Value, String> {
        // Whoever gives it up drops it.
        self.0.review(review).await.map_err(|error| crate::chain(&error))
    }
}

/// Where hosts keep the authorities that they trust.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Reads documents of servers that some authorities vouch for.
pub(super) struct Https {
    ca_pem: Vec<u8>,
}

impl Https {
    /// Those of a PEM text, or those of the host where it is empty.
    pub(super) fn trusting(authorities: &str) -> io::Result<Self> {
        if !authorities.is_empty() {
            return Ok(Self { ca_pem: authorities.as_bytes().to_vec() });
        }
        let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let found = BUNDLES.iter().map(PathBuf::from).find(|bundle| bundle.exists());
        let bundle = named.or(found).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { ca_pem: read_text(&bundle)?.into_bytes() })
    }

    pub(super) fn client(&self, url: &str) -> Result<Client, String> {
        let (server, ca_pem) = (url.to_owned(), self.ca_pem.clone());
        let (cert_pem, key_pem, token) = Default::default();
        let access = Access { server, ca_pem, cert_pem, key_pem, token };
        Client::with(access).map_err(|error| crate::chain(&error))
    }
}

#[async_trait]
impl Fetch for Https {
    async fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        let client = self.client(url)?;
        match timeout(ANSWER_TIMEOUT, client.document()).await {
            Ok(document) => document.map_err(|error| crate::chain(&error)),
            Err(_) => Err(format!("no answer of {url} within {} s", ANSWER_TIMEOUT.as_secs())),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use freewheel_hub_pki::{Pki, now};
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// The server side of TLS, on loopback and under this name.
    pub(in crate::serve) fn acceptor(pki: &Pki, name: &str) -> TlsAcceptor {
        let names: Vec<String> = if name.is_empty() { Vec::new() } else { vec![name.to_owned()] };
        let (own, _) = pki.serving(&names, &[IpAddr::V4(Ipv4Addr::LOCALHOST)], now()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(own.chain, own.key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A server that answers one request with this, and what it was asked.
    async fn server(pki: &Pki, answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let acceptor = acceptor(pki, "");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(socket).await else {
                return String::new();
            };
            let mut asked = vec![0; 64 << 10];
            let length = stream.read(&mut asked).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
            stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
            asked.truncate(length);
            String::from_utf8(asked).unwrap()
        });
        (url, task)
    }

    fn access(pki: &Pki, server: String) -> Access {
        let (ca_pem, token) = (pki.ca_pem.clone().into_bytes(), "t0ken".to_owned());
        Access { server, ca_pem, cert_pem: Vec::new(), key_pem: Vec::new(), token }
    }

    #[tokio::test]
    async fn a_webhook_is_asked_where_its_kubeconfig_says() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), false).unwrap();
        let (url, asked) = server(&pki, r#"{"status": {"allowed": true}}"#).await;
        let webhook = Webhook(Client::with(access(&pki, format!("{url}/authorize"))).unwrap());
        let review = json!({"kind": "SubjectAccessReview"});
        assert_eq!(webhook.ask(&review).await.unwrap()["status"]["allowed"], true);
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /authorize HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("authorization: Bearer t0ken\r\n"), "{asked}");
        assert!(asked.ends_with(r#"{"kind":"SubjectAccessReview"}"#), "{asked}");
        // Whom no authority vouches for that is named gets to hear nothing.
        let other = tempfile::tempdir().unwrap();
        let stranger = Pki::open(other.path(), false).unwrap();
        let (url, asked) = server(&stranger, "{}").await;
        let webhook = Webhook(Client::with(access(&pki, url)).unwrap());
        assert!(webhook.ask(&review).await.is_err());
        assert_eq!(asked.await.unwrap(), "");
    }

    #[tokio::test]
    async fn documents_of_providers_are_read_from_whom_an_authority_vouches_for() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), false).unwrap();
        let (url, asked) = server(&pki, r#"{"keys": []}"#).await;
        let https = Https::trusting(&pki.ca_pem).unwrap();
        let document = https.get(&format!("{url}/openid/keys?all=1")).await.unwrap();
        assert_eq!(document, br#"{"keys": []}"#);
        assert!(asked.await.unwrap().starts_with("GET /openid/keys?all=1 HTTP/1.1\r\n"));
    }
}
