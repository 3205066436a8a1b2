//! A program's mounts: what they are, and what they stay.

use std::path::Path;

use freewheel_link::part::Parts;
use freewheel_link::plan::{
    ConfigV1, ContainerV1, HttpV1, Kind, ModuleV1, MountV1, PodV1, ProjectedV1, RestartPolicy,
    VolumeSourceV1, VolumeV1,
};
use freewheel_spoke_agent::env::{Allocatable, EnvSources};
use freewheel_spoke_agent::files::DiskFiles;
use freewheel_spoke_agent::volumes;

use super::*;

/// All below a directory, with what is in the files.
fn all_of(dir: &Path) -> Vec<(PathBuf, Option<String>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_of(&path));
        }
        found.push((path.clone(), std::fs::read_to_string(&path).ok()));
    }
    found.sort();
    found
}

/// Opens the directory `sub` of the first mount; it is at 16.
const OPEN_SUB: &str = "
    (call $must (call $path_open (i32.const 3) (i32.const 1) (i32.const 260) (i32.const 3)
        (i32.const 2) (i64.const 16386) (i64.const 16386) (i32.const 0) (i32.const 16)))";

#[tokio::test(flavor = "multi_thread")]
async fn a_core_program_has_the_directory_that_was_opened_whatever_stands_at_its_path() {
    let node = node();
    let copy = "
        (call $must (call $open (i32.const 200) (i32.const 4) (i32.const 0)))
        (i32.store (i32.const 24) (i32.const 1000)) (i32.store (i32.const 28) (i32.const 64))
        (call $must (call $read (call $opened) (i32.const 24) (i32.const 1) (i32.const 28)))
        (call $must (call $write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 8)))";
    let start = mounted(&node, "swapped", copy, true);
    let (shared, aside) = (node.dir.path().join("shared"), node.dir.path().join("aside"));
    std::fs::write(shared.join("file"), "its own\n").unwrap();
    let foreign = node.dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("file"), "foreign\n").unwrap();
    std::fs::rename(&shared, &aside).unwrap();
    std::os::unix::fs::symlink(&foreign, &shared).unwrap();
    assert_eq!(node.run(start).await.code, 0);
    assert_eq!(node.log("swapped"), "its own\n");
}

/// Calls that would change what is mounted, by its paths.
fn of_the_mount() -> Vec<(&'static str, String)> {
    let open = |oflags: i32, rights: i64| {
        format!(
            "(call $exit (call $path_open (i32.const 3) (i32.const 1) (i32.const 200) (i32.const 4)
                (i32.const {oflags}) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 16)))"
        )
    };
    vec![
        (
            "rename",
            "(call $exit (call $rename (i32.const 3) (i32.const 200) (i32.const 4)
            (i32.const 3) (i32.const 220) (i32.const 3)))"
                .to_owned(),
        ),
        (
            "link",
            "(call $exit (call $link (i32.const 3) (i32.const 0) (i32.const 200) (i32.const 4)
            (i32.const 3) (i32.const 220) (i32.const 3)))"
                .to_owned(),
        ),
        (
            "symlink",
            "(call $exit (call $symlink (i32.const 200) (i32.const 4)
            (i32.const 3) (i32.const 220) (i32.const 3)))"
                .to_owned(),
        ),
        (
            "mkdir",
            "(call $exit (call $mkdir (i32.const 3) (i32.const 220) (i32.const 3)))".to_owned(),
        ),
        (
            "unlink",
            "(call $exit (call $unlink (i32.const 3) (i32.const 200) (i32.const 4)))".to_owned(),
        ),
        (
            "times",
            "(call $exit (call $set_times (i32.const 3) (i32.const 0) (i32.const 200)
            (i32.const 4) (i64.const 0) (i64.const 0) (i32.const 5)))"
                .to_owned(),
        ),
        ("truncate", open(8, 2)),
        ("truncate-to-write", open(8, 66)),
        ("open-to-write", open(0, 64)),
        (
            "create",
            "(call $exit (call $open (i32.const 220) (i32.const 3) (i32.const 1)))".to_owned(),
        ),
    ]
}

/// Calls that would change it by what was opened in it.
fn of_what_is_open() -> Vec<(&'static str, String)> {
    let sub = |call: &str| format!("{OPEN_SUB} (call $exit {call})");
    let file = |call: &str| {
        format!(
            "(call $must (call $open (i32.const 200) (i32.const 4) (i32.const 0))) (call $exit {call})"
        )
    };
    vec![
        ("set-size", file("(call $set_size (call $opened) (i64.const 0))")),
        ("write", file("(call $write (call $opened) (i32.const 24) (i32.const 1) (i32.const 8))")),
        ("sub-unlink", sub("(call $unlink (call $opened) (i32.const 200) (i32.const 4))")),
        ("sub-rmdir", sub("(call $rmdir (call $opened) (i32.const 310) (i32.const 5))")),
        ("sub-mkdir", sub("(call $mkdir (call $opened) (i32.const 220) (i32.const 3))")),
        (
            "sub-out",
            sub("(call $rename (call $opened) (i32.const 200) (i32.const 4)
            (i32.const 3) (i32.const 220) (i32.const 3))"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_mount_stays_as_it_is_whatever_is_called() {
    let node = node();
    let shared = node.dir.path().join("shared");
    let make = || {
        std::fs::create_dir_all(shared.join("sub/inner")).unwrap();
        std::fs::write(shared.join("file"), "hello\n").unwrap();
        std::fs::write(shared.join("sub/file"), "below\n").unwrap();
    };
    make();
    let before = all_of(&shared);
    let list =
        "(i32.store (i32.const 24) (i32.const 100)) (i32.store (i32.const 28) (i32.const 6))";
    let code = async |name: &str, call: &str, read_only: bool| {
        with_mount(&node, name, &format!("{list} {call}"), read_only).await
    };
    for (name, call) in of_the_mount().into_iter().chain(of_what_is_open()) {
        let refused = code(name, &call, true).await;
        assert!((1..100).contains(&refused), "{name}: {refused}");
        assert_eq!(all_of(&shared), before, "{name}");
        // What was opened to be read is written to nowhere; all the rest would have changed it.
        if !matches!(name, "set-size" | "write") {
            let done = code(&format!("{name}-writable"), &call, false).await;
            assert_eq!(done, 0, "{name} on a mount that may be written to");
            std::fs::remove_dir_all(&shared).unwrap();
            make();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out_of_a_directory_that_was_opened() {
    let node = node();
    let shared = node.dir.path().join("shared");
    std::fs::create_dir_all(shared.join("sub/inner")).unwrap();
    std::fs::write(shared.join("file"), "x").unwrap();
    std::fs::write(node.dir.path().join("secret"), "x").unwrap();
    let from_sub = |path: i32, len: i32| {
        format!(
            "{OPEN_SUB}
             (call $exit (call $path_open (call $opened) (i32.const 1) (i32.const {path})
                (i32.const {len}) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))"
        )
    };
    for (name, path, len) in
        [("file", 270, 7), ("secret", 290, 12), ("dots", 280, 2), ("inner", 310, 16)]
    {
        let code = with_mount(&node, name, &from_sub(path, len), false).await;
        assert_eq!(code, 63, "{name}: EPERM");
    }
    let stat = format!(
        "{OPEN_SUB} (call $exit (call $stat (call $opened) (i32.const 1) (i32.const 280) (i32.const 2)
            (i32.const 1000)))"
    );
    assert_eq!(with_mount(&node, "stat", &stat, false).await, 63);
    // As far as there is something: the same calls within.
    let within = from_sub(310, 5);
    assert_eq!(with_mount(&node, "within", &within, false).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mount_counts_as_the_descriptors_that_it_has() {
    let node = node();
    let main = "
        (call $must (call $open (i32.const 200) (i32.const 4) (i32.const 1)))
        (call $must (call $close (i32.const 3)))
        (i32.store (i32.const 24) (i32.const 100)) (i32.store (i32.const 28) (i32.const 6))
        (call $must (call $write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 8)))
        (loop $on (br $on))";
    let mut start = mounted(&node, "many", main, false);
    let Mount { dir, .. } = start.1.remove(0);
    let mount = |number: usize| {
        let guest = format!("/data/{number}");
        Mount { dir: dir.clone(), guest, read_only: false }
    };
    start.1 = (0..100).map(mount).collect();
    drop(dir);
    // Other tests of this process open theirs meanwhile.
    let own = node.dir.path().canonicalize().unwrap();
    let is_own = |at: PathBuf| std::fs::read_link(at).is_ok_and(|to| to.starts_with(&own));
    let open = || {
        let all = std::fs::read_dir("/proc/self/fd").unwrap();
        all.filter(|descriptor| is_own(descriptor.as_ref().unwrap().path())).count()
    };
    let before = open();
    let id = node.start(start);
    node.logged("many", "hello").await;
    // The container's, the program's, and the file. Closing its handle of a mount closes no mount.
    assert_eq!(node.fabric.files().used(), 201);
    assert!(before + 201 <= open(), "{before} {}", open());
    node.runtime.stop(&id, Duration::ZERO);
    assert_eq!(node.exited(&id).await.code, 137);
    nothing_is_held(&node).await;
}

/// A pod whose container has the key `k` of a ConfigMap at `/data/file`.
fn with_single_file() -> PodV1 {
    let name = || "one".to_owned();
    let from = ProjectedV1 {
        kind: Kind::CONFIG_MAP_V1,
        name: name(),
        items: vec![],
        mode: 0o644,
        optional: false,
    };
    let mount = MountV1 {
        volume: name(),
        path: "/data/file".to_owned(),
        sub_path: "k".to_owned(),
        read_only: false,
    };
    let container = ContainerV1 {
        name: name(),
        image: String::new(),
        module: ModuleV1::Missing(String::new(), String::new()),
        args: vec![],
        env_from: vec![],
        env: vec![],
        ports: vec![],
        mounts: vec![mount],
        memory_limit: None,
        cpu_limit_milli: None,
        requests: (None, None),
        sidecar: false,
        working_dir: String::new(),
        http: HttpV1::default(),
    };
    PodV1 {
        uid: name(),
        namespace: name(),
        name: name(),
        node: name(),
        labels: vec![],
        annotations: vec![],
        service_account: name(),
        hostname: name(),
        subdomain: String::new(),
        restart: RestartPolicy::Never,
        priority: 0,
        grace_seconds: 0,
        deadline_seconds: None,
        deleting: None,
        service_links: false,
        host_aliases: vec![],
        init: vec![],
        containers: vec![container],
        volumes: vec![VolumeV1 { name: name(), source: VolumeSourceV1::Config(from) }],
        parts: Parts::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_program_reads_a_single_file_and_changes_nothing() {
    let node = node();
    let (pod, data, files) = (with_single_file(), node.dir.path(), DiskFiles::default());
    let config =
        |_: Kind, _: &str| Some(ConfigV1 { data: vec![("k".to_owned(), b"single\n".to_vec())] });
    let around = EnvSources {
        pod: &pod,
        ip: [10, 64, 0, 5].into(),
        host_ip: [127, 0, 0, 1].into(),
        allocatable: Allocatable::default(),
        storage: &[],
        config: &config,
        services: &Vec::new,
    };
    volumes::plan(&around).write(&files, data).unwrap();
    let run = async |name: &str, main: &str| {
        let mut start = start(&node, name, main);
        start.1 = volumes::mounts(&files, data, &pod, &pod.containers[0]).unwrap();
        let shown = start.1[0].dir.path().join("file");
        (node.run(start).await.code, std::fs::read_to_string(shown).unwrap())
    };
    let copy = "
        (call $must (call $open (i32.const 200) (i32.const 4) (i32.const 0)))
        (i32.store (i32.const 24) (i32.const 1000)) (i32.store (i32.const 28) (i32.const 64))
        (call $must (call $read (call $opened) (i32.const 24) (i32.const 1) (i32.const 28)))
        (call $must (call $write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 8)))";
    assert_eq!(run("copy", copy).await.0, 0);
    assert_eq!(node.log("copy"), "single\n");
    for (name, call) in [
        ("anew", "(call $open (i32.const 200) (i32.const 4) (i32.const 1))"),
        ("unlink", "(call $unlink (i32.const 3) (i32.const 200) (i32.const 4))"),
        ("beside", "(call $open (i32.const 220) (i32.const 3) (i32.const 1))"),
        ("out", "(call $open (i32.const 210) (i32.const 9) (i32.const 0))"),
    ] {
        let (code, text) = run(name, &format!("(call $exit {call})")).await;
        assert!((1..100).contains(&code), "{name}: {code}");
        assert_eq!(text, "single\n", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_file_calls_of_one_pod_hold_up_no_other() {
    let node = node();
    let open = |name: i32, len: i32| {
        format!("(call $exit (call $open (i32.const {name}) (i32.const {len}) (i32.const 0)))")
    };
    // Whoever opens it for reading waits until somebody opens it for writing.
    let slow: Vec<_> = (0..9)
        .map(|number| {
            let mut start = mounted(&node, "slow", &open(230, 5), true);
            start.0.id.container = format!("c{number}");
            start.0.log = node.dir.path().join(format!("c{number}.log"));
            start
        })
        .collect();
    let shared = node.dir.path().join("shared");
    let made = std::process::Command::new("mkfifo").arg(shared.join("large")).status();
    assert!(made.unwrap().success());
    std::fs::write(shared.join("file"), "at once").unwrap();
    let slow: Vec<_> = slow.into_iter().map(|start| node.start(start)).collect();
    // Of each its mount, the program's own handle of that, and the file that it waits for.
    let all_wait = async {
        while node.fabric.files().used() < 3 * slow.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::SOON, all_wait).await.unwrap();
    assert_eq!(with_mount(&node, "other", &open(200, 4), true).await, 0);
    let _writer = std::fs::File::options().read(true).write(true).open(shared.join("large"));
    for id in &slow {
        assert_eq!(node.exited(id).await.code, 0, "{id:?}");
    }
    nothing_is_held(&node).await;
}
