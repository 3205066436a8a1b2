//! When a session looks again, and what it says then should be held.
//!
//! ```text
//! raised ─▶ quiet? ─yes─▶ look at what has changed ─▶ plan out ─▶ Took ─▶ quiet
//!           └──no──▶ gather until the plan has landed
//! ```
//!
//! Guarantees:
//! - the first change after a quiet time waits for nothing (`the_first_change_after_a_quiet_time_waits_for_nothing`);
//! - behind a plan that is on its way changes gather and go out together, so a burst of them is a few plans, as Nagle
//!   has it (`a_burst_of_changes_is_a_few_plans`, `what_is_sent_after_a_lost_plan_is_the_newest`);
//! - a spoke that is no longer accepted is cut off at once, whatever is on its way
//!   (`who_is_no_longer_accepted_is_cut_off_while_a_plan_is_on_its_way`), and whatever there is to tell of what the
//!   plan does not hold (`what_is_left_out_of_a_plan_is_told_beside_the_next_one`).
//!
//! Beside the looks it is told what they had to leave out, and what the spoke has seen ([`crate::observed`]).

use freewheel_hub_objects::internal::SessionRecord;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_plan::{Changes, NodeSettings, Refused, SpokePlan};
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::Revision;
use freewheel_link::generation::Generation;
use freewheel_link::message::Reason;
use freewheel_link::names::ClusterName;
use futures::{StreamExt as _, stream};
use tokio::select;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use crate::config_readers::ConfigSubscription;
use crate::live_session::Session;
use crate::object_refs::PODS;
use crate::pod_tokens::SpokeTokens;
use crate::session_end::End;
use crate::sync_signal::SyncSignal;
use crate::view::PlanView;
use crate::{incarnation, observed, pod_cidr_leases, refusals, reports, session_records, writes};

/// Least time between two looks of one session: changes come in a row, and each look is work.
const SYNC_PACE: Duration = Duration::from_millis(2);
/// Longest time that changes gather behind a plan that does not land: what is sent when it is taken for lost
/// should be new.
const GATHER_TIME_MAX: Duration = Duration::from_secs(1);
/// Refusals that are told at a time: they share the store's commits.
const REFUSALS_AT_ONCE: usize = 16;
/// Pods of which it is told at a time that they were seen, for the same reason.
const SEEN_AT_ONCE: usize = 16;
/// What a change of a pod comes to on its device is reported within this, mostly, and says that it was seen: one write is
/// enough.
const REPORT_TIME: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// Looks at what has changed each time that it is called, and says what should be held.
    pub(crate) async fn sync_plan(&self, signal: &Arc<SyncSignal>) -> Result<Infallible, End> {
        let mut subscription = self.inner.fanout.readers.subscribe(signal);
        let mut plan = SpokePlan::new(self.cluster, NodeSettings::default());
        if let Some(held) = self.state.lock().known() {
            plan = plan.after(&held.members);
        }
        let snapshot = self.inner.objects.store().snapshot();
        if let Some(written) = session_records::session_revision(&*snapshot, self.cluster) {
            // What is called newer than all before must show all that was there when the session began.
            self.inner.fanout.caught_up(written).await;
        }
        drop(snapshot);
        loop {
            self.in_force(signal)?;
            self.addresses(signal).await?;
            self.sync(signal, &mut subscription, &mut plan);
            let looked = Instant::now();
            signal.raised().await;
            self.gather(signal, looked).await?;
        }
    }

    /// Waits until another look is worth it.
    async fn gather(&self, signal: &SyncSignal, looked: Instant) -> Result<(), End> {
        if looked.elapsed() < SYNC_PACE {
            sleep_until(looked + SYNC_PACE).await;
        }
        loop {
            self.in_force(signal)?;
            if self.state.lock().is_quiet() || GATHER_TIME_MAX <= looked.elapsed() {
                return Ok(());
            }
            select! {
                biased;
                () = self.landed.notified() => {}
                // It may have been for the spoke's acceptance.
                () = signal.raised() => {}
                () = sleep_until(looked + GATHER_TIME_MAX) => {}
            }
        }
    }

    /// Whether this session may go on, where that may have changed.
    pub(crate) fn in_force(&self, signal: &SyncSignal) -> Result<(), End> {
        if !signal.take_recheck() {
            return Ok(());
        }
        self.identity.admit(&self.inner.objects).map_err(End::Left)?;
        let newest =
            SessionRecord::of(&*self.inner.objects.store().snapshot(), self.cluster.as_str());
        let newest = newest.filter(|newest| newest.uid == self.identity.uid);
        if newest.is_some_and(|newest| self.state.lock().epoch() < newest.epoch) {
            return Err(End::Left(Reason::Superseded));
        }
        Ok(())
    }

    /// Gives back ranges of addresses that the spoke does not need any more.
    pub(crate) async fn give_back(&self) -> Infallible {
        let (store, fanout) = (self.inner.objects.store(), &self.inner.fanout);
        loop {
            sleep(pod_cidr_leases::IDLE_CHECK_EVERY).await;
            let holds = self.state.lock().agreed().is_some();
            for realm in [&ClusterName::root(), self.cluster] {
                let used = fanout.used(self.cluster, realm, &*store.snapshot());
                let keep = pod_cidr_leases::needed(fanout.count(self.cluster, realm)).max(1);
                let (news, free) = fanout.ranges.retire(realm, self.cluster, keep, &used, holds);
                if news {
                    fanout.raise(self.cluster);
                }
                for range in free {
                    if let Err(error) = range.give_back(store).await {
                        debug!(cluster = %self.cluster, %realm, %error, "cannot give addresses back");
                    }
                }
            }
        }
    }

    fn sync(
        &self,
        signal: &SyncSignal,
        subscription: &mut ConfigSubscription<'_>,
        plan: &mut SpokePlan,
    ) {
        let refused = {
            let (store, fanout) = (self.inner.objects.store(), &self.inner.fanout);
            let (at, changes) = fanout.take(signal);
            let snapshot = store.snapshot();
            let tokens = SpokeTokens {
                cache: &self.inner.tokens,
                spoke: &self.identity.uid,
                now: self.inner.objects.clock().unix_seconds(),
            };
            let view = PlanView { tokens: Some(tokens), ..fanout.view(&*snapshot) };
            let images = &*self.inner.images;
            plan.update(&changes, &view, images);
            self.unobserved.look(&changes, &view, self.cluster);
            let (named, unnamed) = plan.take_renamed();
            subscription.end(&unnamed);
            subscription.begin(&named);
            if !named.is_empty() {
                // What has changed before it was to be told of that, nobody tells.
                let config = view.changed(named, &*store.snapshot());
                if !config.is_empty() {
                    signal.note(Changes { config, ..Changes::default() });
                    signal.raise();
                }
            }
            let services = [&ClusterName::root(), self.cluster].map(|realm| fanout.services(realm));
            let (set, refused) = plan.set(services);
            let generation = Generation {
                incarnation: incarnation::incarnation(&**store, &*snapshot),
                // What is newer than that may be missing.
                revision: at.unwrap_or_else(|| snapshot.revision()),
            };
            self.inner.meters.looks.inc();
            self.state.lock().want(generation, Arc::new(set));
            refused
        };
        self.tidy_tokens(plan);
        self.news.notify_one();
        for refused in &refused {
            debug!(cluster = %self.cluster, error = %refused, "left out of the plan");
        }
        self.refused.send_replace(refused);
    }

    /// Tells what the newest look had to leave out, beside the looks: each is a write or two.
    pub(crate) async fn report_refused(&self) -> Infallible {
        let mut newest = self.refused.subscribe();
        let mut reported: Vec<Refused> = Vec::new();
        loop {
            let refused = newest.borrow_and_update().clone();
            let tell = async |one: Refused| {
                let before = reported.contains(&one);
                let outcome =
                    refusals::report(&self.inner.objects, self.identity, &one, before).await;
                // The next look tells again what could not be told.
                let failed = |error| {
                    debug!(cluster = %self.cluster, %error, "cannot tell what was left out of the plan");
                };
                outcome.map_err(failed).is_ok().then_some(one)
            };
            let written = stream::iter(refused).map(tell).buffer_unordered(REFUSALS_AT_ONCE);
            reported = written.filter_map(std::future::ready).collect().await;
            // The sender lives as long as `self`.
            let _ = newest.changed().await;
        }
    }

    /// Tells which generation of its pods the spoke has seen, where it has nothing else to say of them.
    pub(crate) async fn tell_observed(&self) -> Infallible {
        loop {
            self.unobserved.due().await;
            sleep(REPORT_TIME).await;
            let reached = self.state.lock().reached().revision;
            let tell = |key| self.tell_seen(key, reached);
            let told =
                stream::iter(self.unobserved.take()).map(tell).buffer_unordered(SEEN_AT_ONCE);
            let failed: Vec<Key> = told.filter_map(std::future::ready).collect().await;
            if !failed.is_empty() {
                self.unobserved.put_back(failed);
                sleep(session_records::WRITE_RETRY_EVERY).await;
                self.unobserved.note_reached();
            }
        }
    }

    /// The same of one pod. Answers it when the store cannot write now.
    async fn tell_seen(&self, key: Key, reached: Revision) -> Option<Key> {
        let pod = self.inner.objects.store().snapshot().get(&key)?;
        if reached < pod.revision {
            // Until it holds that, too.
            self.unobserved.put_back([key]);
            return None;
        }
        if !observed::lacks(&pod) || self.is_refused(&key) {
            return None;
        }
        let bytes = reports::MEMORY_OF_A_BYTE * pod.object.body.len();
        let _room = self.write_room.take(bytes).await;
        match observed::write(&self.inner.objects, self.identity, &pod, reached).await {
            Ok(()) => None,
            Err(error) => {
                debug!(cluster = %self.cluster, %error, "cannot tell which generation of a pod was seen");
                // Whoever was faster is seen by the next look.
                writes::passes(&error).then_some(key)
            }
        }
    }

    /// Whether the spoke was not told of this pod.
    fn is_refused(&self, key: &Key) -> bool {
        let is_it = |one: &Refused| {
            let place = (&one.realm, &*one.namespace, &*one.name);
            !one.stays
                && one.resource == PODS.2
                && place == (&key.cluster, &*key.namespace, &*key.name)
        };
        self.refused.borrow().iter().any(is_it)
    }
}
