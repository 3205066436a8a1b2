//! Kinds that show what others store.

use freewheel_hub_api::kinds;
use freewheel_hub_schema::view::View;
use freewheel_link::names::ClusterName;
use serde_json::json;

fn view(api_version: &str, kind: &str) -> Option<View> {
    View::by_kind(&kinds::registry(&ClusterName::root()), api_version, kind)
}

#[test]
fn events_have_two_faces() {
    let registry = kinds::registry(&ClusterName::root());
    let view = View::find(&registry, "events.k8s.io", "v1", "events").unwrap();
    assert!(!view.is_plain());
    let core = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "p"}, "message": "hello", "reason": "Started",
        "source": {"component": "kubelet"}, "count": 3, "reportingComponent": "kubelet",
    });
    let new = view.outward(core.clone()).unwrap();
    assert_eq!(
        new,
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": "e", "namespace": "default"},
            "regarding": {"kind": "Pod", "name": "p"}, "note": "hello", "reason": "Started",
            "deprecatedSource": {"component": "kubelet"}, "deprecatedCount": 3,
            "reportingController": "kubelet",
        })
    );
    assert_eq!(view.inward(new), core);
}

#[test]
fn a_view_is_written_as_what_it_shows() {
    let older = view("autoscaling/v1", "HorizontalPodAutoscaler").unwrap();
    assert_eq!((older.served.version(), older.stored.version()), ("v1", "v2"));
    let said = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "spec": {
        "maxReplicas": 3, "targetCPUUtilizationPercentage": 80, "unknown": 1}});
    let spec = older.taken_in(said).unwrap()["spec"].clone();
    assert_eq!(spec["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
    assert!(spec.get("unknown").is_none() && spec.get("targetCPUUtilizationPercentage").is_none());
    let wrong = older.taken_in(json!({"spec": {"maxReplicas": "many"}})).unwrap_err();
    assert_eq!(wrong.code, 400);
    let plain = view("apps/v1", "Deployment").unwrap();
    assert!(plain.is_plain() && plain.takes_writes());
    assert!(view("apps/v1", "Pod").is_none());
}

#[test]
fn what_is_only_answered_takes_no_writes() {
    for (api_version, kind) in [
        ("metrics.k8s.io/v1beta1", "PodMetrics"),
        ("metrics.k8s.io/v1beta1", "NodeMetrics"),
        ("v1", "ComponentStatus"),
    ] {
        assert!(!view(api_version, kind).unwrap().takes_writes(), "{kind}");
    }
}
