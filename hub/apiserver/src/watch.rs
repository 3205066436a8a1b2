//! Watches: events as they come, in the encoding that each client wants.
//!
//! ```text
//! store ─▶ Event ─▶ filter: was in, is in ─▶ ADDED | MODIFIED | DELETED ─▶ frame ─▶ many watchers
//! ```
//!
//! Guarantees:
//! - a frame is made once per (event, encoding) while it is recent and shared by all watchers
//!   (`watchers_of_the_same_encoding_share_a_frames_bytes`);
//! - each watcher gets every event, in order (`a_thousand_watchers_see_every_event_in_order`), or 410 when what it
//!   still has to see is no longer kept (`a_forgotten_version_is_an_error_event`);
//! - a watch ends with 410 when its cluster goes, and with 401 when its client's certificate ends
//!   (`watches_and_logs_end_with_their_cluster_and_read_nothing_of_the_next`,
//!   `a_certificate_that_ends_is_refused_over_its_open_connection_and_ends_what_runs`), also before all that was
//!   there at its beginning is sent (`a_watch_that_has_much_to_send_ends_with_its_certificate`), and also by a clock
//!   that was put on or a machine that slept (`a_certificate_ends_by_the_clock_however_it_is_put_on`);
//! - that of an add-on's agent ends with 401 when it is one no more (`what_an_agent_watches_ends_with_its_add_on`);
//! - it makes no more than a [`PIECE_BYTES`] and one object at a time, however much there is
//!   (`a_watch_sends_what_is_there_in_pieces`), keeps no former state of the store for a client that takes its time
//!   (`a_slow_watch_goes_on_from_the_newest_state`), and when its connection has room for it only
//!   (`pieces_that_nobody_takes_are_on_their_connection_s_account`);
//! - it has the seat of its request until all that was there at its beginning is out
//!   (`a_watch_gives_its_seat_back_when_it_has_begun`).

mod conversion;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Revision, Scope, Snapshot, Stored, Watch};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream};
use http::HeaderValue;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::json;
use tokio::time::{Instant, Sleep};

use crate::authn::{self, User};
use crate::body::{Body, Made};
use crate::call::{Call, Filter};
use crate::context::Hub;
use crate::encode::Encoder;
use crate::flow::TakenSeat;
use crate::frame::Type;
use crate::frame_cache::Frame;
use crate::piece::{BodyError, PIECE_BYTES};
use crate::read;
use crate::shutdown::Begun;
use crate::shutdown::own_waker::OwnWaker;
use crate::tenant::Tenant;

/// How often an idle watch says how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A watch without `timeoutSeconds` ends after this long and up to as long again, so that the
/// watches of a restarted hub do not end together.
const WATCH_TIMEOUT_MIN: Duration = Duration::from_secs(30 * 60);
/// So many objects are looked at for one piece of those that are there at the beginning.
const INITIAL_CHUNK_OBJECTS: usize = 500;
/// How long a state of the store is kept for them. Every write since then is there twice as long as it is.
const SNAPSHOT_KEPT_FOR: Duration = Duration::from_secs(5);

/// What comes after a revision, if that is kept and its cluster's own.
fn open(call: &Call, scope: &Scope, from: Revision) -> Result<Box<dyn Watch>, ApiError> {
    call.tenant.reaches(from)?;
    let watch = call.hub.server.objects.store().watch(vec![scope.clone()], from);
    watch.map_err(|gone| ApiError::expired(gone.to_string()))
}

/// Answers a watch.
pub(crate) async fn watch(call: &Call) -> Result<Response<Body>, ApiError> {
    read::validate(&call.query, true)?;
    let encoder = call.encoder()?;
    let filter = call.filter()?;
    let store = call.hub.server.objects.store();
    let asked = call.query.revision()?;
    // First the signal: what goes after this look is told.
    let gone = call.hub.tenants.end_of(&call.tenant, &**store);
    let unknown = call.hub.agents.end_of(&call.user, &**store);
    let newest = read::not_older(call, asked).await?;
    call.tenant.check(&*newest)?;
    let send_initial_events = call.query.send_initial_events;
    let initial = send_initial_events.unwrap_or(matches!(asked, None | Some(0)));
    let from = asked.filter(|asked| !initial && *asked != 0).unwrap_or_else(|| newest.revision());
    let scope = call.scope();
    let opened = open(call, &scope, from);
    let end_mark = send_initial_events == Some(true) && call.query.bookmarks;
    let (expires, deadline) = ends(call);
    let first = if call.query.bookmarks { Instant::now() + BOOKMARK_EVERY } else { deadline };
    // What begins with nothing has begun.
    let seat = call.initializing.lock().take();
    let content_type = encoder.wanted.watch_content_type();
    let mut feed = Feed {
        hub: call.hub.clone(),
        stopped: call.hub.stop.begun(),
        tenant: call.tenant.clone(),
        gone,
        unknown,
        removed: call.end_of_kind(),
        user: call.user.clone(),
        expires,
        encoder,
        filter,
        scope,
        initial: initial.then(|| Initial::of(newest, end_mark, seat)),
        watch: None,
        events: Vec::new().into_iter(),
        converting: None,
        closing: None,
        bookmarks: call.query.bookmarks,
        ends: OwnWaker::new(),
        timer: Box::pin(tokio::time::sleep_until(first.min(deadline))),
        deadline,
    };
    match opened {
        Ok(watch) => feed.watch = Some(watch),
        Err(gone) => feed.closing = Some(feed.error(&gone)?),
    }
    Ok(response(feed, content_type))
}

fn response(feed: Feed, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::made(feed));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// When its caller is not known any more by what was shown, and when the watch ends.
fn ends(call: &Call) -> (Option<Instant>, Instant) {
    let expires = call.user.ends_in(call.hub.server.objects.clock().unix_seconds());
    let expires = expires.and_then(|after| Instant::now().checked_add(after));
    let deadline = Instant::now() + life(call.query.timeout_seconds);
    (expires, expires.map_or(deadline, |expires| deadline.min(expires)))
}

fn life(seconds: Option<u64>) -> Duration {
    match seconds {
        None | Some(0) => WATCH_TIMEOUT_MIN + WATCH_TIMEOUT_MIN.mul_f64(fastrand::f64()),
        // A day bounds what a client can ask for; it comes back by itself.
        Some(seconds) => Duration::from_secs(seconds.min(24 * 60 * 60)),
    }
}

/// What is there at the beginning, and was not sent yet.
struct Initial {
    /// The state at the revision that the watch has come to.
    snapshot: Arc<dyn Snapshot>,
    /// Since when it is kept.
    since: Instant,
    after: Option<Key>,
    end_mark: bool,
    /// Free when all of it is out.
    _seat: Option<TakenSeat>,
}

impl Initial {
    fn of(snapshot: Arc<dyn Snapshot>, end_mark: bool, seat: Option<TakenSeat>) -> Self {
        Self { snapshot, since: Instant::now(), after: None, end_mark, _seat: seat }
    }
}

/// One watcher.
struct Feed {
    hub: Arc<Hub>,
    stopped: Begun,
    tenant: Tenant,
    /// The tenant is there no more.
    gone: Option<Begun>,
    /// The client is no agent of an add-on any more; `None` for whoever was none.
    unknown: Option<Begun>,
    /// The kind is served no more; `None` for what is built in.
    removed: Option<BoxFuture<'static, ()>>,
    user: Arc<User>,
    /// The client's certificate ends, as far as a timer knows.
    expires: Option<Instant>,
    encoder: Encoder,
    filter: Filter,
    scope: Scope,
    initial: Option<Initial>,
    watch: Option<Box<dyn Watch>>,
    /// Those that have come and were not sent yet.
    events: std::vec::IntoIter<Event>,
    /// Those that come next, once they are in the version that is watched.
    converting: Option<BoxFuture<'static, Result<Vec<Event>, ApiError>>>,
    /// The last frame, when there is nothing to watch.
    closing: Option<Bytes>,
    bookmarks: bool,
    /// Wakes for the ends above and for the timer.
    ends: OwnWaker,
    timer: Pin<Box<Sleep>>,
    deadline: Instant,
}

enum Turn {
    Initial,
    Events,
    Broken(ApiError),
    Mark,
    End,
}

impl Stream for Feed {
    type Item = Result<Made, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let feed = self.get_mut();
        loop {
            match ready!(feed.poll_chunk(cx)) {
                Some(Ok(chunk)) if chunk.bytes.is_empty() => {}
                chunk => return Poll::Ready(chunk.map(|chunk| chunk.map_err(BodyError::from))),
            }
        }
    }
}

impl Feed {
    /// What comes next; empty when nothing is to be sent for it.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Made, ApiError>>> {
        if let Some(last) = self.closing.take() {
            self.end();
            return Poll::Ready(Some(Ok(last.into())));
        }
        let Some(turn) = ready!(self.poll_turn(cx)) else { return Poll::Ready(None) };
        let made = match turn {
            Turn::Events => return Poll::Ready(Some(self.frames())),
            Turn::Initial => Some(self.initial_chunk()),
            Turn::Broken(why) => {
                self.closing = self.error(&why).ok();
                self.end();
                Some(Ok(Bytes::new()))
            }
            Turn::Mark => Some(self.bookmark(false)),
            Turn::End => {
                let last = (self.bookmarks && !self.is_behind()).then(|| self.bookmark(false));
                self.end();
                last
            }
        };
        Poll::Ready(made.map(|made| made.map(Made::from)))
    }

    /// Whether there is something that the client does not know yet: no mark may say that it does.
    fn is_behind(&self) -> bool {
        self.initial.is_some() || !self.events.as_slice().is_empty() || self.converting.is_some()
    }

    fn end(&mut self) {
        self.watch = None;
        self.initial = None;
        self.converting = None;
        self.events = Vec::new().into_iter();
    }

    /// What comes next, for a client whose certificate has not ended meanwhile: a timer knows neither of a clock that
    /// is put on nor of a machine that slept.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Turn>> {
        let turn = ready!(self.poll_any_turn(cx));
        let said = matches!(turn, Some(Turn::Initial | Turn::Events | Turn::Mark | Turn::End));
        if said && self.user.has_ended(self.hub.server.objects.clock().unix_seconds()) {
            return Poll::Ready(Some(Turn::Broken(authn::unauthorized())));
        }
        Poll::Ready(turn)
    }

    /// Waits. Polled by hand: this runs three times per event and watcher, and so registers nothing
    /// anew and allocates nothing.
    fn poll_any_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Turn>> {
        if self.watch.is_none() {
            return Poll::Ready(None);
        }
        if let Some(waker) = self.ends.woken(cx)
            && let Some(turn) = self.poll_ends(&mut Context::from_waker(&waker))
        {
            // Those behind it were not polled.
            self.ends.poll_again();
            return Poll::Ready(Some(turn));
        }
        if self.events.as_slice().is_empty()
            && self.converting.is_none()
            && let Err(why) = self.renew(cx)
        {
            return Poll::Ready(Some(Turn::Broken(why)));
        }
        self.convert_initial();
        if let Some(turn) = self.poll_converted(cx) {
            return turn.map(Some);
        }
        if self.is_behind() {
            let events = !self.events.as_slice().is_empty();
            return Poll::Ready(Some(if events { Turn::Events } else { Turn::Initial }));
        }
        let Some(watch) = self.watch.as_mut() else { return Poll::Ready(None) };
        Poll::Ready(Some(match ready!(watch.poll_next(cx)) {
            // These may be of the next cluster already, before anybody gave the signal.
            Ok(events) => match self.tenant.check_newest(&**self.hub.server.objects.store()) {
                // What is to be converted is polled there, and wakes this watcher.
                Ok(()) => match self.take(events) {
                    true => return self.poll_any_turn(cx),
                    false => Turn::Events,
                },
                Err(gone) => Turn::Broken(gone),
            },
            Err(gone) => Turn::Broken(ApiError::expired(gone.to_string())),
        }))
    }

    /// What has ended, or that a mark is due.
    fn poll_ends(&mut self, cx: &mut Context<'_>) -> Option<Turn> {
        if self.stopped.poll_unpin(cx).is_ready() {
            return Some(Turn::End);
        }
        if let Some(gone) = &mut self.gone
            && gone.poll_unpin(cx).is_ready()
        {
            return Some(Turn::Broken(self.tenant.gone()));
        }
        if let Some(unknown) = &mut self.unknown
            && unknown.poll_unpin(cx).is_ready()
        {
            return Some(Turn::Broken(authn::unauthorized()));
        }
        if let Some(removed) = &mut self.removed
            && removed.poll_unpin(cx).is_ready()
        {
            self.removed = None;
            let why = format!("{:?} is served no more", self.encoder.view.served);
            return Some(Turn::Broken(ApiError::expired(why)));
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.expires.is_some_and(|expires| expires <= now) {
                return Some(Turn::Broken(authn::unauthorized()));
            }
            if self.deadline <= now {
                return Some(Turn::End);
            }
            let next = (now + BOOKMARK_EVERY).min(self.deadline);
            self.timer.as_mut().reset(next);
            if !self.is_behind() {
                return Some(Turn::Mark);
            }
        }
        None
    }

    /// Goes on with the beginning from a newer state, when the one that it is read from is kept for long: what happened
    /// until then to those that were sent comes as events.
    fn renew(&mut self, cx: &mut Context<'_>) -> Result<(), ApiError> {
        let (Some(initial), Some(watch)) = (&mut self.initial, &mut self.watch) else {
            return Ok(());
        };
        if initial.since.elapsed() < SNAPSHOT_KEPT_FOR {
            return Ok(());
        }
        let too_old = |gone: freewheel_hub_store::Compacted| ApiError::expired(gone.to_string());
        let store = self.hub.server.objects.store();
        let (mut events, mut bytes) = (Vec::new(), 0);
        // Those that were not sent are in the newer state.
        while bytes < 4 * PIECE_BYTES
            && let Poll::Ready(batch) = watch.poll_next(cx)
        {
            for event in batch.map_err(too_old)? {
                if event.key().is_some_and(|key| Some(key) <= initial.after.as_ref()) {
                    let body = |it: &Arc<Stored>| it.object.body.len();
                    bytes += event.now.as_ref().map_or(0, body);
                    bytes += event.before.as_ref().map_or(0, body);
                    events.push(event);
                }
            }
        }
        let state = store.snapshot_at(&self.scope, watch.progress()).map_err(too_old)?;
        self.tenant.check_newest(&**store)?;
        (initial.snapshot, initial.since) = (state, Instant::now());
        self.take(events);
        Ok(())
    }

    /// The next of those that are there at the beginning: by the piece, or an object that is larger.
    fn initial_chunk(&mut self) -> Result<Bytes, ApiError> {
        let Some(mut initial) = self.initial.take() else { return Ok(Bytes::new()) };
        let (mut out, mut last) = (Vec::new(), None);
        let page = initial.snapshot.range(&self.scope, initial.after.as_ref());
        for stored in page.take(INITIAL_CHUNK_OBJECTS) {
            if self.filter.matches(&stored) {
                out.extend_from_slice(&self.encoder.frame(
                    Type::Added,
                    &stored,
                    stored.revision,
                )?);
            }
            last = Some(stored);
            if PIECE_BYTES <= out.len() {
                break;
            }
        }
        match last {
            Some(last) => {
                initial.after = Some(last.key.clone());
                self.initial = Some(initial);
            }
            None if initial.end_mark => out.extend_from_slice(&self.bookmark(true)?),
            None => {}
        }
        Ok(out.into())
    }

    /// The frames of the next events, as one piece; shared when it is only one.
    fn frames(&mut self) -> Result<Made, ApiError> {
        let mut single: Option<Frame> = None;
        let (mut many, mut bytes) = (Vec::new(), 0);
        while bytes < PIECE_BYTES
            && let Some(event) = self.events.next()
        {
            let Some((kind, stored)) = seen(&event, &self.filter) else { continue };
            let frame = self.hub.frames.get(&self.encoder, kind, stored, event.revision)?;
            bytes += frame.bytes.len();
            match single.take() {
                None if many.is_empty() => single = Some(frame),
                None => many.extend_from_slice(&frame.bytes),
                Some(first) => {
                    many.extend_from_slice(&first.bytes);
                    many.extend_from_slice(&frame.bytes);
                }
            }
        }
        Ok(match single {
            Some(Frame { bytes, shared }) => Made { bytes, shared: Some(shared) },
            None => Bytes::from(many).into(),
        })
    }

    fn bookmark(&self, end_of_initial: bool) -> Result<Bytes, ApiError> {
        let Some(watch) = &self.watch else { return Ok(Bytes::new()) };
        let kind = &self.encoder.view.served;
        let mut object = json!({
            "kind": kind.kind(), "apiVersion": kind.api_version(),
            "metadata": {"resourceVersion": watch.progress().to_string()},
        });
        if end_of_initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.encoder.event("BOOKMARK", &self.encoder.shape(object))
    }

    fn error(&self, error: &ApiError) -> Result<Bytes, ApiError> {
        self.encoder.event("ERROR", &error.to_status())
    }
}

/// What an event is to a watcher with this filter.
fn seen<'a>(event: &'a Event, filter: &Filter) -> Option<(Type, &'a Stored)> {
    let before = event.before.as_deref().filter(|stored| filter.matches(stored));
    let now = event.now.as_deref().filter(|stored| filter.matches(stored));
    match (before, now) {
        (None, None) => None,
        (None, Some(now)) => Some((Type::Added, now)),
        (Some(_), Some(now)) => Some((Type::Modified, now)),
        // It left the selection or is gone: the last that the watcher knew, at the new revision.
        (Some(before), None) => Some((Type::Deleted, before)),
    }
}
