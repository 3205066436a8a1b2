//! What is logged of a pod's start.

use super::*;

#[path = "../../../../../link/tests/said/mod.rs"]
mod said;

#[tokio::test(start_paused = true)]
async fn what_is_logged_of_a_pod_s_start_says_which_it_is() {
    let said = said::Said::begin();
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    let lines = said.lines("container starts");
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let whose = r#"pod{cluster=root namespace="default" name="a" uid="uid-a"}:"#;
    assert!(line.contains(whose), "{line}");
}
