//! What is logged of a session says which one it is.

use crate::said::Said;
use crate::support::*;

#[tokio::test]
async fn what_is_logged_of_a_session_says_which_it_is() {
    let said = Said::begin();
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (link, session) = hub.spoke("pi-7").await;
    drop(session);
    link.close(code::STOPPING, "enough");
    let ended = || !said.lines("a session ended").is_empty();
    eventually("the session has ended", ended).await;
    for text in ["a spoke is in session", "a session ended"] {
        let lines = said.lines(text);
        let [line] = &lines[..] else { panic!("{lines:?}") };
        for part in ["session{cluster=pi-7 peer=127.0.0.1:", " instance=", " epoch=1}"] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}
