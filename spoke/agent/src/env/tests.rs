//! Environments as kubelet makes them.

use freewheel_link::part::Parts;
use freewheel_link::plan::{
    EndpointV1, EnvFromV1, EnvV1, HttpV1, ModuleV1, Record, RecordKey, RestartPolicy, ServiceV1,
};

use super::*;

fn value(name: &str, text: &str) -> EnvV1 {
    EnvV1 { name: name.to_owned(), source: EnvSourceV1::Value(text.to_owned()) }
}

fn from_field(name: &str, path: &str) -> EnvV1 {
    EnvV1 { name: name.to_owned(), source: EnvSourceV1::Field(path.to_owned()) }
}

fn from_key(name: &str, of: &str, key: &str, optional: bool) -> EnvV1 {
    let kind = Kind::CONFIG_MAP_V1;
    let source = EnvSourceV1::Key { kind, name: of.to_owned(), key: key.to_owned(), optional };
    EnvV1 { name: name.to_owned(), source }
}

fn container(env: Vec<EnvV1>) -> ContainerV1 {
    ContainerV1 {
        name: "web".to_owned(),
        image: "r.example:5000/app/hello:v1".to_owned(),
        module: ModuleV1::Missing(String::new(), String::new()),
        args: vec![],
        env_from: vec![],
        env,
        ports: vec![],
        mounts: vec![],
        memory_limit: Some(64 << 20),
        cpu_limit_milli: None,
        requests: (None, Some(1500)),
        sidecar: false,
        working_dir: String::new(),
        http: HttpV1::default(),
    }
}

fn pod(container: &ContainerV1) -> PodV1 {
    let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    PodV1 {
        uid: "u1".to_owned(),
        namespace: "shop".to_owned(),
        name: "web-0".to_owned(),
        node: "pi-7".to_owned(),
        labels: vec![pair("app", "web"), pair("tier", "a\"b")],
        annotations: vec![pair("note", "n")],
        service_account: "robot".to_owned(),
        hostname: "web-0".to_owned(),
        subdomain: String::new(),
        restart: RestartPolicy::Always,
        priority: 0,
        grace_seconds: 30,
        deadline_seconds: None,
        deleting: None,
        service_links: true,
        host_aliases: vec![],
        init: vec![],
        containers: vec![container.clone()],
        volumes: vec![],
        parts: Parts::default(),
    }
}

fn service(namespace: &str, name: &str) -> ServiceV1 {
    let port = |name: &str, port| ServicePortV1 {
        name: name.to_owned(),
        protocol: Protocol::Tcp,
        port,
        node_port: None,
    };
    ServiceV1 {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        cluster_ip: Some([10, 128, 0, 1].into()),
        external_name: None,
        ports: vec![port("https", 443), port("", 80)],
        endpoints: vec![],
        affinity_seconds: None,
    }
}

fn resolve(container: &ContainerV1) -> Result<Vec<(String, String)>, String> {
    let pod = pod(container);
    let config = |kind: Kind, name: &str| {
        (kind == Kind::CONFIG_MAP_V1 && name == "conf").then(|| ConfigV1 {
            data: vec![("K".to_owned(), b"v".to_vec()), ("L".to_owned(), b"w".to_vec())],
        })
    };
    let services = || {
        let all =
            [service("default", "kubernetes"), service("shop", "my-db"), service("other", "far")];
        all.map(|service| linked(&service)).to_vec()
    };
    environment(container, &around(&pod, &config, &services))
}

/// As it is read from a plan.
fn linked(service: &ServiceV1) -> LinkedServiceV1 {
    let key = RecordKey {
        realm: freewheel_link::names::ClusterName::root(),
        kind: Kind::SERVICE_V1,
        key: String::new(),
    };
    Record::new(key, 1, 0, service).unwrap().head().unwrap()
}

#[test]
fn of_a_service_no_more_is_read_than_its_containers_are_told() {
    let ip = [10, 64, 0, 9].into();
    let endpoint = EndpointV1 {
        ip,
        node: "pi".to_owned(),
        hostname: String::new(),
        ready: true,
        ports: vec![80],
    };
    let whole = ServiceV1 { endpoints: vec![endpoint; 1000], ..service("shop", "my-db") };
    let ServiceV1 { namespace, name, cluster_ip, external_name, ports, .. } = whole.clone();
    let told = LinkedServiceV1 { namespace, name, cluster_ip, external_name, ports };
    assert_eq!(linked(&whole), told);
}

fn around<'a>(
    pod: &'a PodV1,
    config: &'a dyn Fn(Kind, &str) -> Option<ConfigV1>,
    services: &'a dyn Fn() -> Vec<LinkedServiceV1>,
) -> EnvSources<'a> {
    EnvSources {
        pod,
        ip: [10, 64, 0, 5].into(),
        host_ip: [192, 168, 1, 7].into(),
        allocatable: Allocatable { memory: 1 << 30, cpu_milli: 4000, storage: 8 << 30 },
        storage: STORAGE.get_or_init(|| {
            let container = "web".to_owned();
            vec![StorageV1 { container, limit: None, request: Some(100 << 20) }]
        }),
        config,
        services,
    }
}

static STORAGE: std::sync::OnceLock<Vec<StorageV1>> = std::sync::OnceLock::new();

#[track_caller]
fn check(container: &ContainerV1, expected: &[(&str, &str)]) {
    let env = resolve(container).unwrap();
    for (name, value) in expected {
        assert_eq!(find(&env, name), Some(*value), "{name}");
    }
}

#[test]
fn later_values_win_and_may_use_earlier_ones() {
    let env = vec![
        value("A", "1"),
        value("B", "$(A)-$(K)-$(NOBODY)-$$(A)-$5-$"),
        value("A", "2"),
        value("C", "$(A)"),
        value("K", "own"),
        value("API", "$(KUBERNETES_SERVICE_HOST)"),
    ];
    let mut web = container(env);
    let kind = Kind::CONFIG_MAP_V1;
    web.env_from = vec![
        EnvFromV1 { kind, name: "conf".to_owned(), prefix: String::new(), optional: false },
        EnvFromV1 { kind, name: "conf".to_owned(), prefix: "P_".to_owned(), optional: false },
        EnvFromV1 { kind, name: "none".to_owned(), prefix: String::new(), optional: true },
    ];
    check(
        &web,
        &[
            ("A", "2"),
            ("B", "1-v-$(NOBODY)-$(A)-$5-$"),
            ("C", "2"),
            ("K", "own"),
            ("L", "w"),
            ("P_K", "v"),
            ("API", "10.128.0.1"),
            ("HOSTNAME", "web-0"),
        ],
    );
}

#[test]
fn fields_of_the_pod() {
    let fields = [
        ("metadata.name", "web-0"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u1"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['note']", "n"),
        ("metadata.labels", "app=\"web\"\ntier=\"a\\\"b\""),
        ("spec.nodeName", "pi-7"),
        ("spec.serviceAccountName", "robot"),
        ("status.podIP", "10.64.0.5"),
        ("status.podIPs", "10.64.0.5"),
        ("status.hostIP", "192.168.1.7"),
    ];
    for (path, expected) in fields {
        check(&container(vec![from_field("F", path)]), &[("F", expected)]);
    }
    assert!(resolve(&container(vec![from_field("F", "spec.secret")])).is_err());
}

#[test]
fn resources_are_divided_and_rounded_up() {
    for (resource, divisor, expected) in [
        ("limits.memory", "1Mi", "64"),
        ("limits.memory", "", "67108864"),
        ("requests.cpu", "1", "2"),
        ("requests.cpu", "1m", "1500"),
        ("limits.cpu", "1", "4"),
        ("limits.ephemeral-storage", "1Gi", "8"),
        ("requests.ephemeral-storage", "1Mi", "100"),
    ] {
        let source = EnvSourceV1::Resource(String::new(), resource.to_owned(), divisor.to_owned());
        check(&container(vec![EnvV1 { name: "R".to_owned(), source }]), &[("R", expected)]);
    }
}

#[test]
fn services_are_linked_in_the_own_namespace_and_the_api_always() {
    let web = container(vec![]);
    check(
        &web,
        &[
            ("KUBERNETES_SERVICE_HOST", "10.128.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
            ("MY_DB_SERVICE_HOST", "10.128.0.1"),
            ("MY_DB_PORT", "tcp://10.128.0.1:443"),
            ("MY_DB_PORT_80_TCP", "tcp://10.128.0.1:80"),
            ("MY_DB_PORT_80_TCP_PROTO", "tcp"),
            ("MY_DB_PORT_80_TCP_PORT", "80"),
            ("MY_DB_PORT_80_TCP_ADDR", "10.128.0.1"),
        ],
    );
    let env = resolve(&web).unwrap();
    assert!(env.iter().all(|(name, _)| !name.starts_with("FAR_")));
}

#[test]
fn what_is_missing_is_said_as_kubelet_says_it() {
    let of = |env| resolve(&container(vec![env])).unwrap_err();
    assert_eq!(of(from_key("X", "none", "k", false)), "configmap \"none\" not found");
    assert_eq!(of(from_key("X", "conf", "k", false)), "couldn't find key k in ConfigMap shop/conf");
    let optional =
        container(vec![from_key("X", "none", "k", true), from_key("Y", "conf", "k", true)]);
    assert_eq!(find(&resolve(&optional).unwrap(), "X"), None);
}

#[test]
fn arguments_are_expanded_and_never_empty() {
    let mut web = container(vec![]);
    assert_eq!(arguments(&web, &[]).unwrap(), ["hello"]);
    web.args = vec!["run".to_owned(), "--at=$(A)".to_owned()];
    let env = [("A".to_owned(), "1".to_owned())];
    assert_eq!(arguments(&web, &env).unwrap(), ["run", "--at=1"]);
}

#[test]
fn values_that_name_each_other_do_not_grow_without_end() {
    let mut env = vec![value("A0", "0123456789abcdef")];
    for step in 1..=40 {
        env.push(value(&format!("A{step}"), &format!("$(A{0})$(A{0})", step - 1)));
    }
    let refused = resolve(&container(env)).unwrap_err();
    assert!(refused.contains("may have 8388608 bytes each"), "{refused}");
    let mut web = container(vec![]);
    web.args = vec!["$(A)".repeat(1000); 1000];
    let env = [("A".to_owned(), "x".repeat(1000))];
    assert!(arguments(&web, &env).unwrap_err().contains("may have 8388608 bytes each"));
}

#[test]
fn thousands_of_variables_are_found_by_name() {
    let mut env: Vec<_> = (0..20_000).map(|n| value(&format!("V{n}"), &n.to_string())).collect();
    env.push(value("LAST", "$(V19999)$(V0)"));
    let found = resolve(&container(env)).unwrap();
    assert!(found.contains(&("LAST".to_owned(), "199990".to_owned())));
}

#[test]
fn an_environment_of_many_keys_is_made_at_once() {
    let names = (0..15_000).map(|number| format!("{number:05}"));
    let env = names.clone().map(|name| from_key(&name, "large", &name, false)).collect();
    let open = EnvV1 { name: "OPEN".to_owned(), source: EnvSourceV1::Value("$(".repeat(500_000)) };
    let reads = std::cell::Cell::new(0);
    let config = |_: Kind, _: &str| {
        reads.set(reads.get() + 1);
        Some(ConfigV1 { data: names.clone().map(|name| (name, b"v".to_vec())).collect() })
    };
    let container = ContainerV1 { env: [env, vec![open]].concat(), ..container(vec![]) };
    let pod = pod(&container);
    let start = std::time::Instant::now();
    let env = environment(&container, &around(&pod, &config, &Vec::new)).unwrap();
    assert!(15_000 < env.len() && reads.get() == 1, "{} reads", reads.get());
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}
