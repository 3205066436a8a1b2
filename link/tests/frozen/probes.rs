//! The part of a pod's record that says how its health is looked at.

use freewheel_link::probes::*;

use super::{frozen, text};

#[test]
fn record_parts_of_probes() {
    let get = HttpGetV1 { port: 8080, path: text("/p"), headers: vec![(text("h"), text("v"))] };
    let handlers = [
        ProbeHandlerV1::Http(get),
        ProbeHandlerV1::Tcp(300),
        ProbeHandlerV1::Exec(vec![text("c")]),
    ];
    let kinds = [ProbeKindV1::Startup, ProbeKindV1::Liveness, ProbeKindV1::Readiness];
    let probe = |(kind, handler)| ProbeV1 {
        container: text("c"),
        kind,
        handler,
        initial_delay_seconds: 1,
        period_seconds: 300,
        timeout_seconds: 3,
        success_threshold: 4,
        failure_threshold: 5,
        grace_seconds: Some(6),
    };
    let probes = PodProbesV1 { probes: kinds.into_iter().zip(handlers).map(probe).collect() };
    frozen(
        &probes,
        "0301630000903f022f70010168017601ac02030405010601630101ac0201ac02030405010601630202010163\
         01ac020304050106",
    );
}
