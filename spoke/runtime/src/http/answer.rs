//! One request: who may ask, and what is answered in the handler's place.
//!
//! Guarantees:
//! - a client learns nothing of the inside, and what went wrong is in the container's log under the number that
//!   the client got (`a_handler_that_traps_fails_its_request_alone`).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::answer_memory::AnswerMemory;
use super::connection_slots::ConnectionSlot;
use super::failure::Failure;
use super::request_body::RequestBody;
use super::request_heads::{Served, Waiting};
use super::server::Server;

/// When to come back to a pod that was full.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Bytes of a request's path and of its method that are worth a place in the log.
const LOGGED_PATH_BYTES_MAX: usize = 256;
const LOGGED_METHOD_BYTES_MAX: usize = 32;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers one request. `waiting`: its head's place until an instance takes it. `served`: until the answer is sent.
pub(super) async fn answer(
    server: &Server,
    slot: &Arc<ConnectionSlot>,
    request: Request<RequestBody>,
    waiting: Option<Waiting>,
    served: Arc<Served>,
) -> Response<Sent> {
    server.requests.fetch_add(1, Relaxed);
    let over = slot.asks();
    // When the connection goes before there is an answer, the handler hears of it.
    let gone = over.clone().drop_guard();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let (mut response, memory) = match refusal(&request) {
        Some(refused) => (refused, None),
        None => match server.pool.handle(request, waiting, slot, &over).await {
            Ok((response, memory)) => (response, Some(memory)),
            Err(failure) => (failed(server, &failure, &method, &uri), None),
        },
    };
    slot.answers();
    DropGuard::disarm(gone);
    let keeps_much = memory.as_ref().is_some_and(AnswerMemory::has_large_head);
    if server.stopping.is_cancelled() || slot.is_late() || keeps_much {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| Sent { body, memory, slot: slot.clone(), over, served })
}

/// The answer to a request that no handler gets to see.
fn refusal(request: &Request<RequestBody>) -> Option<Response<HyperOutgoingBody>> {
    if request.method() == Method::CONNECT {
        // It would have to become a tunnel, and a handler cannot make one.
        return Some(text(StatusCode::METHOD_NOT_ALLOWED, "no tunnels here"));
    }
    let what = match host(request.headers()) {
        Host::One => return None,
        Host::None if request.uri().authority().is_some() => return None,
        Host::None => "a request needs a Host",
        Host::Many => "a request has one Host",
        Host::Bad => "this is no Host",
    };
    Some(text(StatusCode::BAD_REQUEST, what))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    None,
    One,
    Many,
    Bad,
}

fn host(headers: &HeaderMap) -> Host {
    let mut all = headers.get_all(header::HOST).iter();
    let Some(value) = all.next() else { return Host::None };
    if all.next().is_some() {
        return Host::Many;
    }
    let fits = |byte: &u8| byte.is_ascii_graphic() && !b"/?#@\\<>\"{}|^`,".contains(byte);
    if value.as_bytes().iter().all(fits) { Host::One } else { Host::Bad }
}

/// What the client gets to read; the log gets the rest.
fn failed(
    server: &Server,
    failure: &Failure,
    method: &Method,
    uri: &Uri,
) -> Response<HyperOutgoingBody> {
    match failure {
        Failure::Busy | Failure::Stopped => {
            let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "too busy, try again later");
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
            response
        }
        Failure::Late
        | Failure::NoRoom(_)
        | Failure::Trap(_)
        | Failure::Memory(_)
        | Failure::Silent
        | Failure::Code(_) => {
            let id = server.pool.request_id();
            let (method, path) = (method.as_str(), uri.path());
            let method = &method[..method.floor_char_boundary(LOGGED_METHOD_BYTES_MAX)];
            let path = &path[..path.floor_char_boundary(LOGGED_PATH_BYTES_MAX)];
            server.pool.note(&format!("request {id} {method} {path}: {failure}"));
            failure_response(failure, &id)
        }
    }
}

/// The answer to a request whose failure is in the log under this number.
fn failure_response(failure: &Failure, id: &str) -> Response<HyperOutgoingBody> {
    let (status, what) = match failure {
        Failure::Late => (StatusCode::GATEWAY_TIMEOUT, "no answer in time"),
        Failure::NoRoom(_) => (StatusCode::SERVICE_UNAVAILABLE, "no memory now, try again later"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal error"),
    };
    let mut response = text(status, &format!("{what}, request {id}"));
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}

fn text(status: StatusCode, text: &str) -> Response<HyperOutgoingBody> {
    let body = Full::new(Bytes::from(format!("{text}\n")));
    let mut response =
        Response::new(body.map_err(|never: Infallible| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// An answer's body on its way: when it is gone, whole or not, the request is over. Its last bytes may wait in hyper for the
/// client to read.
pub(super) struct Sent {
    body: HyperOutgoingBody,
    /// Of an answer of the guest's.
    memory: Option<AnswerMemory>,
    slot: Arc<ConnectionSlot>,
    over: CancellationToken,
    served: Arc<Served>,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.slot.sends();
        self.served.sends(self.memory.take());
        self.over.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(hosts: &[&[u8]], expected: Host) {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_bytes(host).unwrap());
        }
        assert_eq!(host(&headers), expected, "{hosts:?}");
    }

    #[test]
    fn a_request_names_one_host() {
        check(&[], Host::None);
        check(&[b"web.default.svc:8080"], Host::One);
        check(&[b"[fd00::1]:80"], Host::One);
        check(&[b""], Host::One);
        check(&[b"a", b"a"], Host::Many);
        check(&[b"a b"], Host::Bad);
        check(&[b"a,b"], Host::Bad);
        check(&[b"user@a"], Host::Bad);
        check(&[b"b\xfccher"], Host::Bad);
    }
}
