//! A hub's API in this process, and a client for it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use freewheel_hub_api::streams::SpokeStreams;
use freewheel_hub_apiserver::body::Body;
use freewheel_hub_apiserver::{
    Access, AccessOptions, Check, Limits, LoggedIn, RequestBody, Server, Tls, Usage, User, serve,
};
use freewheel_hub_audit::Audit;
use freewheel_hub_objects::Objects;
use freewheel_hub_objects::clock::{Clock, SystemClock, SystemRandom};
use freewheel_hub_store::Store;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_link::names::ClusterName;
use http::{HeaderMap, Method, Request};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::RootCertStore;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use crate::bootstrap::{bootstrap, create, create_in};
use crate::spokes::Echo;

/// Stands where the image registry is: says who asked for what, with the code that ends the path.
async fn whoami(user: Option<User>, request: Request<RequestBody>) -> http::Response<Body> {
    let user = user.map_or("nobody".to_owned(), |user| user.name);
    let path = request.uri().path();
    let path = path.to_owned();
    let mut response = http::Response::new(Body::whole(format!("{user} {path}").into()));
    if let Some(Ok(code)) = path.rsplit_once('/').map(|(_, last)| last.parse()) {
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    }
    if path == "/v2/login" {
        response.extensions_mut().insert(LoggedIn);
    }
    response
}

/// A certificate and its key.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test-ca");
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der().clone();
        Self { issuer: Issuer::new(params, key), certificate: der }
    }

    pub fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Identity {
        let key = KeyPair::generate().unwrap();
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    pub fn serving(&self) -> Identity {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub fn client(&self, name: &str, group: &str) -> Identity {
        self.sign(Self::of_client(name, group), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// One that ends soon.
    pub fn client_for(&self, life: Duration, name: &str, group: &str) -> Identity {
        let mut params = Self::of_client(name, group);
        params.not_after = (SystemTime::now() + life).into();
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    pub fn of_client(name: &str, group: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params
    }
}

/// The system's time, and so many seconds.
#[derive(Default)]
struct Ahead(Arc<AtomicI64>);

impl Clock for Ahead {
    fn unix_nanos(&self) -> i128 {
        let ahead = i128::from(self.0.load(Ordering::SeqCst));
        SystemClock.unix_nanos() + ahead * 1_000_000_000
    }
}

type More = (AccessOptions, Option<Arc<Audit>>);

/// A running API server over memory.
pub struct Hub {
    pub address: SocketAddr,
    pub authority: Authority,
    pub objects: Objects,
    /// By how many seconds somebody has put the hub's clock on.
    pub ahead: Arc<AtomicI64>,
    /// Logs that somebody reads on, and commands that run.
    pub followed: Arc<AtomicUsize>,
    /// Which devices were asked for figures, in turn.
    pub figures_asked: Arc<Mutex<Vec<String>>>,
    pub clients: Arc<Mutex<Vec<freewheel_link::stream_budget::PodClient>>>,
    /// What they said, as others in the hub see it.
    pub usage: Usage,
    /// Whether its store takes no writes, as its checks have it.
    pub store_fails: Arc<AtomicBool>,
    /// Stops the server when dropped.
    pub stop: DropGuard,
    pub served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Hub {
    pub async fn start() -> Self {
        Self::bounded(Limits::default()).await
    }

    pub async fn bounded(limits: Limits) -> Self {
        // Nobody may count revisions.
        Self::over(MemoryStore::new().sparse(3), limits).await
    }

    /// One whose store forgets the past soon.
    pub async fn forgetful() -> Self {
        let limits = freewheel_hub_store::Limits { events: 4, bytes: 1 << 10 };
        Self::over(MemoryStore::with_limits(1, limits), Limits::default()).await
    }

    /// One that has these files.
    pub async fn with(options: AccessOptions) -> Self {
        Self::made(MemoryStore::new().sparse(3), Limits::default(), (options, None)).await
    }

    pub async fn over(store: impl Store, limits: Limits) -> Self {
        let issuer = "https://hub:6443".to_owned();
        let options = AccessOptions { issuer, ..AccessOptions::default() };
        Self::made(store, limits, (options, None)).await
    }

    pub async fn made(store: impl Store, limits: Limits, (options, audit): More) -> Self {
        let authority = Authority::new();
        let serving = authority.serving();
        let tls = Tls::new(
            vec![serving.certificate],
            serving.key,
            std::slice::from_ref(&authority.certificate),
        )
        .unwrap();
        let clock = Ahead::default();
        let ahead = clock.0.clone();
        let (access, store) = Access::over(Arc::new(store), options);
        let objects = access.guard(Objects::with(store, Arc::new(clock), Arc::new(SystemRandom)));
        for name in ["default", "kube-system"] {
            create(&objects, "v1", "Namespace", json!({"metadata": {"name": name}})).await;
        }
        bootstrap(&objects, &ClusterName::root()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let echo = Echo::default();
        let (followed, figures_asked) = (echo.followed.clone(), echo.figures_asked.clone());
        let clients = echo.clients.clone();
        let store_fails = Arc::new(AtomicBool::new(false));
        let fails = store_fails.clone();
        let store = move || {
            let fails = fails.load(Ordering::SeqCst);
            if fails { Err("no space left".to_owned()) } else { Ok(()) }
        };
        let streams: Arc<dyn SpokeStreams> = Arc::new(echo);
        let usage = Usage::new(streams.clone(), objects.clock().clone());
        let server = Server {
            audit,
            objects: objects.clone(),
            access,
            streams,
            usage: usage.clone(),
            extra: Some(Arc::new(|user, request| Box::pin(whoami(user, request)))),
            checks: vec![Check::of_readiness("store", store)],
            metrics: freewheel_hub_metrics::Metrics::default(),
        };
        let served = tokio::spawn(serve(listener, tls, limits, server, stop.clone()));
        let stop = stop.drop_guard();
        Self {
            address,
            authority,
            objects,
            ahead,
            followed,
            figures_asked,
            clients,
            usage,
            store_fails,
            stop,
            served,
        }
    }

    /// Somebody who may do everything.
    pub fn admin(&self) -> Client {
        self.client(Some(&self.authority.client("admin", "system:masters")))
    }

    /// Somebody who shows a certificate that another key is behind.
    pub fn impostor(&self, identity: &Identity) -> Client {
        let key = self.authority.client("admin", "system:masters").key;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let shown = CertifiedKey::new(vec![identity.certificate.clone()], key);
        let mut client = self.client(None);
        Arc::make_mut(&mut client.config).client_auth_cert_resolver =
            Arc::new(SingleCertAndKey::from(shown));
        client
    }

    pub fn client(&self, identity: Option<&Identity>) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())
                .unwrap(),
        };
        Client { address: self.address, name: "localhost".to_owned(), config: Arc::new(config) }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.bytes)))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Makes requests, one connection each.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    /// Which name its server's certificate is for.
    name: String,
    config: Arc<rustls::ClientConfig>,
}

impl Client {
    /// Of another server, whose certificate is for this name.
    pub fn of(address: SocketAddr, name: &str, config: rustls::ClientConfig) -> Self {
        Self { address, name: name.to_owned(), config: Arc::new(config) }
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let response = self.open(method, path, headers, body.into()).await;
        let (parts, body) = response.into_parts();
        let bytes = tokio::time::timeout(Duration::from_secs(20), body.collect())
            .await
            .expect("the answer ends")
            .unwrap()
            .to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    /// Sends a body that comes as the stream does.
    pub async fn send_stream<S>(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        stream: S,
    ) -> Answer
    where
        S: futures::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + 'static,
    {
        let body = StreamBody::new(stream).boxed_unsync();
        let (parts, body) = self.request(method, path, headers, body).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    pub async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> http::Response<Incoming> {
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        self.request(method, path, headers, body).await
    }

    async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: UnsyncBoxBody<Bytes, std::io::Error>,
    ) -> http::Response<Incoming> {
        let stream = self.connect("").await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let method: Method = method.parse().unwrap();
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(body).unwrap()).await.unwrap()
    }

    /// A connection over which nothing is said yet, for a protocol or for the usual one.
    pub async fn connect(&self, protocol: &str) -> TlsStream<TcpStream> {
        self.connect_on(TcpSocket::new_v4().unwrap(), protocol).await
    }

    /// The same over a socket that has been prepared.
    pub async fn connect_on(&self, socket: TcpSocket, protocol: &str) -> TlsStream<TcpStream> {
        let stream = socket.connect(self.address).await.unwrap();
        let mut config = (*self.config).clone();
        if !protocol.is_empty() {
            config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        }
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(self.name.clone()).unwrap();
        connector.connect(name, stream).await.unwrap()
    }

    async fn connect_h2<B>(&self) -> http2::SendRequest<B>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = self.connect("h2").await;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// One HTTP/2 connection for many requests.
    pub async fn line(&self) -> Line {
        Line(self.connect_h2().await)
    }

    /// The same, of a client that has room for one byte of every answer.
    pub async fn narrow_line(&self) -> Line {
        let stream = TokioIo::new(self.connect("h2").await);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1);
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Line(sender)
    }

    /// The same over HTTP/2.
    pub async fn get_over_h2(&self, path: &str) -> Answer {
        self.send_over_h2("GET", path, Bytes::new()).await
    }

    pub async fn post_over_h2(&self, path: &str, body: Vec<u8>) -> Answer {
        self.send_over_h2("POST", path, body.into()).await
    }

    pub async fn send_over_h2(&self, method: &str, path: &str, body: Bytes) -> Answer {
        self.send_body_over_h2(method, path, Full::new(body)).await
    }

    pub async fn send_body_over_h2<B>(&self, method: &str, path: &str, body: B) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut sender = self.connect_h2().await;
        let uri = format!("https://localhost{path}");
        let request = Request::builder().method(method).uri(uri).body(body).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send("POST", path, &headers, serde_json::to_vec(body).unwrap()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send("PUT", path, &headers, serde_json::to_vec(body).unwrap()).await
    }

    pub async fn patch(&self, path: &str, form: &str, body: &Value) -> Answer {
        let content_type = format!("application/{form}");
        let headers = [("content-type", content_type.as_str())];
        self.send("PATCH", path, &headers, serde_json::to_vec(body).unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], Bytes::new()).await
    }

    pub async fn watch(&self, path: &str) -> Watcher {
        self.watch_as(path, "application/json").await
    }

    /// Many watches over one HTTP/2 connection, as client-go has them.
    pub async fn watch_many(&self, path: &str, count: usize) -> Vec<Watcher> {
        let sender = self.connect_h2::<Full<Bytes>>().await;
        let mut watchers = Vec::with_capacity(count);
        for _ in 0..count {
            let uri = format!("https://localhost{path}");
            let request = Request::builder().uri(uri).body(Full::new(Bytes::new())).unwrap();
            let response = sender.clone().send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            watchers.push(Watcher { body: response.into_body(), buffer: Vec::new() });
        }
        watchers
    }

    pub async fn watch_as(&self, path: &str, accept: &str) -> Watcher {
        self.watch_with(path, &[("accept", accept)]).await
    }

    pub async fn watch_with(&self, path: &str, headers: &[(&str, &str)]) -> Watcher {
        let response = self.open("GET", path, headers, Bytes::new()).await;
        assert_eq!(response.status(), 200);
        Watcher { body: response.into_body(), buffer: Vec::new() }
    }
}

fn full(bytes: Bytes) -> UnsyncBoxBody<Bytes, std::io::Error> {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// One HTTP/2 connection.
#[derive(Clone)]
pub struct Line(http2::SendRequest<UnsyncBoxBody<Bytes, std::io::Error>>);

impl Line {
    pub async fn get(&self, path: &str) -> http::Response<Incoming> {
        self.ask("GET", path, full(Bytes::new())).await
    }

    pub async fn delete(&self, path: &str) -> http::Response<Incoming> {
        self.ask("DELETE", path, full(Bytes::new())).await
    }

    pub async fn post_of(&self, path: &str, body: Bytes) -> http::Response<Incoming> {
        self.ask("POST", path, full(body)).await
    }

    /// Sends no byte of a body that may be of any size, for ever.
    pub async fn post_nothing(&self, path: &str) -> http::Response<Incoming> {
        let never = StreamBody::new(futures::stream::pending()).boxed_unsync();
        self.ask("POST", path, never).await
    }

    /// The same of a body of which it is known that it is small.
    pub async fn post_no_little(&self, path: &str) -> http::Response<Incoming> {
        let never = StreamBody::new(futures::stream::pending()).boxed_unsync();
        let uri = format!("https://localhost{path}");
        let request = Request::post(uri).header("content-length", 100).body(never).unwrap();
        self.0.clone().send_request(request).await.unwrap()
    }

    /// The same with so many bytes of headers.
    pub async fn post_nothing_with(&self, path: &str, bytes: usize) -> http::Response<Incoming> {
        let never = StreamBody::new(futures::stream::pending()).boxed_unsync();
        let uri = format!("https://localhost{path}");
        let request = Request::post(uri).header("x-long", "x".repeat(bytes)).body(never).unwrap();
        self.0.clone().send_request(request).await.unwrap()
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: UnsyncBoxBody<Bytes, std::io::Error>,
    ) -> http::Response<Incoming> {
        let uri = format!("https://localhost{path}");
        let request = Request::builder().method(method).uri(uri).body(body).unwrap();
        self.0.clone().send_request(request).await.unwrap()
    }

    /// Posts it as somebody else, of these.
    pub async fn post_as(
        &self,
        (user, group): (&str, &str),
        path: &str,
        body: Bytes,
    ) -> http::Response<Incoming> {
        let headers = [("impersonate-user", user), ("impersonate-group", group)];
        self.post_with(&headers, path, body).await
    }

    /// Posts it with these headers.
    pub async fn post_with(
        &self,
        headers: &[(&str, &str)],
        path: &str,
        body: Bytes,
    ) -> http::Response<Incoming> {
        let mut request = Request::post(format!("https://localhost{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.0.clone().send_request(request.body(full(body)).unwrap()).await.unwrap()
    }

    pub async fn watch(&self, path: &str) -> Watcher {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200);
        Watcher { body: response.into_body(), buffer: Vec::new() }
    }
}

/// A watch's events, line by line.
pub struct Watcher {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Watcher {
    /// The next event; `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame())
                .await
                .expect("an event comes in time")?;
            self.buffer.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
        }
    }

    /// The next event's type and object's name.
    pub async fn brief(&mut self) -> (String, String) {
        let event = self.next().await.expect("an event");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}
