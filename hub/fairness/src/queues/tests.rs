//! Who is served when, in one level.

use std::collections::BTreeSet;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn queues(limit: u32, length: u32) -> Queues {
    let mut queues = Queues::default();
    let shape = Shape { queues: 64, hand_size: 1, length };
    queues.set(Some(shape), limit);
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

/// A flow that always has something, and never much, gains nothing by it for later.
#[test]
fn who_asks_for_little_for_long_gains_no_credit() {
    let (mut queues, mut granted) = (queues(100, 10_000), Vec::new());
    let second = Duration::from_secs(1);
    // For ten minutes flow 2 uses what there is, and one request of flow 1 begins before the last one ends.
    queues.ask(Duration::ZERO, (1, 1), 1).unwrap();
    (1_000..1_099).for_each(|number| queues.ask(Duration::ZERO, (number, 2), 1).unwrap());
    queues.serve(Duration::ZERO, &mut granted);
    let (mut number, mut long, mut others) = (10_000, 1, (1_000..1_099).collect::<Vec<u64>>());
    for at in 1..600 {
        let now = at * second;
        let over: Vec<u64> = std::mem::take(&mut others);
        for one in &over {
            number += 1;
            others.push(number);
            queues.leave(now, *one).unwrap();
            queues.ask(now, (number, 2), 1).unwrap();
        }
        number += 1;
        queues.ask(now, (number, 1), 1).unwrap();
        queues.serve(now, &mut granted);
        queues.leave(now, long).unwrap();
        queues.serve(now, &mut granted);
        long = number;
    }
    // Then both want all of it.
    let now = 600 * second;
    let mut whose = BTreeMap::new();
    for (flow, count) in [(1, 4_000), (2, 4_000)] {
        for _ in 0..count {
            number += 1;
            whose.insert(number, flow);
            queues.ask(now, (number, flow), 1).unwrap();
        }
    }
    queues.leave(now, long).unwrap();
    others.iter().for_each(|one| assert!(queues.leave(now, *one).is_some()));
    let mut used = BTreeMap::<u64, u32>::new();
    for at in 0..20 {
        granted.clear();
        queues.serve(now + at * second, &mut granted);
        for one in &granted {
            *used.entry(whose[one]).or_default() += 1;
        }
        granted
            .iter()
            .for_each(|one| assert!(queues.leave(now + (at + 1) * second, *one).is_some()));
    }
    let ratio = f64::from(used[&1]) / f64::from(used[&2]);
    assert!((0.8..1.25).contains(&ratio), "{used:?}");
}

#[test]
fn who_may_have_no_more_seats_does_not_stop_time() {
    let (mut queues, mut granted) = (queues(100, 10_000), Vec::new());
    let (second, mut whose) = (Duration::from_secs(1), BTreeMap::new());
    let mut ask = |queues: &mut Queues, now, flow: u64, count| {
        for _ in 0..count {
            let number = whose.len() as u64;
            whose.insert(number, flow);
            queues.ask(now, (number, flow), 1).unwrap();
        }
    };
    // Flow 1 has what it may have for ten minutes and asks for more; flow 2 uses what is left.
    ask(&mut queues, Duration::ZERO, 1, 200);
    queues.serve(Duration::ZERO, &mut granted);
    assert_eq!(granted.len(), 75);
    ask(&mut queues, Duration::ZERO, 2, 5_000);
    let mut live = Vec::new();
    for at in 0..600 {
        granted.clear();
        live.drain(..).for_each(|one| assert!(queues.leave(at * second, one).is_some()));
        queues.serve(at * second, &mut granted);
        live.extend(&granted);
    }
    // Then it goes, and another one comes.
    ask(&mut queues, 600 * second, 3, 3_000);
    (0..200).for_each(|one| assert!(queues.leave(600 * second, one).is_some()));
    assert_eq!(queues.active(), 2);
    let mut used = BTreeMap::<u64, u32>::new();
    for at in 600..620 {
        granted.clear();
        live.drain(..).for_each(|one| assert!(queues.leave(at * second, one).is_some()));
        queues.serve(at * second, &mut granted);
        granted.iter().for_each(|one| *used.entry(whose[one]).or_default() += 1);
        live.extend(&granted);
    }
    let ratio = f64::from(used[&2]) / f64::from(used[&3]);
    assert!((0.8..1.25).contains(&ratio), "{used:?}");
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
fn who_has_none_is_served_behind_one_who_may_have_no_more() {
    let (mut queues, mut granted) = (Queues::default(), Vec::new());
    queues.set(Some(Shape { queues: 1, hand_size: 1, length: 50 }), 40);
    (0..32).for_each(|number| queues.ask(Duration::ZERO, (number, 1), 1).unwrap());
    queues.serve(Duration::ZERO, &mut granted);
    assert_eq!((granted.len(), queues.waiting), (30, 2));
    granted.clear();
    for (number, flow) in [(100, 2), (101, 3)] {
        queues.ask(MS, (number, flow), 1).unwrap();
        queues.serve(MS, &mut granted);
    }
    assert_eq!((granted.as_slice(), queues.waiting), (&[100, 101][..], 2));
    // Whoever has less than before goes on, in the order of coming.
    granted.clear();
    (0..3).for_each(|over| assert!(queues.leave(2 * MS, over).is_some()));
    queues.serve(2 * MS, &mut granted);
    assert_eq!(granted, [30]);
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
    queues.set(None, 2);
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
    queues.set(None, 0);
    assert_eq!(queues.ask(MS, (2, 1), 1), Err(Refusal::ConcurrencyLimit));
}
