//! Core programs that are stopped: nothing tells them, and they have their grace period as others have.

use std::time::Instant;

use super::*;

/// Sleeps for a millisecond.
const SLEEP: &str = "
    (i64.store (i32.const 1024) (i64.const 7)) (i64.store (i32.const 1032) (i64.const 0))
    (i32.store (i32.const 1040) (i32.const 1)) (i64.store (i32.const 1048) (i64.const 1000000))
    (i64.store (i32.const 1056) (i64.const 0)) (i64.store (i32.const 1064) (i64.const 0))
    (call $must (call $poll (i32.const 1024) (i32.const 1200) (i32.const 1) (i32.const 8)))";

/// Says that it runs.
const HELLO: &str = "
    (i32.store (i32.const 24) (i32.const 100)) (i32.store (i32.const 28) (i32.const 6))
    (call $must (call $write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 8)))";

#[tokio::test(flavor = "multi_thread")]
async fn a_core_program_that_is_stopped_may_finish_and_its_own_code_counts() {
    let node = node();
    let file = node.dir.path().join("shared/file");
    for (pod, code) in [("well", 0), ("badly", 3)] {
        // It is through when its file is there.
        let main = format!(
            "{HELLO} (loop $wait {SLEEP}
                (br_if $wait (call $open (i32.const 200) (i32.const 4) (i32.const 0))))
            (call $exit (i32.const {code}))"
        );
        let id = node.start(mounted(&node, pod, &main, true));
        node.logged(pod, "hello").await;
        node.runtime.stop(&id, Duration::from_secs(60));
        std::fs::write(&file, b"go").unwrap();
        let exit = node.exited(&id).await;
        assert_eq!((exit.code, exit.was_asked_to_stop), (code, false));
        std::fs::remove_file(&file).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_program_is_killed_when_its_grace_is_over_and_not_before() {
    let node = node();
    for (pod, body) in [("spin", ""), ("sleep", SLEEP)] {
        let main = format!("{HELLO} (loop $for_ever {body} (br $for_ever))");
        let id = node.start(start(&node, pod, &main));
        node.logged(pod, "hello").await;
        let asked = Instant::now();
        node.runtime.stop(&id, Duration::from_millis(300));
        assert_eq!(node.exited(&id).await.code, 137);
        assert!(Duration::from_millis(300) <= asked.elapsed(), "{pod}: {:?}", asked.elapsed());
    }
}
