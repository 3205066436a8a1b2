//! How heads come, wait and rest, without a connection.

use freewheel_spoke_account::MemoryAccount;
use futures::FutureExt as _;

use super::*;

const LARGEST: usize = BUFFER_BYTES_MAX;

/// A connection over which so much has come, with what is written over it.
const FULL: usize = CONNECTION_BYTES_MAX;

/// One over which a byte has come.
const FIRST: usize = READ_BUFFER_BYTES_FIRST + 1 + WRITE_BUFFER_BYTES;

fn heads(limit: u64) -> (Arc<ContainerMemory>, Arc<RequestHeads>) {
    let memory = ContainerMemory::new(Some(limit), &MemoryAccount::node());
    (memory.clone(), RequestHeads::new(memory))
}

fn sent_away(leave: &[CancellationToken]) -> Vec<bool> {
    leave.iter().map(CancellationToken::is_cancelled).collect()
}

#[test]
fn a_head_is_counted_while_it_comes_and_a_body_is_not() {
    let (memory, heads) = heads(8 << 20);
    let head = || heads.place(CancellationToken::new());
    let first = head();
    assert_eq!(memory.used(), 0, "nothing is read for who says nothing");
    first.heard(1).unwrap();
    assert_eq!(memory.used(), FIRST);
    let (served, waiting) = first.is_whole();
    let head_of_one = READ_BUFFER_BYTES_FIRST + 1;
    assert_eq!(memory.used(), FIRST + head_of_one, "the head waits, and the next one is read");
    drop(waiting.unwrap());
    for _ in 0..100 {
        first.heard(READ_BUFFER_BYTES_FIRST).unwrap();
    }
    assert_eq!(memory.used(), FIRST, "a body is counted where it goes to");
    drop(served);
    first.heard(1 << 20).unwrap();
    assert_eq!(memory.used(), FULL, "hyper holds no more");
    let second = head();
    second.heard(1).unwrap();
    assert_eq!(memory.used(), FULL + FIRST);
    drop(first);
    drop(second);
    assert_eq!(memory.used(), 0);
}

#[test]
fn what_came_behind_a_request_is_counted_until_its_connection_ends() {
    let (memory, heads) = heads(8 << 20);
    let place = heads.place(CancellationToken::new());
    // A request and half of the next one.
    place.heard(LARGEST).unwrap();
    drop(place.is_whole());
    assert_eq!(memory.used(), FULL);
    place.heard(1).unwrap();
    drop(place.is_whole());
    assert_eq!(memory.used(), FULL, "hyper does not let go what it has read into");
    drop(place);
    // The same behind a body.
    let place = heads.place(CancellationToken::new());
    place.heard(1).unwrap();
    let (served, _) = place.is_whole();
    place.heard(LARGEST).unwrap();
    assert_eq!(memory.used(), FULL);
    drop(served);
    assert_eq!(memory.used(), FULL);
    drop(place);
    assert_eq!(memory.used(), 0);
}

#[test]
fn a_request_that_waits_keeps_its_place() {
    let (memory, heads) = heads(8 << 20);
    let places: Vec<_> = (0..40).map(|_| heads.place(CancellationToken::new())).collect();
    let (mut served, mut waiting) = (Vec::new(), Vec::new());
    for (index, place) in places.iter().enumerate() {
        place.heard(LARGEST).unwrap();
        // One that came with the request before it costs as much as it could.
        if index == 3 {
            drop(place.is_whole());
        }
        let (answer, place) = place.is_whole();
        served.push(answer);
        waiting.push(place);
    }
    let fit: Vec<bool> = waiting.iter().map(Option::is_some).collect();
    let expected: Vec<bool> = (0..40).map(|number| number < 16).collect();
    assert_eq!(fit, expected, "an eighth holds 16 of 64 KiB");
    assert_eq!(memory.used(), 40 * FULL + 16 * LARGEST);
    waiting.truncate(1);
    assert_eq!(memory.used(), 40 * FULL + LARGEST);
    served.truncate(39);
    places[39].heard(1).unwrap();
    assert!(places[39].is_whole().1.is_some());
}

#[test]
fn a_small_request_waits_as_what_its_connection_has_read_into() {
    let (memory, heads) = heads(8 << 20);
    let mut waiting = Vec::new();
    for _ in 0..40 {
        let place = heads.place(CancellationToken::new());
        place.heard(LARGEST).unwrap();
        drop(place.is_whole());
        for _ in 0..2 {
            place.heard(1).unwrap();
            drop(place.is_whole());
        }
        place.heard(1).unwrap();
        let (served, waits) = place.is_whole();
        if waits.is_some() {
            waiting.push((served, waits));
        }
    }
    assert_eq!(waiting.len(), 16, "an eighth holds 16 of 64 KiB");
    assert!(memory.used() <= 2 << 20, "{}", memory.used());
}

#[test]
fn what_comes_of_a_body_after_its_answer_has_begun_is_no_head() {
    let (memory, heads) = heads(8 << 20);
    let leave: Vec<_> = (0..40).map(|_| CancellationToken::new()).collect();
    let places: Vec<_> = leave.iter().map(|leave| heads.place(leave.clone())).collect();
    let place = &places[0];
    place.heard(1).unwrap();
    let (answer, _) = place.is_whole();
    let body = answer.clone();
    drop(answer);
    place.heard(1).unwrap();
    assert!(heads.open.lock().parts.is_empty());
    let (next, _) = place.is_whole();
    drop(body);
    place.heard(1).unwrap();
    for other in &places[1..] {
        other.heard(LARGEST).unwrap();
    }
    assert!(!leave[0].is_cancelled(), "the next one is served by now");
    drop(next);
    assert_eq!(heads.open.lock().parts.len(), 14, "now it makes room like any other");
    drop(places);
    assert_eq!(memory.used(), 0);
}

#[test]
fn who_has_not_taken_its_answer_makes_no_room() {
    let (memory, heads) = heads(8 << 20);
    let leave: Vec<_> = (0..40).map(|_| CancellationToken::new()).collect();
    let places: Vec<_> = leave.iter().map(|leave| heads.place(leave.clone())).collect();
    let place = &places[0];
    place.heard(1).unwrap();
    let (answer, _) = place.is_whole();
    answer.sends(None);
    drop(answer);
    for _ in 0..3 {
        place.heard(10 << 10).unwrap();
    }
    let counted = FIRST + (30 << 10);
    assert_eq!(memory.used(), counted, "all that has come behind the request");
    for other in &places[1..] {
        other.heard(LARGEST).unwrap();
    }
    assert_eq!((leave[0].is_cancelled(), memory.used()), (false, counted + 14 * FULL));
    assert!(!place.is_sent());
    let head = || {
        let head = heads.place(CancellationToken::new());
        head.heard(LARGEST).unwrap();
        head
    };
    let open = || heads.open.lock().parts.len();
    assert_eq!((leave[0].is_cancelled(), open()), (false, 14), "it is the newest head now");
    let heads_since: Vec<_> = (0..16).map(|_| head()).collect();
    assert!(leave[0].is_cancelled(), "and makes room like any other");
    // Where there is no room, those that are not served go before what comes behind an answer.
    let late = heads.place(CancellationToken::new());
    late.heard(1).unwrap();
    let (answer, _) = late.is_whole();
    answer.sends(None);
    drop(answer);
    let mut guest = memory.share();
    guest.set((8 << 20) - memory.used()).unwrap();
    let before = open();
    late.heard(LARGEST).unwrap();
    assert_eq!(open(), before - 1);
    drop(heads_since);
}

#[test]
fn who_has_taken_its_answer_rests() {
    let (memory, heads) = heads(8 << 20);
    let place = heads.place(CancellationToken::new());
    place.heard(1).unwrap();
    let (answer, _) = place.is_whole();
    let given = AnswerMemory::new(&http::HeaderMap::new(), memory.share()).unwrap();
    answer.sends(Some(given));
    drop(answer);
    assert!(heads.open.lock().parts.is_empty());
    assert!(FIRST + LARGEST < memory.used(), "hyper has what it could not write");
    assert!(!place.is_sent());
    assert!(heads.open.lock().longest_rest().is_some());
    assert_eq!(memory.used(), FIRST);
    // The same of one that goes before it has taken all.
    place.heard(1).unwrap();
    let (answer, _) = place.is_whole();
    let given = AnswerMemory::new(&http::HeaderMap::new(), memory.share()).unwrap();
    answer.sends(Some(given));
    drop((answer, place));
    assert_eq!(memory.used(), 0);
}

#[test]
fn what_hyper_keeps_of_an_answer_counts_with_its_connection() {
    let (memory, heads) = heads(8 << 20);
    let place = heads.place(CancellationToken::new());
    place.heard(1).unwrap();
    let mut fields = http::HeaderMap::new();
    fields.insert("x", http::HeaderValue::from_bytes(&[b'y'; 6 << 10]).unwrap());
    for bytes in [fields, http::HeaderMap::new()] {
        let (answer, _) = place.is_whole();
        answer.sends(Some(AnswerMemory::new(&bytes, memory.share()).unwrap()));
        drop(answer);
        assert!(!place.is_sent());
        let kept = memory.used() - FIRST;
        assert!((4 << 10..6 << 10).contains(&kept), "{kept}");
    }
    drop(place);
    assert_eq!(memory.used(), 0);
}

#[test]
fn the_next_request_waits_until_the_last_answer_has_gone_out() {
    let (memory, heads) = heads(8 << 20);
    let place = heads.place(CancellationToken::new());
    let may_ask = || place.has_sent().now_or_never().is_some();
    place.heard(1).unwrap();
    assert!(may_ask());
    let (answer, _) = place.is_whole();
    let given = AnswerMemory::new(&http::HeaderMap::new(), memory.share()).unwrap();
    answer.sends(Some(given));
    drop(answer);
    assert!(!may_ask() && FIRST + LARGEST < memory.used());
    assert!(place.is_sent(), "the next one has to be looked at");
    assert!(may_ask() && !place.is_sent());
    assert_eq!(memory.used(), FIRST);
}

#[test]
fn the_oldest_head_makes_room_for_the_newest() {
    let (memory, heads) = heads(8 << 20);
    let leave: Vec<_> = (0..40).map(|_| CancellationToken::new()).collect();
    let places: Vec<_> = leave.iter().map(|leave| heads.place(leave.clone())).collect();
    for place in &places {
        place.heard(LARGEST).unwrap();
        assert!(memory.used() <= 1 << 20, "{}", memory.used());
    }
    let expected: Vec<bool> = (0..40).map(|number| number < 26).collect();
    assert_eq!(sent_away(&leave), expected, "14 of 72 KiB stay");
    assert!(places[0].heard(1).is_err(), "what was sent away takes nothing more");
    let served = places[39].is_whole();
    places[26].heard(0).unwrap();
    drop(served.1);
    assert_eq!(memory.used(), 14 * FULL);
}

#[test]
fn heads_and_those_that_rest_leave_each_other_half() {
    let (memory, heads) = heads(8 << 20);
    let leave: Vec<_> = (0..40).map(|_| CancellationToken::new()).collect();
    let places: Vec<_> = leave.iter().map(|leave| heads.place(leave.clone())).collect();
    let (known, strangers) = places.split_at(7);
    for place in known {
        place.heard(LARGEST - READ_BUFFER_BYTES_FIRST).unwrap();
        drop(place.is_whole());
    }
    for place in strangers {
        place.heard(LARGEST).unwrap();
        assert!(memory.used() <= 1 << 20, "{}", memory.used());
    }
    let expected: Vec<bool> = (0..40).map(|number| (7..33).contains(&number)).collect();
    assert_eq!(sent_away(&leave), expected);
    // Few heads find room among many that rest.
    drop(places);
    let leave: Vec<_> = (0..20).map(|_| CancellationToken::new()).collect();
    let places: Vec<_> = leave.iter().map(|leave| heads.place(leave.clone())).collect();
    for place in &places[..18] {
        place.heard(LARGEST).unwrap();
        drop(place.is_whole());
    }
    places[5].heard(1).unwrap();
    drop(places[5].is_whole());
    places[18].heard(LARGEST).unwrap();
    places[19].heard(1).unwrap();
    let gone: Vec<usize> = (0..20).filter(|number| leave[*number].is_cancelled()).collect();
    assert_eq!(gone, [0, 1, 2, 3, 4, 6], "one has come back, and its rest is the shortest");
    assert!(places[4].heard(1).is_err());
    // A container that is full lets those go that rest, before it refuses.
    let mut guest = memory.share();
    guest.set((8 << 20) - memory.used()).unwrap();
    places[19].heard(READ_BUFFER_BYTES_FIRST).unwrap();
    assert!(leave[7].is_cancelled() && !leave[8].is_cancelled());
}

#[test]
fn a_whole_request_goes_before_half_heads() {
    let (memory, heads) = heads(8 << 20);
    let leave: Vec<_> = (0..22).map(|_| CancellationToken::new()).collect();
    let places: Vec<_> = leave.iter().map(|leave| heads.place(leave.clone())).collect();
    for place in &places[..12] {
        place.heard(LARGEST).unwrap();
    }
    // Instances were started for the rest. Three that wait have twice as much, and seven more are read into.
    let rest = 10 * FULL + 3 * LARGEST;
    memory.set_limit(rest);
    let waiting: Vec<_> = places[12..]
        .iter()
        .map(|place| {
            place.heard(LARGEST).unwrap();
            place.is_whole()
        })
        .collect();
    let waits = waiting.iter().filter(|(_, waiting)| waiting.is_some()).count();
    assert_eq!(waits, 3, "a quarter");
    assert!(
        sent_away(&leave[..12]).into_iter().all(|gone| gone),
        "these made room, the oldest first"
    );
    assert!(memory.used() <= rest);
    assert!(!sent_away(&leave[12..]).into_iter().any(|gone| gone), "and these are served");
}

#[test]
fn in_the_smallest_container_one_head_fits_and_a_full_one_takes_none() {
    let (memory, heads) = heads(FULL as u64);
    let first = heads.place(CancellationToken::new());
    first.heard(LARGEST / 2 - READ_BUFFER_BYTES_FIRST).unwrap();
    assert!(first.is_whole().1.is_some(), "with its head and what the next one is read into");
    drop(first);
    let mut guest = memory.share();
    guest.set(FULL).unwrap();
    let refused = heads.place(CancellationToken::new()).heard(1).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
    assert_eq!(memory.used(), FULL);
}
