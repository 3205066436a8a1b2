//! Seats of each cluster, in which its requests are served, and those who wait for one.
//!
//! Each cluster has as many, whatever others do, and its own [configuration](super::configurations) says who gets them.
//! What all clusters together may have under way is bounded where memory is ([room](super)).
//!
//! Guarantees:
//! - a seat is free when its request is over, however it ends, also of who goes away while waiting
//!   (`a_seat_comes_back_however_its_request_ends`);
//! - nobody waits longer than [`SEAT_WAIT_MAX`] (`nobody_waits_for_a_seat_for_ever`), and who waits alone has levels
//!   lend what others do not need (`who_waits_alone_gets_what_others_lend`);
//! - a request that looks late has no older configuration come back (`what_is_said_is_read_when_it_counts`);
//! - of clusters that ask for nothing nothing is kept (`clusters_that_ask_for_nothing_are_forgotten`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_fairness::{
    Asked, Class, Configuration, End, LevelState, Refusal, Seats, Ticket,
};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// How long a seat is waited for: a quarter of the time that kube-apiserver gives a request.
const SEAT_WAIT_MAX: Duration = Duration::from_secs(15);
/// So many clusters' seats are kept before those are looked for that nobody uses.
const CLUSTERS_KEPT_MIN: usize = 64;

/// Seats of all clusters.
pub(crate) struct ClusterSeats {
    /// Of each cluster.
    total: u32,
    began: Instant,
    /// Who holds them may take a cluster's state, to see whether anybody uses it, and may read its configuration, as may
    /// who holds that state. Nobody who holds a state asks for these.
    clusters: Mutex<Clusters>,
}

#[derive(Default)]
struct Clusters {
    all: HashMap<ClusterName, Arc<Cluster>>,
    /// How many were left when those that nobody uses were looked for.
    used: usize,
}

/// Those of one cluster.
struct Cluster {
    began: Instant,
    state: Mutex<State>,
}

struct State {
    seats: Seats,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One that is taken, or waited for, until this is dropped.
pub(crate) struct Seat {
    cluster: Arc<Cluster>,
    ticket: Ticket,
    end: End,
}

impl ClusterSeats {
    pub(crate) fn of(total: u32) -> Self {
        Self { total, began: Instant::now(), clusters: Mutex::default() }
    }

    /// Waits for a request of this class, which takes so many seats.
    pub(crate) async fn take(
        &self,
        (name, configuration): (&ClusterName, impl FnOnce() -> Arc<Configuration>),
        class: &Class,
        width: u32,
    ) -> Result<Seat, Refusal> {
        let (mut seat, granted) = self.cluster(name, configuration).ask(class, width)?;
        let Some(mut granted) = granted else { return Ok(seat) };
        let latest = Instant::now() + SEAT_WAIT_MAX;
        loop {
            let again = seat.cluster.adjust();
            tokio::select! {
                biased;
                is_granted = &mut granted => match is_granted {
                    Ok(()) => return Ok(seat),
                    Err(_) => break,
                },
                () = sleep_until(latest) => break,
                () = sleep_until(again) => {}
            }
        }
        seat.end = End::TimedOut;
        Err(Refusal::TimedOut)
    }

    /// The levels of a cluster at this moment.
    pub(crate) fn levels(
        &self,
        name: &ClusterName,
        configuration: impl FnOnce() -> Arc<Configuration>,
    ) -> Vec<LevelState> {
        self.cluster(name, configuration).state.lock().seats.levels().collect()
    }

    fn cluster(
        &self,
        name: &ClusterName,
        configuration: impl FnOnce() -> Arc<Configuration>,
    ) -> Arc<Cluster> {
        let mut clusters = self.clusters.lock();
        if let Some(found) = clusters.all.get(name) {
            let found = found.clone();
            drop(clusters);
            found.configure(configuration);
            return found;
        }
        if CLUSTERS_KEPT_MIN.max(2 * clusters.used) <= clusters.all.len() {
            clusters.all.retain(|_, cluster| {
                1 < Arc::strong_count(cluster) || !cluster.state.lock().seats.is_idle()
            });
            clusters.used = clusters.all.len();
        }
        // In the root nobody but the hub's own people says who is exempt.
        let exempt = if name.is_root() { u32::MAX } else { self.total };
        let seats = Seats::new((self.total, exempt), configuration());
        let state = Mutex::new(State { seats, waiting: BTreeMap::new() });
        let made = Arc::new(Cluster { began: self.began, state });
        clusters.all.insert(name.clone(), made.clone());
        made
    }
}

impl Cluster {
    /// Goes on with what its cluster says by now, which is read here: of two who come together none has the older one.
    fn configure(&self, configuration: impl FnOnce() -> Arc<Configuration>) {
        let mut state = self.state.lock();
        let configuration = configuration();
        if !Arc::ptr_eq(state.seats.configuration(), &configuration) {
            state.seats.configure(self.began.elapsed(), configuration);
            state.wake();
        }
    }

    /// Has levels lend and borrow, also when nobody comes or goes; answers when it is time again.
    fn adjust(&self) -> Instant {
        let mut state = self.state.lock();
        let again = state.seats.adjust(self.began.elapsed());
        state.wake();
        self.began + again
    }

    /// A seat; one that is waited for, with what says that it is there.
    fn ask(
        self: Arc<Self>,
        class: &Class,
        width: u32,
    ) -> Result<(Seat, Option<oneshot::Receiver<()>>), Refusal> {
        let now = self.began.elapsed();
        let mut state = self.state.lock();
        let asked = state.seats.ask(now, class, width);
        let (ticket, granted) = match asked {
            Asked::Granted(ticket) => (ticket, None),
            Asked::Waits(ticket) => {
                let (sender, granted) = oneshot::channel();
                state.waiting.insert(ticket.number, sender);
                (ticket, Some(granted))
            }
            Asked::Refused(refusal) => {
                state.wake();
                return Err(refusal);
            }
        };
        state.wake();
        drop(state);
        Ok((Seat { cluster: self, ticket, end: End::Over }, granted))
    }
}

impl State {
    /// Tells those who have their seats by now.
    fn wake(&mut self) {
        for number in self.seats.granted() {
            if let Some(granted) = self.waiting.remove(&number) {
                // Who has gone meanwhile gives it back.
                let _ = granted.send(());
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let now = self.cluster.began.elapsed();
        let mut state = self.cluster.state.lock();
        state.waiting.remove(&self.ticket.number);
        state.seats.leave(now, &self.ticket, self.end);
        state.wake();
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_fairness::{Request, What};
    use futures::FutureExt as _;

    use super::*;
    use crate::flow::configurations::Configurations;

    struct Room(Arc<ClusterSeats>, Arc<Configuration>);

    impl Room {
        /// Four for who belongs to nothing in particular, of which one user has three.
        fn new() -> Self {
            let configuration = Configurations::suggested().unwrap().of(&ClusterName::root());
            Self(Arc::new(ClusterSeats::of(40)), configuration)
        }

        async fn take(&self, name: &str) -> Result<Seat, Refusal> {
            let groups = ["system:authenticated".to_owned()];
            let what = What::Path("/api");
            let request = Request { user: "ann", groups: &groups, verb: "get", what };
            let class = self.1.classify(&request);
            let cluster = ClusterName::try_from(name).unwrap();
            self.0.take((&cluster, || self.1.clone()), &class, 1).await
        }

        fn now(&self, name: &str) -> Option<Seat> {
            self.take(name).now_or_never()?.ok()
        }

        fn state(&self) -> (usize, usize) {
            let levels = self.0.levels(&ClusterName::root(), || self.1.clone());
            let own = levels.iter().find(|level| &*level.name == "global-default").unwrap();
            (own.executing, own.waiting)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_seat_comes_back_however_its_request_ends() {
        let room = Room::new();
        let mut taken: Vec<_> = (0..3).map(|_| room.now("root").unwrap()).collect();
        assert!(room.now("root").is_none());
        assert_eq!(room.state(), (3, 0), "who goes away waits no more");
        let (granted, ()) = futures::join!(room.take("root"), async { drop(taken.pop()) });
        assert_eq!(room.state(), (3, 0));
        // One that has its seat already, and goes before it looks.
        let mut waits = Box::pin(room.take("root"));
        assert!(futures::poll!(&mut waits).is_pending());
        drop(granted);
        assert_eq!(room.state(), (3, 0));
        drop(waits);
        assert_eq!(room.state(), (2, 0));
        assert!(room.now("pi-7").is_some(), "another cluster has its own");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_seat_for_ever() {
        let room = Room::new();
        let taken: Vec<_> = (0..3).map(|_| room.now("root").unwrap()).collect();
        let (began, mut waiting) = (Instant::now(), Vec::new());
        for _ in 0..300 {
            waiting.push(Box::pin(room.take("root")));
            assert!(futures::poll!(waiting.last_mut().unwrap()).is_pending());
        }
        assert_eq!(room.take("root").await.err(), Some(Refusal::QueueFull));
        // By then the level has borrowed seats, and some find one at the last moment.
        let ended = futures::future::join_all(waiting).await;
        assert_eq!(began.elapsed(), SEAT_WAIT_MAX);
        let timed_out = ended.iter().filter(|one| matches!(one, Err(Refusal::TimedOut))).count();
        let served: Vec<_> = ended.into_iter().filter_map(Result::ok).collect();
        assert!(0 < timed_out && timed_out + served.len() == 300, "{timed_out}");
        assert_eq!(room.state(), (3 + served.len(), 0));
        drop(served);
        drop(taken);
        assert_eq!(room.state(), (0, 0));
    }

    #[tokio::test]
    async fn what_is_said_is_read_when_it_counts() {
        let (room, root) = (Room::new(), ClusterName::root());
        let _seat = room.now("root").unwrap();
        let cluster = room.0.clusters.lock().all[&root].clone();
        room.0.levels(&root, || {
            assert!(cluster.state.is_locked(), "somebody newer may come in between");
            room.1.clone()
        });
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_alone_gets_what_others_lend() {
        let room = Room::new();
        let _taken: Vec<_> = (0..3).map(|_| room.now("root").unwrap()).collect();
        let began = Instant::now();
        // Nobody else comes or goes.
        let seat = room.take("root").await;
        assert!(seat.is_ok(), "it is lent by others");
        assert_eq!(began.elapsed().as_secs(), 10);
    }

    #[tokio::test]
    async fn clusters_that_ask_for_nothing_are_forgotten() {
        let room = Room::new();
        let used: Vec<_> = (0..100).map(|at| room.now(&format!("pi-{at}")).unwrap()).collect();
        for at in 100..1_000 {
            drop(room.now(&format!("pi-{at}")));
        }
        let kept = room.0.clusters.lock().all.len();
        assert!((100..=201).contains(&kept), "{kept}");
        assert!(used.iter().all(|seat| 1 < Arc::strong_count(&seat.cluster)));
    }
}
