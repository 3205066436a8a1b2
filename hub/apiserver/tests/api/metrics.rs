//! `/metrics`: who may read it, and what it counts.

use std::time::Duration;

use crate::reader::read;
use crate::support::{Client, Hub};
use freewheel_hub_metrics::Format;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn figures(admin: &Client) -> String {
    let answer = admin.get("/metrics").await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    answer.text()
}

/// What begins a series of pods.
fn of_pods(name: &str, verb: &str) -> String {
    format!(
        "{name}{{verb=\"{verb}\",dry_run=\"\",group=\"\",version=\"v1\",resource=\"pods\",subresource=\"\",scope=\"namespace\",component=\"apiserver\""
    )
}

#[tokio::test]
async fn figures_are_read_in_both_formats_by_their_content_types() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    assert_eq!(admin.get(PODS).await.code, 200);
    for (accept, content_type, format) in [
        ("", "text/plain; version=0.0.4; charset=utf-8", Format::Prometheus),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::OpenMetrics,
        ),
    ] {
        let answer = admin.send("GET", "/metrics", &[("accept", accept)], "").await;
        assert_eq!(answer.headers["content-type"], content_type);
        let page = read(&answer.text(), format).unwrap();
        let labels = [
            ("verb", "LIST"),
            ("dry_run", ""),
            ("group", ""),
            ("version", "v1"),
            ("resource", "pods"),
            ("subresource", ""),
            ("scope", "namespace"),
            ("component", "apiserver"),
        ];
        let time = |bound| page.bucket("apiserver_request_duration_seconds", &labels, bound);
        assert_eq!(time(f64::INFINITY), Some(1.0));
        assert!(time(1.0).is_some() && time(5.0).is_some(), "bounds that alerts name");
        let counted = [&labels[..], &[("code", "200")]].concat();
        assert_eq!(page.value("apiserver_request_total", &counted), Some(1.0));
        let reads = [("request_kind", "readOnly")];
        assert_eq!(page.value("apiserver_current_inflight_requests", &reads), Some(1.0));
    }
}

#[tokio::test]
async fn metrics_are_for_those_alone_who_may_read_them() {
    let hub = Hub::start().await;
    let answer = hub.client(None).get("/metrics").await;
    assert_eq!(answer.code, 403, "{}", answer.text());
    let somebody = hub.client(Some(&hub.authority.client("jane", "people")));
    let answer = somebody.get("/metrics").await;
    assert_eq!(answer.code, 403, "{}", answer.text());
    assert_eq!(answer.json()["message"], r#"forbidden: User "jane" cannot get path "/metrics""#);
    let text = figures(&hub.admin()).await;
    assert!(text.contains("# TYPE apiserver_request_total counter"), "{text}");
}

#[tokio::test]
async fn requests_are_counted_as_kube_apiserver_counts_them() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let maps = "/api/v1/namespaces/default/configmaps";
    assert_eq!(admin.post(maps, &map).await.code, 201);
    assert_eq!(admin.get(&format!("{maps}/a")).await.code, 200);
    assert_eq!(admin.get(&format!("{maps}/none")).await.code, 404);
    assert_eq!(admin.get(PODS).await.code, 200);
    assert_eq!(admin.get("/api/v1/made-up").await.code, 404);
    let text = figures(&admin).await;
    let of = |verb: &str, resource: &str, scope: &str, code: u16| {
        format!(
            "apiserver_request_total{{verb=\"{verb}\",dry_run=\"\",group=\"\",version=\"v1\",resource=\"{resource}\",\
             subresource=\"\",scope=\"{scope}\",component=\"apiserver\",code=\"{code}\"}} 1"
        )
    };
    for line in [
        of("POST", "configmaps", "resource", 201),
        of("GET", "configmaps", "resource", 200),
        of("GET", "configmaps", "resource", 404),
        of("LIST", "pods", "namespace", 200),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert!(!text.contains("made-up"), "{text}");
    let waited = of_pods("apiserver_request_duration_seconds_count", "LIST") + "} 1";
    assert!(text.contains(&waited), "{text}");
    let dry = admin.post(&format!("{maps}?dryRun=All"), &json!({"metadata": {"name": "b"}})).await;
    assert_eq!(dry.code, 201, "{}", dry.text());
    let review = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    assert_eq!(admin.post(reviews, &review).await.code, 201);
    let text = figures(&admin).await;
    for (dry_run, group, resource) in
        [("All", "", "configmaps"), ("", "authentication.k8s.io", "selfsubjectreviews")]
    {
        let line = format!(
            "apiserver_request_total{{verb=\"POST\",dry_run=\"{dry_run}\",group=\"{group}\",version=\"v1\",\
             resource=\"{resource}\",subresource=\"\",scope=\"resource\",component=\"apiserver\",code=\"201\"}} 1"
        );
        assert!(text.contains(&line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn who_is_refused_at_the_door_is_counted() {
    let hub = Hub::start().await;
    let line = hub.admin().line().await;
    let mut sent = JoinSet::new();
    for _ in 0..300 {
        let line = line.clone();
        sent.spawn(async move { line.post_nothing_with(PODS, 60_000).await.status() });
    }
    let first = timeout(Duration::from_secs(20), sent.join_next()).await.expect("one is told");
    assert_eq!(first.unwrap().unwrap(), 429, "there is no room for its headers");
    let text = figures(&hub.admin()).await;
    assert!(text.contains("code=\"429\""), "{text}");
}

#[tokio::test]
async fn a_watch_counts_as_long_as_it_lasts() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let watching =
        |count: u32| format!("{}}} {count}", of_pods("apiserver_longrunning_requests", "WATCH"));
    let short = admin.get(&format!("{PODS}?watch=1&timeoutSeconds=1")).await;
    assert_eq!(short.code, 200);
    let text = figures(&admin).await;
    assert!(text.contains(&watching(0)), "{text}");
    let watch = admin.watch(&format!("{PODS}?watch=1")).await;
    let text = figures(&admin).await;
    assert!(text.contains(&watching(1)), "{text}");
    drop(watch);
    let is_over = async {
        while !figures(&admin).await.contains(&watching(0)) {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(Duration::from_secs(60), is_over).await.is_ok());
}
