//! Spokes that take what the hub opens and say nothing, and links that have no stream left.

use freewheel_hub_schema::error::ApiError;
use futures::future::join_all;
use tokio::time::Instant;

use crate::support::*;

/// What the hub asks of pi-7 at a time: more of each kind than half of what one user, or one spoke, may have.
const LOGS: usize = 20;
const PORTS: usize = 20;
const TUNNELS: u16 = 150;

/// Asks for all that the hub opens streams to pi-7 for, at once; what became of each.
async fn ask(hub: &Hub, near: &dyn Transport) -> Vec<(&'static str, u16, String)> {
    let name = ClusterName::try_from("pi-7").unwrap();
    let (streams, uid) = (hub.gateway.streams(), "u".into());
    let word = |error: ApiError| (error.code, error.message);
    let logs = (0..LOGS).map(|_| streams.logs(&name, &uid, LogOptions::default(), ann()));
    let ports = (0..PORTS).map(|_| streams.port_forward(&name, &uid, 80, ann()));
    let tunnels = (0..TUNNELS).map(async |number| {
        let from = SocketAddr::from(([10, 64, 1, 2], 4000 + number));
        let to = SocketAddr::from(([10, 64, 0, 2], 80));
        let open = Open::Tunnel(TunnelV1 { realm: ClusterName::root(), from, to });
        let (answer, _stream) = crate::open(near, open).await;
        let Answer::Refused(refusal) = answer else { panic!("{answer:?}") };
        assert_eq!(refusal.reason, "Timeout", "{refusal}");
        (504, refusal.message)
    });
    let figures = async { word(streams.figures(&name).await.unwrap_err()) };
    let (logs, ports, tunnels, figures) =
        tokio::join!(join_all(logs), join_all(ports), join_all(tunnels), figures);
    let mut all = vec![("figures", figures)];
    all.extend(logs.into_iter().map(|log| ("log", word(log.err().unwrap()))));
    all.extend(ports.into_iter().map(|port| ("port", word(port.err().unwrap()))));
    all.extend(tunnels.into_iter().map(|tunnel| ("tunnel", tunnel)));
    all.into_iter().map(|(what, (code, message))| (what, code, message)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_spoke_that_does_not_answer_keeps_nobody_waiting_and_no_place() {
    for accepts in [true, false] {
        let hub = Hub::new(true).await;
        let ((mute, _one), (near, _two)) = (hub.spoke("pi-7").await, hub.spoke("pi-8").await);
        hub.lease("10.64.0.0", "pi-7").await;
        hub.lease("10.64.1.0", "pi-8").await;
        if accepts {
            let mute = mute.clone();
            tokio::spawn(async move {
                let mut kept = Vec::new();
                while let Ok(stream) = mute.accept().await {
                    kept.push(stream);
                }
            });
        }
        // Where nobody accepts, the link has no stream for the last ones. The second time all their places are back.
        for round in 0..2 {
            let began = Instant::now();
            for (what, code, message) in ask(&hub, &*near).await {
                assert_eq!(
                    (code, &*message),
                    (504, "the spoke pi-7 does not answer"),
                    "{what}, round {round}, accepted: {accepts}"
                );
            }
            assert!(began.elapsed() <= Duration::from_secs(11), "{:?}", began.elapsed());
        }
    }
}
