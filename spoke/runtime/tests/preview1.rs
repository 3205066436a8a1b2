//! What core programs of WASI preview 1 are given, and what bounds them.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod bounds;
mod mounts;
mod stops;

use std::path::PathBuf;
use std::time::Duration;

use crate::support::{self, Node, Start, compile, compile_core, node};
use freewheel_spoke_agent::host_dir::HostDir;
use freewheel_spoke_agent::ports::Containers as _;
use freewheel_spoke_agent::volumes::Mount;
use freewheel_spoke_net::MAX_FILES;

/// What a program's text begins with: imports, a memory with a few words, and `open`, which opens a path of the first
/// mount for reading, or for reading and writing and anew, and gives the errno; the file is at 16.
const PRELUDE: &str = r#"
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_link" (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_remove_directory" (func $rmdir (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_filestat_set_times"
        (func $set_times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $set_size (param i32 i64) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_readdir" (func $readdir (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
    (memory (export "memory") 33)
    (data (i32.const 100) "hello\n")
    (data (i32.const 200) "file")
    (data (i32.const 210) "../secret")
    (data (i32.const 220) "out")
    (data (i32.const 230) "large")
    (data (i32.const 240) "/etc/passwd")
    (data (i32.const 260) "sub")
    (data (i32.const 270) "../file")
    (data (i32.const 280) "..")
    (data (i32.const 290) "../../secret")
    (data (i32.const 310) "inner/../../file")
    (func $open (param $path i32) (param $len i32) (param $new i32) (result i32)
        (call $path_open (i32.const 3) (i32.const 1) (local.get $path) (local.get $len)
            (select (i32.const 1) (i32.const 0) (local.get $new))
            (select (i64.const 66) (i64.const 2) (local.get $new)) (i64.const 0) (i32.const 0) (i32.const 16)))
    (func $opened (result i32) (i32.load (i32.const 16)))
    (func $must (param i32) (if (local.get 0) (then (call $exit (local.get 0)))))"#;

fn program(node: &Node, name: &str, main: &str) -> PathBuf {
    let text = format!(r#"(module {PRELUDE} (func (export "_start") {main}))"#);
    let artifact = node.dir.path().join(format!("{name}.cwasm"));
    compile_core(&wat::parse_str(text).unwrap(), &artifact);
    artifact
}

fn start(node: &Node, name: &str, main: &str) -> Start {
    node.container(name, &program(node, name, main))
}

/// Runs it; its exit code.
async fn code(node: &Node, name: &str, main: &str) -> i32 {
    node.run(start(node, name, main)).await.code
}

/// As [`start`], with a directory at `/data`.
fn mounted(node: &Node, name: &str, main: &str, read_only: bool) -> Start {
    let shared = node.dir.path().join("shared");
    std::fs::create_dir_all(&shared).unwrap();
    let mut start = start(node, name, main);
    let dir = HostDir::open(&shared).unwrap();
    start.1 = vec![Mount { dir, guest: "/data".to_owned(), read_only }];
    start
}

/// The errno with which the program ended; it is its code.
async fn with_mount(node: &Node, name: &str, main: &str, read_only: bool) -> i32 {
    node.run(mounted(node, name, main, read_only)).await.code
}

#[tokio::test(flavor = "multi_thread")]
async fn core_programs_end_with_their_own_codes() {
    let node = node();
    let end = async |name: &str, main: &str, code: i32, reason: &str| {
        let exit = node.run(start(&node, name, main)).await;
        assert_eq!((exit.code, exit.reason.as_str()), (code, reason), "{name}: {exit:?}");
    };
    end("returns", "", 0, "Completed").await;
    end("zero", "(call $exit (i32.const 0))", 0, "Completed").await;
    end("four", "(call $exit (i32.const 4))", 4, "Error").await;
    end("most", "(call $exit (i32.const 200))", 200, "Error").await;
    end("minus", "(call $exit (i32.const -1))", 255, "Error").await;
    end("trap", "unreachable", 134, "Error").await;
    node.logged("trap", "wasm backtrace").await;
    // The code of a trap may be its own as well.
    end("own", "(call $exit (i32.const 134))", 134, "Error").await;
    assert_eq!(node.log("own"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_program_has_arguments_a_log_a_clock_and_randomness() {
    let node = node();
    let main = "
        (call $must (call $args (i32.const 0) (i32.const 4)))
        (if (i32.ne (i32.load (i32.const 0)) (i32.const 2)) (then (call $exit (i32.const 100))))
        (call $must (call $clock (i32.const 0) (i64.const 1) (i32.const 8)))
        (if (i64.lt_u (i64.load (i32.const 8)) (i64.const 1600000000000000000))
            (then (call $exit (i32.const 101))))
        (call $must (call $clock (i32.const 1) (i64.const 1) (i32.const 8)))
        (call $must (call $random (i32.const 1000) (i32.const 64)))
        (i32.store (i32.const 24) (i32.const 100)) (i32.store (i32.const 28) (i32.const 6))
        (call $must (call $write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 8)))
        ;; Nothing is a socket.
        (if (i32.ne (call $accept (i32.const 1) (i32.const 0) (i32.const 8)) (i32.const 57))
            (then (call $exit (i32.const 102))))
        ;; A sleep of 1 ms.
        (i64.store (i32.const 1024) (i64.const 7)) (i64.store (i32.const 1032) (i64.const 0))
        (i32.store (i32.const 1040) (i32.const 1)) (i64.store (i32.const 1048) (i64.const 1000000))
        (i64.store (i32.const 1056) (i64.const 0)) (i64.store (i32.const 1064) (i64.const 0))
        (call $must (call $poll (i32.const 1024) (i32.const 1200) (i32.const 1) (i32.const 8)))
        (if (i32.ne (call $poll (i32.const 1024) (i32.const 65536) (i32.const 257) (i32.const 8))
                (i32.const 28)) (then (call $exit (i32.const 103))))";
    let mut start = start(&node, "world", main);
    start.0.args.push("one".to_owned());
    assert_eq!(node.run(start).await.code, 0);
    assert_eq!(node.log("world"), "hello\n");
}

/// Writes a subscription to a clock: relative, or absolute.
fn clock(at: i32, user: i64, id: i32, time: i64, absolute: i64) -> String {
    format!(
        "(i64.store (i32.const {at}) (i64.const {user})) (i64.store (i32.const {}) (i64.const 0))
        (i32.store (i32.const {}) (i32.const {id})) (i64.store (i32.const {}) (i64.const {time}))
        (i64.store (i32.const {}) (i64.const {absolute}))",
        at + 8,
        at + 16,
        at + 24,
        at + 40
    )
}

/// Writes a subscription to the file that is open.
fn file(at: i32, user: i64) -> String {
    format!(
        "(i64.store (i32.const {at}) (i64.const {user})) (i64.store (i32.const {}) (i64.const 1))
        (i32.store (i32.const {}) (call $opened))",
        at + 8,
        at + 16
    )
}

/// Waits for so many, and ends with 100 unless these are told: user, and what it is.
fn told(count: i32, expected: &[(i64, i32)]) -> String {
    told_first(count, expected, 0)
}

/// As [`told`], with so many behind them at the most.
fn told_first(count: i32, expected: &[(i64, i32)], more: usize) -> String {
    let must = |what: String, code: usize| {
        format!("(if (i32.eqz {what}) (then (call $exit (i32.const {code}))))")
    };
    let beyond = format!("(i32.sub (i32.load (i32.const 8)) (i32.const {}))", expected.len());
    let number = format!("(i32.le_u {beyond} (i32.const {more}))");
    let each = expected.iter().zip(1_i32..).map(|((user, kind), one)| {
        let at = 1200 + (one - 1) * 32;
        let same = format!(
            "(i32.and (i64.eq (i64.load (i32.const {at})) (i64.const {user}))
                (i32.eq (i32.load8_u (i32.const {})) (i32.const {kind})))",
            at + 10
        );
        must(same, 100 + one.unsigned_abs() as usize)
    });
    let each: String = each.collect();
    format!(
        "(call $must (call $poll (i32.const 1008) (i32.const 1200) (i32.const {count}) (i32.const 8)))
        {} {each}",
        must(number, 100)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_waits_for_a_file_needs_no_thread_but_its_pods() {
    let (node, lane) = support::node_and_lane();
    let open = "(call $must (call $open (i32.const 200) (i32.const 4) (i32.const 0)))";
    let far = 1 << 60;
    let own = format!("{open} {} {}", file(1008, 5), told(1, &[(5, 1)]));
    let before =
        format!("{open} {} {} {}", clock(1008, 6, 1, far, 0), file(1056, 5), told(2, &[(5, 1)]));
    let starts =
        [("own", own), ("before", before)].map(|(name, main)| mounted(&node, name, &main, true));
    std::fs::write(node.dir.path().join("shared/file"), "hello").unwrap();
    // What another pod's calls could hold while its card stands still.
    let (end, until) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let stuck = lane.spawn_blocking(move || {
        let _ = begin.send(());
        let _ended = until.recv();
    });
    begun.await.unwrap();
    let ids = starts.map(|start| node.start(start));
    let mut ends = Vec::new();
    for id in &ids {
        ends.push(tokio::time::timeout(Duration::from_secs(20), node.exited(id)).await);
    }
    drop(end);
    stuck.await.unwrap();
    for end in ends {
        assert_eq!(end.unwrap().code, 0);
    }
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_told_of_clocks_beside_files() {
    let node = node();
    let open = "(call $must (call $open (i32.const 200) (i32.const 4) (i32.const 0)))";
    let run = async |name: &str, main: String| {
        let start = mounted(&node, name, &format!("{open} {main}"), true);
        std::fs::write(node.dir.path().join("shared/file"), "hello").unwrap();
        node.run(start).await.code
    };
    // Standard output has room at once; clocks that are over are told with it, by whatever they were asked.
    let output =
        "(i64.store (i32.const 1056) (i64.const 8)) (i64.store (i32.const 1064) (i64.const 2))
        (i32.store (i32.const 1072) (i32.const 1))";
    for (name, id, time, absolute) in [("now", 1, 0, 0), ("past", 1, 1, 1), ("ago", 0, 1_000, 1)] {
        let over = format!(
            "{} {output} {}",
            clock(1008, 6, id, time, absolute),
            told(2, &[(8, 2), (6, 0)])
        );
        assert_eq!(run(name, over).await, 0, "{name}");
    }
    let three = format!("{} {output} {}", clock(1008, 6, 1, 1 << 60, 0), file(1104, 5));
    // The file is told as well where its turn has come by then.
    assert_eq!(run("three", format!("{three} {}", told_first(3, &[(8, 2)], 1))).await, 0);
    let strange = format!("{} {} {}", clock(1008, 6, 3, 0, 0), file(1056, 5), told(2, &[]));
    assert_eq!(run("strange", strange).await, 28, "EINVAL");
    let beyond = format!(
        "{} {} (call $exit (call $poll (i32.const 1008) (i32.const -64) (i32.const 2) (i32.const 8)))",
        clock(1008, 6, 1, 0, 0),
        file(1056, 5)
    );
    assert_eq!(run("beyond", beyond).await, 21, "EFAULT");
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn core_programs_are_bounded_as_components_are() {
    let node = node();
    let eat = "(loop $more (drop (memory.grow (i32.const 16))) (br $more))";
    let mut eater = start(&node, "eater", eat);
    eater.0.memory_limit = Some(32 << 20);
    let exit = node.run(eater).await;
    assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"), "{exit:?}");
    let mut tiny = start(&node, "tiny", "");
    tiny.0.memory_limit = Some(1 << 20);
    let exit = node.run(tiny).await;
    assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"), "{exit:?}");
    let id = node.start(start(&node, "spin", "(loop $on (br $on))"));
    node.started(&id).await;
    node.runtime.stop(&id, Duration::ZERO);
    assert_eq!(node.exited(&id).await.code, 137);
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_program_reaches_its_mounts_and_nothing_else() {
    let node = node();
    std::fs::write(node.dir.path().join("secret"), "x").unwrap();
    let write = "
        (call $must (call $open (i32.const 200) (i32.const 4) (i32.const 1)))
        (i32.store (i32.const 24) (i32.const 100)) (i32.store (i32.const 28) (i32.const 6))
        (call $must (call $write (call $opened) (i32.const 24) (i32.const 1) (i32.const 8)))
        (call $must (call $close (call $opened)))";
    assert_eq!(with_mount(&node, "write", write, false).await, 0);
    let shared = node.dir.path().join("shared");
    assert_eq!(std::fs::read_to_string(shared.join("file")).unwrap(), "hello\n");
    let copy = "
        (call $must (call $open (i32.const 200) (i32.const 4) (i32.const 0)))
        (i32.store (i32.const 24) (i32.const 1000)) (i32.store (i32.const 28) (i32.const 64))
        (call $must (call $read (call $opened) (i32.const 24) (i32.const 1) (i32.const 28)))
        (call $must (call $write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 8)))";
    assert_eq!(with_mount(&node, "copy", copy, true).await, 0);
    assert_eq!(node.log("copy"), "hello\n");
    // EPERM, by upstream's word for all that is not allowed.
    let new = |path: i32, len: i32, new: i32| {
        format!("(call $exit (call $open (i32.const {path}) (i32.const {len}) (i32.const {new})))")
    };
    assert_ne!(with_mount(&node, "ro", &new(220, 3, 1), true).await, 0);
    assert!(!shared.join("out").exists());
    let unlink = "(call $exit (call $unlink (i32.const 3) (i32.const 200) (i32.const 4)))";
    assert_ne!(with_mount(&node, "ro-unlink", unlink, true).await, 0);
    assert!(shared.join("file").exists());
    assert_eq!(with_mount(&node, "up", &new(210, 9, 0), false).await, 63);
    assert_eq!(with_mount(&node, "absolute", &new(240, 11, 0), false).await, 63);
    std::os::unix::fs::symlink("../secret", shared.join("out")).unwrap();
    assert_eq!(with_mount(&node, "symlink", &new(220, 3, 0), false).await, 63);
    // Without a mount there is no directory at all.
    let none = "(call $exit (call $prestat (i32.const 3) (i32.const 8)))";
    assert_eq!(code(&node, "none", none).await, 8);
    let two = "(call $must (call $prestat (i32.const 3) (i32.const 8)))
        (call $exit (call $prestat (i32.const 4) (i32.const 8)))";
    assert_eq!(with_mount(&node, "two", two, false).await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_read_comes_in_pieces_and_leaves_the_list_as_it_was() {
    let node = node();
    let main = "
        (call $must (call $open (i32.const 230) (i32.const 5) (i32.const 0)))
        (i32.store (i32.const 24) (i32.const 4096)) (i32.store (i32.const 28) (i32.const 2000000))
        (call $must (call $read (call $opened) (i32.const 24) (i32.const 1) (i32.const 8)))
        (if (i32.ne (i32.load (i32.const 8)) (i32.const 1048576)) (then (call $exit (i32.const 100))))
        (if (i32.ne (i32.load (i32.const 28)) (i32.const 2000000)) (then (call $exit (i32.const 101))))
        (call $must (call $read (call $opened) (i32.const 24) (i32.const 1) (i32.const 8)))
        (if (i32.ne (i32.load (i32.const 8)) (i32.const 451424)) (then (call $exit (i32.const 102))))";
    let start = mounted(&node, "long", main, false);
    std::fs::write(node.dir.path().join("shared/large"), vec![7; 1_500_000]).unwrap();
    assert_eq!(node.run(start).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_program_that_opens_files_is_told_when_its_pod_has_enough() {
    let node = node();
    // Opens and closes more than it may have; then opens until it may not, renumbers one over another, and has a
    // place again.
    let main = "(local $i i32) (local $first i32)
        (local.set $i (i32.const 1000))
        (loop $more
            (call $must (call $open (i32.const 200) (i32.const 4) (i32.const 1)))
            (call $must (call $close (call $opened)))
            (br_if $more (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
        (call $must (call $open (i32.const 200) (i32.const 4) (i32.const 1)))
        (local.set $first (call $opened))
        (loop $more
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $more (i32.eqz (call $open (i32.const 200) (i32.const 4) (i32.const 0)))))
        (if (i32.ne (call $open (i32.const 200) (i32.const 4) (i32.const 0)) (i32.const 33))
            (then (call $exit (i32.const 100))))
        (if (i32.lt_u (local.get $i) (i32.const 200)) (then (call $exit (i32.const 101))))
        (call $must (call $renumber (call $opened) (local.get $first)))
        (call $must (call $open (i32.const 200) (i32.const 4) (i32.const 0)))
        (call $must (call $clock (i32.const 0) (i64.const 1) (i32.const 8)))
        (i32.store (i32.const 24) (i32.const 100)) (i32.store (i32.const 28) (i32.const 6))
        (call $must (call $write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 8)))
        (loop $on (br $on))";
    let id = node.start(mounted(&node, "opener", main, false));
    node.logged("opener", "hello").await;
    let most = usize::try_from(MAX_FILES).unwrap();
    assert_eq!(node.fabric.files().used(), most, "as many as it may have, and no more");
    let told = format!("freewheel: the pod has {MAX_FILES} files open, as many as it may");
    assert_eq!(node.log("opener").matches(&told).count(), 1);
    // A neighbour has its own.
    let open = "(call $exit (call $open (i32.const 200) (i32.const 4) (i32.const 0)))";
    assert_eq!(with_mount(&node, "neighbour", open, true).await, 0);
    node.runtime.stop(&id, Duration::ZERO);
    assert_eq!(node.exited(&id).await.code, 137);
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_program_that_opens_files_leaves_its_neighbours_some() {
    let node = node();
    node.fabric.files().set_limit(64);
    let main = "(call $must (call $open (i32.const 200) (i32.const 4) (i32.const 1)))
        (loop $more (br_if $more (i32.eqz (call $open (i32.const 200) (i32.const 4) (i32.const 0)))))
        (call $must (call $clock (i32.const 0) (i64.const 1) (i32.const 8)))
        (i32.store (i32.const 24) (i32.const 100)) (i32.store (i32.const 28) (i32.const 6))
        (call $must (call $write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 8)))
        (loop $on (br $on))";
    let id = node.start(mounted(&node, "opener", main, false));
    node.logged("opener", "hello").await;
    assert_eq!(node.fabric.files().used(), 32, "half of what the node has");
    node.runtime.stop(&id, Duration::ZERO);
    assert_eq!(node.exited(&id).await.code, 137);
    nothing_is_held(&node).await;
}

/// Stores go with their tasks, a moment after the end was told.
async fn nothing_is_held(node: &Node) {
    let gone = async {
        while node.fabric.account().used() != node.runtime.described()
            || node.fabric.files().used() != 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::SOON, gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_module_that_cannot_run_says_why() {
    let node = node();
    let run = async |name: &str, wat: &str| {
        let artifact = node.dir.path().join(format!("{name}.cwasm"));
        compile_core(&wat::parse_str(wat).unwrap(), &artifact);
        let exit = node.run(node.container(name, &artifact)).await;
        assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"), "{exit:?}");
        exit.message
    };
    let said = run("library", r#"(module (memory (export "memory") 1))"#).await;
    assert!(said.contains("without a function `_start`"), "{said}");
    let said = run("bare", r#"(module (func (export "_start")))"#).await;
    assert!(said.contains("without an exported memory"), "{said}");
    let said = run("env", r#"(module (import "env" "x" (func)) (func (export "_start")))"#).await;
    assert_eq!(said, "module imports env x which no pod is given");
}
