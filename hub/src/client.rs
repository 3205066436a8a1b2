//! Our own verbs are clients of the API like everybody else: HTTPS with a client certificate.
//!
//! Guarantees:
//! - who asks the hub with the kubeconfig of one cluster is told which one it takes
//!   (`who_asks_the_hub_with_a_cluster_s_kubeconfig_is_told_which_it_takes`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use freewheel_hub_admission::UNANSWERED;
use freewheel_hub_pki::{NoRandomness, certificates};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{PrivateKeyDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::debug;

use crate::host_address;
use crate::kubeconfig::{Access, KubeconfigError};
use crate::server_verifier::ServerVerifier;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No kubeconfig.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// A certificate or key in it.
    #[error("the kubeconfig's {0} does not hold what its name says")]
    Malformed(&'static str),
    /// No random letters.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The address in it.
    #[error("the kubeconfig's server {0:?} is no https://HOST:PORT")]
    Server(String),
    /// No connection.
    #[error("cannot reach the hub at {server}: is it running?")]
    Connect {
        /// Where.
        server: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// TLS refused.
    #[error("TLS with the hub failed")]
    Tls(#[from] rustls::Error),
    /// The connection broke.
    #[error("the hub did not answer")]
    Http(#[from] hyper::Error),
    /// The answer was cut or too large.
    #[error("the hub's answer cannot be read: {0}")]
    Answer(String),
    /// The kubeconfig is for something else.
    #[error(
        "this kubeconfig is for the cluster {cluster} alone, and this is asked of the hub: give --kubeconfig FILE, or set \
         KUBECONFIG, of somebody who may do it in the root (DIR/admin.kubeconfig on the hub's machine); the hub refused: {message}"
    )]
    OfCluster {
        /// Which it is for.
        cluster: String,
        /// What the hub said.
        message: String,
    },
    /// The hub said no.
    #[error("the hub refused: {message}")]
    Refused {
        /// HTTP code.
        code: StatusCode,
        /// Status.reason.
        reason: String,
        /// Status.message, or the registry's.
        message: String,
    },
}

/// A client for one kubeconfig.
pub struct Client {
    access: Access,
    host: String,
    port: u16,
    prefix: String,
    /// The cluster that the kubeconfig is for, where its hub is asked.
    home: Option<String>,
    tls: TlsConnector,
    /// Addresses that not everybody reaches are not dialled.
    keeps_out: bool,
    answer_bytes_max: usize,
}

/// What a stranger is told who may not have the hub dial this. Whoever has named an address knows it; which addresses the
/// hub's network has for a name, and whether it has any, is nobody else's to know.
fn not_dialled(host: &str, kept: &[(SocketAddr, &str)]) -> String {
    let what = match (host.parse::<IpAddr>(), kept) {
        (Ok(_), [(at, leads), ..]) => format!("{at} ({leads}) is not everybody's to reach, and"),
        (Ok(_), []) | (Err(_), _) => {
            format!("{host} leads to no address that everybody reaches, and is")
        }
    };
    format!("{what} not dialled for a spoke's cluster: use a Service whose endpoints are pods")
}

/// An answer's code and body.
pub struct Answer {
    /// HTTP code.
    pub status: StatusCode,
    /// What the body is said to be; empty for nothing.
    pub content_type: String,
    /// Body.
    pub body: Bytes,
    /// What it has to say beside its answer.
    pub warnings: Vec<String>,
    /// The cluster that the kubeconfig is for, where the hub was asked by that.
    pub home: Option<String>,
}

impl Client {
    /// From the named kubeconfig, else `$KUBECONFIG`.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn new(kubeconfig: Option<&Path>) -> Result<Self, ClientError> {
        Self::with(crate::kubeconfig::read(kubeconfig)?)
    }

    /// A client of whoever that kubeconfig is for.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn with(access: Access) -> Result<Self, ClientError> {
        let bad = || ClientError::Server(access.server.clone());
        let rest = access.server.strip_prefix("https://").ok_or_else(bad)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host_and_port(authority).ok_or_else(bad)?;
        let host = host.to_owned();
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        let tls = TlsConnector::from(Arc::new(tls(&access)?));
        let (keeps_out, answer_bytes_max) = (false, ANSWER_BYTES_MAX);
        Ok(Self { access, host, port, prefix, home: None, tls, keeps_out, answer_bytes_max })
    }

    /// The same client, which reads no answer that is longer.
    #[must_use]
    pub fn reading(self, answer_bytes_max: usize) -> Self {
        Self { answer_bytes_max, ..self }
    }

    /// The same client, which dials nothing that is not everybody's to reach, whatever a name resolves to.
    #[must_use]
    pub fn kept_out(self) -> Self {
        Self { keeps_out: true, ..self }
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let host = self.host.trim_matches(['[', ']']);
        let found = tokio::net::lookup_host((host, self.port)).await;
        if !self.keeps_out {
            let all: Vec<_> = found?.collect();
            return TcpStream::connect(&*all).await;
        }
        let (mut open, mut kept) = (Vec::<SocketAddr>::new(), Vec::new());
        for at in found.into_iter().flatten() {
            match host_address::kept_from_strangers(at.ip()) {
                None => open.push(at),
                Some(leads) => kept.push((at, leads)),
            }
        }
        if open.is_empty() {
            debug!(host, ?kept, "not dialled for a spoke's cluster");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, not_dialled(host, &kept)));
        }
        // What was looked at is what is dialled: a name may stand for something else by now.
        TcpStream::connect(&*open).await
    }

    /// The same hub's root, whichever cluster the kubeconfig is for.
    #[must_use]
    pub fn at_root(mut self) -> Self {
        self.home = self.prefix.strip_prefix("/clusters/").map(str::to_owned);
        self.prefix.clear();
        self
    }

    /// Whether this is where it connects to, as a tool writes a registry.
    pub fn is_at(&self, registry: &str) -> bool {
        let own = self.host.to_ascii_lowercase();
        let registry = registry.to_ascii_lowercase();
        registry == own || registry == self.registry()
    }

    /// The hub's registry, as tools write it.
    pub fn registry(&self) -> String {
        format!("{}:{}", self.host.to_ascii_lowercase(), self.port)
    }

    /// The kubeconfig in use.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// One request on a connection of its own.
    ///
    /// # Errors
    /// When there is no answer; an answer of any code is none.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let lost = |source| ClientError::Connect { server: self.access.server.clone(), source };
        let stream = self.dial().await.map_err(lost)?;
        self.send_over(stream, (method, path, kind), body).await
    }

    /// One request over this stream, which leads to whom it is for.
    async fn send_over<S>(
        &self,
        stream: S,
        (method, path, kind): (Method, &str, &str),
        body: Bytes,
    ) -> Result<Answer, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let lost = |source| ClientError::Connect { server: self.access.server.clone(), source };
        let name = ServerName::try_from(self.host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| ClientError::Server(self.access.server.clone()))?;
        let stream = self.tls.connect(name, stream).await.map_err(lost)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder();
        if !self.access.token.is_empty() {
            let bearer = format!("Bearer {}", self.access.token);
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let request = request
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header(header::CONTENT_TYPE, kind)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("freewheel-hub/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|e| ClientError::Answer(e.to_string()))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let headers = response.headers();
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let warnings = warnings(headers);
        let body = Limited::new(response.into_body(), self.answer_bytes_max)
            .collect()
            .await
            .map_err(|e| ClientError::Answer(e.to_string()))?;
        driver.abort();
        let home = self.home.clone();
        Ok(Answer { status, content_type, body: body.to_bytes(), warnings, home })
    }

    /// A JSON request whose answer must be a success.
    ///
    /// # Errors
    /// Also when the hub refuses.
    pub async fn json(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: &Value,
    ) -> Result<Value, ClientError> {
        let answer = self.send(method, path, kind, body.to_string().into()).await?;
        answer.success()?.value()
    }

    /// What a webhook answers to a review.
    ///
    /// # Errors
    /// Also when it refuses.
    pub async fn review(&self, review: &Value) -> Result<Value, ClientError> {
        self.json(Method::POST, self.whole_path(), "application/json", review).await
    }

    /// The answer of any code to a JSON document that is sent to the very address that it is for.
    ///
    /// # Errors
    /// When there is none.
    pub async fn post(&self, document: Vec<u8>) -> Result<Answer, ClientError> {
        self.send(Method::POST, self.whole_path(), "application/json", document.into()).await
    }

    /// The same over a stream that leads there.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post_over<S>(&self, stream: S, document: Vec<u8>) -> Result<Answer, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let request = (Method::POST, self.whole_path(), "application/json");
        self.send_over(stream, request, document.into()).await
    }

    /// What stands at the very address that it is for.
    ///
    /// # Errors
    /// Also when there is nothing.
    pub async fn document(&self) -> Result<Vec<u8>, ClientError> {
        let path = self.whole_path();
        let answer = self.send(Method::GET, path, "application/json", Bytes::new()).await?;
        Ok(answer.success()?.body.to_vec())
    }

    /// Nothing behind the address, which has a path of its own or none.
    fn whole_path(&self) -> &'static str {
        if self.prefix.is_empty() { "/" } else { "" }
    }

    /// Reads an object.
    ///
    /// # Errors
    /// Also when there is none.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.send(Method::GET, path, "application/json", Bytes::new()).await?.success()?.value()
    }
}

impl Answer {
    /// Turns a refusal into an error.
    ///
    /// # Errors
    /// When the code is no 2xx.
    pub fn success(self) -> Result<Self, ClientError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let registry = &body["errors"][0];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut causes = body["details"]["causes"].as_array().into_iter().flatten();
        // Whose webhook is in the way can be said by nobody else, and taken away by who asks.
        let hint = causes.find(|cause| cause["reason"] == UNANSWERED);
        let hint = hint.and_then(|cause| cause["message"].as_str());
        let hint = hint.map(|hint| format!(". {hint}")).unwrap_or_default();
        let message = text(&body["message"])
            .or_else(|| text(&registry["message"]))
            .unwrap_or_else(|| format!("{} without a message", self.status))
            + &hint;
        let is_a_stranger = matches!(self.status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED);
        if let Some(cluster) = self.home.filter(|_| is_a_stranger) {
            return Err(ClientError::OfCluster { cluster, message });
        }
        let reason = text(&body["reason"]).or_else(|| text(&registry["code"])).unwrap_or_default();
        Err(ClientError::Refused { code: self.status, reason, message })
    }

    fn value(&self) -> Result<Value, ClientError> {
        serde_json::from_slice(&self.body).map_err(|e| ClientError::Answer(e.to_string()))
    }
}

/// Of a URL: an IPv6 address stands in brackets.
fn host_and_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        Some(_) | None => (authority, 443),
    };
    (!host.is_empty()).then_some((host, port))
}

/// Texts of `Warning: 299 - "text"`.
fn warnings(headers: &header::HeaderMap) -> Vec<String> {
    let all = headers.get_all(header::WARNING).iter().filter_map(|value| value.to_str().ok());
    let quoted = all.filter_map(|text| text.strip_prefix("299 - \"")?.strip_suffix('"'));
    quoted.map(str::to_owned).collect()
}

fn tls(access: &Access) -> Result<rustls::ClientConfig, ClientError> {
    let read = |pem: &[u8], what| certificates(pem).ok_or(ClientError::Malformed(what));
    let mut roots = rustls::RootCertStore::empty();
    let authorities = read(&access.ca_pem, "certificate-authority-data")?;
    // Among those of a host there may be some of a form that nobody uses any more.
    if roots.add_parsable_certificates(authorities.iter().cloned()).0 == 0 {
        return Err(ClientError::Malformed("certificate-authority-data"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = ServerVerifier::new(roots, authorities, provider.clone());
    let verifier = verifier.map_err(|_| ClientError::Malformed("certificate-authority-data"))?;
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    if access.cert_pem.is_empty() {
        return Ok(config.with_no_client_auth());
    }
    let chain = read(&access.cert_pem, "client-certificate-data")?;
    let key = PrivateKeyDer::from_pem_slice(&access.key_pem)
        .map_err(|_| ClientError::Malformed("client-key-data"))?;
    Ok(config.with_client_auth_cert(chain, key)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_brackets_has_a_port_or_none() {
        assert_eq!(host_and_port("[::1]"), Some(("[::1]", 443)));
        assert_eq!(host_and_port("[::1]:6443"), Some(("[::1]", 6443)));
        assert_eq!(host_and_port("hub:6443"), Some(("hub", 6443)));
        assert_eq!(host_and_port("hub"), Some(("hub", 443)));
        assert_eq!(host_and_port("hub:x"), None);
        assert_eq!(host_and_port(""), None);
    }

    #[test]
    fn who_asks_the_hub_with_a_cluster_s_kubeconfig_is_told_which_it_takes() {
        let said = |status: StatusCode, home: Option<&str>| {
            let message = "configmaps \"freewheel-hub\" is forbidden";
            let body =
                serde_json::json!({"kind": "Status", "reason": "Forbidden", "message": message});
            let answer = Answer {
                status,
                content_type: "application/json".to_owned(),
                body: body.to_string().into(),
                warnings: Vec::new(),
                home: home.map(str::to_owned),
            };
            answer.success().err().unwrap().to_string()
        };
        let of_cluster = said(StatusCode::FORBIDDEN, Some("edge1"));
        assert!(of_cluster.contains("is for the cluster edge1 alone"), "{of_cluster}");
        assert!(of_cluster.contains("admin.kubeconfig") && of_cluster.contains("is forbidden"));
        for (status, home) in
            [(StatusCode::FORBIDDEN, None), (StatusCode::NOT_FOUND, Some("edge1"))]
        {
            assert!(said(status, home).starts_with("the hub refused: configmaps"), "{status}");
        }
    }

    #[test]
    fn a_stranger_is_not_told_what_a_name_resolves_to() {
        let kept = [("10.1.2.3:443".parse::<SocketAddr>().unwrap(), "a private network")];
        let known = not_dialled("db.internal", &kept);
        assert_eq!(known, not_dialled("db.internal", &[]), "nor whether it does");
        assert!(known.contains("db.internal") && !known.contains("10.1"), "{known}");
        let named = not_dialled("10.1.2.3", &kept);
        assert!(named.contains("10.1.2.3:443 (a private network) is not everybody's"), "{named}");
    }

    #[test]
    fn who_is_refused_for_a_dead_webhook_reads_how_to_take_it_away() {
        let status = serde_json::json!({"kind": "Status", "reason": "InternalError", "message": "failed calling webhook \"a\": gone",
            "details": {"causes": [{"reason": UNANSWERED, "message": "kubectl delete validatingwebhookconfiguration a"}]}});
        let answer = Answer {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            content_type: "application/json".to_owned(),
            body: status.to_string().into(),
            warnings: Vec::new(),
            home: None,
        };
        let text = answer.success().err().unwrap().to_string();
        assert_eq!(
            text,
            "the hub refused: failed calling webhook \"a\": gone. kubectl delete validatingwebhookconfiguration a"
        );
    }
}
