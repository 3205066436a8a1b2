//! What a device may do at the API with the certificate of its link.

use freewheel_hub_api::device_orders::{Order, Wipe};
use freewheel_hub_pki::Certificate;
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use serde_json::{Value, json};

use crate::roles::{RBAC, binding, made, role, rule};
use crate::support::{Authority, Client, Hub, create};

const GROUP: &str = "cluster.open-cluster-management.io";
const CLUSTERS: &str = "/apis/cluster.open-cluster-management.io/v1/managedclusters";
const WHO_AM_I: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const MERGE: &str = "merge-patch+json";

fn group(cluster: &str) -> String {
    format!("system:open-cluster-management:{cluster}")
}

/// A device that was let in as this cluster, which has its key. Its certificate is for the UID that the cluster has.
async fn device(hub: &Hub, cluster: &str) -> Client {
    let accepted = json!({"metadata": {"name": cluster}, "spec": {"hubAcceptsClient": true}});
    let made = create(&hub.objects, &format!("{GROUP}/v1"), "ManagedCluster", accepted).await;
    let mut params = Authority::of_client(&format!("{}:agent", group(cluster)), &group(cluster));
    let id = DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57_683, 2]);
    params.distinguished_name.push(id, made["metadata"]["uid"].as_str().unwrap());
    let identity = hub.authority.sign(params, ExtendedKeyUsagePurpose::ClientAuth);
    let key = Certificate::read(&identity.certificate).unwrap().fingerprint().to_string();
    give(hub, cluster, &key).await;
    hub.client(Some(&identity))
}

/// The name belongs to this key from here on.
async fn give(hub: &Hub, cluster: &str, key: &str) {
    let patch = json!({"metadata": {"annotations": {"freewheel.dev/agent-key": key}}});
    made(&hub.admin().patch(&format!("{CLUSTERS}/{cluster}"), MERGE, &patch).await);
}

async fn accept(hub: &Hub, cluster: &str, accepts: bool) {
    let patch = json!({"spec": {"hubAcceptsClient": accepts}});
    made(&hub.admin().patch(&format!("{CLUSTERS}/{cluster}"), MERGE, &patch).await);
}

/// What the hub gives to the agent of an accepted cluster, as the controller does.
async fn granted(hub: &Hub, cluster: &str) {
    let mut own = rule(&["get", "list", "update", "watch"], GROUP, &["managedclusters"]);
    own["resourceNames"] = json!([cluster]);
    let works =
        rule(&["get", "list", "watch"], "work.open-cluster-management.io", &["manifestworks"]);
    let admin = hub.admin();
    made(&admin.post(&format!("{RBAC}/clusterroles"), &role("ClusterRole", "agent", &[own])).await);
    made(
        &admin.post(&format!("{RBAC}/clusterroles"), &role("ClusterRole", "works", &[works])).await,
    );
    let subject: Value =
        json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group(cluster)});
    let gives = binding("agent", ("ClusterRole", "agent"), &subject);
    made(&admin.post(&format!("{RBAC}/clusterrolebindings"), &gives).await);
    let gives = binding("works", ("ClusterRole", "works"), &subject);
    made(&admin.post(&format!("{RBAC}/namespaces/{cluster}/rolebindings"), &gives).await);
}

fn works(cluster: &str) -> String {
    format!("/apis/work.open-cluster-management.io/v1/namespaces/{cluster}/manifestworks")
}

/// What a device is to know it is told by its session, with its plan: beside what roles give it, its certificate is no way
/// to the objects.
#[tokio::test]
async fn a_device_has_no_rights_in_the_api() {
    let hub = Hub::start().await;
    let device = device(&hub, "pi-7").await;
    let who = device.post(WHO_AM_I, &json!({})).await.json()["status"]["userInfo"].clone();
    assert_eq!(who["username"], "system:open-cluster-management:pi-7:agent");
    assert!(who["uid"].is_string(), "{who}");
    for prefix in ["", "/clusters/pi-7"] {
        for path in ["pods", "secrets", "configmaps", "serviceaccounts"] {
            let path = format!("{prefix}/api/v1/namespaces/default/{path}");
            assert_eq!(device.get(&path).await.code, 403, "{path}");
            assert_eq!(device.get(&format!("{path}/one")).await.code, 403, "{path}");
        }
        assert_eq!(device.get(&format!("{prefix}/api/v1/nodes/pi-7")).await.code, 403);
    }
    let patch = json!({"metadata": {"labels": {"site": "mine"}}});
    let own = format!("{CLUSTERS}/pi-7");
    for path in [&*own, "/api/v1/nodes/pi-7/status", "/api/v1/namespaces/default/pods/a/status"] {
        assert_eq!(device.patch(path, MERGE, &patch).await.code, 403, "{path}");
    }
}

#[tokio::test]
async fn a_device_is_known_by_the_key_and_the_cluster_that_it_was_let_in_with() {
    let hub = Hub::start().await;
    let device = device(&hub, "pi-7").await;
    let known = async || device.post(WHO_AM_I, &json!({})).await.code;
    assert_eq!(known().await, 201);
    accept(&hub, "pi-7", false).await;
    assert_eq!(known().await, 201, "it may hear that it was taken back");
    let own = hub.admin().get(&format!("{CLUSTERS}/pi-7")).await.json();
    let own =
        own["metadata"]["annotations"]["freewheel.dev/agent-key"].as_str().unwrap().to_owned();
    give(&hub, "pi-7", "sha256:another").await;
    assert_eq!(known().await, 401, "another board has the name");
    give(&hub, "pi-7", &own).await;
    assert_eq!(known().await, 201);
    assert_eq!(hub.admin().delete(&format!("{CLUSTERS}/pi-7")).await.code, 200);
    assert_eq!(known().await, 401, "the cluster is being removed");
}

#[tokio::test]
async fn a_device_may_do_what_the_roles_of_its_agent_give_it() {
    let hub = Hub::start().await;
    for namespace in ["pi-7", "pi-8"] {
        create(&hub.objects, "v1", "Namespace", json!({"metadata": {"name": namespace}})).await;
    }
    let (device, _other) = (device(&hub, "pi-7").await, device(&hub, "pi-8").await);
    granted(&hub, "pi-7").await;
    assert_eq!(device.get(&works("pi-7")).await.code, 200);
    assert_eq!(device.get(&works("pi-8")).await.code, 403, "another's");
    assert_eq!(device.get(&format!("{CLUSTERS}/pi-8")).await.code, 403, "another's");
    let own = format!("{CLUSTERS}/pi-7");
    let mut cluster = device.get(&own).await.json();
    cluster["spec"]["leaseDurationSeconds"] = json!(30);
    let written = device.put(&own, &cluster).await;
    made(&written);
    cluster = written.json();
    cluster["metadata"]["labels"]["site"] = json!("vault");
    let refused = device.put(&own, &cluster).await;
    assert_eq!(refused.code, 403);
    assert!(refused.text().contains("metadata.labels"), "{}", refused.text());
    let mut keyed = hub.admin().get(&own).await.json();
    keyed["metadata"]["annotations"]["freewheel.dev/agent-key"] = json!("sha256:mine");
    assert_eq!(device.put(&own, &keyed).await.code, 403, "whose the name is");
}

#[tokio::test]
async fn what_a_device_watches_ends_with_its_acceptance() {
    let hub = Hub::start().await;
    create(&hub.objects, "v1", "Namespace", json!({"metadata": {"name": "pi-7"}})).await;
    let device = device(&hub, "pi-7").await;
    granted(&hub, "pi-7").await;
    let mut watch = device.watch(&format!("{}?watch=true", works("pi-7"))).await;
    accept(&hub, "pi-7", false).await;
    let last = watch.next().await.expect("a last event");
    assert_eq!((&last["type"], &last["object"]["code"]), (&json!("ERROR"), &json!(401)));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_device_that_is_to_be_wiped_is_known_no_more() {
    let hub = Hub::start().await;
    create(&hub.objects, "v1", "Namespace", json!({"metadata": {"name": "pi-7"}})).await;
    let device = device(&hub, "pi-7").await;
    granted(&hub, "pi-7").await;
    let own = hub.admin().get(&format!("{CLUSTERS}/pi-7")).await.json();
    let key = own["metadata"]["annotations"]["freewheel.dev/agent-key"].as_str().unwrap();
    let mut watch = device.watch(&format!("{}?watch=true", works("pi-7"))).await;
    // Its cluster is still there: the command was killed behind the order.
    let (cluster, key, id) = ("pi-7".to_owned(), key.to_owned(), "n1".to_owned());
    let wipe = Wipe { cluster, key, id, ..Wipe::default() };
    create(&hub.objects, "v1", "ConfigMap", Order::Wipe(wipe).to_object()).await;
    assert_eq!(device.post(WHO_AM_I, &json!({})).await.code, 401);
    let last = watch.next().await.expect("a last event");
    assert_eq!((&last["type"], &last["object"]["code"]), (&json!("ERROR"), &json!(401)));
}
