//! What the agent hears of instances of HTTP containers.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_out_of_memory_is_an_event_and_no_end() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    let id =
        |attempt| ContainerId { pod: "uid-a".to_owned(), container: "web".to_owned(), attempt };
    run.send(Input::InstanceOutOfMemory(id(7), 1)).await;
    assert!(!run.reasons().contains(&"OOMKilling".to_owned()), "another start's");
    run.send(Input::InstanceOutOfMemory(id(0), 1)).await;
    let event = run.events().pop().unwrap();
    assert_eq!(
        event,
        "Warning OOMKilling: Memory limit reached: an instance of the HTTP container web was ended with its request"
    );
    assert_eq!(run.running(), ["a web/0"]);
}
