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

#[tokio::test(start_paused = true)]
async fn who_is_turned_away_again_and_again_is_logged_once_a_minute() {
    let said = Said::begin();
    let hub = Hub::new(true).await;
    let accepted = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap();
    hub.accept("pi-7", false).await;
    for _ in 0..50 {
        let certificate = CertificateDer::from(accepted.certificate.clone());
        let link = hub.connect(ALPN_SESSION, Some(certificate));
        let mut session = greet(&*link, hello("pi-7")).await;
        assert_eq!(heard(&mut session).await, HubToSpoke::Goodbye(Reason::NotAccepted));
        link.close(code::STOPPING, "later");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let lines = said.lines("a session was ended");
    let warned = lines.iter().filter(|line| line.contains(" WARN ")).count();
    assert_eq!((lines.len(), warned), (50, 2), "{lines:?}");
}
