//! When a session looks at the store again, and what it says then should be held.
//!
//! ```text
//! ring ─▶ quiet? ─yes─▶ look ─▶ plan out ─▶ Took ─▶ quiet
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

use freewheel_hub_plan::{self as plan, NodeSettings, Refused};
use freewheel_link::generation::Generation;
use freewheel_link::message::Reason;
use freewheel_link::names::ClusterName;
use freewheel_link::record_set::RecordSet;
use futures::{StreamExt as _, stream};
use tokio::select;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use crate::interest::Bell;
use crate::session::{End, Talk};
use crate::{lives, ranges, records, refusals};

/// Least time between two looks of one session: changes come in a row, and each look is work.
const PACE: Duration = Duration::from_millis(2);
/// Longest time that changes gather behind a plan that does not land: what is sent when it is taken for lost
/// should be new.
const GATHER: Duration = Duration::from_secs(1);
/// Refusals that are told at a time: they share the store's commits.
const SIDE_BY_SIDE: usize = 16;

impl Talk<'_> {
    /// Looks at the store after each ring and says what should be held.
    pub(crate) async fn plan(&self, bell: &Bell) -> Result<Infallible, End> {
        loop {
            self.in_force()?;
            self.want().await;
            let looked = Instant::now();
            bell.notified().await;
            self.gather(bell, looked).await?;
        }
    }

    /// Waits until another look is worth it.
    async fn gather(&self, bell: &Bell, looked: Instant) -> Result<(), End> {
        if looked.elapsed() < PACE {
            sleep_until(looked + PACE).await;
        }
        loop {
            self.in_force()?;
            if self.state.lock().is_quiet() || GATHER <= looked.elapsed() {
                return Ok(());
            }
            select! {
                biased;
                () = self.landed.notified() => {}
                // It may have been for the spoke's acceptance.
                () = bell.notified() => {}
                () = sleep_until(looked + GATHER) => {}
            }
        }
    }

    /// Whether this session may go on.
    fn in_force(&self) -> Result<(), End> {
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
                    interest.ring_one(self.cluster);
                }
                for range in free {
                    if let Err(error) = range.give_back(store).await {
                        debug!(cluster = %self.cluster, %realm, %error, "cannot give addresses back");
                    }
                }
            }
        }
    }

    async fn want(&self) {
        let store = self.inner.objects.store();
        let interest = &self.inner.interest;
        for realm in [&ClusterName::root(), self.cluster] {
            let needed = ranges::needed(interest.count(self.cluster, realm));
            let holder = (self.cluster, &[self.papers.hold(&*store.snapshot())][..]);
            if let Err(error) = interest.ranges.lease(store, realm, holder, needed).await {
                // Pods without an address wait; everything else goes on.
                warn!(cluster = %self.cluster, %realm, %error, "cannot lease addresses");
            }
        }
        let snapshot = store.snapshot();
        let planned = {
            let source = interest.source(self.cluster, &*snapshot);
            let settings = NodeSettings::default();
            plan::records(self.cluster, &source, &*self.inner.images, &settings)
        };
        for refused in &planned.refused {
            debug!(cluster = %self.cluster, error = %refused, "left out of the plan");
        }
        let set: RecordSet = planned.records.into_values().collect();
        let generation = Generation {
            incarnation: lives::incarnation(&**store, &*snapshot),
            revision: snapshot.revision(),
        };
        self.state.lock().want(generation, Arc::new(set));
        self.news.notify_one();
        self.refused.send_replace(planned.refused);
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
