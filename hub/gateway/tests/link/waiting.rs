//! Devices with a good token that wait to be accepted. Time is the test's here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_link::meter::{Carried, Class};
use freewheel_link::transport::{Peer, Stream};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use crate::support::*;

/// As many as may wait at the same time, and a few more.
const MANY: usize = 256 + 4;

/// Another token, which accepts nobody by itself.
async fn another_token(hub: &Hub) -> &'static str {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": "bootstrap-token-second", "namespace": "kube-system"},
        "data": {
            "token-id": STANDARD.encode("second"), "token-secret": STANDARD.encode("0123456789abcdef"),
            "usage-bootstrap-authentication": STANDARD.encode("true"),
        },
    });
    hub.create(("", "v1", "secrets"), "kube-system", "bootstrap-token-second", secret).await;
    "second.0123456789abcdef"
}

/// Joins beside the test; what it is told comes out, and at last how it ended.
fn asks(hub: &Hub, device: &Device, name: &str, token: &str) -> mpsc::UnboundedReceiver<String> {
    let (tell, told) = mpsc::unbounded_channel();
    let (link, request) = (hub.connect(ALPN_JOIN, None), device.ask(name, token));
    tokio::spawn(async move {
        let told = tell.clone();
        let ended =
            join::submit(&*link, &request, move |text| drop(told.send(text.to_owned()))).await;
        drop(tell.send(format!("{ended:?}")));
    });
    told
}

/// The last that it is told.
async fn end(told: &mut mpsc::UnboundedReceiver<String>) -> String {
    let mut last = String::new();
    while let Some(text) = told.recv().await {
        last = text;
    }
    last
}

/// At the pace of joins.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_asks_again_and_again_keeps_nobody_out() {
    let hub = Hub::new(false).await;
    let (greedy, other) = (Device::new(), Device::new());
    let mut asking = Vec::new();
    for _ in 0..MANY {
        asking.push(asks(&hub, &greedy, "pi-1", TOKEN));
        a_moment().await;
    }
    let mut waits = asks(&hub, &other, "pi-2", TOKEN);
    assert!(waits.recv().await.unwrap().contains("hub accept pi-2"));
    let ended = end(&mut asking[0]).await;
    assert!(ended.contains("has asked again"), "{ended}");
    let newest = asking.last_mut().unwrap();
    assert!(newest.recv().await.unwrap().contains("hub accept pi-1"));
    assert!(!newest.is_closed(), "the newest waits");
}

#[tokio::test(start_paused = true)]
async fn one_token_does_not_take_all_places_to_wait_at() {
    let hub = Hub::new(false).await;
    let mut asking = Vec::new();
    for n in 0..MANY {
        asking.push(asks(&hub, &Device::new(), &format!("pi-{n}"), TOKEN));
        a_moment().await;
    }
    let last = end(asking.last_mut().unwrap()).await;
    assert!(last.contains("too many devices join at once"), "{last}");
    let token = another_token(&hub).await;
    let mut waits = asks(&hub, &Device::new(), "other", token);
    assert!(waits.recv().await.unwrap().contains("hub accept other"));
    let ended = end(&mut asking[0]).await;
    assert!(ended.contains("too many devices join at once"), "{ended}");
    assert_eq!(asking.iter().filter(|one| one.is_closed()).count(), 4 + 1, "one has made room");
    assert!(!waits.is_closed(), "the other waits on");
}

/// A connection whose peer takes nothing of what it is told.
struct Unread(Arc<memory_transport::MemoryTransport>);

/// What is written to it stays.
struct Stuck;

impl AsyncWrite for Stuck {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl SendHalf for Stuck {
    fn reset(&mut self) {}

    fn is_stopped(&mut self, _: &mut Context<'_>) -> bool {
        false
    }
}

#[async_trait]
impl Transport for Unread {
    async fn open(&self, priority: Priority) -> Result<Stream, Closed> {
        self.0.open(priority).await
    }

    async fn accept(&self) -> Result<Stream, Closed> {
        let stream = self.0.accept().await?;
        Ok(Stream { send: Box::new(Stuck), recv: stream.recv })
    }

    fn send_datagram(&self, bytes: bytes::Bytes) {
        self.0.send_datagram(bytes);
    }

    fn offer_datagram(&self, bytes: bytes::Bytes) -> bool {
        self.0.offer_datagram(bytes)
    }

    async fn datagram(&self) -> Result<bytes::Bytes, Closed> {
        self.0.datagram().await
    }

    fn close(&self, code: u32, reason: &str) {
        self.0.close(code, reason);
    }

    async fn closed(&self) -> Closed {
        self.0.closed().await
    }

    fn peer(&self) -> Peer {
        self.0.peer()
    }

    fn carried(&self, class: Class) -> Carried {
        self.0.carried(class)
    }

    fn heard(&self) -> u64 {
        self.0.heard()
    }

    fn acknowledged(&self) -> u64 {
        self.0.acknowledged()
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_the_answer_is_not_kept() {
    let hub = Hub::new(false).await;
    // Refused at once, and told to wait.
    for name in ["root", "pi-7"] {
        let (near, far) = memory_transport::pair();
        let (gateway, stop) = (hub.gateway.clone(), hub.stop.clone());
        let serving = tokio::spawn(async move {
            gateway.serve_link(Arc::new(Unread(far)), Some(ALPN_JOIN), &stop).await;
        });
        let request = Device::new().ask(name, TOKEN);
        let asks = join::submit(&*near, &request, |_| {});
        let kept = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::join!(asks, serving).1.unwrap();
        });
        assert!(kept.await.is_ok(), "{name}");
    }
}
