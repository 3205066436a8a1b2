//! Sessions that the hub ends, and what those that wait hold.

use std::time::Duration;

use freewheel_hub_apiserver::Limits;
use freewheel_hub_spdy::Headers;
use freewheel_hub_spdy::frame::Control;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::endings;
use crate::port_forwards::{Got, Raw, SPDY, Spdy, WEBSOCKET, channels, pod, upgrade};
use crate::proxies;
use crate::support::{Client, Hub};

const PODS: &str = "/api/v1/namespaces/default/pods";
const BOUND: Duration = Duration::from_secs(10);

/// A command over SPDY that goes on, with as many of its streams, errors first.
async fn command(client: &Client, pods: &str, opened: usize) -> Spdy<Raw> {
    let headers = [SPDY[0], SPDY[1], ("x-stream-protocol-version", "v4.channel.k8s.io")];
    let path = format!("{pods}/p/exec?command=cat&stdout=true");
    let mut spdy = Spdy::over(upgrade(client, "POST", &path, &headers).await.unwrap());
    let streams = [(1, "error"), (3, "stdout"), (5, "stderr")];
    for (stream, kind) in streams.into_iter().take(opened) {
        let headers = Headers::from([("streamType", kind)]);
        spdy.control(Control::SynStream { stream, fin: false, headers }).await;
        let reply = Control::SynReply { stream, fin: false, headers: Headers::default() };
        assert_eq!(spdy.frame().await, Some(Got::Control(reply)));
    }
    spdy
}

/// All that is said on stream 1, until the session ends.
async fn told(mut spdy: Spdy<Raw>) -> String {
    let mut told = String::new();
    while let Some(got) = timeout(BOUND, spdy.frame()).await.expect("the session ends") {
        if let Got::Data(1, _, text) = got {
            told += &text;
        }
    }
    told
}

/// A client takes a session without a word for a success.
#[tokio::test]
async fn a_session_that_its_hub_ends_is_told_why() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let over_spdy = command(&admin, PODS, 3).await;
    let path = format!("{PODS}/p/exec?command=cat&stdout=true");
    let raw = upgrade(&admin, "GET", &path, &WEBSOCKET).await.unwrap();
    let mut over_channels = WebSocketStream::from_raw_socket(raw, Role::Client, None).await;
    let path = format!("{PODS}/p/portforward");
    let mut forwarded = Spdy::over(upgrade(&admin, "POST", &path, &SPDY).await.unwrap());
    forwarded.connect(1, "80").await;
    drop(hub.stop);
    let (over_spdy, mut over_channels, forwarded) =
        tokio::join!(told(over_spdy), channels(&mut over_channels), told(forwarded));
    for status in [over_spdy, std::mem::take(&mut over_channels[3])] {
        let status: serde_json::Value = serde_json::from_str(&status).expect("a status");
        assert_eq!((&status["status"], &status["code"]), (&"Failure".into(), &503.into()));
        assert_eq!(status["message"], "the hub is stopping");
    }
    assert!(forwarded.starts_with("error forwarding port 80 to pod p_default"), "{forwarded}");
    assert!(forwarded.ends_with("the hub is stopping"), "{forwarded}");
    let served = timeout(BOUND, hub.served).await;
    served.expect("the server ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_session_whose_cluster_goes_is_told_so() {
    let hub = Hub::start().await;
    let site = endings::cluster(&hub).await;
    endings::pod(&site, "c").await;
    let pods = "/clusters/pi-7/api/v1/namespaces/default/pods";
    // The second has not opened all of its streams.
    let sessions = [command(&site, pods, 3).await, command(&site, pods, 2).await];
    endings::remove(&hub).await;
    for session in sessions {
        let status = told(session).await;
        let status: serde_json::Value = serde_json::from_str(&status).expect("a status");
        assert_eq!((&status["status"], &status["code"]), (&"Failure".into(), &410.into()));
    }
}

/// Opens streams of data that wait for theirs of errors; how many are taken.
async fn waiting(spdy: &mut Spdy<Raw>, count: u32, request: impl Fn(u32) -> String) -> u32 {
    for number in 0..count {
        let (stream, request) = (1 + 2 * number, request(number));
        let headers =
            Headers::from([("streamType", "data"), ("port", "80"), ("requestID", &request)]);
        spdy.control(Control::SynStream { stream, fin: false, headers }).await;
        match timeout(BOUND, spdy.frame()).await.expect("it is taken or refused") {
            Some(Got::Control(Control::SynReply { .. })) => {}
            Some(Got::Control(Control::RstStream { .. })) | None => return number,
            other => panic!("{other:?}"),
        }
    }
    count
}

#[tokio::test]
async fn streams_that_wait_for_their_other_one_are_on_the_account() {
    let hub = Hub::bounded(Limits { held_bytes: 2 << 20, ..Limits::default() }).await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let path = format!("{PODS}/p/portforward");
    let mut spdy = Spdy::over(upgrade(&admin, "POST", &path, &SPDY).await.unwrap());
    let taken = waiting(&mut spdy, 64, |number| number.to_string()).await;
    assert!((1..32).contains(&taken), "{taken} were taken");
}

#[tokio::test]
async fn a_request_has_a_short_name() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let path = format!("{PODS}/p/portforward");
    for (length, taken) in [(64, 1), (65, 0)] {
        let mut spdy = Spdy::over(upgrade(&admin, "POST", &path, &SPDY).await.unwrap());
        assert_eq!(waiting(&mut spdy, 1, |_| "7".repeat(length)).await, taken);
    }
}

/// The pod behind a proxy may be silent for long after it has changed the protocol.
#[tokio::test]
async fn what_has_changed_its_protocol_behind_a_proxy_is_on_the_account() {
    let hub = Hub::bounded(Limits { held_bytes: 1 << 20, ..Limits::default() }).await;
    let admin = hub.admin();
    proxies::pod(&admin, "p", "pi-7").await;
    let headers = [("connection", "upgrade"), ("upgrade", "echo")];
    let path = format!("{PODS}/p/proxy/x");
    let mut idle = tokio::task::JoinSet::new();
    for _ in 0..19 {
        let mut raw = upgrade(&admin, "GET", &path, &headers).await.expect("there is room again");
        idle.spawn(async move { raw.read(&mut [0]).await });
    }
    // Those that there is no room for have made others go.
    for _ in 0..3 {
        let gone = timeout(BOUND, idle.join_next()).await.expect("one goes");
        assert!(!matches!(gone.unwrap().unwrap(), Ok(1..)), "a session says something");
    }
}
