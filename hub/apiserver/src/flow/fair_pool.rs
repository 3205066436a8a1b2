//! Who gets how much of a room, and who waits: bytes of large answers, requests, what lasts, and work.
//!
//! ```text
//! part ─▶ it fits, and is no more than the holder's share ─▶ Part ─▶ dropped: whoever holds least comes next
//!   └───▶ waits among few ─▶ 429
//! ```
//!
//! What a [share](super::shares) is goes by clusters, and in them by users.
//!
//! Guarantees:
//! - nobody holds more than three quarters, however much they ask for (`no_user_takes_what_is_left_for_others`), nor
//!   under however many names (`names_of_one_cluster_share_its_room_and_its_places_to_wait`);
//! - who holds nothing gets whatever fits in what is free (`no_user_takes_what_is_left_for_others`);
//! - nobody waits behind somebody who asks for more than there is (`a_large_ask_holds_up_no_small_one`);
//! - room that comes back goes to who holds least, and then to who came first (`who_holds_least_comes_next`);
//! - nobody waits longer than [`SHARE_WAIT_MAX`], nor beside more than [`USER_WAITING_MAX`] of their own,
//!   [`CLUSTER_WAITING_MAX`] of their cluster's and their share of [`ALL_WAITING_MAX`] in all; who goes away meanwhile
//!   takes nothing along (`who_waits_is_bounded_in_time_and_number`, `who_goes_away_while_waiting_takes_nothing_along`).
//!
//! Not promised: a turn for who asks for much while others ask for little all the time. They are told to ask in pieces.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::shares::{FREE_SHARE_FACTOR, Holder, Sharer, Shares};

/// How long room is waited for: clients give up after half a minute.
const SHARE_WAIT_MAX: Duration = Duration::from_secs(20);
/// Asks of one user that wait, as kube-apiserver's queues.
const USER_WAITING_MAX: usize = 50;
/// The same of one cluster's users together.
const CLUSTER_WAITING_MAX: usize = 100;
/// Asks that wait, of all clusters: each keeps the moment that it is going to answer of.
const ALL_WAITING_MAX: usize = 500;

/// All the room there is, in bytes or in requests.
pub(crate) struct FairPool {
    size: usize,
    state: Mutex<PoolState>,
}

struct PoolState {
    room: Shares,
    /// Places among those who wait, which are shared, too.
    places: Shares,
    /// In the order of their coming.
    waiting: BTreeMap<u64, PoolRequest>,
    next: u64,
}

struct PoolRequest {
    holder: Holder,
    units: usize,
    granted: oneshot::Sender<PoolShare>,
}

/// Room that is held; it is free again when this is dropped.
pub(crate) struct PoolShare {
    pool: Arc<FairPool>,
    holder: Holder,
    units: usize,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolFull {
    /// There was none for as long as anybody waits.
    Waited,
    /// As many wait as may.
    Crowded,
}

impl PoolFull {
    /// After how many seconds to ask again: who has waited may at once, as after kube-apiserver's queues.
    pub(crate) const fn retry_after(self) -> u32 {
        match self {
            Self::Waited => 1,
            Self::Crowded => 5,
        }
    }
}

/// Somebody who waits.
struct PoolWaiter {
    pool: Arc<FairPool>,
    number: u64,
    granted: oneshot::Receiver<PoolShare>,
}

impl FairPool {
    pub(crate) fn new(size: usize) -> Arc<Self> {
        let (room, places) = (Shares::of(size), Shares::of(ALL_WAITING_MAX));
        let state = Mutex::new(PoolState { room, places, waiting: BTreeMap::new(), next: 0 });
        Arc::new(Self { size, state })
    }

    /// Waits for so much. What is larger than anybody's share counts as much as a share.
    pub(crate) async fn part(
        self: &Arc<Self>,
        sharer: Sharer<'_>,
        units: usize,
    ) -> Result<PoolShare, PoolFull> {
        let units = units.min(self.size / (FREE_SHARE_FACTOR + 1) * FREE_SHARE_FACTOR);
        let mut waits = match self.ask(sharer.into(), units)? {
            Ok(part) => return Ok(part),
            Err(waits) => waits,
        };
        match timeout(SHARE_WAIT_MAX, &mut waits.granted).await {
            Ok(Ok(part)) => Ok(part),
            // It is answered, or waited for; never forgotten.
            Ok(Err(_)) | Err(_) => Err(PoolFull::Waited),
        }
    }

    /// The part, or a place among those who wait.
    fn ask(
        self: &Arc<Self>,
        holder: Holder,
        units: usize,
    ) -> Result<Result<PoolShare, PoolWaiter>, PoolFull> {
        let mut state = self.state.lock();
        if state.room.fits(&holder, units) {
            state.room.take(&holder, units);
            return Ok(Ok(PoolShare { pool: self.clone(), holder, units }));
        }
        let (of_cluster, own) = state.places.held_by(&holder);
        let is_crowded = USER_WAITING_MAX <= own || CLUSTER_WAITING_MAX <= of_cluster;
        if is_crowded || !state.places.fits(&holder, 1) {
            return Err(PoolFull::Crowded);
        }
        state.next += 1;
        let (number, (sender, granted)) = (state.next, oneshot::channel());
        state.places.take(&holder, 1);
        state.waiting.insert(number, PoolRequest { holder, units, granted: sender });
        Ok(Err(PoolWaiter { pool: self.clone(), number, granted }))
    }

    #[cfg(test)]
    pub(crate) fn held_by(&self, sharer: Sharer<'_>) -> usize {
        self.state.lock().room.held_by(&sharer.into()).1
    }

    fn give_back(self: &Arc<Self>, holder: &Holder, units: usize) {
        let mut state = self.state.lock();
        state.room.give_back(holder, units);
        let mut left_over = Vec::new();
        while let Some(ask) = state.next() {
            state.room.take(&ask.holder, ask.units);
            let part = PoolShare { pool: self.clone(), holder: ask.holder, units: ask.units };
            left_over.extend(ask.granted.send(part).err());
        }
        // What nobody waited for any more comes back here.
        drop(state);
        drop(left_over);
    }
}

impl PoolState {
    /// Whose turn it is of those who find room.
    fn next(&mut self) -> Option<PoolRequest> {
        let fit = self.waiting.iter().filter(|(_, ask)| self.room.fits(&ask.holder, ask.units));
        let number = fit.min_by_key(|(number, ask)| (self.room.held_by(&ask.holder), **number));
        let number = *number?.0;
        self.forget(number)
    }

    /// It does not wait any more.
    fn forget(&mut self, number: u64) -> Option<PoolRequest> {
        let ask = self.waiting.remove(&number)?;
        self.places.give_back(&ask.holder, 1);
        Some(ask)
    }
}

impl PoolShare {
    /// The name of the user who holds it, empty for nobody in particular.
    pub(crate) fn user(&self) -> &Arc<str> {
        self.holder.user()
    }

    /// Gives back what is not needed.
    pub(crate) fn shrink(&mut self, units: usize) {
        let more = self.units.saturating_sub(units);
        self.units -= more;
        if more != 0 {
            self.pool.give_back(&self.holder, more);
        }
    }
}

impl Drop for PoolShare {
    fn drop(&mut self) {
        self.pool.give_back(&self.holder, self.units);
    }
}

impl Drop for PoolWaiter {
    fn drop(&mut self) {
        self.pool.state.lock().forget(self.number);
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;
    use futures::FutureExt as _;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    fn now(pool: &Arc<FairPool>, user: &str, units: usize) -> Option<PoolShare> {
        pool.part(Sharer::in_root(user), units).now_or_never()?.ok()
    }

    async fn waits(
        pool: &Arc<FairPool>,
        user: &'static str,
        units: usize,
    ) -> JoinHandle<Result<PoolShare, PoolFull>> {
        let (pool, before) = (pool.clone(), pool.state.lock().waiting.len());
        let asks = pool.clone();
        let task = tokio::spawn(async move { asks.part(Sharer::in_root(user), units).await });
        while pool.state.lock().waiting.len() == before {
            tokio::task::yield_now().await;
        }
        task
    }

    #[tokio::test]
    async fn no_user_takes_what_is_left_for_others() {
        let pool = FairPool::new(400);
        let mut greedy = Vec::new();
        while let Some(part) = now(&pool, "greedy", 10) {
            greedy.push(part);
        }
        assert_eq!(greedy.len(), 30, "three quarters");
        let mut second = Vec::new();
        while let Some(part) = now(&pool, "second", 10) {
            second.push(part);
        }
        assert_eq!(second.len(), 7, "three quarters of the rest");
        let third = now(&pool, "third", 30).expect("all that is left, for who has nothing");
        drop((greedy, second, third));
        let largest = now(&pool, "greedy", 1_000).expect("the largest passes");
        assert!(now(&pool, "greedy", 1).is_none());
        assert!(now(&pool, "third", 100).is_some(), "and not alone");
        drop(largest);
        let state = pool.state.lock();
        assert!(state.room.free() == 400 && state.room.is_idle());
    }

    #[tokio::test]
    async fn a_large_ask_holds_up_no_small_one() {
        let pool = FairPool::new(400);
        let held = now(&pool, "a", 200).unwrap();
        let large = waits(&pool, "b", 300).await;
        assert!(now(&pool, "c", 100).is_some());
        assert!(now(&pool, "b", 100).is_some(), "nor its own user's");
        let small = waits(&pool, "c", 201).await;
        let mut held = held;
        held.shrink(199);
        assert!(small.await.unwrap().is_ok());
        assert!(!large.is_finished());
        drop(held);
        assert!(large.await.unwrap().is_ok(), "it has its turn when there is room");
    }

    #[tokio::test]
    async fn who_holds_least_comes_next() {
        let pool = FairPool::new(400);
        let _rich = now(&pool, "rich", 100).unwrap();
        let all = now(&pool, "other", 300).unwrap();
        let first = waits(&pool, "rich", 100).await;
        let second = waits(&pool, "poor", 210).await;
        let third = waits(&pool, "poorer", 210).await;
        drop(all);
        let _part = second.await.unwrap().unwrap();
        assert!(!first.is_finished() && !third.is_finished());
        drop(_part);
        assert!(third.await.unwrap().is_ok());
        assert!(first.await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_bounded_in_time_and_number() {
        let pool = FairPool::new(400);
        let _all = (now(&pool, "a", 300).unwrap(), now(&pool, "b", 100).unwrap());
        let mut waiting = Vec::new();
        let start = Instant::now();
        for _ in 0..USER_WAITING_MAX {
            waiting.push(waits(&pool, "c", 1).await);
        }
        assert_eq!(pool.part(Sharer::in_root("c"), 1).await.err(), Some(PoolFull::Crowded));
        assert_eq!(start.elapsed(), Duration::ZERO);
        waiting.push(waits(&pool, "d", 1).await);
        for task in waiting {
            assert_eq!(task.await.unwrap().err(), Some(PoolFull::Waited));
        }
        assert_eq!(start.elapsed(), SHARE_WAIT_MAX);
        for user in 0..ALL_WAITING_MAX / USER_WAITING_MAX {
            for _ in 0..USER_WAITING_MAX {
                let (asks, user) = (pool.clone(), format!("user-{user}"));
                tokio::spawn(async move { asks.part(Sharer::in_root(&user), 1).await.err() });
            }
        }
        // The last one has a share of the places that are left.
        while pool.state.lock().waiting.len() < ALL_WAITING_MAX - 13 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.part(Sharer::in_root("user-0"), 1).await.err(), Some(PoolFull::Crowded));
    }

    #[tokio::test(start_paused = true)]
    async fn names_of_one_cluster_share_its_room_and_its_places_to_wait() {
        let (pool, cluster) = (FairPool::new(400), ClusterName::try_from("pi-7").unwrap());
        let names: Vec<_> = (0..20).map(|number| format!("user-{number}")).collect();
        let (mut held, mut waiting) = (Vec::new(), 0);
        for name in &names {
            let sharer = Sharer::of(&cluster, name);
            while let Some(part) = pool.part(sharer, 1).now_or_never() {
                held.push(part.unwrap());
            }
        }
        assert_eq!(held.len(), 300);
        for name in &names {
            for _ in 0..ALL_WAITING_MAX {
                let (asks, cluster, name) = (pool.clone(), cluster.clone(), name.clone());
                tokio::spawn(async move { asks.part(Sharer::of(&cluster, &name), 1).await.err() });
            }
            tokio::task::yield_now().await;
            waiting = pool.state.lock().waiting.len();
        }
        assert_eq!(waiting, CLUSTER_WAITING_MAX);
        assert!(now(&pool, "user-0", 100).is_some(), "in the root somebody else has that name");
        let other = waits(&pool, "user-0", 400).await;
        assert!(!other.is_finished(), "and there are places to wait");
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_takes_nothing_along() {
        let pool = FairPool::new(400);
        let all = (now(&pool, "a", 300).unwrap(), now(&pool, "b", 100).unwrap());
        let gone = waits(&pool, "c", 100).await;
        gone.abort();
        assert!(gone.await.err().unwrap().is_cancelled());
        assert!(pool.state.lock().waiting.is_empty());
        // One that has its part already, and goes before it looks.
        let gone = waits(&pool, "c", 100).await;
        drop(all);
        gone.abort();
        drop(gone.await);
        let state = pool.state.lock();
        assert!(state.room.free() == 400 && state.room.is_idle());
    }
}
