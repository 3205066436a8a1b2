//! What a program may make the host hold.

use freewheel_spoke_agent::ports::ContainerId;
use freewheel_spoke_engine::GUEST_STACK_BYTES;

use super::*;

/// As [`mounted`], with so much memory.
fn with_memory(node: &Node, name: &str, main: &str, limit: u64) -> Start {
    let mut start = mounted(node, name, main, false);
    start.0.memory_limit = Some(limit);
    start
}

fn list(dir: i32) -> String {
    format!(
        "(call $exit (call $readdir (i32.const {dir}) (i32.const 4096) (i32.const 4096) (i64.const 0)
            (i32.const 8)))"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_names_of_a_large_directory_are_on_the_programs_memory() {
    let node = node();
    let name = |number: usize| format!("{number:0100}");
    let start = |pod: &str, list: &str| with_memory(&node, pod, list, 4 << 20);
    let few = start("few", &list(3));
    for number in 0..10 {
        std::fs::write(node.dir.path().join("shared").join(name(number)), "").unwrap();
    }
    assert_eq!(node.run(few).await.code, 0);
    for number in 0..20_000 {
        std::fs::write(node.dir.path().join("shared").join(name(number)), "").unwrap();
    }
    assert_eq!(node.run(start("many", &list(3))).await.code, 48, "ENOMEM");
    // It is nothing to the other directories that a program has.
    let mut both = start("both", &list(4));
    let small = node.dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let dir = HostDir::open(&small).unwrap();
    both.1.push(Mount { dir, guest: "/small".to_owned(), read_only: true });
    assert_eq!(node.run(both).await.code, 0);
    // What is no directory says so, however large it is.
    let file = "(call $must (call $open (i32.const 230) (i32.const 5) (i32.const 0)))
         (call $exit (call $readdir (call $opened) (i32.const 4096) (i32.const 4096) (i64.const 0) (i32.const 8)))";
    let large = std::fs::File::create(node.dir.path().join("shared/large")).unwrap();
    large.set_len(1 << 30).unwrap();
    assert_ne!(node.run(start("file", file)).await.code, 48);
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_of_what_the_programs_memory_holds() {
    let node = node();
    let read = "
        (call $must (call $open (i32.const 230) (i32.const 5) (i32.const 0)))
        (i32.store (i32.const 24) (i32.const 4096)) (i32.store (i32.const 28) (i32.const 1000000))
        (call $must (call $read (call $opened) (i32.const 24) (i32.const 1) (i32.const 8)))
        (call $exit (i32.div_u (i32.load (i32.const 8)) (i32.const 10000)))";
    let plenty = with_memory(&node, "plenty", read, 16 << 20);
    std::fs::write(node.dir.path().join("shared/large"), vec![7; 1_000_000]).unwrap();
    assert_eq!(node.run(plenty).await.code, 100, "as much as it asked for");
    // Its own memory is of 2.1 MiB.
    let little = with_memory(&node, "little", read, 3 << 20);
    assert_eq!(node.run(little).await.code, 6, "64 KiB");
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_waits_for_is_on_its_memory() {
    let node = node();
    // So many times: now; and then all at once.
    let wait = |count: i32| {
        format!(
            "(local $i i32)
            (loop $more
                (i64.store (i32.add (i32.const 65536) (local.get $i)) (i64.const 7))
                (i32.store (i32.add (i32.const 65552) (local.get $i)) (i32.const 1))
                (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 48)))
                    (i32.const 12288))))
            (call $exit (call $poll (i32.const 65536) (i32.const 131072) (i32.const {count}) (i32.const 8)))"
        )
    };
    let own = (33 << 16) + GUEST_STACK_BYTES as u64;
    let start =
        |name: &str, count, beside: u64| with_memory(&node, name, &wait(count), own + beside);
    assert_eq!(node.run(start("few", 4, 96 << 10)).await.code, 0);
    assert_eq!(node.run(start("many", 256, 96 << 10)).await.code, 48, "ENOMEM");
    assert_eq!(node.run(start("plenty", 256, 512 << 10)).await.code, 0);
    assert_eq!(node.run(start("beyond", 257, 512 << 10)).await.code, 28, "EINVAL");
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn randomness_comes_in_any_length_up_to_its_most() {
    let node = node();
    // The last of it are no zeros, and what is behind it is.
    let ask = |len: i32| {
        format!(
            "(call $must (call $random (i32.const 65536) (i32.const {len})))
            (if (i64.eqz (i64.load (i32.const {}))) (then (call $exit (i32.const 100))))
            (if (i64.ne (i64.load (i32.const {})) (i64.const 0)) (then (call $exit (i32.const 101))))",
            65536 + len - 8,
            65536 + len,
        )
    };
    for (name, len, expected) in [
        ("piece", 8 << 10, 0),
        ("some", 20_001, 0),
        ("most", 1 << 20, 0),
        ("beyond", (1 << 20) + 1, 28),
    ] {
        assert_eq!(code(&node, name, &ask(len)).await, expected, "{name}");
    }
    assert_eq!(
        code(&node, "none", "(call $exit (call $random (i32.const 0) (i32.const 0)))").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_beyond_all_is_refused() {
    let node = node();
    let fill = "(memory.fill (i32.const 100000) (i32.const 97) (i32.const 1000000))";
    let code = async |name: &str, call: &str| {
        with_mount(&node, name, &format!("{fill} (call $exit {call})"), false).await
    };
    let open = "(call $open (i32.const 100000) (i32.const 5000) (i32.const 0))";
    assert_eq!(code("open", open).await, 37, "ENAMETOOLONG");
    let unlink = "(call $unlink (i32.const 3) (i32.const 100000) (i32.const 1000000))";
    assert_eq!(code("unlink", unlink).await, 37);
    // Of more than two paths upstream says that it has no memory for them.
    let mkdir = "(call $mkdir (i32.const 3) (i32.const 100000) (i32.const 1000000))";
    assert_eq!(code("mkdir", mkdir).await, 48);
    let symlink = "(call $symlink (i32.const 100000) (i32.const 1000000)
        (i32.const 3) (i32.const 220) (i32.const 3))";
    assert_eq!(code("symlink", symlink).await, 48);
    let fits = "(call $symlink (i32.const 100000) (i32.const 4000)
        (i32.const 3) (i32.const 220) (i32.const 3))";
    assert_eq!(code("fits", fits).await, 0);
}

/// Runs until it is stopped; bytes on its memory while it runs.
async fn held(node: &Node, id: &ContainerId) -> usize {
    node.started(id).await;
    let used = node.runtime.usage(id).unwrap().1;
    node.runtime.stop(id, Duration::ZERO);
    assert_eq!(node.exited(id).await.code, 137);
    used
}

#[tokio::test(flavor = "multi_thread")]
async fn what_instances_take_beside_their_memories_is_memory() {
    let node = node();
    let globals = "(global (mut i32) (i32.const 1))".repeat(399_000);
    let text = format!(
        r#"(module {globals} (memory (export "memory") 1) (func (export "_start") (loop $on (br $on))))"#
    );
    let artifact = node.dir.path().join("globals.cwasm");
    compile_core(&wat::parse_str(text).unwrap(), &artifact);
    let start = |limit: u64| {
        let mut start = node.container(&format!("globals-{limit}"), &artifact);
        start.0.memory_limit = Some(limit);
        start
    };
    let used = held(&node, &node.start(start(16 << 20))).await;
    assert!((399_000 * 16..8 << 20).contains(&used), "{used} bytes were counted");
    let exit = node.run(start(4 << 20)).await;
    assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"), "{exit:?}");
    assert!(exit.message.contains("bytes that the module starts with"), "{exit:?}");
    // As often as they are made, in a component of hardly more bytes than one of them.
    let globals = "(global (mut i32) (i32.const 1))".repeat(10_000);
    let each = "(core instance (instantiate $g))".repeat(90);
    let text = format!(
        r#"(component
            (core module $g {globals}) {each}
            (core module $m (func (export "run") (result i32) (loop $on (br $on)) (unreachable)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $r (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $r)))"#
    );
    let artifact = node.dir.path().join("instances.cwasm");
    compile(&wat::parse_str(text).unwrap(), &artifact);
    let start = |limit: u64| {
        let mut start = node.container(&format!("instances-{limit}"), &artifact);
        start.0.memory_limit = Some(limit);
        start
    };
    let used = held(&node, &node.start(start(32 << 20))).await;
    assert!((90 * 160_000..20 << 20).contains(&used), "{used} bytes were counted");
    let exit = node.run(start(8 << 20)).await;
    assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"), "{exit:?}");
    nothing_is_held(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_while_an_instance_is_made_has_begun() {
    let node = node();
    let core = r#"(module (memory (export "memory") 1) (func $on (loop $on (br $on))) (start $on)
        (func (export "_start")))"#;
    let component = r#"(component
        (core module $m (func $on (loop $on (br $on))) (start $on)
            (func (export "run") (result i32) (i32.const 0)))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $r (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $r)))"#;
    let artifact = |name: &str| node.dir.path().join(format!("{name}.cwasm"));
    compile_core(&wat::parse_str(core).unwrap(), &artifact("core"));
    compile(&wat::parse_str(component).unwrap(), &artifact("component"));
    for name in ["core", "component"] {
        let id = node.start(node.container(name, &artifact(name)));
        node.started(&id).await;
        // It has its grace, and is killed after it as whoever does not hear.
        node.runtime.stop(&id, Duration::from_millis(50));
        let exit = node.exited(&id).await;
        assert_eq!((exit.code, exit.reason.as_str()), (137, "Error"), "{name}: {exit:?}");
    }
    nothing_is_held(&node).await;
}

#[test]
fn a_card_that_stands_still_holds_some_threads_and_not_all() {
    use freewheel_spoke_runtime::{FILE_TURNS, LogOptions};
    // One thread more than all that work with files may hold: that of the dial to the hub.
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(FILE_TURNS + 1)
        .enable_all()
        .build()
        .unwrap();
    control.block_on(async {
        let node = node();
        // Whoever opens one waits until somebody opens its other end.
        let [written, read, loaded] = ["written", "read", "loaded"].map(|name| {
            let card = node.dir.path().join(name);
            assert!(std::process::Command::new("mkfifo").arg(&card).status().unwrap().success());
            card
        });
        let hello = "
            (i32.store (i32.const 24) (i32.const 100)) (i32.store (i32.const 28) (i32.const 6))
            (call $must (call $write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 8)))";
        let logging = |number: usize| {
            let mut start = start(&node, &format!("log{number}"), hello);
            start.0.log.clone_from(&written);
            node.start(start)
        };
        let logging: Vec<_> = (0..9).map(logging).collect();
        for id in &logging {
            node.started(id).await;
        }
        let read_one = |_| node.runtime.logs(&read, LogOptions::default());
        let readers: Vec<_> = (0..9).map(read_one).collect();
        let load = |number: usize| node.start(node.container(&format!("load{number}"), &loaded));
        let loads: Vec<_> = (0..9).map(load).collect();
        let dial = tokio::task::spawn_blocking(|| "the hub");
        let dialled = tokio::time::timeout(support::SOON, dial).await;
        let ends = [&written, &read, &loaded].map(|card| {
            let end = std::fs::File::options().read(true).write(true).open(card).unwrap();
            std::fs::remove_file(card).unwrap();
            end
        });
        drop((readers, ends));
        // Only now: with threads that wait, a test that fails would never end.
        assert_eq!(dialled.unwrap().unwrap(), "the hub");
        for id in &loads {
            assert_ne!(node.exited(id).await.code, 0, "that was no module");
        }
        for id in &logging {
            assert_eq!(node.exited(id).await.code, 0);
        }
    });
    control.shutdown_background();
}
