//! Devices that are decommissioned, and boards that take the place of others.

use freewheel_hub_api::device_orders::{self, Order, Rename, Wipe};
use freewheel_link::join::RenewRequestV1;

use crate::support::*;

const MAPS: (&str, &str, &str) = ("", "v1", "configmaps");
const ORDER: &str = "n1";

/// What `hub decommission` orders.
async fn decommission(hub: &Hub, cluster: &str, device: &Device) {
    let wipe = Wipe {
        cluster: cluster.to_owned(),
        key: device.key(),
        id: ORDER.to_owned(),
        ordered_at: "2026-01-01T00:00:00Z".to_owned(),
        ..Wipe::default()
    };
    give(hub, &Order::Wipe(wipe), device).await;
}

async fn give(hub: &Hub, order: &Order, device: &Device) {
    let name = device_orders::name(&device.key());
    hub.create(MAPS, device_orders::NAMESPACE, &name, order.to_object()).await;
}

/// How far the device has come, as the hub knows.
fn standing(hub: &Hub, device: &Device) -> Wipe {
    let place = place(MAPS, device_orders::NAMESPACE, &device_orders::name(&device.key()));
    let object = hub.objects.get(&place).unwrap().object.value().unwrap();
    match Order::read(&object) {
        Some(Order::Wipe(wipe)) => wipe,
        other => panic!("{other:?}"),
    }
}

/// What the hub says first to who has this certificate.
async fn first_word(hub: &Hub, certificate: &[u8], name: &str) -> HubToSpoke {
    let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate.to_vec())));
    let mut live = greet(&*link, hello(name)).await;
    heard(&mut live).await
}

async fn renew(
    hub: &Hub,
    device: &Device,
    certificate: &[u8],
) -> Result<join::AcceptedV1, JoinError> {
    let link = hub.connect(ALPN_JOIN, None);
    let csr = device.ask("x", TOKEN).csr;
    join::renew(&*link, RenewRequestV1 { certificate: certificate.to_vec(), csr }).await
}

#[track_caller]
fn turned_away(outcome: Result<join::AcceptedV1, JoinError>) {
    match outcome {
        Err(JoinError::TurnedAway(Reason::Decommissioned(order))) => assert_eq!(order, ORDER),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_is_decommissioned_comes_in_by_no_token_and_hears_so_at_every_door() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let device = Device::new();
    let certificate = hub.join(&device, "pi-7", TOKEN).await.unwrap().certificate;
    let expired = hub.expired(&device, "pi-7").await;
    let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate.clone())));
    let mut live = greet(&*link, hello("pi-7")).await;
    assert!(matches!(heard(&mut live).await, HubToSpoke::Welcome(_)));
    decommission(&hub, "pi-7", &device).await;
    hub.remove_cluster("pi-7").await;
    let goodbye = HubToSpoke::Goodbye(Reason::Decommissioned(ORDER.to_owned()));
    while heard(&mut live).await != goodbye {}
    link.close(code::STOPPING, "it wipes");
    // Offline for years, the cluster long gone, by a certificate that is over, or with a new token.
    assert_eq!(first_word(&hub, &certificate, "pi-7").await, goodbye);
    hub.let_cluster_go("pi-7").await;
    assert_eq!(first_word(&hub, &certificate, "pi-7").await, goodbye);
    turned_away(renew(&hub, &device, &expired).await);
    for name in ["pi-7", "pi-8"] {
        turned_away(hub.join(&device, name, TOKEN).await);
    }
    assert!(hub.objects.get(&place(CLUSTERS, "", "pi-8")).is_err(), "nothing is made for it");
    eventually("it has heard", || standing(&hub, &device).told_at.is_some()).await;
    // The name is free, and the board is a new device with a new key.
    let anew = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    assert!(matches!(first_word(&hub, &anew, "pi-7").await, HubToSpoke::Welcome(_)));
    assert_eq!(first_word(&hub, &certificate, "pi-7").await, goodbye, "the old key stays out");
}

#[tokio::test]
async fn an_order_ends_the_session_before_the_cluster_goes() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let device = Device::new();
    let certificate = hub.join(&device, "pi-7", TOKEN).await.unwrap().certificate;
    let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate)));
    let mut live = greet(&*link, hello("pi-7")).await;
    assert!(matches!(heard(&mut live).await, HubToSpoke::Welcome(_)));
    // The command was killed behind it, and nobody touches the ManagedCluster.
    decommission(&hub, "pi-7", &device).await;
    let goodbye = HubToSpoke::Goodbye(Reason::Decommissioned(ORDER.to_owned()));
    while heard(&mut live).await != goodbye {}
}

#[tokio::test]
async fn a_receipt_is_signed_by_the_key_for_this_very_order() {
    let hub = Hub::new(true).await;
    let device = Device::new();
    hub.join(&device, "pi-7", TOKEN).await.unwrap();
    decommission(&hub, "pi-7", &device).await;
    let say = async |said: WipedV1| join::wiped(&*hub.connect(ALPN_JOIN, None), said).await;
    let refused = async |said: WipedV1, cause: JoinRefusal| match say(said).await {
        Err(JoinError::Refused(refused)) => assert_eq!(refused.cause, cause, "{}", refused.message),
        other => panic!("{other:?}"),
    };
    refused(Device::new().receipt(ORDER, ""), JoinRefusal::Unknown).await;
    refused(device.receipt("n2", ""), JoinRefusal::Request).await;
    // Anybody may read what it has signed to join.
    let signed = |csr: Vec<u8>| WipedV1 { csr, left: String::new() };
    refused(signed(device.ask("pi-7", TOKEN).csr), JoinRefusal::Request).await;
    refused(signed(vec![1, 2, 3]), JoinRefusal::Request).await;
    // What stays is signed as well.
    let left = "something is mounted on \"/data/nas\"";
    let silent = WipedV1 { left: String::new(), ..device.receipt(ORDER, left) };
    refused(silent, JoinRefusal::Request).await;
    assert_eq!(standing(&hub, &device).wiped_at, None);
    say(device.receipt(ORDER, left)).await.unwrap();
    let kept = standing(&hub, &device);
    assert!(kept.wiped_at.is_some() && kept.told_at.is_some(), "{kept:?}");
    assert_eq!(kept.left.as_deref(), Some(left));
    say(device.receipt(ORDER, "")).await.unwrap();
    assert_eq!(standing(&hub, &device), kept, "the first receipt counts");
}

/// What `hub replace pi-7 new` orders.
async fn replace(hub: &Hub, old: &Device, new: &Device) {
    let rename =
        Rename { cluster: "new".into(), key: new.key(), to: "pi-7".into(), ..Rename::default() };
    give(hub, &Order::Rename(rename), new).await;
    decommission(hub, "pi-7", old).await;
    let switch = |mut value: Value| {
        value["metadata"]["annotations"]["freewheel.dev/agent-key"] = json!(new.key());
        Ok(value)
    };
    let cluster = place(CLUSTERS, "", "pi-7");
    hub.objects.modify(&WriteOptions::default(), &cluster, None, switch).await.unwrap();
}

#[tokio::test]
async fn a_board_takes_the_place_of_another() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (old, new) = (Device::new(), Device::new());
    let of_old = hub.join(&old, "pi-7", TOKEN).await.unwrap().certificate;
    let of_new = hub.join(&new, "new", TOKEN).await.unwrap().certificate;
    let uid = hub.get(CLUSTERS, "", "pi-7").await["metadata"]["uid"].clone();
    hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
    // Its old board runs, and the new one as well.
    let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(of_old.clone())));
    let mut runs = greet(&*link, hello("pi-7")).await;
    assert!(matches!(heard(&mut runs).await, HubToSpoke::Welcome(_)));
    let new_link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(of_new.clone())));
    let mut waits = greet(&*new_link, HelloV1 { instance: 2, ..hello("new") }).await;
    assert!(matches!(heard(&mut waits).await, HubToSpoke::Welcome(_)));

    replace(&hub, &old, &new).await;
    let goodbye = HubToSpoke::Goodbye(Reason::Decommissioned(ORDER.to_owned()));
    while heard(&mut runs).await != goodbye {}
    hub.remove_cluster("new").await;
    let renamed = HubToSpoke::Goodbye(Reason::Renamed("pi-7".to_owned()));
    while heard(&mut waits).await != renamed {}
    assert_eq!(first_word(&hub, &of_new, "new").await, renamed, "however late it comes");

    let given = renew(&hub, &new, &of_new).await.unwrap();
    assert_eq!(given.cluster.as_str(), "pi-7");
    let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(given.certificate)));
    let mut live = greet(&*link, HelloV1 { instance: 2, ..hello("pi-7") }).await;
    assert!(matches!(heard(&mut live).await, HubToSpoke::Welcome(_)));
    let plan = Holder::default().plan(&mut live).await;
    assert!(plan.put.iter().any(|record| record.key.kind == Kind::POD_V1), "the pod is its own");
    assert_eq!(hub.get(CLUSTERS, "", "pi-7").await["metadata"]["uid"], uid, "the same cluster");
    turned_away(renew(&hub, &old, &of_old).await);
}

#[tokio::test]
async fn what_is_left_of_a_replacement_that_broke_off_opens_nothing() {
    let hub = Hub::new(true).await;
    let (old, new) = (Device::new(), Device::new());
    let of_old = hub.join(&old, "pi-7", TOKEN).await.unwrap().certificate;
    let of_new = hub.join(&new, "new", TOKEN).await.unwrap().certificate;
    let rename =
        Rename { cluster: "new".into(), key: new.key(), to: "pi-7".into(), ..Rename::default() };
    give(&hub, &Order::Rename(rename), &new).await;
    for (certificate, name) in [(&of_old, "pi-7"), (&of_new, "new")] {
        let word = first_word(&hub, certificate, name).await;
        assert!(matches!(word, HubToSpoke::Welcome(_)), "{name}: {word:?}");
    }
    assert_eq!(renew(&hub, &new, &of_new).await.unwrap().cluster.as_str(), "new");
    hub.remove_cluster("new").await;
    hub.let_cluster_go("new").await;
    let gone = HubToSpoke::Goodbye(Reason::Unknown);
    assert_eq!(first_word(&hub, &of_new, "new").await, gone, "the name is not its own");
}
