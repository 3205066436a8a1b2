//! Clients that take little or nothing of what there is for them.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use freewheel_hub_apiserver::Limits;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::client::TlsStream;

use crate::support::{Client, Hub, Line, create};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// So many ConfigMaps of so many bytes.
async fn maps(hub: &Hub, count: usize, bytes: usize) {
    for number in 0..count {
        let map = json!({"metadata": {"name": format!("m{number}"), "namespace": "default"},
            "data": {"text": "x".repeat(bytes)}});
        create(&hub.objects, "v1", "ConfigMap", map).await;
    }
}

/// The number of the first chunk's bytes.
async fn first_chunk(client: &Client, path: &str) -> usize {
    let mut stream = client.connect("http/1.1").await;
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let line = async {
        loop {
            read.push(stream.read_u8().await.unwrap());
            let end = read.windows(4).position(|end| end == b"\r\n\r\n");
            let line = end.map(|end| &read[end + 4..]);
            if let Some(number) = line.and_then(|line| line.strip_suffix(b"\r\n")) {
                return usize::from_str_radix(std::str::from_utf8(number).unwrap(), 16).unwrap();
            }
        }
    };
    timeout(Duration::from_secs(20), line).await.expect("a chunk comes")
}

#[tokio::test]
async fn a_watch_sends_what_is_there_in_pieces() {
    let hub = Hub::start().await;
    maps(&hub, 40, 100_000).await;
    let path = format!("{MAPS}?watch=true");
    let first = first_chunk(&hub.admin(), &path).await;
    assert!(first <= 64 * 1024 + 101_000, "{first}");
    let mut watch = hub.admin().watch(&path).await;
    let mut names = Vec::new();
    for _ in 0..40 {
        names.push(watch.brief().await.1);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 40);
    // Events that come together are cut in the same way, and nothing is lost between the pieces.
    let version = hub.admin().get("/api/v1/namespaces/default").await.json();
    let version = version["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let path = format!("{MAPS}?watch=true&resourceVersion={version}");
    let first = first_chunk(&hub.admin(), &path).await;
    assert!(first <= 64 * 1024 + 101_000, "{first}");
    let mut watch = hub.admin().watch(&path).await;
    for number in 0..40 {
        assert_eq!(watch.brief().await.1, format!("m{number}"));
    }
}

/// Asks once and takes a byte now and then; counts how many do so at a time.
async fn nibble(line: Line, path: String, (now, most): (Arc<AtomicUsize>, Arc<AtomicUsize>)) {
    let answer = line.get(&path).await;
    if answer.status() == 429 {
        return;
    }
    most.fetch_max(1 + now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
    let mut body = answer.into_body();
    while let Some(Ok(_)) = body.frame().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    now.fetch_sub(1, Ordering::SeqCst);
}

#[tokio::test]
async fn a_thousand_answers_that_nobody_takes_are_not_made() {
    let unread = Duration::from_millis(500);
    let hub = Hub::bounded(Limits { unread, ..Limits::default() }).await;
    maps(&hub, 1, 1_000_000).await;
    let line = hub.admin().narrow_line().await;
    let (mut asked, counts) = (JoinSet::new(), <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default());
    for _ in 0..60 {
        asked.spawn(nibble(line.clone(), format!("{MAPS}/m0"), counts.clone()));
    }
    let all = timeout(Duration::from_secs(60), asked.join_all());
    all.await.expect("each is told, or reset and gives its room to the next one");
    let most = counts.1.load(Ordering::SeqCst);
    // Twelve at a time, and who sleeps while the next ones come sees their end late.
    assert!((4..=26).contains(&most), "{most} answers wait for their client");
    assert_eq!(line.get("/version").await.status(), 200, "the connection is for others yet");
}

#[tokio::test]
async fn a_watch_over_http_1_that_is_not_read_ends_with_its_connection() {
    let hub = Hub::bounded(Limits { unread: Duration::from_secs(1), ..Limits::default() }).await;
    maps(&hub, 16, 1_000_000).await;
    let mut stream = hub.admin().connect("http/1.1").await;
    let head = format!("GET {MAPS}?watch=true HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // What the sockets have room for is there by then.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut read = Vec::new();
    let end = timeout(Duration::from_secs(20), stream.read_to_end(&mut read)).await;
    drop(end.expect("it is closed"));
    assert!(read.len() < 16_000_000, "{} bytes had room on the way", read.len());
}

/// A socket that nobody reads while this is locked.
struct Deaf {
    stream: TlsStream<TcpStream>,
    ears: Arc<tokio::sync::Mutex<()>>,
    listens: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl AsyncRead for Deaf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let ears = self.ears.clone();
        let listens = async move { drop(ears.lock().await) };
        ready!(self.listens.get_or_insert_with(|| Box::pin(listens)).as_mut().poll(cx));
        self.listens = None;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn an_answer_behind_a_socket_that_takes_nothing_ends() {
    let hub = Hub::bounded(Limits { unread: Duration::from_secs(1), ..Limits::default() }).await;
    maps(&hub, 24, 1_000_000).await;
    let (ears, stream) = (Arc::default(), hub.admin().connect("h2").await);
    let socket = Deaf { stream, ears: Arc::clone(&ears), listens: None };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1 << 30).initial_connection_window_size(1 << 30);
    let (mut sender, connection) = builder.handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("https://localhost{MAPS}?watch=true");
    let request = Request::builder().uri(uri).body(Full::new(Bytes::new())).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let deaf = ears.lock().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    drop(deaf);
    let end = timeout(Duration::from_secs(20), answer.into_body().collect()).await;
    assert!(end.expect("it ends").is_err(), "half an answer looks whole");
}

/// A socket that is read at this many bytes a second.
struct Slow {
    stream: TlsStream<TcpStream>,
    rate: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
        }
        self.pause = None;
        let mut few = [0; 4096];
        let room = buf.remaining().min(few.len());
        let mut few = ReadBuf::new(&mut few[..room]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut few))?;
        buf.put_slice(few.filled());
        let pause = Duration::from_secs_f64(few.filled().len() as f64 / self.rate as f64);
        self.pause = Some(Box::pin(sleep(pause)));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn many_answers_over_a_slow_socket_are_not_reset() {
    let hub = Hub::bounded(Limits { unread: Duration::from_secs(2), ..Limits::default() }).await;
    maps(&hub, 2, 64 << 10).await;
    // Small segments and buffers, or the kernel would take all of it at once.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    SockRef::from(&socket).set_tcp_mss(1_400).unwrap();
    let stream = hub.admin().connect_on(socket, "h2").await;
    let slow = Slow { stream, rate: 256 << 10, pause: None };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1 << 30).initial_connection_window_size(1 << 30);
    let (sender, connection) = builder.handshake(TokioIo::new(slow)).await.unwrap();
    tokio::spawn(connection);
    let mut watches = JoinSet::new();
    for _ in 0..16 {
        let mut sender = sender.clone();
        watches.spawn(async move {
            let uri = format!("https://localhost{MAPS}?watch=true");
            let request = Request::builder().uri(uri).body(Full::new(Bytes::new())).unwrap();
            let mut body = sender.send_request(request).await.unwrap().into_body();
            let mut came = 0;
            while came < 128 << 10 {
                let frame = body.frame().await.expect("there is more").expect("it is not reset");
                came += frame.into_data().unwrap().len();
            }
        });
    }
    timeout(Duration::from_secs(60), watches.join_all()).await.expect("they come");
}

#[tokio::test]
async fn pieces_that_nobody_takes_are_on_their_connection_s_account() {
    let hub = Hub::start().await;
    maps(&hub, 1, 1_000_000).await;
    let line = hub.admin().narrow_line().await;
    let mut watches = JoinSet::new();
    for _ in 0..60 {
        let line = line.clone();
        watches.spawn(async move {
            let mut body = line.get(&format!("{MAPS}?watch=true")).await.into_body();
            // A byte comes as soon as there is an object to take.
            let first = body.frame().await.expect("a piece").expect("a byte");
            (body, first)
        });
    }
    let mut made = Vec::new();
    let pause = Duration::from_secs(2);
    while let Ok(Some(watch)) = timeout(pause, watches.join_next()).await {
        made.push(watch.unwrap());
    }
    assert!((12..=18).contains(&made.len()), "{} megabytes are held", made.len());
    drop(made);
    let next = timeout(Duration::from_secs(20), watches.join_next()).await;
    drop(next.expect("what is given up is the next one's").unwrap().unwrap());
}

#[tokio::test]
async fn one_answer_that_is_not_taken_is_reset_and_the_others_go_on() {
    let hub = Hub::bounded(Limits { unread: Duration::from_secs(1), ..Limits::default() }).await;
    let line = hub.admin().line().await;
    let mut waits = line.watch("/api/v1/namespaces/default/secrets?watch=true").await;
    maps(&hub, 8, 1_000_000).await;
    let stalled = line.get(&format!("{MAPS}?watch=true")).await.into_body();
    let large = line.get(MAPS).await.into_body();
    // What they have room for is there by then, and nobody takes it.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut ended = JoinSet::new();
    ended.spawn(stalled.collect());
    ended.spawn(large.collect());
    while let Some(end) = timeout(Duration::from_secs(20), ended.join_next()).await.expect("ends") {
        assert!(end.unwrap().is_err(), "half an answer looks whole");
    }
    let secret = json!({"metadata": {"name": "late", "namespace": "default"}});
    create(&hub.objects, "v1", "Secret", secret).await;
    assert_eq!(waits.brief().await, ("ADDED".to_owned(), "late".to_owned()));
    assert_eq!(line.get("/version").await.status(), 200);
}

#[tokio::test]
async fn a_large_collection_is_deleted_without_room_for_it() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    for (count, bytes, kind) in [(3, 1_000_000, "Status"), (3, 1_000, "ConfigMapList")] {
        maps(&hub, count, bytes).await;
        let deleted = admin.delete(MAPS).await;
        assert_eq!(deleted.code, 200);
        assert_eq!(deleted.json()["kind"], kind, "of {bytes} bytes each");
        if kind == "Status" {
            assert_eq!(deleted.json()["status"], "Success");
            assert_eq!(deleted.json()["message"], "3 were deleted, too many to list them here");
        }
        assert_eq!(admin.get(MAPS).await.json()["items"], json!([]));
    }
}

#[tokio::test]
async fn bodies_that_do_not_come_are_waited_for_in_turn() {
    let hub = Hub::start().await;
    let line = hub.admin().line().await;
    let small = line.post_of(MAPS, json!({"metadata": {"name": "small"}}).to_string().into());
    assert_eq!(small.await.status(), 201);
    // Of none of these is it known how large it will be, and nothing comes.
    let mut stuck = JoinSet::new();
    for _ in 0..8 {
        let line = line.clone();
        stuck.spawn(async move { line.post_nothing(MAPS).await });
    }
    let first = timeout(Duration::from_secs(50), stuck.join_next()).await.expect("one is told");
    assert_eq!(first.unwrap().unwrap().status(), 429);
    // Others do not wait for them.
    assert_eq!(hub.admin().get("/version").await.code, 200);
}

#[tokio::test]
async fn bodies_that_wait_for_room_do_not_hold_up_those_that_have_some() {
    let hub = Hub::start().await;
    let line = hub.admin().line().await;
    assert_eq!(line.get("/version").await.status(), 200);
    // Seven have room at a time, and what comes of five more would fill the window that all share.
    let mut posts = JoinSet::new();
    for number in 0..12 {
        // What is large in it are spaces.
        let map = json!({"metadata": {"name": format!("m{number}")}}).to_string();
        let (line, map) = (line.clone(), format!("{map}{}", " ".repeat(1_450_000)).into());
        posts.spawn(async move { line.post_of(MAPS, map).await.status().as_u16() });
    }
    let ended = timeout(Duration::from_secs(15), posts.join_all()).await;
    let codes = ended.expect("nobody waits until others give up");
    let of = |code: u16| codes.iter().filter(|one| **one == code).count();
    assert!(7 <= of(201) && of(201) + of(429) == 12, "{codes:?}");
}

#[tokio::test]
async fn headers_are_on_the_account_of_their_connection() {
    let hub = Hub::start().await;
    let line = hub.admin().line().await;
    // Then it knows how many it may send at a time.
    assert_eq!(line.get("/version").await.status(), 200);
    let mut stuck = JoinSet::new();
    for _ in 0..400 {
        let line = line.clone();
        stuck.spawn(async move { line.post_nothing_with(MAPS, 60_000).await.status() });
    }
    let mut refused = 0;
    while let Ok(Some(code)) = timeout(Duration::from_secs(60), stuck.join_next()).await {
        assert_eq!(code.unwrap(), 429);
        refused += 1;
        // Each counts twice, and there is room for 18 MiB of them.
        if 400 - 18 * 1024 / 110 <= refused {
            break;
        }
    }
    assert!(230 <= refused, "{refused} of 400 requests with headers of 60 kB do not wait");
    drop(stuck);
    let map = json!({"metadata": {"name": "m"}}).to_string();
    assert_eq!(hub.admin().line().await.post_of(MAPS, map.into()).await.status(), 201);
}

#[tokio::test]
async fn what_a_watch_is_asked_with_is_on_the_account_of_its_connection() {
    let hub = Hub::start().await;
    let line = hub.admin().line().await;
    let labels: Vec<_> = (0..1_000).map(|at| format!("k{at}!={}", "v".repeat(50))).collect();
    let path = format!("{MAPS}?watch=true&labelSelector={}", labels.join(","));
    let (mut open, mut refused) = (Vec::new(), 0);
    for _ in 0..250 {
        let answer = line.get(&path).await;
        match answer.status().as_u16() {
            200 => open.push(answer),
            429 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!((20..=110).contains(&open.len()) && 140 <= refused, "{} and {refused}", open.len());
    drop(open);
    let goes = async {
        while line.get(&path).await.status() != 200 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), goes).await.expect("it is free when they are over");
}

#[tokio::test]
async fn a_body_that_nobody_wants_is_not_kept_while_its_answer_lasts() {
    let hub = Hub::start().await;
    let stream = TokioIo::new(hub.admin().connect("h2").await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let (sent, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
    let (counted, all) = (sent.clone(), end.clone());
    let pieces = futures::stream::poll_fn(move |_| {
        if 4 << 20 < counted.fetch_add(64 << 10, Ordering::SeqCst) {
            all.notify_one();
            return Poll::Ready(None);
        }
        let piece = hyper::body::Frame::data(Bytes::from(vec![7; 64 << 10]));
        Poll::Ready(Some(Ok::<_, io::Error>(piece)))
    });
    let body = http_body_util::StreamBody::new(pieces);
    let request = Request::get(format!("https://localhost{MAPS}?watch=true")).body(body).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    timeout(Duration::from_secs(20), end.notified()).await.expect("it is read and thrown away");
    drop(answer);
}

/// The next event of a watch whose client reads only when it is asked to.
async fn event(body: &mut Incoming, rest: &mut Vec<u8>) -> (String, String, usize) {
    loop {
        if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line).unwrap();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let object = &event["object"];
            let data = object["data"]["text"].as_str().unwrap_or_default().len();
            return (text(&event["type"]), text(&object["metadata"]["name"]), data);
        }
        let frame = timeout(Duration::from_secs(20), body.frame()).await.expect("it comes");
        rest.extend_from_slice(&frame.expect("there is more").unwrap().into_data().unwrap());
    }
}

#[tokio::test]
async fn a_slow_watch_goes_on_from_the_newest_state() {
    let hub = Hub::start().await;
    maps(&hub, 40, 100_000).await;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(64 << 10);
    let stream = TokioIo::new(hub.admin().connect("h2").await);
    let (mut sender, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("https://localhost{MAPS}?watch=true");
    let request = Request::builder().uri(uri).body(Full::new(Bytes::new())).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let mut rest = Vec::new();
    for name in ["m0", "m1", "m10", "m11"] {
        let seen = event(&mut body, &mut rest).await;
        assert_eq!(seen, ("ADDED".to_owned(), name.to_owned(), 100_000));
    }
    let admin = hub.admin();
    let change = json!({"data": {"text": "new"}});
    for name in ["m0", "m39"] {
        let changed = admin.patch(&format!("{MAPS}/{name}"), "merge-patch+json", &change).await;
        assert_eq!(changed.code, 200);
    }
    for name in ["m1", "m38"] {
        assert_eq!(admin.delete(&format!("{MAPS}/{name}")).await.code, 200);
    }
    let made = json!({"metadata": {"name": "m00"}, "data": {"text": "made"}});
    assert_eq!(admin.post(MAPS, &made).await.code, 201);
    // Longer than a state is kept.
    sleep(Duration::from_secs(6)).await;
    let mut state: BTreeMap<String, usize> =
        ["m0", "m1", "m10", "m11"].map(|name| (name.to_owned(), 100_000)).into();
    let mut renewed = false;
    while state.len() < 39 || !state.contains_key("m9") {
        let (kind, name, bytes) = event(&mut body, &mut rest).await;
        match kind.as_str() {
            "ADDED" => {
                assert_ne!(name, "m38", "it was gone before it was sent");
                assert!(state.insert(name, bytes).is_none(), "it was sent before");
            }
            "MODIFIED" => {
                renewed |= name == "m0" && !state.contains_key("m9");
                assert!(state.insert(name, bytes).is_some());
            }
            "DELETED" => assert!(state.remove(&name).is_some(), "{name}"),
            other => panic!("{other} {name}"),
        }
    }
    assert!(renewed, "what had changed came with the rest of the beginning");
    assert_eq!((state["m0"], state["m00"], state["m39"]), (3, 4, 3));
    assert!(!state.contains_key("m1"));
    let last = json!({"metadata": {"name": "last"}});
    assert_eq!(admin.post(MAPS, &last).await.code, 201);
    assert_eq!(event(&mut body, &mut rest).await.1, "last", "nothing comes twice");
}

#[tokio::test]
async fn strangers_who_send_nothing_leave_room_for_the_known() {
    // What all of them together hold would be more than there is, if each were taken for one of the known.
    let limits = Limits { strangers: 128, held_bytes: 60 * (256 << 10), ..Limits::default() };
    let hub = Hub::bounded(limits).await;
    let (line, mut strangers) = (hub.admin().line().await, JoinSet::new());
    for _ in 0..64 {
        let stranger = hub.client(None).line().await;
        let (asked, asks) = tokio::sync::oneshot::channel();
        strangers.spawn(async move {
            let mut last = stranger.post_nothing(MAPS).await;
            let _ = asked.send(());
            loop {
                // More often than what is unread of the one before is let go of.
                sleep(Duration::from_millis(500)).await;
                let next = stranger.post_nothing(MAPS).await;
                drop(std::mem::replace(&mut last, next));
            }
        });
        asks.await.unwrap();
    }
    for number in 0..20 {
        let map = json!({"metadata": {"name": format!("m{number}")}, "data": {"text": "x".repeat(10_000)}});
        let answer = line.post_of(MAPS, map.to_string().into()).await;
        assert_eq!(answer.status(), 201, "{number}");
    }
}
