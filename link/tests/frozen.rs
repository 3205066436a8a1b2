//! The bytes of everything that is on the wire or in a ledger. A test that fails here means: peers and ledgers of other
//! builds no longer understand this one. Until 0.1.0 is released the bytes change in place, on purpose and here, too;
//! from then on add a new kind or variant instead of changing one.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod joining;
mod probes;

use std::net::{Ipv6Addr, SocketAddr};

use freewheel_link::artifact::{Envelope, SignerCert};
use freewheel_link::digest::{Digest, SetDigest};
use freewheel_link::ended::{ContainerEndedV1, ContainersEndedV1};
use freewheel_link::figures::{ContainerUseV1, DeviceV1, Figures, GateV1, LossV1, PodUseV1};
use freewheel_link::generation::Generation;
use freewheel_link::message::*;
use freewheel_link::names::ClusterName;
use freewheel_link::part::Parts;
use freewheel_link::plan::*;
use freewheel_link::report::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Encodes, compares with the bytes in hex, and reads them back.
#[track_caller]
fn frozen<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, hex: &str) {
    let bytes = postcard::to_stdvec(value).unwrap();
    let found: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, hex, "the bytes of {value:?} have changed");
    assert_eq!(&postcard::from_bytes::<T>(&bytes).unwrap(), value);
}

fn name(text: &str) -> ClusterName {
    ClusterName::try_from(text).unwrap()
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn generation() -> Generation {
    Generation { incarnation: 300, revision: 7 }
}

fn container() -> ContainerV1 {
    let key =
        EnvSourceV1::Key { kind: Kind::SECRET_V1, name: text("n"), key: text("k"), optional: true };
    let resource = EnvSourceV1::Resource(text("c"), text("limits.cpu"), text("1"));
    ContainerV1 {
        name: text("c"),
        image: text("i"),
        module: ModuleV1::Component(Digest([1; 32])),
        args: vec![text("a")],
        env_from: vec![EnvFromV1 {
            kind: Kind::CONFIG_MAP_V1,
            name: text("n"),
            prefix: text("P_"),
            optional: false,
        }],
        env: vec![
            EnvV1 { name: text("V"), source: EnvSourceV1::Value(text("v")) },
            EnvV1 { name: text("K"), source: key },
            EnvV1 { name: text("F"), source: EnvSourceV1::Field(text("f")) },
            EnvV1 { name: text("R"), source: resource },
        ],
        ports: vec![ContainerPortV1 {
            name: text("p"),
            port: 8080,
            protocol: Protocol::Udp,
            host_port: Some(80),
        }],
        mounts: vec![MountV1 {
            volume: text("v"),
            path: text("/p"),
            sub_path: text("s"),
            read_only: true,
        }],
        memory_limit: Some(1 << 20),
        cpu_limit_milli: Some(500),
        requests: (Some(1), None),
        sidecar: true,
        working_dir: text("/w"),
        http: HttpV1 { reuse: Some(128), concurrency: 64, timeout_seconds: 60 },
    }
}

fn pod() -> PodV1 {
    let projected = || ProjectedV1 {
        kind: Kind::CONFIG_MAP_V1,
        name: text("n"),
        items: vec![(text("k"), text("p"), Some(0o600))],
        mode: 0o644,
        optional: false,
    };
    let downward = |source| DownwardV1 {
        files: vec![DownwardFileV1 { path: text("p"), source, mode: Some(0o600) }],
        mode: 0o644,
    };
    let field = DownwardSourceV1::Field(text("f"));
    let resource = DownwardSourceV1::Resource(text("c"), text("r"), text("1"));
    let volume = |name: &str, source| VolumeV1 { name: text(name), source };
    PodV1 {
        uid: text("u"),
        namespace: text("ns"),
        name: text("n"),
        node: text("pi-7"),
        labels: vec![(text("l"), text("v"))],
        annotations: vec![(text("a"), text("v"))],
        service_account: text("default"),
        hostname: text("h"),
        subdomain: text("s"),
        restart: RestartPolicy::OnFailure,
        priority: 300,
        grace_seconds: 30,
        deadline_seconds: Some(60),
        deleting: Some(5),
        service_links: true,
        host_aliases: vec![(text("1.2.3.4"), text("x"))],
        init: Vec::new(),
        containers: vec![container()],
        volumes: vec![
            volume("e", VolumeSourceV1::EmptyDir(Some(9))),
            volume("c", VolumeSourceV1::Config(projected())),
            volume(
                "p",
                VolumeSourceV1::Projected(vec![
                    ProjectionV1::Config(projected()),
                    ProjectionV1::Downward(downward(resource)),
                ]),
            ),
            volume("d", VolumeSourceV1::Downward(downward(field))),
        ],
        parts: Parts::default(),
    }
}

fn node() -> NodeStatusV1 {
    NodeStatusV1 {
        address: [127, 0, 0, 11].into(),
        hostname: text("h"),
        architecture: text("arm64"),
        kernel: text("k"),
        os_image: text("o"),
        machine_id: text("m"),
        boot_id: text("b"),
        version: text("v"),
        profile: text("p"),
        features: 3,
        cpu_milli: 4000,
        memory: 1 << 30,
        storage: 1 << 33,
        pods: 110,
        labels: vec![(text("l"), text("v"))],
        pressure: vec![text("DiskPressure")],
        parts: Parts::default(),
    }
}

fn pod_status() -> PodStatusV1 {
    let ended = || TerminatedV1 {
        code: -1,
        signal: 9,
        reason: text("OOMKilled"),
        message: text("m"),
        started: 1,
        finished: 2,
    };
    let container = |state| ContainerStatusV1 {
        name: text("c"),
        ready: true,
        begun: false,
        restarts: 3,
        image: text("i"),
        image_id: text("d"),
        container_id: text("x"),
        state,
        last: Some(ended()),
        last_id: text("y"),
    };
    PodStatusV1 {
        realm: name("root"),
        namespace: text("ns"),
        name: text("n"),
        uid: text("u"),
        phase: PhaseV1::Failed,
        ip: Some([10, 64, 0, 2].into()),
        started: Some(300),
        reason: text("r"),
        message: text("m"),
        conditions: vec![ConditionV1 {
            kind: text("Ready"),
            status: true,
            since: 300,
            reason: text("r"),
            message: text("m"),
        }],
        init: vec![container(ContainerStateV1::Waiting(text("r"), text("m")))],
        containers: vec![
            container(ContainerStateV1::Running(1)),
            container(ContainerStateV1::Terminated(ended())),
        ],
        parts: Parts::default(),
    }
}

#[test]
fn records() {
    let key = RecordKey { realm: name("pi-7"), kind: Kind::SERVICE_V1, key: text("ns/n") };
    frozen(&key, "0470692d3704046e732f6e");
    frozen(
        &Record { key, revision: 300, needs: 5, body: vec![1, 2, 0xff] },
        "0470692d3704046e732f6eac0205030102ff",
    );
}

#[test]
fn record_bodies() {
    frozen(
        &pod(),
        "0175026e73016e0470692d3701016c017601016101760764656661756c740168017301d8041e013c0105010107312e322e332e3401780001016301690001010101010101010101010101010101010101010101010101010101010101010101610102016e02505f00040156000176014b0103016e016b01014602016601520301630a6c696d6974732e6370750131010170903f010150010176022f700173010180804001f40301010001022f77018001403c04016500010901630102016e01016b0170018003a40300017002020002016e01016b0170018003a403000101017001016301720131018003a403016403010170000166018003a40300",
    );
    frozen(
        &ContainerV1 { module: ModuleV1::Missing(text("ErrImagePull"), text("m")), ..container() }
            .module,
        "010c457272496d61676550756c6c016d",
    );
    for (policy, hex) in [
        (RestartPolicy::Always, "00"),
        (RestartPolicy::OnFailure, "01"),
        (RestartPolicy::Never, "02"),
    ] {
        frozen(&policy, hex);
    }
    frozen(&ConfigV1 { data: vec![(text("k"), vec![1, 2])] }, "01016b020102");
    let service = ServiceV1 {
        namespace: text("ns"),
        name: text("n"),
        cluster_ip: Some([10, 128, 0, 1].into()),
        external_name: Some(text("x")),
        ports: vec![ServicePortV1 {
            name: text("p"),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30080),
        }],
        endpoints: vec![EndpointV1 {
            ip: Ipv6Addr::LOCALHOST.into(),
            node: text("pi-7"),
            hostname: text("h"),
            ready: true,
            ports: vec![8080],
        }],
        affinity_seconds: Some(10800),
    };
    frozen(
        &service,
        "026e73016e01000a80000101017801017000500180eb010101000000000000000000000000000000010470692d3701680101903f01b054",
    );
    frozen(&PodCidrV1 { base: [10, 64, 3, 0].into(), prefix: 24 }, "000a40030018");
    let node = NodeV1 { name: text("pi-7"), domain: text("cluster.local"), heartbeat_seconds: 10 };
    frozen(&node, "0470692d370d636c75737465722e6c6f63616c0a");
}

#[test]
fn record_parts() {
    let storage = StorageV1 { container: text("c"), limit: Some(300), request: None };
    let storage = PodStorageV1 { containers: vec![storage] };
    frozen(&storage, "01016301ac0200");
    let mut parts = Parts::default();
    parts.put(&storage).unwrap();
    frozen(&parts, "01010701016301ac0200");
    let os = PodOsV1 { name: text("w") };
    frozen(&os, "0177");
    let mut parts = Parts::default();
    parts.put(&os).unwrap();
    frozen(&parts, "0105020177");
    let ended = PodEndedV1 { failed: true, reason: text("r"), message: text("m") };
    frozen(&ended, "010172016d");
    let mut parts = Parts::default();
    parts.put(&ended).unwrap();
    frozen(&parts, "010205010172016d");
    let how = TerminatedV1 {
        code: 0,
        signal: 0,
        reason: text("Completed"),
        message: String::new(),
        started: 1,
        finished: 300,
    };
    let ended = ContainerEndedV1 { name: text("c"), restarts: 2, how };
    let ended = ContainersEndedV1 { containers: vec![ended] };
    frozen(&ended, "01016302000009436f6d706c657465640001ac02");
    let mut parts = Parts::default();
    parts.put(&ended).unwrap();
    frozen(&parts, "01031401016302000009436f6d706c657465640001ac02");
}

#[test]
fn reports() {
    frozen(&ReportStamp { boot_epoch: 2, sequence: 300 }, "02ac02");
    frozen(
        &Report::Pod(pod_status()),
        "0004726f6f74026e73016e01750301000a40000201ac020172016d0105526561647901ac020172016d010163010003016901640178000172016d010112094f4f4d4b696c6c6564016d010201790201630100030169016401780101010112094f4f4d4b696c6c6564016d010201790163010003016901640178020112094f4f4d4b696c6c6564016d0102010112094f4f4d4b696c6c6564016d0102017900",
    );
    frozen(&Report::PodGone { realm: name("root"), uid: text("u") }, "0104726f6f740175");
    frozen(
        &Report::Node(node()),
        "02007f00000b01680561726d3634016b016f016d01620176017003a01f808080800480808080206e01016c0176010c4469736b507265737375726500",
    );
    let event = EventV1 {
        realm: name("root"),
        namespace: text("ns"),
        pod: text("n"),
        uid: text("u"),
        field_path: text("f"),
        warning: true,
        reason: text("r"),
        message: text("m"),
        at: 300,
    };
    frozen(&Report::Event(event), "0304726f6f74026e73016e01750166010172016dac02");
    let event = NodeEventV1 { warning: true, reason: text("r"), message: text("m"), at: 300 };
    frozen(&Report::NodeEvent(event), "04010172016dac02");
    for (phase, hex) in [
        (PhaseV1::Pending, "00"),
        (PhaseV1::Running, "01"),
        (PhaseV1::Succeeded, "02"),
        (PhaseV1::Failed, "03"),
    ] {
        frozen(&phase, hex);
    }
}

#[test]
fn session_messages() {
    let hello = HelloV1 {
        protocols: Protocols { least: 1, most: 2 },
        abilities: 7,
        cluster: name("pi-7"),
        boot_epoch: 2,
        instance: 9,
        held: generation(),
        digest: SetDigest::default(),
        node: node(),
        parts: Parts::default(),
    };
    frozen(
        &SpokeToHub::Hello(Box::new(hello)),
        "000102070470692d370209ac020700000000007f00000b01680561726d3634016b016f016d01620176017003a01f808080800480808080206e01016c0176010c4469736b50726573737572650000",
    );
    let digest = SetDigest::default();
    frozen(&SpokeToHub::Heartbeat { generation: generation(), digest }, "01ac020700000000");
    frozen(&SpokeToHub::Took { generation: generation(), digest }, "02ac020700000000");
    let report = Report::PodGone { realm: name("root"), uid: text("u") };
    let stamp = ReportStamp { boot_epoch: 2, sequence: 3 };
    frozen(&SpokeToHub::Report { stamp, report }, "0302030104726f6f740175");
    frozen(&SpokeToHub::Goodbye(Reason::Stopping), "0400");
    frozen(&SpokeToHub::Resync { generation: generation() }, "05ac0207");
    frozen(&SpokeToHub::Runs { generation: generation(), digest }, "07ac020700000000");

    let welcome = WelcomeV1 {
        protocol: 1,
        abilities: 7,
        incarnation: 300,
        epoch: 4,
        heartbeat_seconds: 10,
        now: 300,
        durable_reports: ReportStamp { boot_epoch: 2, sequence: 300 },
    };
    frozen(&HubToSpoke::Welcome(welcome), "000107ac02040aac0202ac02");
    let key = RecordKey { realm: name("root"), kind: Kind::POD_V1, key: text("u") };
    let plan = PlanV1 {
        base: Generation::NONE,
        to: generation(),
        snapshot: true,
        part: 0,
        more: false,
        cut: false,
        put: vec![Record { key: key.clone(), revision: 7, needs: 1, body: vec![9] }],
        remove: vec![key],
    };
    frozen(
        &HubToSpoke::Plan(plan),
        "010000ac0207010000000104726f6f74010175070101090104726f6f74010175",
    );
    frozen(&HubToSpoke::ReportsTaken(stamp), "020203");
    let refusal = RefusalV1 { reason: text("r"), message: text("m") };
    frozen(&HubToSpoke::ReportRefused(stamp, refusal), "0502030172016d");
    frozen(&HubToSpoke::Notice(text("n")), "07016e");
}

#[test]
fn reasons() {
    for (reason, hex) in [
        (Reason::Stopping, "0300"),
        (Reason::Superseded, "0301"),
        (Reason::NotAccepted, "0302"),
        (Reason::Unknown, "0303"),
        (Reason::NotYou(text("x")), "03040178"),
        (Reason::Protocol(Protocols { least: 1, most: 300 }), "030501ac02"),
        (Reason::Violation(text("x")), "03060178"),
        (Reason::Silent, "0307"),
        (Reason::Replaced, "0308"),
        (Reason::Cloned, "0309"),
        (Reason::Expired, "030a"),
        (Reason::Decommissioned(text("x")), "030b0178"),
        (Reason::Renamed(text("x")), "030c0178"),
    ] {
        frozen(&HubToSpoke::Goodbye(reason), hex);
    }
}

#[test]
fn streams_to_pods() {
    let forward = PortForwardV1 { pod_uid: text("u"), port: 8080 };
    frozen(&Open::PortForward(forward), "060175903f");
    let exec = ExecV1 {
        pod_uid: text("u"),
        container: text("c"),
        command: vec![text("l"), text("s")],
        stdin: true,
        tty: false,
    };
    frozen(&Open::Exec(exec), "070175016302016c01730100");
    frozen(&ExecInput::Stdin("a".into()), "000161");
    frozen(&ExecInput::End, "01");
    frozen(&ExecInput::Resize { columns: 80, rows: 300 }, "0250ac02");
    frozen(&ExecOutput::Stdout("a".into()), "000161");
    frozen(&ExecOutput::Stderr("a".into()), "010161");
    frozen(&ExecOutput::Ended(ExecEndedV1 { code: 3, message: text("m") }), "0206016d");
}

#[test]
fn streams() {
    frozen(&Open::Session, "00");
    let logs = LogsV1 {
        pod_uid: text("u"),
        container: text("c"),
        follow: true,
        previous: false,
        timestamps: true,
        since_seconds: Some(5),
        since: Some(300),
        tail_lines: Some(10),
        limit_bytes: None,
    };
    frozen(&Open::Logs(logs), "0101750163010001010501ac02010a00");
    let module = ModuleRequestV1 {
        component: Digest([1; 32]),
        profile: text("p"),
        offset: 300,
        resume: Some(Digest([2; 32])),
    };
    frozen(
        &Open::Module(module),
        "0201010101010101010101010101010101010101010101010101010101010101010170ac02010202020202020202020202020202020202020202020202020202020202020202",
    );
    let tunnel = TunnelV1 {
        realm: name("root"),
        from: SocketAddr::from(([10, 64, 0, 2], 4000)),
        to: SocketAddr::from((Ipv6Addr::LOCALHOST, 80)),
    };
    frozen(&Open::Tunnel(tunnel), "0304726f6f74000a400002a01f010000000000000000000000000000000150");
    frozen(&Open::Renew(RenewV1 { csr: vec![1, 2] }), "04020102");
    frozen(&Open::Figures, "05");
    frozen(&RenewedV1 { certificate: vec![3] }, "0103");
    let datagram = DatagramV1 {
        realm: ClusterName::root(),
        from: SocketAddr::from(([10, 64, 0, 2], 4000)),
        to: SocketAddr::from(([10, 64, 1, 2], 53)),
        payload: bytes::Bytes::from_static(b"who?"),
    };
    let body = "04726f6f74000a400002a01f000a400102350477686f3f";
    frozen(&SpokeToHub::Datagram(datagram.clone()), &format!("06{body}"));
    frozen(&HubToSpoke::Datagram(datagram), &format!("04{body}"));
    frozen(&SocketAddr::new(SNAT_ADDRESS.into(), 53), "00a9fe400135");
    frozen(&Answer::Ready, "00");
    frozen(&Answer::Refused(RefusalV1::new("NotFound", "m")), "01084e6f74466f756e64016d");
    let signer = SignerCert { key: [3; 32], not_after: 300, signature: vec![4; 64] };
    let envelope = Envelope {
        component: Digest([1; 32]),
        profile: "48-x86_64-guard4g-4".parse().unwrap(),
        build: 2,
        artifact: Digest([5; 32]),
        size: 300,
        signer,
        signature: vec![6; 64],
    };
    frozen(
        &ModuleHeaderV1 { envelope, compressed: 100, offset: 7 },
        "01010101010101010101010101010101010101010101010101010101010101011334382d7838365f36342d677561726434672d34020505050505050505050505050505050505050505050505050505050505050505ac020303030303030303030303030303030303030303030303030303030303030303ac02400404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040440060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606066407",
    );
}

#[test]
fn figures() {
    let device = DeviceV1 {
        version: text("v"),
        started: 300,
        cpu_ms: 1,
        resident: 2,
        files: 3,
        most_files: 4,
        working_set: 5,
        busy_ms: 6,
        guests: 7,
        most_guests: 8,
        disk: 9,
        disk_free: 10,
        pods: 11,
        containers: 12,
        sessions: 13,
        datagrams_lost: 14,
        messages_skipped: 15,
    };
    frozen(&Figures::Device(device), "000176ac020102030405060708090a0b0c0d0e0f");
    let loss = |count| vec![LossV1 { reason: text("r"), count }];
    let gate = GateV1 {
        gate: text("g"),
        accepted: 1,
        open: 2,
        refused: loss(3),
        bytes: [4, 5].into(),
        datagrams: [6, 7].into(),
        lost: loss(8),
    };
    frozen(&Figures::Gate(gate), "0101670102010172030405060701017208");
    let container = ContainerUseV1 {
        name: text("c"),
        started: 300,
        cpu_ns: 1,
        memory: 2,
        throttled: 3,
        demoted: 4,
        out_of_memory: 5,
    };
    let pod = PodUseV1 {
        realm: ClusterName::root(),
        namespace: text("n"),
        name: text("p"),
        containers: vec![container],
    };
    frozen(&Figures::Pod(pod), "0204726f6f74016e0170010163ac020102030405");
}

#[test]
fn the_head_of_a_pod_is_read_without_the_rest() {
    let pod = PodV1 { deleting: Some(7), ..pod() };
    let key = RecordKey { realm: ClusterName::root(), kind: Kind::POD_V1, key: pod.uid.clone() };
    let mut record = Record::new(key, 1, 0, &pod).unwrap();
    record.body.truncate(record.body.len() - 1);
    assert!(record.body::<PodV1>().is_err());
    let head: PodHeadV1 = record.head().unwrap();
    assert_eq!((head.uid, head.deleting), (pod.uid, Some(7)));
}
