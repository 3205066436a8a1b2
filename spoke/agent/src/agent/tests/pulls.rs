//! What is told about fetching modules: kubelet's words, and only what has happened.

use super::*;

const PULLING: &str = "Normal Pulling: Pulling image \"hello:1\"";
const PULLED: &str = "Normal Pulled: Successfully pulled image \"hello:1\"";
const PRESENT: &str = "Normal Pulled: Container image \"hello:1\" already present on machine";

impl Run {
    /// What was told about images, from the `from`th event on.
    fn about_images(&self, from: usize) -> Vec<String> {
        let about = |event: &String| event.contains("hello:1");
        self.events().into_iter().skip(from).filter(about).collect()
    }

    async fn fetched(&self, digest: Digest) {
        self.send(Input::Module(digest, Ok("/modules/hello.cwasm".into()))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_who_was_said_to_pull_is_said_to_have_pulled() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let hello = Digest::of(b"hello");
    run.world.modules.slow.lock().insert(hello);
    run.plan(vec![range(), pod_record(&pod("a")), pod_record(&pod("b"))], vec![]).await;
    assert_eq!(run.about_images(0), [PULLING], "one fetch serves both");
    run.fetched(hello).await;
    let mut told = run.about_images(0);
    told.sort();
    assert_eq!(told, [PRESENT, PULLED, PULLING]);

    let before = run.events().len();
    run.plan(vec![pod_record(&pod("c"))], vec![]).await;
    assert_eq!(run.about_images(before), [PRESENT], "it is there since the first pod");

    let before = run.events().len();
    run.world.engine.end("web", 1);
    tokio::time::sleep(Duration::from_secs(30)).await;
    run.rest().await;
    let told = run.about_images(before);
    assert!(!told.is_empty() && told.iter().all(|text| text == PRESENT), "{told:?}");
    run.end().await;
}
