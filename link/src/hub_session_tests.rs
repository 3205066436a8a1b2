//! What the hub says, and when.

use super::*;
use crate::message::{ABILITIES, Protocols};
use crate::part::Parts;
use crate::plan::Kind;
use crate::report::testing::node;

const SECOND: Duration = Duration::from_secs(1);

fn generation(revision: u64) -> Generation {
    Generation { incarnation: 9, revision }
}

fn set(records: &[(&str, usize)]) -> Arc<RecordSet> {
    let record = |(key, size): &(&str, usize)| Record {
        key: RecordKey { realm: ClusterName::root(), kind: Kind::POD_V1, key: (*key).into() },
        revision: 1,
        needs: 0,
        body: vec![7; *size],
    };
    Arc::new(records.iter().map(record).collect())
}

fn hello(held: Generation, digest: SetDigest) -> HelloV1 {
    let cluster = ClusterName::try_from("pi-7").unwrap();
    HelloV1 {
        protocols: PROTOCOLS,
        abilities: ABILITIES,
        cluster,
        boot_epoch: 1,
        instance: 1,
        held,
        digest,
        node: node(),
        parts: Parts::default(),
    }
}

fn welcome() -> WelcomeV1 {
    WelcomeV1 {
        protocol: 1,
        abilities: ABILITIES,
        incarnation: 9,
        epoch: 1,
        heartbeat_seconds: 10,
        now: 0,
        durable_reports: ReportStamp::default(),
    }
}

fn session(held: Generation, digest: SetDigest, known: Option<Held>) -> HubSession {
    let hello = hello(held, digest);
    let mut session = HubSession::accept(&hello, &hello.cluster, welcome(), known).unwrap();
    assert_eq!(session.poll(Duration::ZERO), Some(HubToSpoke::Welcome(welcome())));
    session
}

#[track_caller]
fn plan(session: &mut HubSession, now: Duration) -> PlanV1 {
    match session.poll(now) {
        Some(HubToSpoke::Plan(plan)) => plan,
        other => panic!("expected a plan, got {other:?}"),
    }
}

fn took(session: &mut HubSession, revision: u64, set: &RecordSet) -> Option<Effect> {
    let took = SpokeToHub::Took { generation: generation(revision), digest: set.digest() };
    session.receive(took, SECOND).unwrap()
}

#[test]
fn a_new_spoke_gets_everything_and_then_only_what_changes() {
    let mut session = session(Generation::NONE, SetDigest::default(), None);
    let first = set(&[("a", 1), ("b", 1)]);
    session.want(generation(5), first.clone());
    let plan_1 = plan(&mut session, SECOND);
    assert!(plan_1.snapshot && !plan_1.more && plan_1.put.len() == 2);
    assert_eq!(took(&mut session, 5, &first), Some(Effect::Acked(generation(5))));

    let second = set(&[("a", 1), ("c", 1)]);
    session.want(generation(6), second);
    let plan_2 = plan(&mut session, SECOND);
    assert_eq!((plan_2.snapshot, plan_2.base, plan_2.to), (false, generation(5), generation(6)));
    assert_eq!((plan_2.put.len(), plan_2.remove.len()), (1, 1));
}

#[test]
fn a_slow_spoke_gets_the_newest_plan_and_no_queue() {
    let mut session = session(Generation::NONE, SetDigest::default(), None);
    let first = set(&[("a", 1)]);
    session.want(generation(1), first.clone());
    plan(&mut session, SECOND);
    for revision in 2..1000 {
        session.want(generation(revision), set(&[("a", 1), ("b", 1)]));
        assert_eq!(session.poll(SECOND), None);
    }
    took(&mut session, 1, &first);
    assert_eq!(plan(&mut session, SECOND).to, generation(999));
    assert_eq!(session.poll(SECOND), None);
}

#[test]
fn a_returning_spoke_without_change_gets_nothing_and_can_go_on_from_there() {
    let same = set(&[("a", 1)]);
    let mut session = session(generation(5), same.digest(), None);
    session.want(generation(9), same);
    assert_eq!(session.poll(SECOND), None);
    assert_eq!(session.reached(), generation(9), "what the newest asks for it holds");
    session.want(generation(10), set(&[("a", 1), ("b", 1)]));
    let plan = plan(&mut session, SECOND);
    assert_eq!((plan.snapshot, plan.base, plan.put.len()), (false, generation(5), 1));
}

#[test]
fn a_base_that_nobody_remembers_leads_to_a_snapshot() {
    let old = set(&[("a", 1)]);
    let new = set(&[("b", 1)]);
    let mut forgotten = session(generation(5), old.digest(), None);
    forgotten.want(generation(9), new.clone());
    assert!(plan(&mut forgotten, SECOND).snapshot);

    let held = Held::of(generation(5), &*old);
    let mut known = session(generation(5), old.digest(), Some(held));
    known.want(generation(9), new.clone());
    assert!(!plan(&mut known, SECOND).snapshot);

    let restored = Generation { incarnation: 8, revision: 5 };
    let mut other_life = session(restored, new.digest(), None);
    other_life.want(generation(1), new);
    assert!(plan(&mut other_life, SECOND).snapshot);
}

#[test]
fn drift_in_a_heartbeat_is_healed_by_a_snapshot() {
    let mut session = session(Generation::NONE, SetDigest::default(), None);
    let wanted = set(&[("a", 1)]);
    session.want(generation(5), wanted.clone());
    plan(&mut session, SECOND);
    took(&mut session, 5, &wanted);
    let beat = |digest| SpokeToHub::Heartbeat { generation: generation(5), digest };
    assert_eq!(session.receive(beat(wanted.digest()), SECOND), Ok(None));
    let late = SpokeToHub::Heartbeat { generation: generation(4), digest: SetDigest::default() };
    assert_eq!(session.receive(late, SECOND), Ok(None), "a late datagram is no drift");
    let drifted = session.receive(beat(set(&[("z", 1)]).digest()), SECOND);
    assert_eq!(drifted, Ok(Some(Effect::Drifted)));
    session.want(generation(5), wanted);
    assert!(plan(&mut session, SECOND).snapshot);
}

#[test]
fn a_plan_without_an_answer_is_sent_whole_again() {
    let mut session = session(Generation::NONE, SetDigest::default(), None);
    session.want(generation(5), set(&[("a", 1)]));
    plan(&mut session, SECOND);
    assert_eq!(session.poll(PLAN_TIMEOUT), None);
    assert!(plan(&mut session, SECOND + PLAN_TIMEOUT).snapshot);
}

#[test]
fn a_large_plan_comes_in_parts_that_fit_a_frame() {
    let mut session = session(Generation::NONE, SetDigest::default(), None);
    let names: Vec<String> = (0..40).map(|i| format!("r{i:02}")).collect();
    let records: Vec<(&str, usize)> = names.iter().map(|n| (n.as_str(), 60_000)).collect();
    session.want(generation(5), set(&records));
    let mut put = 0;
    loop {
        let part = plan(&mut session, SECOND);
        put += part.put.len();
        let more = part.more;
        assert!(
            crate::frame::encode(&HubToSpoke::Plan(part)).unwrap().len()
                <= limits::PART_BYTES_MAX + 1024
        );
        if !more {
            break;
        }
    }
    assert_eq!(put, 40);
}

/// What a spoke makes of all that a hub has to say about this set.
fn carried(records: &[(&str, usize)]) -> crate::message::PlanV1 {
    let mut hub = session(Generation::NONE, SetDigest::default(), None);
    let mut spoke = crate::spoke_session::SpokeSession::new(
        &hello(Generation::NONE, SetDigest::default()),
        Duration::ZERO,
    );
    spoke.receive(HubToSpoke::Welcome(welcome())).unwrap();
    hub.want(generation(5), set(records));
    for _ in 0..10_000 {
        let part = plan(&mut hub, SECOND);
        let sent = crate::frame::encode(&HubToSpoke::Plan(part)).unwrap();
        assert!(sent.len() <= limits::PART_BYTES_MAX + 1024, "{}", sent.len());
        let mut decoder = crate::frame::Decoder::default();
        decoder.push(&sent);
        let heard = spoke.receive(decoder.next_message().unwrap().unwrap()).unwrap();
        if let Some(crate::spoke_session::Effect::Plan(plan)) = heard {
            assert_eq!(hub.poll(SECOND), None);
            return *plan;
        }
    }
    panic!("the plan has no end");
}

#[test]
fn a_record_of_any_size_that_a_hub_makes_is_carried() {
    let largest = limits::RECORD_BYTES_MAX - limits::RECORD_OVERHEAD_BYTES - 1;
    for size in [
        0,
        limits::PART_BYTES_MAX,
        limits::API_DATA_BYTES_MAX,
        limits::FRAME_BYTES_MAX,
        1_500_000,
        largest,
    ] {
        let plan = carried(&[("a", 10), ("b", size), ("c", 10)]);
        let sizes: Vec<usize> = plan.put.iter().map(|record| record.body.len()).collect();
        assert_eq!(sizes, [10, size, 10]);
        assert!(plan.put.iter().all(|record| record.body.iter().all(|byte| *byte == 7)));
    }
}

#[test]
fn all_that_a_spoke_may_hold_is_carried_at_once() {
    let names: Vec<String> = (0..31).map(|i| format!("r{i:02}")).collect();
    let mut records: Vec<(&str, usize)> = names.iter().map(|n| (n.as_str(), 1 << 20)).collect();
    let rest = limits::PLAN_BYTES_MAX - 31 * ((1 << 20) + limits::RECORD_OVERHEAD_BYTES + 3);
    records.push(("z", rest - limits::RECORD_OVERHEAD_BYTES - 1));
    assert_eq!(carried(&records).put.len(), 32);
}

#[test]
fn a_plan_that_takes_long_to_send_is_not_taken_for_lost() {
    let mut session = session(Generation::NONE, SetDigest::default(), None);
    session.want(generation(5), set(&[("a", 3 << 20)]));
    let mut now = SECOND;
    while plan(&mut session, now).more {
        now += SECOND * 20;
    }
    assert!(PLAN_TIMEOUT * 5 < now);
    assert_eq!(session.poll(now + PLAN_TIMEOUT), None, "it may still be on the way to the wire");
    assert!(plan(&mut session, now + PLAN_TIMEOUT * 6).snapshot);
}

#[test]
fn who_greets_wrongly_gets_the_reason() {
    let mut greeting = hello(Generation::NONE, SetDigest::default());
    let other = ClusterName::try_from("pi-8").unwrap();
    let greet = |hello: &HelloV1, certified: &ClusterName| {
        HubSession::<RecordSet>::accept(hello, certified, welcome(), None).err()
    };
    assert_eq!(greet(&greeting, &other), Some(Reason::NotYou("pi-8".into())));
    let me = greeting.cluster.clone();
    greeting.node.labels = vec![("a".into(), "b".into()); 65];
    assert!(matches!(greet(&greeting, &me), Some(Reason::Violation(_))));
    greeting.protocols = Protocols { least: 2, most: 3 };
    assert_eq!(greet(&greeting, &me), Some(Reason::Protocol(PROTOCOLS)));
    greeting.protocols = Protocols { least: 0, most: 9 };
    greeting.node.labels.clear();
    assert_eq!(greet(&greeting, &me), None, "one version is spoken by both");
}

#[test]
fn an_older_report_is_dropped() {
    let mut session = session(Generation::NONE, SetDigest::default(), None);
    let report = |sequence| SpokeToHub::Report {
        stamp: ReportStamp { boot_epoch: 1, sequence },
        report: Report::Node(node()),
    };
    assert!(matches!(session.receive(report(2), SECOND), Ok(Some(Effect::Report(..)))));
    assert_eq!(session.receive(report(2), SECOND), Ok(None));
    assert_eq!(session.receive(report(1), SECOND), Ok(None));
}

#[test]
fn a_second_greeting_is_a_violation() {
    let mut session = session(Generation::NONE, SetDigest::default(), None);
    let hello = hello(Generation::NONE, SetDigest::default());
    let heard = session.receive(SpokeToHub::Hello(Box::new(hello)), SECOND);
    assert!(matches!(heard, Err(Reason::Violation(_))));
}

#[test]
fn a_session_is_quiet_until_something_is_wanted_and_again_when_it_is_taken() {
    let mut session = session(Generation::NONE, SetDigest::default(), None);
    assert!(session.is_quiet());
    let wanted = set(&[("a", 1)]);
    session.want(generation(5), wanted.clone());
    assert!(!session.is_quiet(), "it waits to be sent");
    plan(&mut session, SECOND);
    assert!(!session.is_quiet(), "it is on its way");
    took(&mut session, 5, &wanted);
    assert!(session.is_quiet());
    session.want(generation(6), wanted);
    assert_eq!(session.poll(SECOND), None);
    assert!(session.is_quiet(), "there was nothing new in it");
}

#[test]
fn a_spoke_that_makes_something_else_of_a_plan_is_not_sent_it_in_a_loop() {
    let mut session = session(Generation::NONE, SetDigest::default(), None);
    let wanted = set(&[("a", 1)]);
    session.want(generation(5), wanted.clone());
    let wrong = |session: &mut HubSession, now| {
        let took = SpokeToHub::Took { generation: generation(5), digest: SetDigest::default() };
        assert_eq!(session.receive(took, now), Ok(None));
    };
    plan(&mut session, SECOND);
    assert!(!session.is_late());
    wrong(&mut session, SECOND);
    assert!(plan(&mut session, SECOND).snapshot, "the base may have been mistaken");
    wrong(&mut session, SECOND);
    assert!(session.is_late());
    assert_eq!(session.poll(SECOND * 2), None, "it would do so again");
    let wake = session.wake().unwrap();
    assert!(SECOND + PLAN_TIMEOUT <= wake, "{wake:?}");
    assert!(plan(&mut session, wake).snapshot);
    assert_eq!(took(&mut session, 5, &wanted), Some(Effect::Acked(generation(5))));
    assert!(!session.is_late());
}

#[test]
fn a_spoke_that_takes_nothing_is_late_and_asked_less_and_less_often() {
    let mut session = session(Generation::NONE, SetDigest::default(), None);
    session.want(generation(5), set(&[("a", 1)]));
    let mut now = SECOND;
    let mut waits = Vec::new();
    for _ in 0..8 {
        plan(&mut session, now);
        let wake = session.wake().unwrap();
        waits.push(wake - now);
        now = wake;
    }
    assert!(session.is_late());
    assert_eq!(waits[0], PLAN_TIMEOUT);
    assert!(waits.is_sorted() && waits[7] == PLAN_TIMEOUT * 16, "{waits:?}");
}

#[test]
fn generations_never_fall_within_a_life() {
    let mut session = session(Generation::NONE, SetDigest::default(), None);
    let newest = set(&[("a", 1)]);
    session.want(generation(9), newest.clone());
    assert_eq!(plan(&mut session, SECOND).to, generation(9));
    // Somebody looked at the store before that, and says so only now.
    session.want(generation(8), set(&[("a", 0)]));
    took(&mut session, 9, &newest);
    assert_eq!(session.poll(SECOND), None);
    session.want(generation(8), set(&[("a", 0)]));
    assert_eq!(session.poll(SECOND), None);
    session.want(generation(10), set(&[("a", 2)]));
    assert_eq!(plan(&mut session, SECOND).to, generation(10));
}

#[test]
fn what_runs_and_is_not_durable_is_built_on_and_is_not_reached() {
    let runs = |session: &mut HubSession, revision: u64, set: &RecordSet| {
        let runs = SpokeToHub::Runs { generation: generation(revision), digest: set.digest() };
        session.receive(runs, SECOND).unwrap()
    };
    let sets = [set(&[("a", 1)]), set(&[("a", 1), ("b", 1)]), set(&[("b", 1)])];
    let mut session = session(generation(5), sets[0].digest(), None);
    session.want(generation(5), sets[0].clone());
    assert_eq!(session.poll(SECOND), None);
    session.want(generation(6), sets[1].clone());
    plan(&mut session, SECOND);
    assert_eq!(runs(&mut session, 6, &sets[1]), None);
    assert_eq!((session.reached(), session.agreed()), (generation(5), None));
    assert!(session.is_late(), "what is wanted is not done for good");
    // Heartbeats say what is durable, and that is no drift.
    let beat = SpokeToHub::Heartbeat { generation: generation(5), digest: sets[0].digest() };
    assert_eq!(session.receive(beat, SECOND), Ok(None));
    // The same with another number is not reached either.
    session.want(generation(7), sets[1].clone());
    assert_eq!(session.poll(SECOND), None);
    assert_eq!(session.reached(), generation(5));
    session.want(generation(8), sets[2].clone());
    let next = plan(&mut session, SECOND);
    assert_eq!((next.snapshot, next.base, next.to), (false, generation(6), generation(8)));
    assert_eq!(runs(&mut session, 8, &sets[2]), None);
    // The disk takes writes again.
    assert_eq!(took(&mut session, 8, &sets[2]), Some(Effect::Acked(generation(8))));
    assert!(!session.is_late());
    assert_eq!(session.reached(), generation(8));
    assert_eq!(session.agreed(), Some((generation(8), sets[2].digest())));
    // What it runs is something else than what was sent: only everything helps.
    session.want(generation(9), sets[1].clone());
    plan(&mut session, SECOND);
    assert_eq!(runs(&mut session, 4, &sets[0]), Some(Effect::Drifted));
    assert!(plan(&mut session, SECOND).snapshot);
}

#[test]
fn when_a_spoke_was_last_heard_is_known_from_the_greeting_on() {
    let mut session = session(generation(5), set(&[]).digest(), None);
    let began = welcome().now;
    assert_eq!(session.seen(), (began, began));
    session.note_heard(began + 10_000);
    assert_eq!(session.seen(), (began, began + 10_000));
}

#[test]
fn a_clock_that_is_set_is_told_once() {
    let empty = set(&[]);
    let mut session = session(generation(5), empty.digest(), None);
    let (hour, told) = (CLOCK_STEP_MIN.as_secs() * 1000, welcome().now);
    // By itself, it goes on, and somebody puts it right now and then.
    let later = SECOND + Duration::from_secs(86_400);
    session.keep_clock(told + 86_400_000 + hour / 2, later);
    assert_eq!(session.poll(later), None);
    for set in [told + 400 * 86_400_000, told] {
        session.keep_clock(set, later);
        assert_eq!(session.poll(later), Some(HubToSpoke::Now(set)));
        session.keep_clock(set + 10_000, later + SECOND * 10);
        assert_eq!(session.poll(later + SECOND * 10), None, "it is told once");
    }
}
