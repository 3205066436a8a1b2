//! Connections: TLS or plain, HTTP/1.1, one request at a time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::LoadError;

/// How a server is reached.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    address: SocketAddr,
    /// Without it the connection is plain.
    tls: Option<Files>,
    /// A bearer token in place of the client certificate.
    token: Option<String>,
}

/// PEM files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

/// Opens connections to one server.
pub struct Dialer {
    address: SocketAddr,
    host: String,
    tls: Option<TlsConnector>,
    authorization: Option<HeaderValue>,
}

/// One connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    authorization: Option<HeaderValue>,
}

impl Dialer {
    pub fn new(server: &Server) -> Result<Self, LoadError> {
        let token = server.token.as_deref();
        let tls = server.tls.as_ref().map(|tls| connector(tls, token.is_none())).transpose()?;
        let authorization = token
            .map(|token| HeaderValue::try_from(format!("Bearer {token}")))
            .transpose()
            .map_err(http::Error::from)?;
        Ok(Self { address: server.address, host: server.address.to_string(), tls, authorization })
    }

    pub async fn open(&self) -> Result<Connection, LoadError> {
        let what = || format!("connect to {}", self.address);
        let stream = TcpStream::connect(self.address).await.map_err(LoadError::io(what()))?;
        stream.set_nodelay(true).map_err(LoadError::io(what()))?;
        let sender = match &self.tls {
            None => speak(TokioIo::new(stream)).await?,
            Some(tls) => {
                let name = ServerName::IpAddress(self.address.ip().into());
                let stream = tls.connect(name, stream).await.map_err(LoadError::io(what()))?;
                speak(TokioIo::new(stream)).await?
            }
        };
        Ok(Connection {
            sender,
            host: self.host.clone(),
            authorization: self.authorization.clone(),
        })
    }
}

/// A task of its own drives the connection until it ends.
async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, LoadError>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let (sender, connection) = handshake(stream).await?;
    // Why it ended is told by the request that was under way.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(sender)
}

impl Connection {
    /// The head of the answer; the body is still to come.
    pub async fn start(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, LoadError> {
        let mut request = Request::builder().method(&method).uri(path).header("host", &self.host);
        if !body.is_empty() {
            let kind = if method == Method::PATCH {
                "application/merge-patch+json"
            } else {
                "application/json"
            };
            request = request.header("content-type", kind);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.header("accept", "application/json").body(Full::new(body))?;
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    /// As `start`, for a body that is read as it comes; it must be answered with 200.
    pub async fn begin(
        &mut self,
        method: Method,
        path: &str,
    ) -> Result<Response<Incoming>, LoadError> {
        let what = format!("{method} {path}");
        let answer = self.start(method, path, Bytes::new()).await?;
        match answer.status().as_u16() {
            200 => Ok(answer),
            status => Err(LoadError::Answer { what, status, body: String::new() }),
        }
    }

    /// Status and whole body.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(u16, Bytes), LoadError> {
        let answer = self.start(method, path, body).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok((status, body))
    }

    /// The body of an answer with one of these statuses.
    pub async fn must(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        allowed: &[u16],
    ) -> Result<Bytes, LoadError> {
        let what = format!("{method} {path}");
        let (status, body) = self.ask(method, path, body).await?;
        if allowed.contains(&status) {
            return Ok(body);
        }
        let start = body.get(..body.len().min(300)).unwrap_or_default();
        Err(LoadError::Answer { what, status, body: String::from_utf8_lossy(start).into_owned() })
    }
}

fn connector(files: &Files, with_certificate: bool) -> Result<TlsConnector, LoadError> {
    let mut roots = rustls::RootCertStore::empty();
    for cert in certificates(&files.ca)? {
        roots.add(cert)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = if with_certificate {
        let key =
            PrivateKeyDer::from_pem_file(&files.key).map_err(|e| malformed(&files.key, &e))?;
        config.with_client_auth_cert(certificates(&files.cert)?, key)?
    } else {
        config.with_no_client_auth()
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    all.map_err(|e| malformed(path, &e))
}

fn malformed(path: &Path, error: &rustls::pki_types::pem::Error) -> LoadError {
    LoadError::Io {
        what: path.display().to_string(),
        source: std::io::Error::other(error.to_string()),
    }
}
