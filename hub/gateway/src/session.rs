//! One spoke's session: greet, push the newest plan, take reports, serve its streams, end for a reason.
//!
//! Guarantees:
//! - the newest session is the only one (`a_newer_session_is_the_only_one_and_the_spoke_is_a_node`);
//! - a spoke that is no longer accepted is cut off at once (`taking_acceptance_back_closes_the_link_within_a_second`);
//! - what a spoke says wrong ends its session and nothing else (`hostile_bytes_end_a_session_and_nothing_else`);
//! - a disk that stands still keeps no session from opening or ending
//!   (`a_session_opens_and_ends_while_the_disk_stands_still`);
//! - a store that cannot write makes reports wait and ends no session
//!   (`a_full_disk_ends_no_session_and_reports_are_taken_when_there_is_room_again`), and what else the spoke says is
//!   heard (`reports_that_wait_for_the_disk_hold_nothing_else_back`);
//! - a spoke that takes no plans is not called ready (`a_spoke_that_takes_no_plan_is_called_late_until_it_does`), nor is
//!   one that does not read them (`a_spoke_that_does_not_read_is_called_late_until_it_does`);
//! - a spoke has its whole plan sent a few times in a row, then twice a minute: who asks for more is sent away
//!   (`a_device_that_asks_for_everything_again_and_again_is_sent_away_with_the_reason`), and who comes back with
//!   nothing that is known waits, which is counted apart
//!   (`a_device_that_comes_back_empty_again_and_again_gets_its_whole_plan_a_few_times`);
//! - a spoke hears when the hub's clock is set (`a_spoke_in_session_is_told_when_the_hubs_clock_is_set`);
//! - what is logged meanwhile says whose session it is, of which process, and which of that spoke's it is
//!   (`what_is_logged_of_a_session_says_which_it_is`), and who is turned away again and again is logged once a minute
//!   (`who_is_turned_away_again_and_again_is_logged_once_a_minute`).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use freewheel_link::frame::{self, FrameError};
use freewheel_link::hub_session::Effect;
use freewheel_link::message::{HelloV1, HubToSpoke, Reason, SpokeToHub};
use freewheel_link::record_set::Held;
use freewheel_link::report::{Report, ReportStamp};
use freewheel_link::stream_budget::Budget;
use freewheel_link::transport::{SendHalf, Transport, code};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::select;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::field::{Empty, display};
use tracing::{Instrument as _, Span, debug, info, info_span, warn};

use crate::compile_waits::CompileWaits;
use crate::deleted_clusters::DeletedClusters;
use crate::inner::Inner;
use crate::live_session::Session;
use crate::opening::{self, Opened, Recv};
use crate::pending_sessions::PendingPermit;
use crate::session_end::{End, GOODBYE_TIMEOUT, over};
use crate::session_records::Begun;
use crate::spoke_identity::SpokeIdentity;
use crate::sync_signal::SyncSignal;
use crate::{
    compiling, datagrams, device_orders, duplicates, session_ends, session_records, streams,
};

/// Where what is logged of a session belongs; what the greeting says is added when it comes.
pub(crate) fn span(identity: &SpokeIdentity, peer: SocketAddr) -> Span {
    info_span!("session", cluster = %identity.cluster, %peer, instance = Empty, epoch = Empty)
}

/// Serves a connection whose certificate is of this cluster, until it ends.
pub(crate) async fn serve(
    inner: &Arc<Inner>,
    link: Arc<dyn Transport>,
    identity: SpokeIdentity,
    stop: &CancellationToken,
) {
    let identity = Arc::new(identity);
    let cluster = &identity.cluster;
    // A session that the store still calls up, or may yet.
    let open = Mutex::new(None);
    let waiting = inner.pending_sessions.wait(&identity.uid, &link);
    let end = match Box::pin(opening::greeted(&link)).await {
        Ok(greeting) => {
            let session = session(inner, &link, &identity, greeting, waiting, &open, stop);
            let end = Box::pin(session).await;
            match end {
                Ok(never) => match never {},
                Err(end) => end,
            }
        }
        Err(end) => end,
    };
    // The stream breaks with its connection: which of the two is heard first is chance.
    let end = match end {
        End::Frame(FrameError::Io(_)) => End::Closed(over(&link).await),
        end => end,
    };
    link.close(end.code(), &end.to_string());
    if let End::Left(Reason::Decommissioned(_)) = &end {
        device_orders::note_told(&inner.objects, &identity.key).await;
    }
    let unwritten = open.lock().take();
    if let Some(begun) = unwritten {
        let Inner { session_ends: ends, links, reported, objects, .. } = &**inner;
        session_ends::write(ends, links, reported, objects, &identity, &begun, stop).await;
    }
    match end {
        End::Frame(error) => {
            let error = format!("{error}: {:?}", std::error::Error::source(&error));
            warn!(%cluster, peer = %link.peer().address, error, "a spoke broke the protocol");
        }
        End::Left(Reason::Stopping | Reason::Superseded) | End::Closed(_) => {
            info!(error = %end, "a session ended");
        }
        // It tries several times a minute; what there is to say of it is said where people are told.
        End::Left(Reason::Cloned) => {
            debug!(peer = %link.peer().address, error = %end, "turned away");
        }
        end if end.code() == code::REFUSED
            && !inner.turned_away.take(&identity.key.to_string()) =>
        {
            debug!(%cluster, peer = %link.peer().address, error = %end, "a session was ended");
        }
        end => warn!(%cluster, peer = %link.peer().address, error = %end, "a session was ended"),
    }
}

async fn session(
    inner: &Arc<Inner>,
    link: &Arc<dyn Transport>,
    identity: &Arc<SpokeIdentity>,
    (mut send, recv, hello): (Box<dyn SendHalf>, Recv, HelloV1),
    waiting: PendingPermit<'_>,
    up: &Mutex<Option<Begun>>,
    stop: &CancellationToken,
) -> Result<Infallible, End> {
    let opened = Box::pin(opening::open(inner, identity, link, hello.clone(), up));
    let Opened { state, epoch, signal, begun } = match opened.await {
        Ok(opened) => opened,
        Err(end) => {
            part(&mut send, link, &end).await;
            return Err(end);
        }
    };
    compiling::note_profile(&*inner.images, &hello.node.profile);
    drop(waiting);
    in_session(hello.instance, epoch);
    let live = Session::new(inner, link, identity, hello.instance, (state, epoch, begun));
    // Each apart: what one of them needs while it is at work is not kept while it waits, nor is room for it twice.
    let ended = select! {
        biased;
        () = stop.cancelled() => Err(End::Left(Reason::Stopping)),
        closed = link.closed() => Err(End::Closed(closed)),
        ended = Box::pin(live.listen(recv)) => ended,
        ended = Box::pin(live.beats()) => ended,
        ended = Box::pin(live.send_messages(&mut send)) => ended,
        ended = Box::pin(live.sync_plan(&signal)) => ended,
        never = Box::pin(live.lease()) => match never {},
        ended = Box::pin(live.write(hello.node, &signal)) => ended,
        ended = Box::pin(live.remember()) => ended,
        never = Box::pin(live.give_back()) => match never {},
        never = Box::pin(live.report_refused()) => match never {},
        never = Box::pin(live.tell_observed()) => match never {},
        never = Box::pin(live.keep_tokens(&signal)) => match never {},
        never = Box::pin(live.send_waiting_datagrams()) => match never {},
        ended = Box::pin(live.streams(inner)) => ended,
        never = Box::pin(duplicates::watch(&inner.duplicates, &inner.objects, identity)) => match never {},
    };
    if matches!(ended, Err(End::Left(Reason::Unknown | Reason::Replaced | Reason::Renamed(_)))) {
        inner.forget(&DeletedClusters::One(&identity.uid));
    }
    Box::pin(live.leave(&signal, up)).await;
    let Err(end) = ended;
    part(&mut send, link, &end).await;
    Err(end)
}

/// Tells the log who is there.
fn in_session(instance: u64, epoch: u64) {
    let span = Span::current();
    span.record("instance", display(format_args!("{instance:016x}"))).record("epoch", epoch);
    info!("a spoke is in session");
}

/// Says goodbye with the reason, where there is one to say, and gives it a moment to arrive.
async fn part(send: &mut Box<dyn SendHalf>, link: &Arc<dyn Transport>, end: &End) {
    let End::Left(reason) = end else { return };
    let last = async {
        if frame::write(send, &HubToSpoke::Goodbye(reason.clone())).await.is_ok() {
            let _ = send.shutdown().await;
            link.closed().await;
        }
    };
    let _ = timeout(GOODBYE_TIMEOUT, last).await;
}

impl Session<'_> {
    /// Takes the session off wherever it is known.
    async fn leave(&self, signal: &Arc<SyncSignal>, up: &Mutex<Option<Begun>>) {
        let (inner, cluster) = (self.inner, self.cluster);
        inner.fanout.leave(cluster, signal);
        {
            let mut links = inner.links.lock();
            if links.get(cluster).is_some_and(|held| Arc::ptr_eq(&held.transport, self.link)) {
                links.remove(cluster);
            }
        }
        let known = self.state.lock().take_known();
        if let Some(Held { generation, digest, members }) = known {
            let held = Held { generation, digest, members: members.past() };
            let mut known = inner.known.lock();
            // Looked at with the lock held: who forgets what is gone comes after it.
            if self.identity.admit(&inner.objects).is_ok() {
                known.insert(self.identity.uid.clone(), held);
            }
        }
        let reported = inner.reported.of(self.identity);
        let begun = self.begun.lock().clone();
        let ended =
            session_records::end_session(&inner.objects, self.identity, &begun, reported.as_ref());
        if let Err(error) = session_records::in_time(ended).await {
            warn!(%cluster, %error, "cannot write that a session is over; trying again");
            *up.lock() = Some(begun);
        }
    }

    /// Takes what the spoke says, but for a report: whoever listens puts that where it waits to be written.
    fn receive(&self, message: SpokeToHub) -> Result<Option<(ReportStamp, Box<Report>)>, End> {
        let effect = {
            let mut state = self.state.lock();
            let wall = self.inner.objects.clock().unix_millis();
            state.note_heard(wall);
            state.keep_clock(wall, self.now());
            state.receive(message, self.now()).map_err(End::Left)?
        };
        self.news.notify_one();
        match effect {
            None => Ok(None),
            Some(Effect::Left(reason)) => Err(End::Left(reason)),
            Some(Effect::Acked(generation)) => {
                debug!(cluster = %self.cluster, generation = generation.revision, "plan taken");
                if let Some(since) = self.pushed.lock().take() {
                    self.inner.meters.landing.observe(since.elapsed());
                }
                Ok(None)
            }
            // All of a plan is the most that a word of a spoke costs.
            Some(Effect::Drifted) if !self.inner.drifts.take(&self.identity.uid) => {
                let text = "everything is asked for again and again";
                Err(End::Left(Reason::Violation(text.into())))
            }
            Some(Effect::Drifted) => {
                warn!(cluster = %self.cluster, "the spoke holds something else; sending everything");
                self.inner.fanout.raise(self.cluster);
                Ok(None)
            }
            Some(Effect::Report(stamp, mut report)) => {
                report.bound();
                Ok(Some((stamp, report)))
            }
        }
    }

    async fn send_waiting_datagrams(&self) -> Infallible {
        datagrams::send_waiting_datagrams(self.inner, self.identity, &self.waiting_datagrams).await
    }

    async fn listen(&self, mut recv: Recv) -> Result<Infallible, End> {
        loop {
            let message = recv.next_known::<SpokeToHub>(&self.inner.skipped).await?;
            let Some(heard) = message.map(|message| self.receive(message)).transpose()? else {
                return Err(End::Closed(over(self.link).await));
            };
            if let Some((stamp, report)) = heard {
                // No room makes the spoke wait, and nobody else.
                Box::pin(self.pending_reports.put(stamp, *report)).await;
            }
        }
    }

    async fn beats(&self) -> Result<Infallible, End> {
        loop {
            let bytes = self.link.datagram().await?;
            match frame::decode(&bytes) {
                Ok(beat @ SpokeToHub::Heartbeat { .. }) => drop(self.receive(beat)?),
                Ok(SpokeToHub::Datagram(sent)) => {
                    datagrams::relay(self.inner, self.identity, &self.waiting_datagrams, sent);
                }
                Err(_) => drop(self.inner.skipped.fetch_add(1, Ordering::Relaxed)),
                Ok(_) => {
                    let text = "only heartbeats and pods' datagrams come as datagrams";
                    return Err(End::Left(Reason::Violation(text.into())));
                }
            }
        }
    }

    async fn streams(&self, inner: &Arc<Inner>) -> Result<Infallible, End> {
        let mut serving = JoinSet::new();
        // The transport bounds how many streams a spoke has open, and this what they are for.
        let budget = Arc::new(Budget::default());
        let waits = Arc::new(CompileWaits::default());
        loop {
            let stream = self.link.accept().await?;
            let identity = self.identity.clone();
            let serve =
                streams::serve(inner.clone(), identity, stream, budget.clone(), waits.clone());
            serving.spawn(serve.in_current_span());
            while serving.try_join_next().is_some() {}
        }
    }
}
