//! Who is served when, in one level.

use std::collections::BTreeSet;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn queues(limit: u32, length: u32) -> Queues {
    let mut queues = Queues::default();
    let shape = Shape { queues: 64, hand_size: 1, length };
    queues.set(Duration::ZERO, Some(shape), limit);
    queues
}

/// Keeps something waiting of each flow, whose requests take so many seats for so long, for a while; answers the
/// seat-seconds of each.
fn share(limit: u32, flows: &[(u64, u32, Duration)]) -> Vec<f64> {
    let mut queues = queues(limit, 10_000);
    let (mut number, mut now, mut used) = (0, Duration::ZERO, vec![0.0; flows.len()]);
    let mut whose = BTreeMap::new();
    let mut ends: BTreeSet<(Duration, u64)> = BTreeSet::new();
    let mut granted = Vec::new();
    let mut ask = |queues: &mut Queues, now, at: usize, whose: &mut BTreeMap<u64, usize>| {
        number += 1;
        queues.ask(now, (number, flows[at].0), flows[at].1).unwrap();
        whose.insert(number, at);
    };
    for at in 0..flows.len() {
        (0..100).for_each(|_| ask(&mut queues, now, at, &mut whose));
    }
    while now < Duration::from_secs(20) {
        queues.serve(now, &mut granted);
        for number in granted.drain(..) {
            ends.insert((now + flows[whose[&number]].2, number));
        }
        let (end, over) = ends.pop_first().unwrap();
        now = end;
        assert_eq!(queues.leave(now, over), Some(true));
        let at = whose[&over];
        used[at] += seat_seconds(flows[at].1, flows[at].2);
        ask(&mut queues, now, at, &mut whose);
    }
    used
}

#[test]
fn queues_share_the_seats() {
    for flows in [
        [(1, 1, 10 * MS), (2, 1, 10 * MS)],
        [(1, 1, MS), (2, 1, 100 * MS)],
        [(1, 5, 10 * MS), (2, 1, 10 * MS)],
        [(1, 3, 200 * MS), (2, 1, 2 * MS)],
    ] {
        let used = share(10, &flows);
        let ratio = used[0] / used[1];
        assert!((0.8..1.25).contains(&ratio), "{flows:?}: {used:?}");
        assert!(126.0 < used[0] + used[1], "most seats are used: {used:?}");
    }
}

#[test]
fn a_wide_request_has_its_turn() {
    let (mut queues, mut granted) = (queues(4, 100), Vec::new());
    queues.ask(Duration::ZERO, (1, 1), 1).unwrap();
    queues.serve(Duration::ZERO, &mut granted);
    queues.ask(MS, (2, 2), 10).unwrap();
    queues.serve(MS, &mut granted);
    for number in 3..50 {
        queues.ask(2 * MS, (number, 1), 1).unwrap();
    }
    let mut now = 2 * MS;
    loop {
        queues.serve(now, &mut granted);
        if queues.is_served(2) {
            break;
        }
        now += MS;
        let over = granted.remove(0);
        queues.leave(now, over).unwrap();
        assert!(now < 60 * MS, "it has had no turn");
    }
    assert_eq!((queues.seats_in_use, queues.served()), (10, 1), "alone");
}

#[test]
fn a_flow_leaves_seats_for_others() {
    let (mut queues, mut granted) = (queues(40, 100), Vec::new());
    let mut number = 0;
    let mut served = |queues: &mut Queues, flow, count| {
        granted.clear();
        for _ in 0..count {
            number += 1;
            let _ = queues.ask(MS, (number, flow), 1);
            queues.serve(MS, &mut granted);
        }
        granted.len()
    };
    let many = [1, 2, 3].map(|flow| served(&mut queues, flow, 100));
    assert_eq!(many, [30, 2, 2]);
    for flow in 4..10 {
        assert_eq!(served(&mut queues, flow, 1), 1, "whoever has none is served");
    }
    assert_eq!((served(&mut queues, 10, 1), queues.seats_in_use), (0, 40));
}

#[test]
fn a_full_queue_refuses() {
    let (mut queues, mut granted) = (queues(1, 2), Vec::new());
    for number in 1..4 {
        queues.ask(Duration::ZERO, (number, 1), 1).unwrap();
        queues.serve(Duration::ZERO, &mut granted);
    }
    assert_eq!(queues.ask(MS, (4, 1), 1), Err(Refusal::QueueFull));
    queues.ask(MS, (5, 2), 1).unwrap();
    assert_eq!((granted.as_slice(), queues.waiting), (&[1][..], 3));
    assert_eq!(queues.leave(MS, 2), Some(false));
    queues.ask(MS, (6, 1), 1).unwrap();
    queues.leave(MS, 1).unwrap();
    queues.serve(MS, &mut granted);
    assert_eq!((granted.len(), queues.served()), (2, 1));
}

#[test]
fn without_queues_nobody_waits() {
    let mut queues = Queues::default();
    queues.set(Duration::ZERO, None, 2);
    queues.ask(MS, (1, 1), 1).unwrap();
    queues.ask(MS, (2, 1), 1).unwrap();
    assert_eq!(queues.ask(MS, (3, 2), 1), Err(Refusal::ConcurrencyLimit));
    queues.leave(MS, 1).unwrap();
    queues.ask(MS, (4, 2), 1).unwrap();
    assert_eq!(queues.leave(MS, 9), None);
}

#[test]
fn without_seats_nobody_is_served() {
    let (mut queues, mut granted) = (queues(0, 1), Vec::new());
    queues.ask(MS, (1, 1), 1).unwrap();
    queues.serve(MS, &mut granted);
    assert!(granted.is_empty() && queues.waiting == 1);
    queues.set(MS, None, 0);
    assert_eq!(queues.ask(MS, (2, 1), 1), Err(Refusal::ConcurrencyLimit));
}
