//! What is to be seen of sessions and plans.

use crate::support::*;
use freewheel_hub_metrics::{Format, Metrics};
use freewheel_link::figures::{ContainerUseV1, DeviceV1, Figures, PodUseV1};
use freewheel_link::limits;
use futures::FutureExt as _;
use tokio::time::Instant;

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
async fn who_asks_for_figures_while_a_spoke_tells_has_the_same() {
    let hub = Hub::new(true).await;
    let streams = hub.gateway.streams();
    let name = ClusterName::try_from("pi-7").unwrap();
    let offline = streams.figures(&name).await.unwrap_err();
    assert_eq!((offline.code, offline.reason), (503, "ServiceUnavailable"));
    assert_eq!(&*offline.message, "the spoke pi-7 is not connected to the hub");
    let (link, _session) = hub.spoke("pi-7").await;
    let before = Instant::now();
    let slow = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        tell(&*link, &[Figures::Device(DeviceV1::default())]).await;
    };
    let late = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        streams.figures(&name).await
    };
    let (one, other, ()) = tokio::join!(streams.figures(&name), late, slow);
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(Arc::ptr_eq(&one.figures, &other.figures));
    // Of whoever asked first.
    assert_eq!((other.asked, other.took), (before, Duration::from_secs(2)));
    // One that says nothing any more is not waited for, nor what was told before told again.
    let silent = async {
        let stream = link.accept().await.unwrap();
        let mut send = stream.send;
        frame::write(&mut send, &Answer::Ready).await.unwrap();
        (send, stream.recv)
    };
    let (silent, _kept) = tokio::join!(streams.figures(&name), silent);
    assert_eq!(silent.unwrap_err().code, 504);
}

#[tokio::test(start_paused = true)]
async fn loops_of_questions_keep_nobody_elses_waiting() {
    let hub = Hub::new(true).await;
    let (streams, name) = (hub.gateway.streams(), ClusterName::try_from("pi-7").unwrap());
    let (link, _session) = hub.spoke("pi-7").await;
    let telling = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            tell(&*link, &[Figures::Device(DeviceV1::default())]).await;
        }
    };
    let greedy = futures::future::join_all((0..10).map(|_| async {
        while streams.figures(&name).await.is_ok() {}
        panic!("one of many was refused");
    }));
    let own = async {
        // In the midst of one.
        tokio::time::sleep(Duration::from_millis(5_500)).await;
        for _ in 0..20 {
            let began = Instant::now();
            streams.figures(&name).await.unwrap();
            assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
        }
    };
    tokio::select! {
        () = own => {}
        () = telling => {}
        _ = greedy => {}
    }
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_leaves_the_figures_to_the_others() {
    let hub = Hub::new(true).await;
    let (streams, name) = (hub.gateway.streams(), ClusterName::try_from("pi-7").unwrap());
    let (link, _session) = hub.spoke("pi-7").await;
    let first = tokio::time::timeout(Duration::from_secs(1), streams.figures(&name));
    let second = streams.figures(&name);
    let telling = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        tell(&*link, &[Figures::Device(DeviceV1::default())]).await;
    };
    let (first, second, ()) = tokio::join!(first, second, telling);
    assert!(first.is_err() && second.is_ok());
    // All go away, which the spoke does not know: who comes then has what it tells them.
    let before = Instant::now();
    let gone = tokio::time::timeout(Duration::from_secs(1), streams.figures(&name));
    assert!(gone.await.is_err());
    let told = [Figures::Device(DeviceV1::default())];
    let telling = tell(&*link, &told);
    let (again, ()) = tokio::join!(streams.figures(&name), telling);
    assert_eq!(again.unwrap().asked, before, "it is asked once");
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
    let seen = seen.unwrap().figures;
    let [Figures::Device(_), Figures::Pod(seen)] = &seen[..] else { panic!("not all") };
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
    let logs = streams.logs(&name, &"u".into(), LogOptions::default(), ann()).await;
    let refused = [streams.figures(&name).await.err(), logs.err()];
    for error in refused.map(Option::unwrap) {
        assert_eq!((error.code, error.reason), (503, "ServiceUnavailable"));
        assert_eq!(&*error.message, "the agent of pi-7 is too old for that");
    }
    assert!(link.accept().now_or_never().is_none(), "no stream is opened for that");
}
