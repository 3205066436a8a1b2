//! What is to be seen of sessions and plans.

use crate::support::*;
use freewheel_hub_metrics::{Format, Metrics};
use freewheel_link::figures::{ContainerUseV1, DeviceV1, Figures, PodUseV1};
use freewheel_link::limits;
use futures::FutureExt as _;

fn text(metrics: &Metrics) -> String {
    metrics.text(Format::Prometheus).unwrap()
}

#[tokio::test]
async fn sessions_and_plans_are_counted() {
    let hub = Hub::new(true).await;
    let metrics = Metrics::default();
    hub.gateway.show(&metrics);
    assert!(text(&metrics).contains("freewheel_link_sessions 0\n"));
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    let plan = holder.plan(&mut session).await;
    assert!(text(&metrics).contains("freewheel_plan_landing_seconds_count 0\n"));
    holder.took(&mut session, &plan).await;
    let landed = || text(&metrics).contains("freewheel_plan_landing_seconds_count 1\n");
    eventually("the plan has landed", landed).await;
    let seen = text(&metrics);
    assert!(seen.contains("freewheel_link_sessions 1\n"), "{seen}");
    assert!(seen.contains("freewheel_plan_pushes_total 1\n"), "{seen}");
}

#[tokio::test(start_paused = true)]
async fn a_spoke_is_asked_for_its_figures_once_at_a_time() {
    let hub = Hub::new(true).await;
    let streams = hub.gateway.streams();
    let name = ClusterName::try_from("pi-7").unwrap();
    let offline = streams.figures(&name).await.unwrap_err();
    assert_eq!((offline.code, offline.reason), (503, "ServiceUnavailable"));
    assert_eq!(&*offline.message, "the spoke pi-7 is not connected to the hub");
    let (link, _session) = hub.spoke("pi-7").await;
    let asked = [(); 2].map(|()| streams.figures(&name));
    let tell = async {
        let stream = link.accept().await.unwrap();
        let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
        assert_eq!(recv.next::<Open>().await.unwrap(), Some(Open::Figures));
        frame::write(&mut send, &Answer::Ready).await.unwrap();
        frame::write(&mut send, &Figures::Device(DeviceV1::default())).await.unwrap();
        send.shutdown().await.unwrap();
    };
    let [one, other] = asked;
    let (one, other, ()) = tokio::join!(one, other, tell);
    assert_eq!(one.unwrap().len(), 1);
    let busy = other.unwrap_err();
    let again = busy.details.as_ref().and_then(|details| details.retry_after_seconds);
    assert_eq!((busy.code, again), (429, Some(1)));
    // One that says nothing any more is not waited for.
    let silent = async {
        let stream = link.accept().await.unwrap();
        let mut send = stream.send;
        frame::write(&mut send, &Answer::Ready).await.unwrap();
        (send, stream.recv)
    };
    let (silent, _kept) = tokio::join!(streams.figures(&name), silent);
    assert_eq!(silent.unwrap_err().code, 504);
}

/// Answers the hub, which asks for figures, with these.
async fn tell(link: &dyn Transport, figures: &[Figures]) {
    let stream = link.accept().await.unwrap();
    let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
    assert_eq!(recv.next::<Open>().await.unwrap(), Some(Open::Figures));
    frame::write(&mut send, &Answer::Ready).await.unwrap();
    for one in figures {
        // The hub may have heard enough.
        if frame::write(&mut send, one).await.is_err() {
            return;
        }
    }
    let _ = send.shutdown().await;
}

#[tokio::test]
async fn figures_that_are_not_whole_are_an_error_and_their_texts_are_cut() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let streams = hub.gateway.streams();
    let name = ClusterName::try_from("pi-7").unwrap();
    let (link, _session) = hub.spoke("pi-7").await;
    let pod = |name: &str, containers: usize| {
        Figures::Pod(PodUseV1 {
            realm: ClusterName::root(),
            namespace: "n".to_owned(),
            name: name.to_owned(),
            containers: vec![ContainerUseV1::default(); containers],
        })
    };
    let device = || Figures::Device(DeviceV1::default());
    let long = "x".repeat(700 << 10);
    let told = [device(), pod(&long, 1)];
    let (seen, ()) = tokio::join!(streams.figures(&name), tell(&*link, &told));
    let [Figures::Device(_), Figures::Pod(seen)] = &seen.unwrap()[..] else { panic!("not all") };
    assert_eq!(seen.name.len(), 253);

    let half = limits::FIGURES_MEMBERS_MAX / 2;
    // All that the hub takes and one byte more, cut off where a message ends.
    let mut exact = vec![device(), pod(&long, 0), pod(&long, 0)];
    let size =
        |told: &[Figures]| told.iter().map(|one| frame::encode(one).unwrap().len()).sum::<usize>();
    let short = "x".repeat(600 << 10);
    let left = limits::FIGURES_BYTES_MAX + 1 - size(&exact) - size(&[pod(&short, 0)]);
    exact.push(pod(&"x".repeat(short.len() + left), 0));
    assert_eq!(size(&exact), limits::FIGURES_BYTES_MAX + 1);
    exact.push(pod("behind", 0));
    for (told, why) in [
        (vec![device(), pod("a", half), pod("b", half)], "more than the hub takes"),
        (exact, "more than the hub takes"),
        (vec![pod("a", 1)], "those of the device itself are missing"),
        (vec![], "those of the device itself are missing"),
    ] {
        let (seen, ()) = tokio::join!(streams.figures(&name), tell(&*link, &told));
        let error = seen.unwrap_err();
        assert_eq!((error.code, error.reason), (503, "ServiceUnavailable"));
        assert!(error.message.contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_spoke_is_not_asked_for_what_it_cannot_do() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let certificate = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate)));
    let mut session = greet(&*link, HelloV1 { abilities: 0, ..hello("pi-7") }).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
    let (streams, name) = (hub.gateway.streams(), ClusterName::try_from("pi-7").unwrap());
    let logs = streams.logs(&name, &"u".into(), LogOptions::default(), "ann").await;
    let refused = [streams.figures(&name).await.err(), logs.err()];
    for error in refused.map(Option::unwrap) {
        assert_eq!((error.code, error.reason), (503, "ServiceUnavailable"));
        assert_eq!(&*error.message, "the agent of pi-7 is too old for that");
    }
    assert!(link.accept().now_or_never().is_none(), "no stream is opened for that");
}
