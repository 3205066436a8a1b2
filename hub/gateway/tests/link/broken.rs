//! Streams through the hub that break off: nobody takes what came for all there was.

use std::io::ErrorKind;

use crate::support::*;

/// The next stream that the hub opens here, answered.
async fn taken(link: &memory_transport::MemoryTransport) -> Session {
    let stream = link.accept().await.unwrap();
    let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
    recv.next::<Open>().await.unwrap().unwrap();
    frame::write(&mut send, &Answer::Ready).await.unwrap();
    (send, recv)
}

/// A tunnel from a pod of pi-7 to one of pi-8, both ends.
async fn tunnel(
    near: &Arc<memory_transport::MemoryTransport>,
    far: &Arc<memory_transport::MemoryTransport>,
) -> (Session, Session) {
    let ask = async {
        let stream = near.open(Priority::Tunnels).await.unwrap();
        let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
        let (from, to) = ("10.64.0.2:4000".parse().unwrap(), "10.64.1.2:80".parse().unwrap());
        let open = Open::Tunnel(TunnelV1 { realm: ClusterName::root(), from, to });
        frame::write(&mut send, &open).await.unwrap();
        assert_eq!(recv.next::<Answer>().await.unwrap(), Some(Answer::Ready));
        (send, recv)
    };
    tokio::join!(ask, taken(far))
}

#[tokio::test]
async fn a_connection_across_the_hub_that_breaks_off_is_reset_at_the_other_end() {
    let hub = Hub::new(true).await;
    let ((near, _one), (far, _two)) = (hub.spoke("pi-7").await, hub.spoke("pi-8").await);
    hub.lease("10.64.0.0", "pi-7").await;
    hub.lease("10.64.1.0", "pi-8").await;
    for broken_there in [true, false] {
        let (mut here, mut there) = tunnel(&near, &far).await;
        let (breaks, mut hears) =
            if broken_there { (&mut there, here) } else { (&mut here, there) };
        breaks.0.write_all(b"half of").await.unwrap();
        breaks.0.reset();
        let mut text = String::new();
        let read = tokio::time::timeout(Duration::from_secs(10), hears.1.read_to_string(&mut text));
        assert_eq!(read.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_log_that_breaks_off_ends_with_an_error() {
    let hub = Hub::new(true).await;
    let (link, _session) = hub.spoke("pi-7").await;
    let name = ClusterName::try_from("pi-7").unwrap();
    let streams = hub.gateway.streams();
    let read = async {
        let log = streams.logs(&name, &"u".into(), LogOptions::default(), ann()).await.unwrap();
        log.collect::<Vec<_>>().await
    };
    let write = async {
        let (mut send, _recv) = taken(&link).await;
        send.write_all(b"one\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let (pieces, ()) = tokio::join!(read, write);
    let (last, all) = pieces.split_last().unwrap();
    assert!(all.iter().all(Result::is_ok) && last.is_err(), "{pieces:?}");
}

#[tokio::test]
async fn idle_connections_keep_logs_and_modules_in() {
    let hub = Hub::new(true).await;
    let ((near, _one), (far, _two)) = (hub.spoke("pi-7").await, hub.spoke("pi-8").await);
    hub.lease("10.64.0.0", "pi-7").await;
    hub.lease("10.64.1.0", "pi-8").await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(tunnel(&near, &far).await);
    }
    let name = ClusterName::try_from("pi-8").unwrap();
    let streams = hub.gateway.streams();
    let asked = async {
        let pod = "u".into();
        let (log, ()) =
            tokio::join!(streams.logs(&name, &pod, LogOptions::default(), ann()), async {
                drop(taken(&far).await);
            });
        assert!(log.is_ok());
        let module = ModuleRequestV1 {
            component: Digest::of(b"none"),
            profile: profile().key(),
            offset: 0,
            resume: None,
        };
        let stream = near.open(Priority::Modules).await.unwrap();
        let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
        frame::write(&mut send, &Open::Module(module)).await.unwrap();
        let answer = recv.next::<Answer>().await.unwrap();
        assert!(
            matches!(answer, Some(Answer::Refused(refusal)) if refusal.reason == "ErrImagePull")
        );
    };
    tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap();
}

/// Takes every connection that comes, and keeps it.
fn keeps_all(link: &Arc<memory_transport::MemoryTransport>) {
    let link = link.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok(stream) = link.accept().await {
            let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
            let opened = recv.next::<Open>().await;
            if opened.is_ok() && frame::write(&mut send, &Answer::Ready).await.is_ok() {
                kept.push((send, recv));
            }
        }
    });
}

/// What is answered to a connection to pi-8 from this address.
async fn asked(near: &Arc<memory_transport::MemoryTransport>, from: &str) -> (Answer, Session) {
    let stream = near.open(Priority::Tunnels).await.unwrap();
    let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
    let (from, to) = (from.parse().unwrap(), "10.64.1.2:80".parse().unwrap());
    let open = Open::Tunnel(TunnelV1 { realm: ClusterName::root(), from, to });
    frame::write(&mut send, &open).await.unwrap();
    let answer = recv.next::<Answer>().await.unwrap().unwrap();
    (answer, (send, recv))
}

#[tokio::test]
async fn one_spoke_leaves_places_on_anothers_link_for_all_others() {
    let hub = Hub::new(true).await;
    let ((near, _one), (far, _two)) = (hub.spoke("pi-7").await, hub.spoke("pi-8").await);
    let (third, _three) = hub.spoke("pi-9").await;
    for (range, spoke) in [("10.64.0.0", "pi-7"), ("10.64.1.0", "pi-8"), ("10.64.2.0", "pi-9")] {
        hub.lease(range, spoke).await;
    }
    keeps_all(&far);
    let mut idle = Vec::new();
    let refused = loop {
        match asked(&near, "10.64.0.2:4000").await {
            (Answer::Ready, session) => idle.push(session),
            (Answer::Refused(refusal), _) => break refusal,
        }
    };
    assert_eq!(refused.reason, "TooManyRequests", "{refused}");
    let (answer, _held) = asked(&third, "10.64.2.2:4000").await;
    assert_eq!(answer, Answer::Ready, "pi-7 holds {}", idle.len());
    assert!(refused.message.contains("connections of pi-7"), "{refused}");
}
