//! By which IDs starts are known.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_last_end_says_which_start_it_was_of() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    let ids = |run: &Run| {
        let said = run.said("a").unwrap().containers.remove(0);
        (said.container_id, said.last_id)
    };
    let (first, none) = ids(&run);
    assert!(first.starts_with("freewheel://") && none.is_empty(), "{first} {none}");
    run.world.engine.end("web", 1);
    run.rest().await;
    let (second, last) = ids(&run);
    assert_eq!(run.running(), ["a web/1"]);
    assert_eq!((last, second != first), (first, true));
    run.world.engine.end("web", 1);
    run.rest().await;
    // While it waits, the last that there was is the one that ended.
    assert_eq!(ids(&run), (second.clone(), second.clone()));
    tokio::time::sleep(Duration::from_secs(12)).await;
    run.rest().await;
    assert_eq!(run.running(), ["a web/2"]);
    assert_eq!(ids(&run).1, second);
}
