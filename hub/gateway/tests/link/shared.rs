//! What all spokes are told alike: kept once, and told to whom it concerns.

use freewheel_hub_metrics::{Format, Metrics};
use freewheel_link::plan::ConfigV1;

use crate::support::*;

const SERVICES: (&str, &str, &str) = ("", "v1", "services");
const SLICES: (&str, &str, &str) = ("discovery.k8s.io", "v1", "endpointslices");

fn service(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": kind, "selector": {"app": name}, "ports": [{"port": 80, "protocol": "TCP"}]},
    })
}

fn slice(service: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("{service}-1"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "ports": [{"port": 8080, "protocol": "TCP", "name": ""}],
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
    })
}

/// Services that a spoke was told of, by their names.
fn told(holder: &Holder) -> Vec<String> {
    let services = holder.set.iter().filter(|record| record.key.kind == Kind::SERVICE_V1);
    services.map(|record| record.key.key.clone()).collect()
}

/// How often sessions have looked what their spokes should hold.
fn looks(metrics: &Metrics) -> usize {
    let text = metrics.text(Format::Prometheus).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("freewheel_plan_looks_total "));
    line.unwrap().parse().unwrap()
}

struct Spoke {
    _link: Arc<memory_transport::MemoryTransport>,
    session: Session,
    holder: Holder,
}

impl Spoke {
    async fn of(hub: &Hub, name: &str) -> Self {
        let (link, session) = hub.spoke(name).await;
        let mut spoke = Self { _link: link, session, holder: Holder::default() };
        spoke.settle().await;
        spoke
    }

    async fn settle(&mut self) {
        self.holder.settle(&mut self.session).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_of_the_root_wakes_whom_it_concerns() {
    let hub = Hub::new(true).await;
    let metrics = Metrics::default();
    hub.gateway.show(&metrics);
    hub.listen().await;
    hub.create(PODS, "default", "web", pod("web", "pi-1")).await;
    let mut busy = Spoke::of(&hub, "pi-1").await;
    let mut idle = [Spoke::of(&hub, "pi-2").await, Spoke::of(&hub, "pi-3").await];
    let woken = async |busy: &mut Spoke, idle: &mut [Spoke; 2]| {
        busy.settle().await;
        for spoke in idle {
            spoke.settle().await;
        }
        looks(&metrics)
    };
    let before = woken(&mut busy, &mut idle).await;

    hub.create(SERVICES, "default", "inner", service("inner", "ClusterIP")).await;
    let inner = woken(&mut busy, &mut idle).await;
    assert_eq!(inner - before, 1, "who has pods there");
    assert_eq!(told(&busy.holder), ["default/inner"]);
    assert!(told(&idle[0].holder).is_empty());

    hub.create(SLICES, "default", "inner-1", slice("inner", "10.64.0.2")).await;
    let moved = woken(&mut busy, &mut idle).await;
    assert_eq!(moved - inner, 1);
    let label = |mut value: Value| {
        value["metadata"]["labels"]["site"] = json!("attic");
        Ok(value)
    };
    for kind in [(SERVICES, "inner"), (SLICES, "inner-1")] {
        let place = place(kind.0, "default", kind.1);
        hub.objects.modify(&WriteOptions::default(), &place, None, label).await.unwrap();
    }
    let labelled = woken(&mut busy, &mut idle).await;
    assert_eq!(labelled, moved, "what spokes are told is the same");

    hub.create(SERVICES, "default", "outer", service("outer", "NodePort")).await;
    let outer = woken(&mut busy, &mut idle).await;
    assert_eq!(outer - labelled, 3, "every node listens");
    for spoke in &idle {
        assert_eq!(told(&spoke.holder), ["default/outer"]);
    }
    // With its first pod a node is told of all Services, and of no others after the last one.
    hub.create(PODS, "default", "late", pod("late", "pi-2")).await;
    woken(&mut busy, &mut idle).await;
    assert_eq!(told(&idle[0].holder), ["default/inner", "default/outer"]);
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    hub.objects
        .delete(&WriteOptions::default(), &place(PODS, "default", "late"), &now)
        .await
        .unwrap();
    woken(&mut busy, &mut idle).await;
    assert_eq!(told(&idle[0].holder), ["default/outer"]);
    hub.objects
        .delete(&WriteOptions::default(), &place(SERVICES, "default", "outer"), &now)
        .await
        .unwrap();
    woken(&mut busy, &mut idle).await;
    assert!(told(&idle[0].holder).is_empty() && told(&busy.holder).len() == 1);
}

fn config(kind: &str, name: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"},
        "data": {"k": text},
    })
}

#[tokio::test(start_paused = true)]
async fn configuration_wakes_those_alone_whose_pods_name_it() {
    let hub = Hub::new(true).await;
    let metrics = Metrics::default();
    hub.gateway.show(&metrics);
    hub.listen().await;
    let maps = ("", "v1", "configmaps");
    for name in ["named", "other"] {
        hub.create(maps, "default", name, config("ConfigMap", name, "old")).await;
    }
    for (name, node) in [("one", "pi-1"), ("two", "pi-2")] {
        let mut reader = pod(name, node);
        if name == "one" {
            let from =
                json!([{"configMapRef": {"name": "named"}}, {"secretRef": {"name": "late"}}]);
            reader["spec"]["containers"][0]["envFrom"] = from;
        }
        hub.create(PODS, "default", name, reader).await;
    }
    let mut spokes = [Spoke::of(&hub, "pi-1").await, Spoke::of(&hub, "pi-2").await];
    let woken = async |spokes: &mut [Spoke; 2]| {
        for spoke in spokes {
            spoke.settle().await;
        }
        looks(&metrics)
    };
    let change = async |name: &str| {
        let say = |mut value: Value| {
            value["data"]["k"] = json!("new");
            Ok(value)
        };
        let of = place(maps, "default", name);
        hub.objects.modify(&WriteOptions::default(), &of, None, say).await.unwrap();
    };
    let holds = |spoke: &Spoke, kind| {
        let all = spoke.holder.set.iter().filter(|record| record.key.kind == kind);
        all.map(|record| record.body::<ConfigV1>().unwrap().data[0].1.clone()).collect::<Vec<_>>()
    };
    let before = woken(&mut spokes).await;
    assert_eq!(holds(&spokes[0], Kind::CONFIG_MAP_V1), [b"old"]);
    change("other").await;
    assert_eq!(woken(&mut spokes).await, before, "nobody names it");
    change("named").await;
    assert_eq!(woken(&mut spokes).await, before + 1);
    assert_eq!(holds(&spokes[0], Kind::CONFIG_MAP_V1), [b"new"]);
    // What is named and not there is waited for, too.
    hub.create(("", "v1", "secrets"), "default", "late", config("Secret", "late", "bmV3")).await;
    assert_eq!(woken(&mut spokes).await, before + 2);
    assert_eq!(holds(&spokes[0], Kind::SECRET_V1), [b"new"]);
    // Nobody names it any more.
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    let of = place(PODS, "default", "one");
    hub.objects.delete(&WriteOptions::default(), &of, &now).await.unwrap();
    let gone = woken(&mut spokes).await;
    let delete = place(maps, "default", "named");
    hub.objects.delete(&WriteOptions::default(), &delete, &now).await.unwrap();
    assert_eq!(woken(&mut spokes).await, gone);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_sent_what_has_changed_meanwhile() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    for number in 0..50 {
        let name = format!("s{number}");
        hub.create(SERVICES, "default", &name, service(&name, "NodePort")).await;
    }
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let connect = || hub.connect(ALPN_SESSION, Some(CertificateDer::from(identity.clone())));
    let link = connect();
    let mut session = greet(&*link, hello("pi-7")).await;
    let mut holder = Holder::default();
    let first = holder.plan(&mut session).await;
    assert!(first.snapshot && told(&holder).len() == 50);
    holder.took(&mut session, &first).await;
    holder.settle(&mut session).await;
    link.close(0, "gone");
    eventually("its session has ended", || hub.gateway.connected().is_empty()).await;

    let gone = place(SERVICES, "default", "s7");
    hub.objects.delete(&WriteOptions::default(), &gone, &DeleteOptions::default()).await.unwrap();
    hub.create(SLICES, "default", "s8-1", slice("s8", "10.64.0.9")).await;
    let link = connect();
    let held = HelloV1 { held: first.to, digest: holder.set.digest(), ..hello("pi-7") };
    let mut session = greet(&*link, held).await;
    let plan = holder.plan(&mut session).await;
    assert!(!plan.snapshot);
    assert_eq!((plan.put.len(), plan.remove.len()), (1, 1));
    assert_eq!(plan.put[0].key.key, "default/s8");
    holder.took(&mut session, &plan).await;
    holder.settle(&mut session).await;
    let name = ClusterName::try_from("pi-7").unwrap();
    assert_eq!(hub.gateway.agreed(&name), Some((plan.to, holder.set.digest())));
}

#[tokio::test(start_paused = true)]
async fn what_a_spoke_takes_is_written_nowhere() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let mut spoke = Spoke::of(&hub, "pi-7").await;
    let revision = || hub.objects.store().snapshot().revision();
    hub.create(SERVICES, "default", "outer", service("outer", "NodePort")).await;
    let before = revision();
    spoke.settle().await;
    assert_eq!(told(&spoke.holder), ["default/outer"]);
    assert_eq!(revision(), before);
}
