//! Devices that are none: what they say says what they were asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use freewheel_hub_api::streams::{ByteStream, ExecOptions, LogOptions, SpokeFigures, SpokeStreams};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::uid::Uid;
use freewheel_link::figures::{ContainerUseV1, DeviceV1, Figures, PodUseV1};
use freewheel_link::frame::{self, FrameReader};
use freewheel_link::memory_transport;
use freewheel_link::message::{ExecEndedV1, ExecInput, ExecOutput};
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::PodClient;
use freewheel_link::transport::{Priority, Stream, Transport as _};
use futures::StreamExt as _;
use http::Request;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Logs that say what they were asked for. One that is followed never ends; of a container called `chatty`
/// something is always on its way.
#[derive(Default)]
pub struct Echo {
    pub followed: Arc<AtomicUsize>,
    /// Who was asked for figures, in turn.
    pub figures_asked: Arc<Mutex<Vec<String>>>,
    /// For whom streams were opened, in turn.
    pub clients: Arc<Mutex<Vec<PodClient>>>,
}

/// Something that goes on.
struct Follower(Arc<AtomicUsize>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl SpokeStreams for Echo {
    async fn logs(
        &self,
        spoke: &ClusterName,
        _pod_uid: &Uid,
        options: LogOptions,
        client: PodClient,
    ) -> Result<ByteStream, ApiError> {
        self.clients.lock().unwrap().push(client);
        let lines = [format!("{spoke} "), format!("{}\n", options.container)];
        let lines = futures::stream::iter(lines.map(|line| Ok(Bytes::from(line))));
        if !options.follow {
            return Ok(Box::pin(lines));
        }
        self.followed.fetch_add(1, Ordering::SeqCst);
        let follower = Follower(self.followed.clone());
        let pause =
            Duration::from_millis(if options.container == "chatty" { 50 } else { 3_600_000 });
        let rest = futures::stream::unfold(follower, move |follower| async move {
            tokio::time::sleep(pause).await;
            Some((Ok(Bytes::from_static(b"more\n")), follower))
        });
        Ok(Box::pin(lines.chain(rest)))
    }

    /// Port 80 says again what it hears, port 81 breaks off after the first of it, port 8080 answers requests, and nobody
    /// listens on others.
    async fn port_forward(
        &self,
        spoke: &ClusterName,
        pod_uid: &Uid,
        port: u16,
        client: PodClient,
    ) -> Result<Stream, ApiError> {
        self.reaches(spoke)?;
        assert!(!pod_uid.is_empty());
        self.clients.lock().unwrap().push(client);
        if ![80, 81, 8080].contains(&port) {
            let text = format!("dial tcp4 127.0.0.1:{port}: connect: connection refused");
            return Err(ApiError::new(500, "InternalError", text));
        }
        let (hub, device) = memory_transport::pair();
        let near = hub.open(Priority::Tunnels).await.unwrap();
        tokio::spawn(async move {
            let mut far = device.accept().await.unwrap();
            if port == 8080 {
                let service = hyper::service::service_fn(told_again);
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(TokioIo::new(far), service).with_upgrades().await;
                // What it has become goes on.
                tokio::time::sleep(Duration::from_secs(60)).await;
                return drop(hub);
            }
            let mut bytes = [0; 1000];
            while let Ok(read) = far.recv.read(&mut bytes).await {
                if read == 0 {
                    let _ = far.send.shutdown().await;
                    break;
                }
                if far.send.write_all(&bytes[..read]).await.is_err() || port == 81 {
                    break;
                }
            }
            drop((far, hub));
        });
        Ok(near)
    }

    /// `cat` says what it hears, `fail CODE` complains and ends with the code, `go` breaks off, and others are no program.
    async fn exec(
        &self,
        spoke: &ClusterName,
        _pod_uid: &Uid,
        options: ExecOptions,
        client: PodClient,
    ) -> Result<Stream, ApiError> {
        self.clients.lock().unwrap().push(client);
        self.reaches(spoke)?;
        let words: Vec<String> = options.command;
        if !["cat", "fail", "go"].contains(&words[0].as_str()) {
            return Err(ApiError::bad_request(format!("{} has no program", options.container)));
        }
        let (hub, device) = memory_transport::pair();
        let near = hub.open(Priority::Tunnels).await.unwrap();
        self.followed.fetch_add(1, Ordering::SeqCst);
        let running = Follower(self.followed.clone());
        tokio::spawn(async move {
            let _running = running;
            let Stream { mut send, recv } = device.accept().await.unwrap();
            let mut input = FrameReader::new(recv);
            let mut code = 0;
            match words[0].as_str() {
                "cat" => {
                    while let Ok(Some(ExecInput::Stdin(bytes))) = input.next().await {
                        let _ = frame::write(&mut send, &ExecOutput::Stdout(bytes)).await;
                    }
                }
                "fail" => {
                    let said = ExecOutput::Stderr("it does not work\n".into());
                    let _ = frame::write(&mut send, &said).await;
                    code = words[1].parse().unwrap();
                }
                _ => return drop((send, input, hub)),
            }
            let ended = ExecOutput::Ended(ExecEndedV1 { code, message: String::new() });
            let _ = frame::write(&mut send, &ended).await;
            let _ = send.shutdown().await;
            // The other end reads on.
            let _ = input.next::<ExecInput>().await;
            drop(hub);
        });
        Ok(near)
    }

    fn reaches(&self, spoke: &ClusterName) -> Result<(), ApiError> {
        if spoke.as_str() == "away" {
            let text = format!("the spoke {spoke} is not connected to the hub");
            return Err(ApiError::new(503, "ServiceUnavailable", text));
        }
        Ok(())
    }

    /// A pod of the root and one of its own; a spoke called `away` is.
    async fn figures(&self, spoke: &ClusterName) -> Result<SpokeFigures, ApiError> {
        self.figures_asked.lock().unwrap().push(spoke.to_string());
        self.reaches(spoke)?;
        let pod = |realm: &ClusterName| {
            Figures::Pod(PodUseV1 {
                realm: realm.clone(),
                namespace: "default".to_owned(),
                name: "web".to_owned(),
                containers: vec![ContainerUseV1 { name: "web".to_owned(), ..Default::default() }],
            })
        };
        let device = DeviceV1 { resident: 7, ..DeviceV1::default() };
        let told = vec![Figures::Device(device), pod(&ClusterName::root()), pod(spoke)];
        Ok(SpokeFigures::since(tokio::time::Instant::now(), told))
    }
}

type Said = UnsyncBoxBody<Bytes, std::io::Error>;

fn said(bytes: impl Into<Bytes>) -> Said {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A guest that says what it is asked, and with which headers; `/away` leads to `/login`, `/half` breaks off, `/none` is not
/// there, whatever is sent to it, and whoever asks to change the protocol is heard and told again.
async fn told_again(
    mut request: Request<Incoming>,
) -> Result<http::Response<Said>, std::convert::Infallible> {
    if request.headers().contains_key("upgrade") {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
            tokio::io::copy(&mut read, &mut write).await
        });
        let answer = http::Response::builder().status(101).header("connection", "upgrade");
        return Ok(answer.header("upgrade", "echo").body(said("")).unwrap());
    }
    if request.uri().path() == "/none" {
        return Ok(http::Response::builder().status(404).body(said("")).unwrap());
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let names: Vec<&str> = parts.headers.keys().map(http::HeaderName::as_str).collect();
    let text = format!("{} {} {:?} ", parts.method, parts.uri, names);
    let mut answer = http::Response::new(said([text.as_bytes(), &body].concat()));
    if parts.uri.path() == "/half" {
        let half = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"half")))]);
        let broken = futures::stream::once(async {
            // What it has is on its way by then.
            tokio::task::yield_now().await;
            Err(std::io::ErrorKind::ConnectionReset.into())
        });
        *answer.body_mut() = StreamBody::new(half.chain(broken)).boxed_unsync();
    }
    if parts.uri.path() == "/away" {
        *answer.status_mut() = http::StatusCode::FOUND;
        answer.headers_mut().insert("location", http::HeaderValue::from_static("/login"));
    }
    Ok(answer)
}
