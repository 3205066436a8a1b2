//! How pods ask to be looked at.

use freewheel_link::probes::{HttpGetV1, PodProbesV1, ProbeHandlerV1, ProbeKindV1, ProbeV1};

use super::*;

/// The plan of a pod with these containers, and what it says of their health.
fn planned(containers: &Value, init: &Value) -> (Plan, Option<PodProbesV1>) {
    let spec = json!({"containers": containers, "initContainers": init});
    let plan = World::default().with("root", "pods", &pod("web", &spec)).plan();
    let record = plan.records.values().find(|record| record.key.kind == Kind::POD_V1);
    let pod: Option<PodV1> = record.map(|record| record.body().unwrap());
    let probes = pod.and_then(|pod| pod.parts.get::<PodProbesV1>().unwrap());
    (plan, probes)
}

#[test]
fn what_looks_at_a_pod_is_a_part_of_its_record() {
    let get = json!({"path": "/health", "port": "web", "scheme": "HTTP",
        "httpHeaders": [{"name": "X-A", "value": "b"}]});
    let containers = json!([
        {"name": "web", "image": "hello", "ports": [{"name": "web", "containerPort": 8080}],
            "livenessProbe": {"httpGet": get, "initialDelaySeconds": 3, "periodSeconds": 5,
                "timeoutSeconds": 2, "failureThreshold": 4, "terminationGracePeriodSeconds": 7},
            "readinessProbe": {"tcpSocket": {"port": 81}, "successThreshold": 2},
            "startupProbe": {"exec": {"command": ["kit", "ok"]}}},
        {"name": "quiet", "image": "hello"}]);
    let init = json!([
        {"name": "side", "image": "hello", "restartPolicy": "Always",
            "readinessProbe": {"tcpSocket": {"port": "82"}}}]);
    let (plan, probes) = planned(&containers, &init);
    assert_eq!(plan.refused, []);
    let usual = ProbeV1 {
        container: "web".to_owned(),
        kind: ProbeKindV1::Startup,
        handler: ProbeHandlerV1::Exec(vec!["kit".to_owned(), "ok".to_owned()]),
        initial_delay_seconds: 0,
        period_seconds: 10,
        timeout_seconds: 1,
        success_threshold: 1,
        failure_threshold: 3,
        grace_seconds: None,
    };
    let headers = vec![("X-A".to_owned(), "b".to_owned())];
    let liveness = ProbeV1 {
        kind: ProbeKindV1::Liveness,
        handler: ProbeHandlerV1::Http(HttpGetV1 {
            port: 8080,
            path: "/health".to_owned(),
            headers,
        }),
        initial_delay_seconds: 3,
        period_seconds: 5,
        timeout_seconds: 2,
        failure_threshold: 4,
        grace_seconds: Some(7),
        ..usual.clone()
    };
    let readiness = ProbeV1 {
        kind: ProbeKindV1::Readiness,
        handler: ProbeHandlerV1::Tcp(81),
        success_threshold: 2,
        ..usual.clone()
    };
    let side = ProbeV1 {
        container: "side".to_owned(),
        kind: ProbeKindV1::Readiness,
        handler: ProbeHandlerV1::Tcp(82),
        ..usual
    };
    assert_eq!(probes.unwrap().probes, [side, usual, liveness, readiness]);
}

#[test]
fn probes_that_no_spoke_can_run_are_left_out_and_unknown_ports_are_told() {
    let with = |probe: Value| {
        planned(&json!([{"name": "web", "image": "hello", "readinessProbe": probe}]), &json!([]))
    };
    for probe in [
        json!({"grpc": {"port": 80}}),
        json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTPS"}}),
        json!({"httpGet": {"port": 80, "path": "/", "host": "example.com"}}),
        json!({"tcpSocket": {"port": 80, "host": "example.com"}}),
    ] {
        let (plan, probes) = with(probe.clone());
        assert_eq!((plan.refused, probes), (vec![], None), "{probe}");
    }
    let (plan, _) = with(json!({"tcpSocket": {"port": "web"}}));
    assert_eq!(plan.refused.len(), 1, "{:?}", plan.refused);
    assert!(
        plan.refused[0].message.contains("a probe names the port \"web\""),
        "{:?}",
        plan.refused
    );
}
