//! When a session looks again, and what it says then should be held.
//!
//! ```text
//! rung ─▶ quiet? ─yes─▶ look at what has changed ─▶ plan out ─▶ Took ─▶ quiet
//!           └──no──▶ gather until the plan has landed
//! ```
//!
//! Guarantees:
//! - the first change after a quiet time waits for nothing (`the_first_change_after_a_quiet_time_waits_for_nothing`);
//! - behind a plan that is on its way changes gather and go out together, so a burst of them is a few plans, as Nagle has
//!   it (`a_burst_of_changes_is_a_few_plans`, `what_is_sent_after_a_lost_plan_is_the_newest`);
//! - a spoke that is no longer accepted is cut off at once, whatever is on its way
//!   (`who_is_no_longer_accepted_is_cut_off_while_a_plan_is_on_its_way`), and whatever there is to tell of what the plan does
//!   not hold (`what_is_left_out_of_a_plan_is_told_beside_the_next_one`).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_plan::{NodeSettings, Refused, SpokePlan};
use freewheel_link::generation::Generation;
use freewheel_link::message::Reason;
use freewheel_link::names::ClusterName;
use futures::{StreamExt as _, stream};
use tokio::select;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use crate::bell::Bell;
use crate::end::End;
use crate::talk::Talk;
use crate::{lives, ranges, records, refusals};

/// Least time between two looks of one session: changes come in a row, and each look is work.
const PACE: Duration = Duration::from_millis(2);
/// Longest time that changes gather behind a plan that does not land: what is sent when it is taken for lost
/// should be new.
const GATHER: Duration = Duration::from_secs(1);
/// Refusals that are told at a time: they share the store's commits.
const SIDE_BY_SIDE: usize = 16;

impl Talk<'_> {
    /// Looks at what has changed each time that it is called, and says what should be held.
    pub(crate) async fn plan(&self, bell: &Bell) -> Result<Infallible, End> {
        let mut plan = SpokePlan::new(self.cluster, NodeSettings::default());
        let snapshot = self.inner.objects.store().snapshot();
        if let Some(written) = records::session_revision(&*snapshot, self.cluster) {
            // What is called newer than all before must show all that was there when the session began.
            self.inner.interest.caught_up(written).await;
        }
        drop(snapshot);
        loop {
            self.in_force(bell)?;
            self.addresses(bell).await?;
            self.want(bell, &mut plan);
            let looked = Instant::now();
            bell.rung().await;
            self.gather(bell, looked).await?;
        }
    }

    /// Waits until another look is worth it.
    async fn gather(&self, bell: &Bell, looked: Instant) -> Result<(), End> {
        if looked.elapsed() < PACE {
            sleep_until(looked + PACE).await;
        }
        loop {
            self.in_force(bell)?;
            if self.state.lock().is_quiet() || GATHER <= looked.elapsed() {
                return Ok(());
            }
            select! {
                biased;
                () = self.landed.notified() => {}
                // It may have been for the spoke's acceptance.
                () = bell.rung() => {}
                () = sleep_until(looked + GATHER) => {}
            }
        }
    }

    /// Whether this session may go on, where that may have changed.
    pub(crate) fn in_force(&self, bell: &Bell) -> Result<(), End> {
        if !bell.is_in_doubt() {
            return Ok(());
        }
        self.papers.admit(&self.inner.objects).map_err(End::Left)?;
        let newest = records::session(&*self.inner.objects.store().snapshot(), self.cluster);
        let newest = newest.filter(|newest| newest.uid == self.papers.uid);
        if newest.is_some_and(|newest| self.state.lock().epoch() < newest.epoch) {
            return Err(End::Left(Reason::Superseded));
        }
        Ok(())
    }

    /// Gives back ranges of addresses that the spoke does not need any more.
    pub(crate) async fn give_back(&self) -> Infallible {
        let (store, interest) = (self.inner.objects.store(), &self.inner.interest);
        loop {
            sleep(ranges::LOOK).await;
            let holds = self.state.lock().agreed().is_some();
            for realm in [&ClusterName::root(), self.cluster] {
                let used = interest.used(self.cluster, realm, &*store.snapshot());
                let keep = ranges::needed(interest.count(self.cluster, realm)).max(1);
                let (news, free) = interest.ranges.retire(realm, self.cluster, keep, &used, holds);
                if news {
                    interest.ring(self.cluster);
                }
                for range in free {
                    if let Err(error) = range.give_back(store).await {
                        debug!(cluster = %self.cluster, %realm, %error, "cannot give addresses back");
                    }
                }
            }
        }
    }

    fn want(&self, bell: &Bell, plan: &mut SpokePlan) {
        let refused = {
            let (store, interest) = (self.inner.objects.store(), &self.inner.interest);
            let (at, changes) = interest.take(bell);
            let snapshot = store.snapshot();
            let (view, images) = (interest.view(&*snapshot), &*self.inner.images);
            plan.look(&changes, &view, images);
            let services =
                [&ClusterName::root(), self.cluster].map(|realm| interest.services(realm));
            let (set, refused) = plan.set(services, &view, images);
            let generation = Generation {
                incarnation: lives::incarnation(&**store, &*snapshot),
                // What is newer than that may be missing.
                revision: at.unwrap_or_else(|| snapshot.revision()),
            };
            self.inner.meters.looks.inc();
            self.state.lock().want(generation, Arc::new(set));
            refused
        };
        self.news.notify_one();
        for refused in &refused {
            debug!(cluster = %self.cluster, error = %refused, "left out of the plan");
        }
        self.refused.send_replace(refused);
    }

    /// Tells what the newest look had to leave out, beside the looks: each is a write or two.
    pub(crate) async fn tell_refused(&self) -> Infallible {
        let mut newest = self.refused.subscribe();
        let mut told: Vec<Refused> = Vec::new();
        loop {
            let refused = newest.borrow_and_update().clone();
            let tell = async |one: Refused| {
                let before = told.contains(&one);
                let outcome = refusals::tell(&self.inner.objects, self.papers, &one, before).await;
                // The next look tells again what could not be told.
                let failed = |error| {
                    debug!(cluster = %self.cluster, %error, "cannot tell what was left out of the plan");
                };
                outcome.map_err(failed).is_ok().then_some(one)
            };
            let written = stream::iter(refused).map(tell).buffer_unordered(SIDE_BY_SIDE);
            told = written.filter_map(std::future::ready).collect().await;
            // The sender lives as long as `self`.
            let _ = newest.changed().await;
        }
    }
}
