//! Connections that become streams to a pod: over SPDY/3.1, over SPDY/3.1 in a WebSocket, over a WebSocket's channels.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use freewheel_hub_apiserver::Limits;
use freewheel_hub_spdy::Headers;
use freewheel_hub_spdy::frame::{Control, HEAD_BYTES, Head, data_head};
use freewheel_hub_spdy::header_block::{Packer, Unpacker};
use futures::{SinkExt as _, StreamExt as _};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::support::{Client, Hub};

const PODS: &str = "/api/v1/namespaces/default/pods";
pub const WEBSOCKET: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];
pub const SPDY: [(&str, &str); 3] = [
    ("connection", "Upgrade"),
    ("upgrade", "SPDY/3.1"),
    ("x-stream-protocol-version", "portforward.k8s.io"),
];

pub type Raw = TokioIo<Upgraded>;

/// A pod on this device.
pub async fn pod(client: &Client, name: &str, node: &str) {
    let pod = json!({"metadata": {"name": name}, "spec": {
        "nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
    let answer = client.post(PODS, &pod).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
}

/// What the connection became, or the refusal.
pub async fn upgrade(
    client: &Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Raw, (u16, String)> {
    let stream = TokioIo::new(client.connect("").await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    if response.status() != 101 {
        let code = response.status().as_u16();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        return Err((code, String::from_utf8_lossy(&text).into_owned()));
    }
    Ok(TokioIo::new(hyper::upgrade::on(response).await.unwrap()))
}

/// A client of SPDY, over whatever carries it.
pub struct Spdy<T> {
    io: T,
    packer: Packer,
    unpacker: Unpacker,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Spdy<T> {
    pub fn over(io: T) -> Self {
        Self { io, packer: Packer::default(), unpacker: Unpacker::default() }
    }

    pub async fn control(&mut self, control: Control) {
        let frame = control.write(&mut self.packer).unwrap();
        self.io.write_all(&frame).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// Opens both streams of a connection, as kubectl does.
    pub async fn connect(&mut self, first: u32, port: &str) {
        for (stream, kind) in [(first, "error"), (first + 2, "data")] {
            let request = first.to_string();
            let headers =
                Headers::from([("streamType", kind), ("port", port), ("requestID", &request)]);
            self.control(Control::SynStream { stream, fin: false, headers }).await;
            let reply = Control::SynReply { stream, fin: false, headers: Headers::default() };
            self.until(&Got::Control(reply)).await;
        }
        self.data(first, true, b"").await;
    }

    pub async fn data(&mut self, stream: u32, fin: bool, bytes: &[u8]) {
        self.io.write_all(&data_head(stream, fin, bytes.len())).await.unwrap();
        self.io.write_all(bytes).await.unwrap();
        self.io.flush().await.unwrap();
    }

    async fn next(&mut self) -> Got {
        let next = timeout(Duration::from_secs(10), self.frame()).await;
        next.expect("something comes").expect("the session goes on")
    }

    /// Until this comes; streams that are over may be reset meanwhile.
    async fn until(&mut self, awaited: &Got) {
        loop {
            match self.next().await {
                got if got == *awaited => return,
                Got::Control(Control::RstStream { .. }) => {}
                other => panic!("{other:?} comes before {awaited:?}"),
            }
        }
    }

    pub async fn frame(&mut self) -> Option<Got> {
        let mut head = [0; HEAD_BYTES];
        self.io.read_exact(&mut head).await.ok()?;
        Some(match Head::read(head).unwrap() {
            Head::Data { stream, fin, length } => {
                let mut bytes = vec![0; length];
                self.io.read_exact(&mut bytes).await.unwrap();
                Got::Data(stream, fin, String::from_utf8(bytes).unwrap())
            }
            Head::Control { kind, flags, length } => {
                let mut body = vec![0; length];
                self.io.read_exact(&mut body).await.unwrap();
                Got::Control(Control::read((kind, flags), &body, &mut self.unpacker).unwrap())
            }
        })
    }

    /// All of a stream until its end; other streams' frames are left out.
    async fn rest(&mut self, of: u32) -> String {
        let mut all = String::new();
        loop {
            match self.next().await {
                Got::Data(stream, fin, text) if stream == of => {
                    all += &text;
                    if fin {
                        return all;
                    }
                }
                Got::Control(Control::RstStream { stream, .. }) if stream == of => {
                    return all + "[reset]";
                }
                Got::Data(..) | Got::Control(_) => {}
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    Control(Control),
    Data(u32, bool, String),
}

async fn is_forwarded<T: AsyncRead + AsyncWrite + Unpin>(io: T) {
    let mut client = Spdy::over(io);
    client.connect(1, "80").await;
    client.data(3, false, b"hello").await;
    assert_eq!(client.next().await, Got::Data(3, false, "hello".to_owned()));
    // A second connection beside the first, to a port that nobody listens on.
    client.connect(5, "99").await;
    let told = client.rest(5).await;
    assert!(told.starts_with("error forwarding port 99 to pod p_default, uid "), "{told}");
    assert!(told.ends_with("connect: connection refused"), "{told}");
    // A third that its pod breaks off.
    client.connect(9, "81").await;
    client.data(11, false, b"x").await;
    let told = client.rest(9).await;
    assert!(told.contains("broke off"), "{told}");
    // The first goes on, and ends in order.
    client.data(3, true, b" again").await;
    assert_eq!(client.rest(3).await, " again");
    assert_eq!(client.rest(1).await, "", "no failure");
    // One that its client breaks off is no failure either.
    client.connect(13, "80").await;
    client.control(Control::RstStream { stream: 15, status: 5 }).await;
    assert_eq!(client.rest(13).await, "");
}

#[tokio::test]
async fn a_port_is_forwarded_over_spdy_and_its_failures_are_told() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let path = format!("{PODS}/p/portforward");
    is_forwarded(upgrade(&admin, "POST", &path, &SPDY).await.unwrap()).await;
}

#[tokio::test]
async fn spdy_is_carried_in_a_websocket() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let path = format!("{PODS}/p/portforward");
    let asked = ("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io");
    let headers = [&WEBSOCKET[..], &[asked]].concat();
    let raw = upgrade(&admin, "GET", &path, &headers).await.unwrap();
    let socket = WebSocketStream::from_raw_socket(raw, Role::Client, None).await;
    let (mut sink, mut stream) = socket.split();
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut from_near, mut to_near) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut bytes = [0; 100];
        while let Ok(read @ 1..) = from_near.read(&mut bytes).await {
            let message = Message::Binary(Bytes::copy_from_slice(&bytes[..read]));
            sink.send(message).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Some(Ok(Message::Binary(bytes))) = stream.next().await {
            to_near.write_all(&bytes).await.unwrap();
        }
    });
    is_forwarded(near).await;
}

#[tokio::test]
async fn ports_are_forwarded_over_channels() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let path = format!("{PODS}/p/portforward?ports=80,99");
    let raw = upgrade(&admin, "GET", &path, &WEBSOCKET).await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(raw, Role::Client, None).await;
    let mut got = vec![String::new(); 4];
    socket.send(Message::binary(b"\0hello".to_vec())).await.unwrap();
    // A message for a channel that is none.
    socket.send(Message::binary(b"\x09x".to_vec())).await.unwrap();
    while !got[0].ends_with("hello") || !got[3].contains("refused") {
        let next = timeout(Duration::from_secs(10), socket.next()).await.unwrap();
        let message = next.unwrap().unwrap().into_data();
        let channel = usize::from(message[0]);
        got[channel] += &String::from_utf8_lossy(&message[1..]);
    }
    assert_eq!((got[0].as_str(), got[1].as_str()), ("P\0hello", "P\0"));
    assert!(got[3].starts_with("c\0error forwarding port 99 to pod p_default"), "{got:?}");
}

#[tokio::test]
async fn who_may_not_or_cannot_is_refused_before_anything_changes_hands() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    pod(&admin, "far", "away").await;
    let unbound = json!({"metadata": {"name": "new"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(admin.post(PODS, &unbound).await.code, 201);
    let refused = async |client: &Client, method: &str, path: &str, headers: &[(&str, &str)]| {
        let path = format!("{PODS}/{path}");
        upgrade(client, method, &path, headers).await.err().unwrap()
    };
    for (path, headers, code, text) in [
        ("p/portforward", &SPDY[..0], 400, "Upgrade request required"),
        ("p/portforward", &WEBSOCKET[..], 400, r#"\"ports\" is required"#),
        ("p/portforward?ports=x", &WEBSOCKET[..], 400, "as a port"),
        ("new/portforward", &SPDY[..], 400, "pod new does not have a host assigned"),
        ("far/portforward", &SPDY[..], 503, "the spoke away is not connected to the hub"),
        ("none/portforward", &SPDY[..], 404, r#"pods \"none\" not found"#),
    ] {
        let method = if headers.len() == WEBSOCKET.len() { "GET" } else { "POST" };
        let (told, message) = refused(&admin, method, path, headers).await;
        assert!(told == code && message.contains(text), "{path}: {told} {message}");
    }
    let rule =
        json!([{"apiGroups": [""], "resources": ["pods", "pods/portforward"], "verbs": ["get"]}]);
    let role = json!({"metadata": {"name": "reader"}, "rules": rule});
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    assert_eq!(admin.post(&format!("{rbac}/roles"), &role).await.code, 201);
    let binding = json!({"metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}]});
    assert_eq!(admin.post(&format!("{rbac}/rolebindings"), &binding).await.code, 201);
    let ann = hub.client(Some(&hub.authority.client("ann", "people")));
    let asked = async || {
        let (code, message) = refused(&ann, "GET", "p/portforward?ports=80", &WEBSOCKET).await;
        (code == 403 && message.contains("cannot create resource")).then_some(())
    };
    for _ in 0..100 {
        if asked().await.is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("who may only read pods reaches into one");
}

#[tokio::test]
async fn a_session_has_so_many_connections_and_no_more() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let path = format!("{PODS}/p/portforward");
    let raw = upgrade(&admin, "POST", &path, &SPDY).await.unwrap();
    let mut client = Spdy::over(raw);
    for number in 0..32 {
        client.connect(1 + 4 * number, "80").await;
    }
    let headers = Headers::from([("streamType", "error"), ("port", "80"), ("requestID", "x")]);
    client.control(Control::SynStream { stream: 401, fin: false, headers }).await;
    let refused = Control::RstStream { stream: 401, status: 3 };
    assert_eq!(client.next().await, Got::Control(refused));
}

#[tokio::test]
async fn idle_sessions_hold_no_more_than_there_is() {
    let hub = Hub::bounded(Limits { held_bytes: 4 << 20, ..Limits::default() }).await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let path = format!("{PODS}/p/portforward");
    let tunnel = ("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io");
    let tunnel = [&WEBSOCKET[..], &[tunnel]].concat();
    let mut idle = tokio::task::JoinSet::new();
    for number in 0..13 {
        let (method, headers) =
            if number % 2 == 0 { ("POST", &SPDY[..]) } else { ("GET", &*tunnel) };
        let mut raw = upgrade(&admin, method, &path, headers).await.expect("there is room again");
        idle.spawn(async move { raw.read(&mut [0]).await });
    }
    // Those that there is no room for have made others go.
    for _ in 0..3 {
        let gone = timeout(Duration::from_secs(10), idle.join_next()).await.expect("one goes");
        assert!(!matches!(gone.unwrap().unwrap(), Ok(1..)), "a session says something");
    }
}

#[tokio::test]
async fn a_session_ends_with_its_hub() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let path = format!("{PODS}/p/portforward");
    let raw = upgrade(&admin, "POST", &path, &SPDY).await.unwrap();
    let mut client = Spdy::over(raw);
    client.connect(1, "80").await;
    drop(hub.stop);
    let served = timeout(Duration::from_secs(5), hub.served).await;
    served.expect("the server ends").unwrap().unwrap();
    while client.frame().await.is_some() {}
}

/// All of each channel of a session, until its end.
pub async fn channels(socket: &mut WebSocketStream<Raw>) -> [String; 5] {
    let mut got: [String; 5] = Default::default();
    while let Some(Ok(message)) = timeout(Duration::from_secs(10), socket.next()).await.unwrap() {
        if let Message::Binary(bytes) = message {
            got[usize::from(bytes[0])] += &String::from_utf8_lossy(&bytes[1..]);
        }
    }
    got
}

#[tokio::test]
async fn a_command_has_its_input_and_output_and_its_code_is_told() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let asked = ("sec-websocket-protocol", "v5.channel.k8s.io");
    let headers = [&WEBSOCKET[..], &[asked]].concat();
    let session = async |query: &str| {
        let path = format!("{PODS}/p/exec?{query}");
        let raw = upgrade(&admin, "GET", &path, &headers).await.unwrap();
        WebSocketStream::from_raw_socket(raw, Role::Client, None).await
    };
    let mut socket = session("command=cat&stdin=true&stdout=true&stderr=true").await;
    socket.send(Message::binary(b"\0hello".to_vec())).await.unwrap();
    socket.send(Message::binary(b"\xff\0".to_vec())).await.unwrap();
    let [_, stdout, stderr, status, _] = channels(&mut socket).await;
    assert_eq!((stdout.as_str(), stderr.as_str()), ("hello", ""));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["status"], "Success");
    let mut socket = session("command=fail&command=3&stdout=true&stderr=true").await;
    let [_, stdout, stderr, status, _] = channels(&mut socket).await;
    assert_eq!((stdout.as_str(), stderr.as_str()), ("", "it does not work\n"));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode");
    let cause = json!({"reason": "ExitCode", "message": "3"});
    assert_eq!(status["details"]["causes"][0], cause);
}

#[tokio::test]
async fn a_command_is_carried_over_spdy() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let mut headers = SPDY;
    headers[2].1 = "v4.channel.k8s.io";
    let path = format!("{PODS}/p/exec?command=cat&stdin=true&stdout=true");
    let mut client = Spdy::over(upgrade(&admin, "POST", &path, &headers).await.unwrap());
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        let headers = Headers::from([("streamType", kind)]);
        client.control(Control::SynStream { stream, fin: false, headers }).await;
    }
    client.data(3, false, b"hello").await;
    client.data(3, true, b"").await;
    let (mut stdout, mut status) = (String::new(), String::new());
    while let Some(got) = client.frame().await {
        match got {
            Got::Data(5, _, text) => stdout += &text,
            Got::Data(1, _, text) => status += &text,
            // A client takes it for the command's end, and stops sending.
            Got::Data(3, true, _) => assert!(!status.is_empty(), "its input has ended early"),
            Got::Data(..) | Got::Control(_) => {}
        }
    }
    assert_eq!((stdout.as_str(), status.contains("Success")), ("hello", true), "{status}");
}

#[tokio::test]
async fn a_link_that_breaks_off_is_no_success() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let path = format!("{PODS}/p/exec?command=go");
    let raw = upgrade(&admin, "GET", &path, &WEBSOCKET).await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(raw, Role::Client, None).await;
    let [_, _, _, status, _] = channels(&mut socket).await;
    assert!(status.contains("error executing command in container"), "{status}");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_command() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let path = format!("{PODS}/p/exec?command=cat&stdin=true&stdout=true");
    let spdy = [SPDY[0], SPDY[1], ("x-stream-protocol-version", "v4.channel.k8s.io")];
    for (method, headers) in [("GET", &WEBSOCKET[..]), ("POST", &spdy)] {
        let raw = upgrade(&admin, method, &path, headers).await.unwrap();
        assert_eq!(hub.followed.load(Ordering::SeqCst), 1);
        drop(raw);
        let gone = async {
            while hub.followed.load(Ordering::SeqCst) != 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(10), gone).await.expect("the command ends");
    }
}

#[tokio::test]
async fn a_command_that_cannot_run_is_a_status() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    for (path, code, text) in [
        ("p/exec?command=sh", 400, "c has no program"),
        ("p/exec", 400, "at least one command"),
        ("p/exec?command=cat&container=x", 400, "container x is not valid for pod p"),
    ] {
        let path = format!("{PODS}/{path}");
        let (told, message) = upgrade(&admin, "GET", &path, &WEBSOCKET).await.err().unwrap();
        assert!(told == code && message.contains(text), "{path}: {told} {message}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_the_session() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let path = format!("{PODS}/p/portforward?ports=80");
    let raw = upgrade(&admin, "GET", &path, &WEBSOCKET).await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(raw, Role::Client, None).await;
    let _ = socket.send(Message::binary(vec![0; 2 << 20])).await;
    let end = async { while let Some(Ok(_)) = socket.next().await {} };
    timeout(Duration::from_secs(10), end).await.expect("the session ends");
}
