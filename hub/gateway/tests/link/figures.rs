//! What is to be seen of sessions and plans.

use crate::support::*;
use freewheel_hub_metrics::{Format, Metrics};
use freewheel_link::figures::{ContainerUseV1, DeviceV1, Figures, PodUseV1};
use freewheel_link::limits;

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
    let pod = PodUseV1 {
        realm: name.clone(),
        namespace: "n".to_owned(),
        name: "p".to_owned(),
        containers: vec![ContainerUseV1::default(); limits::FIGURE_MEMBERS / 2],
    };
    let asked = [(); 2].map(|()| streams.figures(&name));
    let tell = async {
        let stream = link.accept().await.unwrap();
        let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
        assert_eq!(recv.next::<Open>().await.unwrap(), Some(Open::Figures));
        frame::write(&mut send, &Answer::Ready).await.unwrap();
        let device = Figures::Device(DeviceV1::default());
        for one in [device, Figures::Pod(pod.clone()), Figures::Pod(pod.clone())] {
            frame::write(&mut send, &one).await.unwrap();
        }
        send.shutdown().await.unwrap();
    };
    let [one, other] = asked;
    let (one, other, ()) = tokio::join!(one, other, tell);
    assert_eq!(one.unwrap().len(), 2, "as many as a device has");
    assert_eq!(other.unwrap_err().code, 429);
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
