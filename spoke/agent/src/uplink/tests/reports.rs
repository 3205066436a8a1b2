//! An agent's reports over several sessions.

use super::*;
use crate::outbox::tests::pod;

/// What the agent does with what it hears of the session.
pub(super) fn take(outbox: &mut Outbox, input: &Input) {
    match input {
        Input::Connected(session) => outbox.connected(*session),
        Input::ReportsTaken(stamp) => outbox.acknowledged(*stamp),
        _ => {}
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_session_took_along_is_said_to_the_next_however_late_the_agent_hears_of_it() {
    let (first_hub, first) = memory_transport::pair();
    let (second_hub, second) = memory_transport::pair();
    let (third_hub, third) = memory_transport::pair();
    let mut bench = start_with(vec![third, second, first], 1);
    let mut outbox = Outbox::new(Arc::new(bench.handle.clone()), 1);
    let _served = welcome(&first_hub).await;
    take(&mut outbox, &input(&mut bench).await);
    take(&mut outbox, &input(&mut bench).await);
    // It goes into the first session and gets lost with it.
    outbox.pod(pod("a", ""));
    tokio::time::sleep(Duration::from_secs(1)).await;
    first_hub.close(0, "gone");
    let (_send, mut recv) = welcome(&second_hub).await;
    // The agent is busy, and does not know that its words go to another session.
    tokio::time::sleep(Duration::from_secs(1)).await;
    outbox.pod(pod("b", ""));
    let heard = timeout(Duration::from_secs(5), recv.next::<SpokeToHub>()).await;
    // What the hub would say is durable.
    let told = match heard.map(Result::unwrap) {
        Ok(Some(SpokeToHub::Report { stamp, .. })) => stamp,
        _ => ReportStamp::default(),
    };
    second_hub.close(0, "gone");
    let agent = async {
        loop {
            let next = input(&mut bench).await;
            let is_up = matches!(next, Input::Connected(Some(3)));
            take(&mut outbox, &next);
            if is_up {
                return;
            }
        }
    };
    let third = welcome_with(&third_hub, WelcomeV1 { durable_reports: told, ..greeting() });
    let ((_send, mut recv), ()) = tokio::join!(third, agent);
    let mut said = Vec::new();
    while said.len() < 2 {
        match soon(recv.next::<SpokeToHub>()).await.unwrap() {
            Some(SpokeToHub::Report { report: Report::Pod(pod), .. }) => said.push(pod.uid),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(said, ["a", "b"]);
}
