//! What accounts hold and refuse.

use std::sync::Barrier;

use super::*;

#[test]
fn what_is_taken_over_is_held_once() {
    let (node, held) = (MemoryAccount::node(), |held: &Held| held.bytes());
    let mut place = MemoryAccount::within(&node, Level::Pod, None).take(70).unwrap();
    let taken = place.take_all();
    assert_eq!((held(&place), held(&taken), node.used()), (0, 70, 70));
    drop(place);
    assert_eq!(node.used(), 70);
    drop(taken);
    assert_eq!(node.used(), 0);
}

#[test]
fn what_is_refused_above_is_counted_nowhere() {
    let node = MemoryAccount::node();
    node.set_limit(100);
    let pod = MemoryAccount::within(&node, Level::Pod, Some(80));
    let container = MemoryAccount::within(&pod, Level::Container, None);
    let held = container.take(70).unwrap();
    assert_eq!((container.used(), pod.used(), node.used()), (70, 70, 70));
    let full = container.take(20).unwrap_err();
    assert_eq!(full, Full { level: Level::Pod, limit: 80, wanted: 90, more: 20 });
    assert_eq!((container.used(), pod.used(), node.used()), (70, 70, 70));
    let other = MemoryAccount::within(&node, Level::Pod, None);
    assert_eq!(other.take(40).unwrap_err().level, Level::Node);
    assert_eq!(other.used(), 0);
    assert!(other.has_room_for(30) && !other.has_room_for(31));
    drop(held);
    assert_eq!((container.used(), pod.used(), node.used()), (0, 0, 0));
}

#[test]
fn who_has_a_share_leaves_others_theirs() {
    let node = MemoryAccount::node();
    node.set_limit(64);
    let greedy = || {
        let pod = MemoryAccount::within(&node, Level::Pod, Some(256));
        let held: Vec<_> = std::iter::from_fn(|| pod.take_share(1, 4).ok()).collect();
        (pod, held)
    };
    let first = greedy();
    assert_eq!(first.0.used(), 32, "half of all");
    assert_eq!(greedy().0.used(), 16, "and of what is left");
    let second = greedy();
    let others: Vec<_> = (0..3).map(|_| greedy()).collect();
    let used: Vec<_> = others.iter().map(|(pod, _)| pod.used()).collect();
    assert_eq!((second.0.used(), used), (16, vec![8, 4, 4]), "the last takes its least");
    let full = first.0.take_share(1, 4).unwrap_err();
    assert_eq!((full.level, full.limit), (Level::Pod, 32));
}

#[test]
fn a_place_that_grows_leaves_others_theirs() {
    let node = MemoryAccount::node();
    node.set_limit(64);
    let pod = MemoryAccount::within(&node, Level::Pod, Some(256));
    let mut held = pod.nothing();
    let most = (1..).take_while(|files| held.set_share(*files, 4).is_ok()).last();
    assert_eq!((most, held.bytes(), node.used()), (Some(32), 32, 32));
    node.set_limit(40);
    held.set_share(20, 4).unwrap();
    assert!(held.set_share(21, 4).is_err(), "what is left has become less");
    assert_eq!((held.bytes(), node.used()), (20, 20));
}

#[test]
fn what_is_held_grows_shrinks_and_goes() {
    let node = MemoryAccount::node();
    node.set_limit(100);
    let mut held = node.nothing();
    held.set(60).unwrap();
    held.set(20).unwrap();
    assert!(held.set(101).is_err());
    assert_eq!((held.bytes(), node.used()), (20, 20));
    // What is bounded elsewhere counts also where there is no room.
    node.count(200);
    assert!(held.set(21).is_err());
    node.give_back(200);
    drop(held);
    assert_eq!(node.used(), 0);
}

#[test]
fn what_is_set_apart_is_nobody_else_s() {
    let node = MemoryAccount::node();
    node.set_limit(100);
    let pod = MemoryAccount::within(&node, Level::Pod, Some(80));
    let mut apart = pod.set_apart(70).unwrap();
    assert_eq!((pod.used(), node.used()), (70, 0));
    assert_eq!(pod.take(20).unwrap_err().level, Level::Pod);
    assert!(apart.set(81).is_err());
    let held = pod.take(10).unwrap();
    apart.set(60).unwrap();
    assert_eq!((pod.used(), node.used()), (70, 10));
    drop(apart);
    assert_eq!((pod.used(), node.used()), (10, 10));
    drop(held);
    assert_eq!((pod.used(), node.used()), (0, 0));
}

#[tokio::test]
async fn a_mark_is_heard_of_when_it_is_reached() {
    use futures::FutureExt as _;
    let node = MemoryAccount::node();
    let pod = MemoryAccount::within(&node, Level::Pod, None);
    let held = pod.take(60).unwrap();
    node.reach(60).now_or_never().expect("it was reached before");
    let mut waits = Box::pin(node.reach(100));
    assert!((&mut waits).now_or_never().is_none());
    let more = pod.take(39).unwrap();
    assert!((&mut waits).now_or_never().is_none());
    drop(more);
    // In one step far beyond it.
    let _more = pod.take(1000).unwrap();
    waits.now_or_never().expect("it is reached");
    drop(held);
}

#[test]
fn what_gives_way_goes_before_anybody_is_refused() {
    use parking_lot::Mutex;
    let node = MemoryAccount::node();
    node.set_limit(100);
    let pod = MemoryAccount::within(&node, Level::Pod, Some(90));
    let idle = Arc::new(Mutex::new(Some(node.take(40).unwrap())));
    let gives = idle.clone();
    node.gives_way(move || gives.lock().take().is_some());
    assert_eq!(pod.take(91).unwrap_err().level, Level::Pod, "it is the pod's own limit");
    assert!(idle.lock().is_some());
    let held = pod.take(80).unwrap();
    assert!(idle.lock().is_none());
    assert_eq!(node.take(30).unwrap_err().wanted, 110, "there is no more of it");
    drop(held);
    *idle.lock() = Some(node.take(40).unwrap());
    assert!(pod.has_room_for(80));
    assert!(!node.make_room());
}

#[test]
fn a_limit_is_lowered_only_to_what_is_held_and_holds_from_then_on() {
    let node = MemoryAccount::node();
    node.set_limit(100);
    let held = node.take(60).unwrap();
    assert!(!node.lower_limit(59) && node.take(40).is_ok());
    assert!(node.lower_limit(60) && node.take(1).is_err());
    drop(held);
    // Of two that come at one moment one is refused.
    let turn = Barrier::new(2);
    let mut both = (0, 0);
    std::thread::scope(|threads| {
        let takes = threads.spawn(|| {
            let mut taken = Vec::new();
            for _ in 0..2000 {
                turn.wait();
                let held = node.take(60);
                taken.push(held.is_ok());
                turn.wait();
                drop(held);
            }
            taken
        });
        let mut lowered = Vec::new();
        for _ in 0..2000 {
            node.set_limit(100);
            turn.wait();
            lowered.push(node.lower_limit(50));
            turn.wait();
        }
        for (taken, lowered) in takes.join().unwrap().into_iter().zip(lowered) {
            assert!(!(taken && lowered));
            both = (both.0 + u32::from(taken), both.1 + u32::from(lowered));
        }
    });
    assert!(0 < both.0 + both.1, "{both:?}");
    assert_eq!(node.used(), 0);
}

#[test]
fn who_is_frozen_keeps_what_it_has_and_gets_no_more() {
    let node = MemoryAccount::node();
    let pod = MemoryAccount::within(&node, Level::Pod, None);
    let mut held = pod.take(60).unwrap();
    pod.freeze();
    assert_eq!(pod.take(1).unwrap_err().level, Level::Pod);
    held.set(50).unwrap();
    held.set(60).unwrap();
    assert!(node.take(1000).is_ok(), "nobody else is");
}
