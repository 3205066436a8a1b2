//! Who comes, who stays, and who has to go.

use std::future::pending;
use std::net::Ipv4Addr;

use freewheel_link::names::ClusterName;
use futures::FutureExt as _;
use tokio::task::JoinHandle;

use super::*;

fn slots(known: usize, strangers: usize) -> Arc<ConnectionSlots> {
    ConnectionSlots::new(known, strangers, Arc::default())
}

const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Until it is known what a handshake takes.
const GRACE: Duration = Duration::from_millis(500);

/// Somebody who stays until sent away.
pub(super) async fn come(
    slots: &Arc<ConnectionSlots>,
    known: bool,
) -> (Arc<ConnectionSlot>, JoinHandle<()>) {
    come_from(SOMEWHERE, slots, known.then_some(Sharer::in_root("ann"))).await
}

async fn come_from(
    from: IpAddr,
    slots: &Arc<ConnectionSlots>,
    known: Option<Sharer<'_>>,
) -> (Arc<ConnectionSlot>, JoinHandle<()>) {
    let place = slots.take(from).await;
    let slot = place.slot.clone();
    if let Some(who) = known {
        place.known(who);
    }
    let task = tokio::spawn(async move {
        let _place = place;
        pending::<()>().await;
    });
    slot.served_by(task.abort_handle());
    (slot, task)
}

#[tokio::test(start_paused = true)]
async fn the_oldest_stranger_that_asks_nothing_goes_and_the_known_stay() {
    let slots = slots(2, 2);
    let (_, known) = come(&slots, true).await;
    let grace = slots.held.lock().pace.grace();
    let (asks, first) = come(&slots, false).await;
    let _busy = asks.busy();
    let (_, second) = come(&slots, false).await;
    sleep(grace).await;
    let (_, third) = come(&slots, false).await;
    assert!(second.await.unwrap_err().is_cancelled());
    assert!(!first.is_finished() && !third.is_finished() && !known.is_finished());
}

#[tokio::test(start_paused = true)]
async fn who_has_just_come_is_let_be_and_the_next_waits() {
    let slots = slots(0, 1);
    let (_, first) = come(&slots, false).await;
    assert!(slots.take(SOMEWHERE).now_or_never().is_none());
    let start = Instant::now();
    let (_, second) = come(&slots, false).await;
    assert!(GRACE <= start.elapsed() && start.elapsed() < GRACE * 2);
    assert!(first.await.unwrap_err().is_cancelled());
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    let start = Instant::now();
    drop(slots.take(SOMEWHERE).await);
    assert_eq!(start.elapsed(), Duration::ZERO, "who leaves makes room at once");
}

/// How long each of those whom we know waits at most while strangers come, so many a second, who say nothing.
async fn waits(slots: &Arc<ConnectionSlots>, strangers: u64) -> Duration {
    let handshake = Duration::from_millis(5);
    let (line, mut door) = tokio::sync::mpsc::unbounded_channel::<(bool, Instant)>();
    let flood = tokio::spawn(async move {
        let start = Instant::now();
        let mut came = 0;
        for tick in 0..2_000 {
            // One of ten a second is of ours.
            line.send((tick % 100 == 0, Instant::now())).unwrap();
            while came * 1_000 < strangers * tick {
                line.send((false, Instant::now())).unwrap();
                came += 1;
            }
            tokio::time::sleep_until(start + Duration::from_millis(tick)).await;
        }
    });
    let mut longest = Duration::ZERO;
    while let Some((known, since)) = door.recv().await {
        let place = slots.take(SOMEWHERE).await;
        let slot = place.slot.clone();
        if known {
            longest = longest.max(since.elapsed());
        }
        let task = tokio::spawn(async move {
            sleep(handshake).await;
            if known {
                place.known(Sharer::in_root("ann"));
            }
            pending::<()>().await;
        });
        slot.served_by(task.abort_handle());
    }
    flood.await.unwrap();
    longest
}

#[tokio::test(start_paused = true)]
async fn those_whom_we_know_get_through_soon_while_strangers_flood() {
    let slots = slots(100, 1_024);
    let longest = waits(&slots, 5_000).await;
    assert!(longest < Duration::from_millis(200), "{longest:?}");
    let all_known = slots.held.lock().known.len();
    assert_eq!(all_known, 20, "none of them was sent away");
}

#[tokio::test(start_paused = true)]
async fn who_comes_alone_is_let_be_while_a_crowd_has_to_go() {
    let slots = slots(1, 8);
    let (_, alone) = come_from([192, 0, 2, 1].into(), &slots, None).await;
    let mut crowd = Vec::new();
    for last in 1..8 {
        crowd.push(come_from([198, 51, 100, last].into(), &slots, None).await.1);
    }
    for _ in 0..40 {
        let (_, next) = come_from([203, 0, 113, 1].into(), &slots, None).await;
        next.abort();
        crowd.push(come_from([198, 51, 100, 1].into(), &slots, None).await.1);
    }
    assert!(!alone.is_finished());
    let gone = crowd.iter().filter(|one| one.is_finished()).count();
    assert!(33 <= gone, "{gone}");
}

/// The same, by this name in this cluster.
async fn come_as(
    slots: &Arc<ConnectionSlots>,
    cluster: &str,
    name: &str,
) -> (Arc<ConnectionSlot>, JoinHandle<()>) {
    let cluster = ClusterName::try_from(cluster).unwrap();
    come_from(SOMEWHERE, slots, Some(Sharer::of(&cluster, name))).await
}

fn is_known(slot: &ConnectionSlot) -> bool {
    slot.known.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_all_places_of_the_known() {
    let (slots, mut came) = (slots(8, 64), Vec::new());
    for at in 0..20 {
        came.push(come_as(&slots, "pi-7", &format!("user-{at}")).await);
    }
    assert_eq!(came.iter().filter(|(slot, _)| is_known(slot)).count(), 6);
    let (admin, _task) = come_as(&slots, "root", "admin").await;
    assert!(is_known(&admin));
}

#[tokio::test(start_paused = true)]
async fn who_has_no_place_gets_one_of_those_who_have_most() {
    let (slots, mut came) = (slots(8, 64), Vec::new());
    for (cluster, count) in [("pi-7", 6), ("pi-8", 1), ("pi-9", 1)] {
        for at in 0..count {
            came.push(come_as(&slots, cluster, &format!("user-{at}")).await);
        }
    }
    let _busy = came[0].0.busy();
    let (next, _task) = come_as(&slots, "root", "admin").await;
    assert!(is_known(&next));
    let gone =
        came.iter().position(|(slot, _)| !slots.held.lock().known.contains_key(&slot.number));
    assert_eq!(gone, Some(1), "the oldest that asks nothing");
    assert!(came.remove(1).1.await.unwrap_err().is_cancelled());
    let (again, _task) = come_as(&slots, "pi-7", "user-1").await;
    assert!(!is_known(&again), "who has some gets nobody else's");
}

#[tokio::test(start_paused = true)]
async fn the_known_beyond_their_places_sit_among_the_strangers() {
    let slots = slots(1, 2);
    let (one, _first) = come(&slots, true).await;
    let (two, _second) = come(&slots, true).await;
    assert!(one.known.load(Ordering::Relaxed) && !two.known.load(Ordering::Relaxed));
    assert_eq!(slots.held.lock().strangers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn idle_is_who_neither_asks_nor_reads() {
    let (long, short) = (Duration::from_secs(90), Duration::from_secs(15));
    let slots = slots(1, 1);
    let place = slots.take(SOMEWHERE).await;
    let start = Instant::now();
    place.slot.idle_for(long, short).await;
    assert_eq!(start.elapsed().as_secs(), 15);
    place.known(Sharer::in_root("ann"));
    let start = Instant::now();
    let busy = place.slot.busy();
    let watch = timeout(Duration::from_secs(3600), place.slot.idle_for(long, short));
    assert!(watch.await.is_err(), "a watch may wait for its event");
    drop(busy);
    place.slot.idle_for(long, short).await;
    assert_eq!(start.elapsed().as_secs(), 3600 + 90);
    let start = Instant::now();
    place.slot.wrote(16 * 1024);
    sleep(Duration::from_secs(60)).await;
    place.slot.wrote(17);
    place.slot.idle_for(long, short).await;
    assert_eq!(start.elapsed().as_secs(), 90, "a ping is no sign of life");
}
