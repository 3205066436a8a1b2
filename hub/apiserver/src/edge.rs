//! What holds for every answer, whoever gives it.
//!
//! Guarantees:
//! - no answer to HEAD and none with 1xx, 204 or 304 has a body, over HTTP/1.1 or HTTP/2
//!   (`no_answer_to_head_and_none_that_says_so_has_a_body`);
//! - an answer that comes before all of the request was read reaches a client that is still sending: HTTP/2 reads on
//!   beside the answer, HTTP/1.1 after it (`a_refusal_over_http_2_leaves_its_client_the_time_to_send`,
//!   `a_refusal_over_http_1_is_not_taken_back_by_a_reset`);
//! - one over HTTP/1.1 after which the connection ends says so (`a_refusal_says_whether_its_connection_goes_on`,
//!   `an_answer_that_comes_before_its_request_was_read_says_that_its_connection_ends`);
//! - both for a while (`who_never_stops_sending_gets_the_answer_and_then_an_end`);
//! - headers of more than a few kilobytes are on their connection's account until there is an answer
//!   (`headers_are_on_the_account_of_their_connection`), and as long as that lasts
//!   (`what_a_watch_is_asked_with_is_on_the_account_of_its_connection`);
//! - an answer of more than a few kilobytes is on its connection's account before it is sent: one that was made without
//!   room for it is thrown away, and its client told to ask again, unless it says what was done
//!   (`what_is_made_without_room_is_not_kept`).

use std::net::IpAddr;
use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tracing::Instrument as _;

use crate::authn::Proven;
use crate::body::Body;
use crate::connection_slots::{ConnectionPermit, ConnectionSlot};
use crate::context::Hub;
use crate::dispatch::{self, KnownBy};
use crate::flow::shares::Sharer;
use crate::host;
use crate::memory_account::{Held, MemoryAccount};
use crate::piece::BRIEF_ANSWER_BYTES;
use crate::registry::LoggedIn;
use crate::request_body::{Leftover, RequestBody, Unread, drained};
use crate::respond;
use crate::send_backlog::SendBacklog;
use crate::stream;
use crate::trail::Trail;

/// Answers a request.
pub(crate) async fn answer(
    hub: Arc<Hub>,
    proven: Option<Proven>,
    (place, from): (Arc<ConnectionPermit>, Option<IpAddr>),
    mut request: Request<Incoming>,
) -> Response<Body> {
    let busy = place.slot.busy();
    place.slot.upgrade.offer(&mut request);
    let (head, http2) = (*request.method() == Method::HEAD, request.version() == Version::HTTP_2);
    // Whoever waits to be told to send is not, when nobody wants it.
    let waits = request.headers().contains_key(EXPECT);
    let (parts, incoming) = request.into_parts();
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let backlog = &place.slot.backlog;
    let account = &backlog.account;
    let window = http2.then(|| place.slot.window.hold(account, &incoming)).flatten();
    let (heading, refusal) = match room(account, &parts) {
        Ok(heading) => (heading.map(Arc::new), host::refusal(&parts)),
        Err(error) => (None, Some(respond::failure(&error))),
    };
    let (received, rest) = RequestBody::new(incoming, window, place.slot.clone());
    let (mut seen, mut trail) = (hub.meters.begin(&parts.method), Trail::of(&parts, from));
    trail.is_asked_with(heading.clone(), account);
    let response = match refusal {
        None => {
            let request = Request::from_parts(parts, received);
            let span = trail.span().clone();
            dispatch::handle(hub, proven, request, (&mut seen, &mut trail)).instrument(span).await
        }
        Some(refusal) => {
            drop(received);
            refusal
        }
    };
    place.slot.upgrade.keep_heading(heading.as_ref());
    note_login(&place, &response);
    let response = trail.answered(counted(response, backlog, reads)).await;
    let (mut parts, mut body) = seen.end(response).into_parts();
    trail.set_header(&mut parts.headers);
    if head || is_bodiless(parts.status) {
        say_length(&mut parts, &body, head);
        body = Body::empty();
    }
    if let Some(unread) = left(rest.take(), (http2, waits), &mut parts, &place.slot).await {
        body = body.holding(unread, http2);
    }
    let body = body.asked_with(heading);
    Response::from_parts(parts, body.during(busy, stream::reset()))
}

/// What is not read of a request. Over HTTP/1.1 its connection ends with the answer then, which says so.
async fn left(
    leftover: Leftover,
    (http2, waits): (bool, bool),
    answer: &mut http::response::Parts,
    slot: &ConnectionSlot,
) -> Option<Unread> {
    let changes = answer.status == StatusCode::SWITCHING_PROTOCOLS;
    let left = match leftover {
        Leftover::Nothing => return None,
        Leftover::WithItsReader if http2 || changes => return None,
        Leftover::Unread(unread) if http2 => return Some(unread),
        // Whoever has it, a connection to a pod, lets go of it when the answer is out at the latest.
        Leftover::WithItsReader => None,
        Leftover::Unread(unread) if waits || changes => Some(unread),
        Leftover::Unread(unread) => Some(drained(unread).await?),
    };
    if !changes {
        answer.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    slot.leaves_unread();
    left
}

/// Whoever has shown who they are sits on a place of the known from then on.
fn note_login(place: &ConnectionPermit, response: &Response<Body>) {
    if let Some(KnownBy(user)) = response.extensions().get() {
        place.known(Sharer::from(&**user));
    } else if response.extensions().get::<LoggedIn>().is_some() {
        // The registry's own logins name nobody.
        place.known(Sharer::in_root(""));
    }
}

/// Room for what comes before a request's body. It is there already: who waits for room would keep it on nobody's account
/// meanwhile.
fn room(account: &Arc<MemoryAccount>, parts: &Parts) -> Result<Option<Held>, ApiError> {
    let bytes = heading(parts);
    if bytes <= BRIEF_ANSWER_BYTES {
        return Ok(None);
    }
    // What is read of it takes as much again.
    account.hold_heading(2 * bytes).map(Some)
}

/// Bytes of what comes before a request's body, some of them twice: much of it is looked at again later.
fn heading(parts: &Parts) -> usize {
    let path = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let fields = parts.headers.iter().map(|(name, value)| 64 + name.as_str().len() + value.len());
    2 * path + fields.sum::<usize>()
}

/// The same answer, when its connection's account has room for what was not asked for there.
fn counted(mut answer: Response<Body>, backlog: &SendBacklog, reads: bool) -> Response<Body> {
    let bytes = answer.body().uncounted();
    if bytes <= BRIEF_ANSWER_BYTES {
        return answer;
    }
    let held = match backlog.account.hold_now(bytes) {
        Ok(held) => held,
        // To wait for room would keep it on nobody's account meanwhile.
        Err(error) if reads => return respond::failure(&error),
        // What is done is done, and has to be said.
        Err(_) => Some(backlog.account.piece(bytes)),
    };
    answer.body_mut().keep(held);
    answer
}

fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// HEAD tells how long the body would have been; other answers without a body have no length.
fn say_length(parts: &mut http::response::Parts, body: &Body, head: bool) {
    if is_bodiless(parts.status) {
        parts.headers.remove(CONTENT_LENGTH);
    } else if head && let Some(length) = body.size_hint().exact().filter(|length| 0 < *length) {
        parts.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory_account::CONNECTION_BYTES_MAX;

    #[test]
    fn what_is_made_without_room_is_not_kept() {
        let backlog = SendBacklog::new(Arc::default());
        let answer = |bytes: usize| respond::whole(200, "text/plain", vec![7; bytes].into());
        let (kept, refused): (Vec<_>, Vec<_>) = (0..1_000)
            .map(|_| counted(answer(60 << 10), &backlog, true))
            .partition(|answer| answer.status() == 200);
        assert!(
            kept.iter()
                .chain(&refused)
                .all(|answer| answer.body().uncounted() <= BRIEF_ANSWER_BYTES)
        );
        assert!(refused.iter().all(|answer| answer.status() == 429));
        assert!(!refused.is_empty() && backlog.account.held() <= CONNECTION_BYTES_MAX);
        assert_eq!(counted(answer(500), &backlog, true).status(), 200);
        let before = backlog.account.held();
        let written = counted(answer(60 << 10), &backlog, false);
        assert_eq!((written.status().as_u16(), backlog.account.held()), (200, before + (60 << 10)));
        drop((kept, refused, written));
        assert_eq!(backlog.account.held(), 0);
    }
}
