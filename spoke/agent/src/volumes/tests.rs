//! Volumes on a real disk.

use std::net::Ipv4Addr;

use freewheel_link::part::Parts;
use freewheel_link::plan::{ConfigV1, DownwardFileV1, HttpV1, ModuleV1, RestartPolicy};

use super::*;
use crate::env::Allocatable;
use crate::files::DiskFiles;

fn projected(name: &str, items: &[(&str, &str)], optional: bool) -> ProjectedV1 {
    ProjectedV1 {
        kind: Kind::CONFIG_MAP_V1,
        name: name.to_owned(),
        items: items.iter().map(|(k, p)| ((*k).to_owned(), (*p).to_owned(), None)).collect(),
        mode: 0o644,
        optional,
    }
}

fn downward(files: Vec<DownwardFileV1>) -> DownwardV1 {
    DownwardV1 { files, mode: 0o440 }
}

fn field_file(path: &str, field: &str, mode: Option<u32>) -> DownwardFileV1 {
    let source = DownwardSourceV1::Field(field.to_owned());
    DownwardFileV1 { path: path.to_owned(), source, mode }
}

fn mount(volume: &str, path: &str, sub_path: &str) -> MountV1 {
    MountV1 {
        volume: volume.to_owned(),
        path: path.to_owned(),
        sub_path: sub_path.to_owned(),
        read_only: false,
    }
}

fn pod(volumes: Vec<(&str, VolumeSourceV1)>, mounts: Vec<MountV1>) -> PodV1 {
    let container = ContainerV1 {
        name: "web".to_owned(),
        image: "hello".to_owned(),
        module: ModuleV1::Missing(String::new(), String::new()),
        args: vec![],
        env_from: vec![],
        env: vec![],
        ports: vec![],
        mounts,
        memory_limit: None,
        cpu_limit_milli: None,
        requests: (None, None),
        sidecar: false,
        working_dir: String::new(),
        http: HttpV1::default(),
    };
    PodV1 {
        uid: "u1".to_owned(),
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        node: "pi-7".to_owned(),
        labels: vec![("app".to_owned(), "web".to_owned())],
        annotations: vec![],
        service_account: "default".to_owned(),
        hostname: "web".to_owned(),
        subdomain: String::new(),
        restart: RestartPolicy::Always,
        priority: 0,
        grace_seconds: 30,
        deadline_seconds: None,
        deleting: None,
        service_links: true,
        host_aliases: vec![],
        init: vec![],
        containers: vec![container],
        volumes: volumes
            .into_iter()
            .map(|(name, source)| VolumeV1 { name: name.to_owned(), source })
            .collect(),
        parts: Parts::default(),
    }
}

/// Makes the pod's volumes from a ConfigMap `conf` with this value under `k` and `l`.
fn make_with(data: &Path, pod: &PodV1, value: &str) -> Result<(), String> {
    let entry = |key: &str| (key.to_owned(), value.as_bytes().to_vec());
    make_of(data, pod, &ConfigV1 { data: vec![entry("k"), entry("l")] })
}

/// Makes the pod's volumes from this ConfigMap `conf`.
fn make_of(data: &Path, pod: &PodV1, conf: &ConfigV1) -> Result<(), String> {
    let config = |_: Kind, name: &str| (name == "conf").then(|| conf.clone());
    let around = EnvSources {
        pod,
        ip: [10, 64, 0, 5].into(),
        host_ip: Ipv4Addr::LOCALHOST.into(),
        allocatable: Allocatable::default(),
        storage: &[],
        config: &config,
        services: &|| panic!("volumes need no Services"),
    };
    plan(&around).write(&DiskFiles::default(), data)
}

fn read(dir: &Path, path: &str) -> String {
    std::fs::read_to_string(dir.join(path)).unwrap_or_default()
}

#[test]
fn configuration_is_mounted_and_follows_changes() {
    let data = tempfile::tempdir().unwrap();
    let pod = pod(
        vec![
            ("c", VolumeSourceV1::Config(projected("conf", &[], false))),
            (
                "p",
                VolumeSourceV1::Projected(vec![ProjectionV1::Config(projected(
                    "conf",
                    &[("k", "deep/x")],
                    false,
                ))]),
            ),
            ("d", VolumeSourceV1::Downward(downward(vec![field_file("ip", "status.podIP", None)]))),
            ("e", VolumeSourceV1::EmptyDir(None)),
        ],
        vec![
            mount("c", "/c", ""),
            mount("p", "/p", ""),
            mount("d", "/d", ""),
            mount("e", "/e", ""),
        ],
    );
    make_with(data.path(), &pod, "1").unwrap();
    let seen = mounts(&DiskFiles::default(), data.path(), &pod, &pod.containers[0]).unwrap();
    let mount = |guest: &str| seen.iter().find(|mount| mount.guest == guest).unwrap();
    let at = |guest: &str| mount(guest).dir.path();
    assert_eq!(read(at("/c"), "k"), "1");
    assert_eq!(read(at("/p"), "deep/x"), "1");
    assert_eq!(read(at("/d"), "ip"), "10.64.0.5");
    assert!(mount("/c").read_only && !mount("/e").read_only, "configuration is read-only");
    std::fs::write(at("/e").join("own"), "data").unwrap();
    make_with(data.path(), &pod, "2").unwrap();
    assert_eq!(read(at("/c"), "k"), "2");
    assert_eq!(read(at("/e"), "own"), "data", "what the pod wrote stays");
}

#[test]
fn a_token_of_the_pods_account_is_a_file_or_waited_for() {
    let data = tempfile::tempdir().unwrap();
    let tokens =
        ProjectedV1 { kind: Kind::POD_TOKENS_V1, ..projected("conf", &[("k", "token")], false) };
    let volume = |from| vec![("t", VolumeSourceV1::Projected(vec![ProjectionV1::Config(from)]))];
    let shown = pod(volume(tokens.clone()), vec![mount("t", "/t", "")]);
    for text in ["first", "second"] {
        make_with(data.path(), &shown, text).unwrap();
        let dir = volume_dir(data.path(), &shown.uid, "t");
        assert_eq!(read(&dir, "token"), text);
    }
    let waits = pod(volume(ProjectedV1 { name: "gone".into(), ..tokens.clone() }), vec![]);
    let unasked = pod(
        volume(ProjectedV1 { items: vec![("x".into(), "token".into(), None)], ..tokens }),
        vec![],
    );
    for pod in [waits, unasked] {
        let text = "MountVolume.SetUp failed for volume \"t\" : the token of the pod's service account has not come yet";
        assert_eq!(make_with(data.path(), &pod, "1"), Err(text.to_owned()));
    }
}

#[test]
fn what_the_pod_is_is_shown_beside_configuration_and_follows_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let data = tempfile::tempdir().unwrap();
    let of = |container: &str, what: &str, divisor: &str| DownwardFileV1 {
        path: format!("limits/{what}"),
        source: DownwardSourceV1::Resource(container.into(), what.into(), divisor.into()),
        mode: None,
    };
    let files = downward(vec![
        field_file("labels", "metadata.labels", Some(0o400)),
        of("web", "limits.memory", "1Mi"),
    ]);
    let all = vec![
        ProjectionV1::Config(projected("conf", &[("k", "deep/x")], false)),
        ProjectionV1::Downward(files.clone()),
    ];
    let volumes =
        vec![("p", VolumeSourceV1::Projected(all)), ("d", VolumeSourceV1::Downward(files))];
    let mut pod = pod(volumes, vec![mount("p", "/p", ""), mount("d", "/d", "")]);
    pod.containers[0].memory_limit = Some(64 << 20);
    make_with(data.path(), &pod, "1").unwrap();
    let seen = mounts(&DiskFiles::default(), data.path(), &pod, &pod.containers[0]).unwrap();
    let [whole, alone] = [0, 1].map(|at| seen[at].dir.path().to_owned());
    assert_eq!(read(&whole, "deep/x"), "1");
    pod.labels.push(("tier".to_owned(), "front".to_owned()));
    for (dir, labels) in [(&whole, "app=\"web\""), (&alone, "app=\"web\"")] {
        assert_eq!(read(dir, "labels"), labels);
        assert_eq!(read(dir, "limits/limits.memory"), "64");
        let mode = |path: &str| std::fs::metadata(dir.join(path)).unwrap().permissions().mode();
        assert_eq!((mode("labels") & 0o777, mode("limits/limits.memory") & 0o777), (0o400, 0o440));
    }
    make_with(data.path(), &pod, "1").unwrap();
    for dir in [&whole, &alone] {
        assert_eq!(read(dir, "labels"), "app=\"web\"\ntier=\"front\"");
    }
    let gone = downward(vec![of("gone", "limits.memory", "1")]);
    pod.volumes = vec![VolumeV1 { name: "p".to_owned(), source: VolumeSourceV1::Downward(gone) }];
    let error = make_with(data.path(), &pod, "1").unwrap_err();
    assert!(error.ends_with("container gone not found"), "{error}");
}

#[test]
fn single_files_come_in_a_directory_of_their_own() {
    let data = tempfile::tempdir().unwrap();
    let pod = pod(
        vec![
            ("c", VolumeSourceV1::Config(projected("conf", &[], false))),
            ("e", VolumeSourceV1::EmptyDir(None)),
        ],
        vec![mount("c", "/etc/app/a", "k"), mount("c", "/etc/app/b", "l"), mount("e", "/w", "sub")],
    );
    make_with(data.path(), &pod, "1").unwrap();
    let seen = mounts(&DiskFiles::default(), data.path(), &pod, &pod.containers[0]).unwrap();
    assert_eq!(seen.len(), 2, "two files share their parent: {seen:?}");
    assert_eq!((seen[0].guest.as_str(), seen[0].read_only), ("/etc/app", true));
    let (files, sub) = (seen[0].dir.path(), seen[1].dir.path());
    assert_eq!(read(files, "a") + &read(files, "b"), "11");
    make_with(data.path(), &pod, "2").unwrap();
    assert_eq!(read(files, "a"), "1", "a single file stays what it was");
    assert!(sub.ends_with("volumes/e/sub") && sub.is_dir());
}

#[test]
fn what_cannot_be_mounted_is_said_in_kubelets_words() {
    let data = tempfile::tempdir().unwrap();
    let of = |source| make_with(data.path(), &pod(vec![("v", source)], vec![]), "1");
    let config = |name, items: &[(&str, &str)], optional| {
        VolumeSourceV1::Config(projected(name, items, optional))
    };
    assert_eq!(
        of(config("none", &[], false)).unwrap_err(),
        "MountVolume.SetUp failed for volume \"v\" : configmap \"none\" not found"
    );
    assert!(
        of(config("conf", &[("zz", "x")], false))
            .unwrap_err()
            .contains("non-existent config key: zz")
    );
    assert!(
        of(config("conf", &[("k", "../../x")], false)).unwrap_err().contains("leaves the volume")
    );
    assert_eq!(of(config("none", &[], true)), Ok(()));
    let lost = pod(vec![], vec![mount("nowhere", "/x", "")]);
    assert!(mounts(&DiskFiles::default(), data.path(), &lost, &lost.containers[0]).is_err());
}

#[test]
fn a_single_file_is_never_one_outside_of_its_volume() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("identity")).unwrap();
    std::fs::write(data.path().join("identity/key"), "secret").unwrap();
    let pod = pod(
        vec![("e", VolumeSourceV1::EmptyDir(None))],
        vec![mount("e", "/one/f", "f"), mount("e", "/two/g", "d/g")],
    );
    make_with(data.path(), &pod, "1").unwrap();
    let volume = volume_dir(data.path(), "u1", "e");
    std::fs::write(volume.join("f"), "mine").unwrap();
    std::fs::create_dir(volume.join("d")).unwrap();
    std::fs::write(volume.join("d/g"), "mine too").unwrap();
    let mounted = || mounts(&DiskFiles::default(), data.path(), &pod, &pod.containers[0]);
    let seen = mounted().unwrap();
    assert_eq!(read(seen[0].dir.path(), "f") + &read(seen[1].dir.path(), "g"), "minemine too");
    // A sidecar swaps the file, then the directory above it, before the container's next start.
    std::fs::remove_file(volume.join("f")).unwrap();
    std::os::unix::fs::symlink("../../../../identity/key", volume.join("f")).unwrap();
    assert!(mounted().unwrap_err().contains("is a symlink"));
    std::fs::remove_file(volume.join("f")).unwrap();
    std::fs::rename(volume.join("d"), volume.join("e")).unwrap();
    std::os::unix::fs::symlink("../../../../identity", volume.join("d")).unwrap();
    assert!(mounted().unwrap_err().contains("is a symlink"));
    let shown = std::fs::read_to_string(data.path().join("pods/u1/subpaths/web/0/f"));
    assert_ne!(shown.unwrap_or_default(), "secret");
}

#[test]
fn what_is_mounted_stays_what_it_was_wherever_its_name_leads() {
    use std::os::fd::AsRawFd as _;
    let data = tempfile::tempdir().unwrap();
    let pod = pod(vec![("e", VolumeSourceV1::EmptyDir(None))], vec![mount("e", "/w", "")]);
    make_with(data.path(), &pod, "1").unwrap();
    let volume = volume_dir(data.path(), "u1", "e");
    std::fs::write(volume.join("own"), "mine").unwrap();
    let mut seen = mounts(&DiskFiles::default(), data.path(), &pod, &pod.containers[0]).unwrap();
    std::fs::rename(&volume, volume.with_file_name("aside")).unwrap();
    std::os::unix::fs::symlink("/", &volume).unwrap();
    let open = seen.remove(0).dir.into_file().unwrap();
    let there = format!("/proc/self/fd/{}", open.as_raw_fd());
    assert_eq!(read(Path::new(&there), "own"), "mine");
}

/// Bytes that all files of the pod take on the disk.
fn on_disk(data: &Path) -> u64 {
    let mut all = crate::usage::Measurer::default();
    all.measure(&[pod_dir(data, "u1")], 0)[0].bytes
}

#[test]
fn a_single_file_takes_no_more_room_however_often_it_is_shown() {
    let data = tempfile::tempdir().unwrap();
    let at = |n: usize| mount("e", &format!("/m{n}/f"), "f");
    let pod = pod(vec![("e", VolumeSourceV1::EmptyDir(None))], (0..40).map(at).collect());
    make_with(data.path(), &pod, "1").unwrap();
    let file = volume_dir(data.path(), "u1", "e").join("f");
    std::fs::write(&file, vec![7; 1 << 20]).unwrap();
    let before = on_disk(data.path());
    for _ in 0..2 {
        let seen = mounts(&DiskFiles::default(), data.path(), &pod, &pod.containers[0]).unwrap();
        assert_eq!(seen.len(), 40);
        let more = on_disk(data.path()) - before;
        assert!(more < 1 << 20, "{more} bytes more");
    }
    // Holes take nothing, and no time.
    std::fs::File::options().write(true).open(&file).unwrap().set_len(1 << 40).unwrap();
    mounts(&DiskFiles::default(), data.path(), &pod, &pod.containers[0]).unwrap();
    assert!(on_disk(data.path()) - before < 1 << 20);
}

#[test]
fn a_pod_with_more_mounts_than_it_may_open_is_refused() {
    let most = freewheel_link::limits::POD_MOUNTS_MAX;
    let mut pod = pod(vec![], vec![mount("v", "/v", ""); most]);
    assert_eq!(crate::admission::check(&pod), Ok(()));
    let more = pod.containers[0].clone();
    pod.init.push(ContainerV1 { name: "first".to_owned(), ..more });
    let (reason, message) = crate::admission::check(&pod).unwrap_err();
    assert_eq!(reason, "InvalidPod");
    assert!(message.contains("256 mounts, and 128 is the most"), "{message}");
}

#[test]
fn configuration_of_many_keys_is_made_or_refused_at_once() {
    let data = tempfile::tempdir().unwrap();
    let many = |keys: usize| {
        let entry = |key| (format!("{key:06}"), b"v".to_vec());
        ConfigV1 { data: (0..keys).map(entry).collect() }
    };
    let whole = |times| {
        let all = vec![ProjectionV1::Config(projected("conf", &[], false)); times];
        pod(vec![("p", VolumeSourceV1::Projected(all))], vec![])
    };
    let start = std::time::Instant::now();
    let most = "10000 files and directories";
    for (keys, times) in [(100_000, 1), (1000, 100)] {
        let error = make_of(data.path(), &whole(times), &many(keys)).unwrap_err();
        assert!(error.starts_with("MountVolume.SetUp failed") && error.contains(most), "{error}");
    }
    let deep = "d/".repeat(2000) + "f";
    let paths: Vec<String> = (0..100).map(|number| format!("{number}/{deep}")).collect();
    let items: Vec<_> = paths.iter().map(|path| ("000000", path.as_str())).collect();
    let deep = pod(vec![("c", VolumeSourceV1::Config(projected("conf", &items, false)))], vec![]);
    assert!(make_of(data.path(), &deep, &many(1)).unwrap_err().contains(most));
    make_of(data.path(), &whole(2), &many(1000)).unwrap();
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}
