//! What the spoke says, and when.

use super::*;
use crate::names::ClusterName;
use crate::plan::{Kind, Record, RecordKey};
use crate::report::testing::{event, node, pod};

const SECOND: Duration = Duration::from_secs(1);

fn generation(revision: u64) -> Generation {
    Generation { incarnation: 9, revision }
}

fn up() -> SpokeSession {
    let mut session = waiting();
    let welcome =
        WelcomeV1 { protocol: PROTOCOL, incarnation: 9, epoch: 1, heartbeat_seconds: 10, now: 0 };
    assert!(matches!(session.hear(HubToSpoke::Welcome(welcome)), Ok(Some(Effect::Welcome(_)))));
    session
}

fn waiting() -> SpokeSession {
    let hello = HelloV1 {
        protocol: PROTOCOL,
        cluster: ClusterName::try_from("pi-7").unwrap(),
        boot_epoch: 1,
        held: Generation::NONE,
        digest: SetDigest::default(),
        node: node(),
    };
    SpokeSession::new(&hello, Duration::ZERO)
}

fn part(to: u64, key: &str, more: bool) -> HubToSpoke {
    let key = RecordKey { realm: ClusterName::root(), kind: Kind::POD_V1, key: key.into() };
    let put = vec![Record { key, revision: 1, needs: 0, body: vec![1; 100] }];
    let (base, to) = (Generation::NONE, generation(to));
    HubToSpoke::Plan(PlanV1 { base, to, snapshot: false, more, put, remove: Vec::new() })
}

fn stamp(sequence: u64) -> ReportStamp {
    ReportStamp { boot_epoch: 1, sequence }
}

#[test]
fn a_hub_that_does_not_answer_is_left() {
    let mut session = waiting();
    assert_eq!(session.poll(SECOND), Ok(None));
    assert_eq!(session.poll(WELCOME_TIMEOUT), Err(Reason::Silent));
}

#[test]
fn heartbeats_come_every_ten_seconds_with_what_is_held() {
    let mut session = up();
    assert_eq!(session.beat(SECOND * 9), None);
    session.took(generation(5), SetDigest::default());
    let beat = SpokeToHub::Heartbeat { generation: generation(5), digest: SetDigest::default() };
    assert_eq!(session.beat(SECOND * 10), Some(beat));
    assert_eq!(session.beat(SECOND * 11), None);
    assert_eq!(session.next_beat(), Some(SECOND * 20));
    assert_eq!(session.wake(), None);
}

#[test]
fn a_plan_is_handed_on_when_its_last_part_has_come() {
    let mut session = up();
    assert_eq!(session.hear(part(5, "a", true)), Ok(None));
    match session.hear(part(5, "b", false)) {
        Ok(Some(Effect::Plan(plan))) => assert_eq!(plan.put.len(), 2),
        other => panic!("{other:?}"),
    }
    assert_eq!(session.hear(part(6, "a", true)), Ok(None));
    assert!(matches!(session.hear(part(7, "b", false)), Err(Reason::Violation(_))));
}

#[test]
fn a_plan_without_end_is_refused() {
    let mut session = up();
    let key = RecordKey { realm: ClusterName::root(), kind: Kind::POD_V1, key: "a".into() };
    let record = Record { key, revision: 1, needs: 0, body: vec![1; 900_000] };
    let endless = PlanV1 {
        base: Generation::NONE,
        to: generation(5),
        snapshot: true,
        more: true,
        put: vec![record],
        remove: Vec::new(),
    };
    let refused = (0..100).find_map(|_| session.hear(HubToSpoke::Plan(endless.clone())).err());
    assert!(matches!(refused, Some(Reason::Violation(_))));
}

#[test]
fn a_newer_report_of_the_same_pod_takes_the_older_ones_place() {
    let mut session = up();
    session.report(stamp(1), Report::Pod(pod("uid-1")));
    session.report(stamp(2), Report::Pod(pod("uid-2")));
    session.report(stamp(3), Report::Pod(pod("uid-1")));
    let sent: Vec<u64> = std::iter::from_fn(|| session.poll(SECOND).unwrap())
        .map(|message| match message {
            SpokeToHub::Report { stamp, .. } => stamp.sequence,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sent, [2, 3]);
}

#[test]
fn waiting_events_are_bounded_and_the_oldest_go_first() {
    let mut session = up();
    for sequence in 0..1000 {
        session.report(stamp(sequence), Report::Event(event()));
    }
    let left = std::iter::from_fn(|| session.poll(SECOND).unwrap()).count();
    assert_eq!(left, MAX_EVENTS);
}

#[test]
fn nothing_is_taken_before_the_welcome() {
    let mut session = waiting();
    assert!(matches!(session.hear(part(5, "a", false)), Err(Reason::Violation(_))));
    let mut session = up();
    let welcome =
        WelcomeV1 { protocol: 2, incarnation: 9, epoch: 1, heartbeat_seconds: 10, now: 0 };
    assert!(matches!(session.hear(HubToSpoke::Welcome(welcome)), Err(Reason::Violation(_))));
    assert_eq!(waiting().hear(HubToSpoke::Welcome(welcome)), Err(Reason::Protocol(2)));
}

#[test]
fn a_plan_on_a_foreign_base_is_answered_by_asking_for_everything() {
    let mut session = up();
    session.took(generation(3), SetDigest::default());
    session.poll(SECOND).unwrap();
    assert_eq!(session.hear(part(5, "a", false)), Ok(None));
    let resync = SpokeToHub::Resync { generation: generation(3) };
    assert_eq!(session.poll(SECOND), Ok(Some(resync)));
}
