//! An account, within the one above it, and what somebody has taken of it.
//!
//! Guarantees:
//! - what is counted is given back when its [`Held`] goes, which nobody can forget
//!   (`what_is_held_grows_shrinks_and_goes`);
//! - what one level refuses is counted at none (`what_is_refused_above_is_counted_nowhere`);
//! - what is taken on one level alone takes nothing above it (`what_is_set_apart_is_nobody_else_s`);
//! - who waits for a mark hears of it when it is reached, also when that was before
//!   (`a_mark_is_heard_of_when_it_is_reached`);
//! - who is frozen gets no more, and nobody else is concerned (`who_is_frozen_keeps_what_it_has_and_gets_no_more`);
//! - what nobody needs goes before anybody is refused for the node's sake
//!   (`what_gives_way_goes_before_anybody_is_refused`);
//! - who has much leaves its neighbours as much as it has (`who_has_a_share_leaves_others_theirs`,
//!   `a_place_that_grows_leaves_others_theirs`);
//! - a limit that was made lower than it was holds for who adds at that moment, too
//!   (`a_limit_is_lowered_only_to_what_is_held_and_holds_from_then_on`).

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst, fence};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::full::{Full, Level};

/// Lets go of what nobody needs; whether there was any.
struct Relief(Box<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Relief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relief")
    }
}

/// Bytes that the host holds for somebody, and how many it may be.
#[derive(Debug)]
pub struct MemoryAccount {
    level: Level,
    limit: AtomicUsize,
    used: AtomicUsize,
    /// Somebody wants to hear when this much is held.
    mark: AtomicUsize,
    reached: Notify,
    relief: OnceLock<Relief>,
    above: Option<Arc<Self>>,
}

impl MemoryAccount {
    /// The account of a node, without a limit until it is set.
    #[must_use]
    pub fn node() -> Arc<Self> {
        Self::new(Level::Node, None, None)
    }

    /// An account within another: what it holds, that one holds too.
    #[must_use]
    pub fn within(above: &Arc<Self>, level: Level, limit: Option<u64>) -> Arc<Self> {
        Self::new(level, limit, Some(above.clone()))
    }

    fn new(level: Level, limit: Option<u64>, above: Option<Arc<Self>>) -> Arc<Self> {
        let limit = AtomicUsize::new(bytes(limit));
        let (used, mark) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let (reached, relief) = (Notify::new(), OnceLock::new());
        Arc::new(Self { level, limit, used, mark, reached, relief, above })
    }

    /// Changes the limit. What is held already stays.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(bytes(Some(limit)), Relaxed);
    }

    /// Makes the limit as low as this unless more is held; whether it is. From then on no more is held.
    #[must_use]
    pub fn lower_limit(&self, limit: usize) -> bool {
        if limit < self.used() {
            return false;
        }
        let before = self.limit.swap(limit, Relaxed);
        // Either this sees what was added, or who adds sees the limit.
        fence(SeqCst);
        let lowered = self.used() <= limit;
        if !lowered {
            self.limit.store(before, Relaxed);
        }
        lowered
    }

    /// What is asked to let go of what nobody needs, before somebody is refused here. For an account without one above;
    /// the first stays.
    pub fn gives_way(&self, relief: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.relief.set(Relief(Box::new(relief)));
    }

    /// Lets go of what nobody needs; whether there was any.
    pub fn make_room(&self) -> bool {
        self.relief.get().is_some_and(|Relief(relief)| relief())
    }

    /// Nothing more from here on: the limit is what is held.
    pub fn freeze(&self) {
        self.limit.fetch_min(self.used(), Relaxed);
    }

    /// Waits until the account of a node holds this much; for one who waits at a time.
    pub async fn reach(&self, mark: u64) {
        let mark = bytes(Some(mark));
        self.mark.store(mark, Relaxed);
        // Either this sees what was added, or who adds sees the mark.
        fence(SeqCst);
        while self.used() < mark {
            self.reached.notified().await;
        }
    }

    /// The limit of its own; `None`: whatever the accounts above have.
    #[must_use]
    pub fn limit(&self) -> Option<usize> {
        Some(self.limit.load(Relaxed)).filter(|limit| *limit != usize::MAX)
    }

    /// The lowest limit, of its own and of the accounts above.
    #[must_use]
    pub fn most(&self) -> usize {
        let above = self.above.as_ref().map_or(usize::MAX, |above| above.most());
        self.limit.load(Relaxed).min(above)
    }

    /// Bytes held.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Whether so much more would fit, here and above.
    #[must_use]
    pub fn has_room_for(&self, more: usize) -> bool {
        let fits =
            || self.used().checked_add(more).is_some_and(|sum| sum <= self.limit.load(Relaxed));
        (fits() || self.make_room() && fits())
            && self.above.as_ref().is_none_or(|above| above.has_room_for(more))
    }

    /// Whether the node has nothing left for anybody.
    #[must_use]
    pub fn node_is_full(&self) -> bool {
        match &self.above {
            Some(above) => above.node_is_full(),
            None => self.limit.load(Relaxed) <= self.used(),
        }
    }

    /// Takes place for bytes.
    ///
    /// # Errors
    /// When this account or one above has no room; nothing is taken then.
    pub fn take(self: &Arc<Self>, more: usize) -> Result<Held, Full> {
        let mut held = self.nothing();
        held.set(more)?;
        Ok(held)
    }

    /// Takes a place of what neighbours share: who has `least` takes no more than is left for the others. Two who take at the
    /// same moment may each have one more.
    ///
    /// # Errors
    /// As [`MemoryAccount::take`], and when less is left above than this one would have.
    pub fn take_share(self: &Arc<Self>, more: usize, least: usize) -> Result<Held, Full> {
        let mut held = self.nothing();
        held.set_share(more, least)?;
        Ok(held)
    }

    fn leaves_others_theirs(&self, more: usize, least: usize) -> Result<(), Full> {
        let wanted = self.used().saturating_add(more);
        let left = self
            .above
            .as_ref()
            .map_or(usize::MAX, |above| above.limit.load(Relaxed).saturating_sub(above.used()));
        if least < wanted && left < wanted {
            return Err(Full { level: self.level, limit: self.used(), wanted, more });
        }
        Ok(())
    }

    /// Takes place for bytes here and not above, where they are counted in another way.
    ///
    /// # Errors
    /// When this account has no room.
    pub fn set_apart(self: &Arc<Self>, more: usize) -> Result<Held, Full> {
        let mut held = Held { account: self.clone(), bytes: 0, above: false };
        held.set(more)?;
        Ok(held)
    }

    /// A place for bytes that are to come.
    #[must_use]
    pub fn nothing(self: &Arc<Self>) -> Held {
        Held { account: self.clone(), bytes: 0, above: true }
    }

    /// The account that this one is within.
    #[must_use]
    pub const fn above(&self) -> Option<&Arc<Self>> {
        self.above.as_ref()
    }

    fn add(&self, more: usize) -> Result<(), Full> {
        let before = match self.add_here(more) {
            Err(_) if self.make_room() => self.add_here(more)?,
            outcome => outcome?,
        };
        if let Some(above) = &self.above
            && let Err(full) = above.add(more)
        {
            self.used.fetch_sub(more, Relaxed);
            return Err(full);
        }
        self.note(before, more);
        Ok(())
    }

    /// What was held before.
    fn add_here(&self, more: usize) -> Result<usize, Full> {
        loop {
            let limit = self.limit.load(Relaxed);
            let fit = |used: usize| used.checked_add(more).filter(|sum| *sum <= limit);
            let added = self.used.fetch_update(Relaxed, Relaxed, fit);
            let full = |used: usize| {
                let wanted = used.saturating_add(more);
                Full { level: self.level, limit, wanted, more }
            };
            let before = added.map_err(full)?;
            fence(SeqCst);
            if before + more <= self.limit.load(Relaxed) {
                return Ok(before);
            }
            // It was lowered in between.
            self.used.fetch_sub(more, Relaxed);
        }
    }

    fn note(&self, before: usize, more: usize) {
        if self.above.is_some() {
            return;
        }
        fence(SeqCst);
        let mark = self.mark.load(Relaxed);
        if before < mark && mark <= before.saturating_add(more) {
            self.reached.notify_one();
        }
    }

    /// Counts what is bounded elsewhere, also beyond the limit: nobody else gets what it takes.
    pub fn count(&self, more: usize) {
        let before = self.used.fetch_add(more, Relaxed);
        self.note(before, more);
        if let Some(above) = &self.above {
            above.count(more);
        }
    }

    /// Gives back what [`MemoryAccount::count`] has taken.
    pub fn give_back(&self, less: usize) {
        self.used.fetch_sub(less, Relaxed);
        if let Some(above) = &self.above {
            above.give_back(less);
        }
    }
}

fn bytes(limit: Option<u64>) -> usize {
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Place that was taken. Dropping it gives it back.
#[derive(Debug)]
pub struct Held {
    account: Arc<MemoryAccount>,
    bytes: usize,
    /// It is also held by the accounts above.
    above: bool,
}

impl Held {
    /// How much it is.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of it, as a place of its own: nothing is left here.
    #[must_use]
    pub fn take_all(&mut self) -> Self {
        let bytes = std::mem::take(&mut self.bytes);
        Self { account: self.account.clone(), bytes, above: self.above }
    }

    /// Makes it more or less.
    ///
    /// # Errors
    /// When there is no room for more; it stays what it was then.
    pub fn set(&mut self, bytes: usize) -> Result<(), Full> {
        match bytes.checked_sub(self.bytes) {
            Some(more) if self.above => self.account.add(more)?,
            Some(more) => drop(self.account.add_here(more)?),
            None => self.give_back(self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Makes it more or less, of what neighbours share.
    ///
    /// # Errors
    /// As [`MemoryAccount::take_share`]; it stays what it was then.
    pub fn set_share(&mut self, bytes: usize, least: usize) -> Result<(), Full> {
        if self.bytes < bytes {
            self.account.leaves_others_theirs(bytes - self.bytes, least)?;
        }
        self.set(bytes)
    }

    fn give_back(&self, less: usize) {
        if self.above {
            self.account.give_back(less);
        } else {
            self.account.used.fetch_sub(less, Relaxed);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests;
