//! What the spoke says, and when.

use super::*;
use crate::message::ABILITIES;
use crate::names::ClusterName;
use crate::part::Parts;
use crate::plan::{Kind, Record, RecordKey};
use crate::report::testing::{event, node, pod};

const SECOND: Duration = Duration::from_secs(1);

fn generation(revision: u64) -> Generation {
    Generation { incarnation: 9, revision }
}

fn up() -> SpokeSession {
    let mut session = waiting();
    let welcome = WelcomeV1 {
        protocol: 1,
        abilities: ABILITIES,
        incarnation: 9,
        epoch: 1,
        heartbeat_seconds: 10,
        now: 0,
        durable_reports: ReportStamp::default(),
    };
    assert!(matches!(session.receive(HubToSpoke::Welcome(welcome)), Ok(Some(Effect::Welcome(_)))));
    session
}

fn waiting() -> SpokeSession {
    let hello = HelloV1 {
        protocols: PROTOCOLS,
        abilities: ABILITIES,
        cluster: ClusterName::try_from("pi-7").unwrap(),
        boot_epoch: 1,
        instance: 1,
        held: Generation::NONE,
        digest: SetDigest::default(),
        node: node(),
        parts: Parts::default(),
    };
    SpokeSession::new(&hello, Duration::ZERO)
}

fn record(key: &str, size: usize) -> Record {
    let key = RecordKey { realm: ClusterName::root(), kind: Kind::POD_V1, key: key.into() };
    Record { key, revision: 1, needs: 0, body: vec![1; size] }
}

fn piece(to: u64, part: u32, more: bool) -> PlanV1 {
    let (base, to) = (Generation::NONE, generation(to));
    let (put, remove) = (vec![record("a", 100)], Vec::new());
    PlanV1 { base, to, snapshot: false, part, more, cut: false, put, remove }
}

fn part(to: u64, part: u32, key: &str, more: bool) -> HubToSpoke {
    HubToSpoke::Plan(PlanV1 { put: vec![record(key, 100)], ..piece(to, part, more) })
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
    assert_eq!(session.receive(part(5, 0, "a", true)), Ok(None));
    match session.receive(part(5, 1, "b", false)) {
        Ok(Some(Effect::Plan(plan))) => assert_eq!(plan.put.len(), 2),
        other => panic!("{other:?}"),
    }
    assert_eq!(session.receive(part(6, 0, "a", true)), Ok(None));
    assert!(matches!(session.receive(part(7, 1, "b", false)), Err(Reason::Violation(_))));
    let mut session = up();
    assert!(matches!(session.receive(part(5, 1, "a", true)), Err(Reason::Violation(_))));
}

#[test]
fn a_plan_that_begins_takes_the_place_of_one_that_was_never_finished() {
    let mut session = up();
    let begun = PlanV1 { cut: true, ..piece(5, 0, true) };
    assert_eq!(session.receive(HubToSpoke::Plan(begun)), Ok(None));
    match session.receive(part(5, 0, "b", false)) {
        Ok(Some(Effect::Plan(plan))) => assert_eq!(plan.put, [record("b", 100)]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_in_pieces_is_put_together_and_must_go_on() {
    let first = PlanV1 { cut: true, ..piece(5, 0, true) };
    let mut session = up();
    session.receive(HubToSpoke::Plan(first.clone())).unwrap();
    let last = PlanV1 { put: vec![record("a", 7), record("b", 1)], ..piece(5, 1, false) };
    match session.receive(HubToSpoke::Plan(last)) {
        Ok(Some(Effect::Plan(plan))) => assert_eq!(plan.put, [record("a", 107), record("b", 1)]),
        other => panic!("{other:?}"),
    }
    let lies = [
        PlanV1 { put: vec![record("b", 1)], ..piece(5, 1, false) },
        PlanV1 { put: Vec::new(), ..piece(5, 1, false) },
        PlanV1 { cut: true, ..piece(5, 1, false) },
        PlanV1 { cut: true, put: Vec::new(), ..piece(5, 1, true) },
    ];
    for lie in lies {
        let mut session = up();
        session.receive(HubToSpoke::Plan(first.clone())).unwrap();
        assert!(matches!(session.receive(HubToSpoke::Plan(lie)), Err(Reason::Violation(_))));
    }
}

#[test]
fn a_plan_without_end_is_refused() {
    let mut session = up();
    let endless = PlanV1 { put: vec![record("a", 900_000)], ..piece(5, 0, true) };
    let part = |part| HubToSpoke::Plan(PlanV1 { part, ..endless.clone() });
    let refused = (0..100).find_map(|count| Some((count, session.receive(part(count)).err()?)));
    let Some((at, Reason::Violation(text))) = refused else { panic!("{refused:?}") };
    assert!(text.contains("more than"), "{text}");
    assert_eq!(at as usize, limits::PLAN_BYTES_MAX / 900_101);
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
fn as_many_pods_wait_as_a_plan_can_name() {
    let mut session = up();
    let least = record("", 0).weight() + "3f8a0c1e-5b1d-4c57-9c2e-0d3b8a7f6e21".len();
    let pods = (limits::PLAN_BYTES_MAX / least) as u64;
    for sequence in 0..pods {
        let gone = Report::PodGone { realm: ClusterName::root(), uid: sequence.to_string() };
        session.report(stamp(sequence), gone);
    }
    let sent = std::iter::from_fn(|| session.poll(SECOND).unwrap()).count();
    assert_eq!(sent as u64, pods);
}

#[test]
fn what_the_hub_cannot_keep_is_told() {
    let why = RefusalV1::new("RequestEntityTooLarge", "too large");
    let told = up().receive(HubToSpoke::ReportRefused(stamp(3), why.clone()));
    assert_eq!(told, Ok(Some(Effect::ReportRefused(stamp(3), why))));
}

#[test]
fn what_the_people_of_a_device_are_to_know_is_bounded() {
    let told = up().receive(HubToSpoke::Notice("x".repeat(5000)));
    assert_eq!(told, Ok(Some(Effect::Notice("x".repeat(1024)))));
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
    assert!(matches!(session.receive(part(5, 0, "a", false)), Err(Reason::Violation(_))));
    let mut session = up();
    let welcome = WelcomeV1 {
        protocol: 2,
        abilities: 0,
        incarnation: 9,
        epoch: 1,
        heartbeat_seconds: 10,
        now: 0,
        durable_reports: ReportStamp::default(),
    };
    assert!(matches!(session.receive(HubToSpoke::Welcome(welcome)), Err(Reason::Violation(_))));
    assert_eq!(waiting().receive(HubToSpoke::Welcome(welcome)), Err(Reason::Protocol(PROTOCOLS)));
    assert!(matches!(waiting().receive(HubToSpoke::Now(1)), Err(Reason::Violation(_))));
    assert_eq!(session.receive(HubToSpoke::Now(1)), Ok(Some(Effect::Now(1))));
}

#[test]
fn a_plan_on_a_foreign_base_is_answered_by_asking_for_everything() {
    let mut session = up();
    session.took(generation(3), SetDigest::default());
    session.poll(SECOND).unwrap();
    assert_eq!(session.receive(part(5, 0, "a", false)), Ok(None));
    let resync = SpokeToHub::Resync { generation: generation(3) };
    assert_eq!(session.poll(SECOND), Ok(Some(resync)));
}

#[test]
fn a_plan_may_build_on_what_runs_and_heartbeats_say_what_is_durable() {
    let mut session = up();
    session.took(generation(3), SetDigest::default());
    session.poll(SECOND).unwrap();
    let digest = SetDigest::default();
    session.runs(generation(5), digest);
    let runs = SpokeToHub::Runs { generation: generation(5), digest };
    assert_eq!(session.poll(SECOND), Ok(Some(runs)));
    assert_eq!(session.poll(SECOND), Ok(None), "it is said once");
    let beat = SpokeToHub::Heartbeat { generation: generation(3), digest };
    assert_eq!(session.beat(60 * SECOND), Some(beat));
    let mut next = part(6, 0, "a", false);
    if let HubToSpoke::Plan(plan) = &mut next {
        (plan.base, plan.snapshot) = (generation(5), false);
    }
    assert!(matches!(session.receive(next), Ok(Some(Effect::Plan(_)))));
    session.took(generation(6), digest);
    let took = SpokeToHub::Took { generation: generation(6), digest };
    assert_eq!(session.poll(SECOND), Ok(Some(took)));
    assert_eq!(session.poll(SECOND), Ok(None));
}
