//! What holds for every answer, whoever gives it.
//!
//! Guarantees:
//! - no answer to HEAD and none with 1xx, 204 or 304 has a body, over HTTP/1.1 or HTTP/2
//!   (`no_answer_to_head_and_none_that_says_so_has_a_body`);
//! - an answer that comes before all of the request was read reaches a client that is still sending: HTTP/2 reads on
//!   beside the answer, HTTP/1.1 after it (`a_refusal_over_http_2_leaves_its_client_the_time_to_send`,
//!   `a_refusal_over_http_1_is_not_taken_back_by_a_reset`);
//! - both for a while (`who_never_stops_sending_gets_the_answer_and_then_an_end`).

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HeaderValue};
use http::response::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::authn::User;
use crate::body::{Body, PIECE};
use crate::dispatch;
use crate::places::Place;
use crate::received::Received;
use crate::respond;
use crate::server::Hub;
use crate::stream;

/// In an answer's extensions: whoever asked has shown who they are by other means than a certificate, and
/// their connection is no stranger's any more.
#[derive(Clone, Copy, Debug)]
pub struct LoggedIn;

/// Answers a request.
pub(crate) async fn answer(
    hub: Arc<Hub>,
    user: Option<Arc<User>>,
    place: Arc<Place>,
    request: Request<Incoming>,
) -> Response<Body> {
    let busy = place.seat.busy();
    let (head, http2) = (*request.method() == Method::HEAD, request.version() == Version::HTTP_2);
    let (parts, incoming) = request.into_parts();
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let (received, rest) = Received::new(incoming, place.seat.clone());
    let response = dispatch::handle(hub, user, Request::from_parts(parts, received)).await;
    if response.extensions().get::<LoggedIn>().is_some() {
        place.known();
    }
    let (mut parts, mut body) = counted(response, &place, reads).await.into_parts();
    if head || is_bodiless(parts.status) {
        say_length(&mut parts, &body, head);
        body = Body::empty();
    }
    if let Some(unread) = rest.take() {
        if !http2 {
            place.seat.leaves_unread();
        }
        body = body.holding(unread, http2);
    }
    Response::from_parts(parts, body.during(busy, stream::reset()))
}

/// The same answer, when its connection's account has room for what was not asked for there.
async fn counted(mut answer: Response<Body>, place: &Place, reads: bool) -> Response<Body> {
    let bytes = answer.body().uncounted();
    if bytes <= PIECE {
        return answer;
    }
    match place.seat.unsent.hold(bytes).await {
        Ok(held) => answer.body_mut().keep(held),
        Err(error) if reads => return respond::failure(&error),
        // What is done is done, and has to be said.
        Err(_) => {}
    }
    answer
}

fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// HEAD tells how long the body would have been; other answers without a body have no length.
fn say_length(parts: &mut Parts, body: &Body, head: bool) {
    if is_bodiless(parts.status) {
        parts.headers.remove(CONTENT_LENGTH);
    } else if head && let Some(length) = body.size_hint().exact().filter(|length| 0 < *length) {
        parts.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
}
