//! What a device counts, through its node's proxy.

use crate::reader::read;
use crate::support::{Hub, create};
use freewheel_hub_metrics::Format;
use serde_json::json;

const FIGURES: &str = "/api/v1/nodes/pi-7/proxy/metrics";

async fn hub() -> Hub {
    let hub = Hub::start().await;
    for name in ["pi-7", "away"] {
        create(&hub.objects, "v1", "Node", json!({"metadata": {"name": name}})).await;
    }
    hub
}

#[tokio::test]
async fn a_device_is_read_through_its_node() {
    let hub = hub().await;
    let admin = hub.admin();
    let answer = admin.get(FIGURES).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let page = read(&answer.text(), Format::Prometheus).unwrap();
    let of = |cluster| {
        let labels =
            [("container", "web"), ("cluster", cluster), ("namespace", "default"), ("pod", "web")];
        page.value("container_memory_working_set_bytes", &labels)
    };
    assert_eq!((of("root"), of("pi-7")), (Some(0.0), Some(0.0)));
    assert_eq!(page.value("process_resident_memory_bytes", &[]), Some(7.0));
    let open = [("accept", "application/openmetrics-text; version=1.0.0")];
    let answer = admin.send("GET", &format!("{FIGURES}/resource"), &open, "").await;
    let page = read(&answer.text(), Format::OpenMetrics).unwrap();
    assert_eq!(page.value("process_resident_memory_bytes", &[]), None);
    let text = admin.get("/metrics").await.text();
    let counted = "apiserver_request_total{verb=\"GET\",dry_run=\"\",group=\"\",version=\"v1\",resource=\"nodes\",\
                   subresource=\"proxy\",scope=\"resource\",component=\"apiserver\",code=\"200\"} 2";
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn a_node_may_be_named_with_scheme_and_port() {
    let hub = hub().await;
    let admin = hub.admin();
    let at = |node: &str| format!("/api/v1/nodes/{node}/proxy/metrics");
    for node in ["pi-7:", "pi-7:10250", "https:pi-7:10250", "http:pi-7:10250", "https:pi-7:"] {
        let answer = admin.get(&at(node)).await;
        assert_eq!(answer.code, 200, "{node}: {}", answer.text());
        assert!(answer.text().contains("kubelet_node_name{node=\"pi-7\"} 1\n"), "{node}");
    }
    for (node, code, reason) in [
        ("pi-7:9100", 503, "ServiceUnavailable"),
        ("ftp:pi-7:10250", 400, "BadRequest"),
        ("https:nobody:10250", 404, "NotFound"),
    ] {
        let answer = admin.get(&at(node)).await;
        assert_eq!((answer.code, &answer.json()["reason"]), (code, &json!(reason)), "{node}");
    }
}

#[tokio::test]
async fn a_device_s_containers_are_read_under_cadvisor_s_names_and_as_a_summary() {
    let hub = hub().await;
    let admin = hub.admin();
    let answer = admin.get(&format!("{FIGURES}/cadvisor")).await;
    let page = read(&answer.text(), Format::Prometheus).unwrap();
    let labels = [
        ("container", "web"),
        ("cluster", "root"),
        ("namespace", "default"),
        ("pod", "web"),
        ("image", ""),
    ];
    assert_eq!(page.value("container_cpu_usage_seconds_total", &labels), Some(0.0));
    let answer = admin.get("/api/v1/nodes/pi-7/proxy/stats/summary").await;
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.json()["pods"][0]["podRef"]["name"], "web");
}

#[tokio::test]
async fn a_device_that_is_away_is_a_status() {
    let hub = hub().await;
    let admin = hub.admin();
    for (path, code, text) in [
        ("/api/v1/nodes/away/proxy/metrics", 503, "the spoke away is not connected to the hub"),
        ("/api/v1/nodes/nobody/proxy/metrics", 404, "nodes \"nobody\" not found"),
        ("/api/v1/nodes/pi-7/proxy/pods", 404, "a node does not serve \"pods\""),
        ("/api/v1/nodes/pi-7/proxy", 404, "a node does not serve"),
    ] {
        let answer = admin.get(path).await;
        assert_eq!(answer.code, code, "{path}: {}", answer.text());
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(text), "{path}: {message}");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        assert_eq!(admin.send(method, FIGURES, &[], "").await.code, 405, "{method}");
    }
}

#[tokio::test]
async fn figures_of_a_device_are_for_those_alone_who_may_read_them() {
    let hub = hub().await;
    assert_eq!(hub.client(None).get(FIGURES).await.code, 403);
    let somebody = hub.client(Some(&hub.authority.client("jane", "people")));
    let answer = somebody.get(FIGURES).await;
    assert_eq!(answer.code, 403, "{}", answer.text());
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("cannot get resource \"nodes/proxy\""), "{message}");
}

#[tokio::test]
async fn a_cluster_reads_its_own_device_alone() {
    let hub = hub().await;
    let (admin, group) = (hub.admin(), "cluster.open-cluster-management.io/v1");
    for name in ["pi-7", "pi-8"] {
        create(&hub.objects, group, "ManagedCluster", json!({"metadata": {"name": name}})).await;
    }
    let own = |name: &str| format!("/clusters/pi-7/api/v1/nodes/{name}/proxy/metrics");
    for name in ["pi-7", "pi-8"] {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        assert_eq!(admin.post("/clusters/pi-7/api/v1/nodes", &node).await.code, 201);
    }
    let answer = admin.get(&own("pi-7")).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let text = answer.text();
    assert!(text.contains("cluster=\"pi-7\"") && !text.contains("cluster=\"root\""), "{text}");
    let answer = admin.get(&own("pi-8")).await;
    assert_eq!(answer.code, 503, "a node that somebody wrote leads to no device of others");
}
