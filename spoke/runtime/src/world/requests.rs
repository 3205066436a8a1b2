//! Requests and answers of `wasi:http`: what the host holds for them beside their fields, counted where it is made.
//!
//! Guarantees:
//! - the words of a request (its method, authority and path) are on the memory of who has it, and none is longer than
//!   any server takes (`what_the_host_holds_for_a_guest_is_on_its_memory`, `what_no_request_needs_is_refused`);
//! - so are the fields of what is gone (`what_the_host_holds_for_a_guest_is_on_its_memory`), and a body's trailers,
//!   which have a bound of their own (`what_no_request_needs_is_refused`);
//! - bodies and requests count as all that they may hold from the moment on when they are made, also when the guest
//!   sleeps from then on (`what_the_host_holds_for_a_guest_is_on_its_memory`);
//! - what a request is made of, and its body, counts for as long as anything of its connection is there
//!   (`what_is_sent_counts_until_its_answer_is_gone`);
//! - an answer's fields have places for what there is when they leave their guest
//!   (`places_of_fields_that_are_gone_do_not_go_to_the_client`).

use freewheel_spoke_account::Full;
use http::HeaderMap;
use wasmtime::component::{Linker, LinkerInstance, Resource};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{self as wit, ErrorCode, Host as _, Method};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest,
    HostOutgoingResponse, HostResponseOutparam,
};

use super::fields::{HTTP, HasFields, Size};
use super::handles::{self, HasHandles, SENT_BODY_BYTES, WRITTEN_BODY_BYTES};

/// The interface of which the call that sends is ours, in the version that upstream defines it.
const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

/// Places of an answer's fields beyond those that it needs.
const EMPTY_PLACES_MAX: usize = 32;

/// Bytes of a method, an authority or a path: a whole head is no longer where it is read.
const HEAD_WORD_BYTES_MAX: usize = 64 << 10;

type Map = Resource<FieldMap>;
type Store<'a, T> = StoreContextMut<'a, T>;
type Sent = Resource<HostOutgoingRequest>;
type Answer = std::result::Result<Resource<HostOutgoingResponse>, ErrorCode>;

/// A store's data with requests in it.
pub(crate) trait HasRequests: HasFields + HasHandles + 'static {}

impl<T: HasFields + HasHandles + 'static> HasRequests for T {}

/// Puts the calls of this file in place of upstream's.
pub(super) fn add_to_linker<T: HasRequests>(linker: &mut Linker<T>) -> Result<()> {
    let mut types = linker.instance(HTTP)?;
    heads(&mut types)?;
    views(&mut types)?;
    bodies(&mut types)?;
    ends(&mut types)?;
    answers(&mut types)?;
    let mut handler = linker.instance(HANDLER)?;
    handler.func_wrap("handle", |mut store: Store<'_, T>, (request, options): (Sent, Option<_>)| {
        let state = store.data_mut();
        let body = state.fields().0.get(&request)?.body.is_some();
        let on_its_way = if body { SENT_BODY_BYTES + WRITTEN_BODY_BYTES } else { 0 };
        let size = state.fields_taken(request.rep()).and(on_its_way);
        let answer = match state.http().handle(request, options) {
            Ok(answer) => answer,
            Err(error) => return Ok((Err(state.http().convert_error_code(error)?),)),
        };
        state.fields_made(answer.rep(), size)?;
        state.holds(handles::REQUEST_BYTES)?;
        Ok((Ok(answer),))
    })
}

fn heads<T: HasRequests>(types: &mut LinkerInstance<'_, T>) -> Result<()> {
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: Store<'_, T>, (request, method): (Sent, Method)| {
            let state = store.data_mut();
            let word = if let Method::Other(method) = &method { Some(method) } else { None };
            if !takes_word(state, &request, word)? {
                return Ok((Err(()),));
            }
            Ok((wit::HostOutgoingRequest::set_method(&mut state.http(), request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: Store<'_, T>, (request, word): (Sent, Option<String>)| {
            let state = store.data_mut();
            if !takes_word(state, &request, word.as_ref())? {
                return Ok((Err(()),));
            }
            Ok((wit::HostOutgoingRequest::set_authority(&mut state.http(), request, word)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: Store<'_, T>, (request, word): (Sent, Option<String>)| {
            let state = store.data_mut();
            if !takes_word(state, &request, word.as_ref())? {
                return Ok((Err(()),));
            }
            Ok((wit::HostOutgoingRequest::set_path_with_query(&mut state.http(), request, word)?,))
        },
    )
}

/// Fields of what may be gone before them.
fn views<T: HasRequests>(types: &mut LinkerInstance<'_, T>) -> Result<()> {
    types.func_wrap(
        "[method]incoming-request.headers",
        |mut store: Store<'_, T>, (request,): (Resource<HostIncomingRequest>,)| {
            let state = store.data_mut();
            let size = state.fields_of(request.rep());
            let headers: Map = wit::HostIncomingRequest::headers(&mut state.http(), request)?;
            state.fields_made(headers.rep(), size)?;
            Ok((headers,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.headers",
        |mut store: Store<'_, T>, (request,): (Resource<HostOutgoingRequest>,)| {
            let state = store.data_mut();
            let size = state.fields_of(request.rep());
            let headers: Map = wit::HostOutgoingRequest::headers(&mut state.http(), request)?;
            state.view_made(&headers, size)?;
            Ok((headers,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-response.headers",
        |mut store: Store<'_, T>, (response,): (Resource<HostOutgoingResponse>,)| {
            let state = store.data_mut();
            let size = state.fields_of(response.rep());
            let headers: Map = wit::HostOutgoingResponse::headers(&mut state.http(), response)?;
            state.view_made(&headers, size)?;
            Ok((headers,))
        },
    )?;
    types.func_wrap(
        "[method]incoming-response.headers",
        |mut store: Store<'_, T>, (answer,): (Resource<HostIncomingResponse>,)| {
            let state = store.data_mut();
            let headers: Map = wit::HostIncomingResponse::headers(&mut state.http(), answer)?;
            state.view_made(&headers, Size::read_into(handles::RECEIVED_BODY_BYTES))?;
            Ok((headers,))
        },
    )
}

/// Bodies that are sent.
fn bodies<T: HasRequests>(types: &mut LinkerInstance<'_, T>) -> Result<()> {
    types.func_wrap(
        "[method]outgoing-request.body",
        |mut store: Store<'_, T>, (of,): (Sent,)| {
            let state = store.data_mut();
            let body = wit::HostOutgoingRequest::body(&mut state.http(), of)?;
            if body.is_ok() {
                state.holds(SENT_BODY_BYTES)?;
            }
            Ok((body,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-response.body",
        |mut store: Store<'_, T>, (of,): (Resource<HostOutgoingResponse>,)| {
            let state = store.data_mut();
            let body = wit::HostOutgoingResponse::body(&mut state.http(), of)?;
            if body.is_ok() {
                state.holds(SENT_BODY_BYTES)?;
            }
            Ok((body,))
        },
    )?;
    types.func_wrap(
        "[static]response-outparam.set",
        |mut store: Store<'_, T>, (out, answer): (Resource<HostResponseOutparam>, Answer)| {
            let state = store.data_mut();
            if let Ok(answer) = &answer {
                if state.fields().0.get(answer)?.body.is_some() {
                    // From here on it counts for its client.
                    state.lets_go(SENT_BODY_BYTES);
                }
                let places = state.fields_of(answer.rep()).places();
                let answer = state.fields().0.get_mut(answer)?;
                if answer.headers.len() + EMPTY_PLACES_MAX < places {
                    answer.headers = compact(&answer.headers)?;
                }
            }
            wit::HostResponseOutparam::set(&mut state.http(), out, answer)
        },
    )
}

/// The same fields, with places for no more: of those that are gone they stay for good, and hyper keeps them for the next
/// request of its connection.
fn compact(fields: &HeaderMap) -> Result<FieldMap> {
    let mut compact = FieldMap::new_mutable(usize::MAX);
    for (name, value) in fields {
        compact.append_raw(name.clone(), value.clone())?;
    }
    compact.set_immutable();
    Ok(compact)
}

/// Ends of bodies that are sent: with their trailers, which have a bound.
fn ends<T: HasRequests>(types: &mut LinkerInstance<'_, T>) -> Result<()> {
    types.func_wrap(
        "[static]outgoing-body.finish",
        |mut store: Store<'_, T>, (body, trailers): (Resource<HostOutgoingBody>, Option<Map>)| {
            let state = store.data_mut();
            let size = trailers.as_ref().map_or(0, |map| state.fields_taken(map.rep()).bytes());
            let mut view = state.http();
            if handles::TRAILERS_BYTES_MAX < size {
                // As if it had been dropped: it is broken off.
                wit::HostOutgoingBody::drop(&mut view, body)?;
                let why = format!("trailers of more than {} bytes", handles::TRAILERS_BYTES_MAX);
                return Ok((Err(ErrorCode::InternalError(Some(why))),));
            }
            match wit::HostOutgoingBody::finish(&mut view, body, trailers) {
                Ok(()) => Ok((Ok(()),)),
                Err(error) => Ok((Err(view.convert_error_code(error)?),)),
            }
        },
    )
}

/// From the answer that is waited for to its trailers, one handle after the other holds the connection, and with it
/// what is still being sent.
fn answers<T: HasRequests>(types: &mut LinkerInstance<'_, T>) -> Result<()> {
    types.func_wrap(
        "[method]future-incoming-response.get",
        |mut store: Store<'_, T>, (future,): (Resource<HostFutureIncomingResponse>,)| {
            let (state, handle) = (store.data_mut(), future.rep());
            let answer = wit::HostFutureIncomingResponse::get(&mut state.http(), future)?;
            if let Some(Ok(Ok(answer))) = &answer {
                passes_on(state, handle, answer.rep())?;
            }
            Ok((answer,))
        },
    )?;
    types.func_wrap(
        "[method]incoming-response.consume",
        |mut store: Store<'_, T>, (answer,): (Resource<HostIncomingResponse>,)| {
            let (state, handle) = (store.data_mut(), answer.rep());
            let body = wit::HostIncomingResponse::consume(&mut state.http(), answer)?;
            if let Ok(body) = &body {
                passes_on(state, handle, body.rep())?;
            }
            Ok((body,))
        },
    )?;
    types.func_wrap(
        "[static]incoming-body.finish",
        |mut store: Store<'_, T>, (body,): (Resource<HostIncomingBody>,)| {
            let (state, handle) = (store.data_mut(), body.rep());
            let trailers: Resource<HostFutureTrailers> =
                wit::HostIncomingBody::finish(&mut state.http(), body)?;
            passes_on(state, handle, trailers.rep())?;
            Ok((trailers,))
        },
    )?;
    types.func_wrap(
        "[method]future-trailers.get",
        |mut store: Store<'_, T>, (trailers,): (Resource<HostFutureTrailers>,)| {
            let state = store.data_mut();
            let got = wit::HostFutureTrailers::get(&mut state.http(), trailers)?;
            if let Some(Ok(Ok(Some(map)))) = &got {
                state.view_made(map, Size::default())?;
            }
            Ok((got,))
        },
    )
}

/// Whether a request may have this word; then it is counted.
fn takes_word(
    state: &mut impl HasFields,
    request: &Sent,
    word: Option<&String>,
) -> Result<bool, Full> {
    let length = word.map_or(0, String::len);
    if length <= HEAD_WORD_BYTES_MAX {
        state.fields_grow(request.rep(), (length, 0))?;
    }
    Ok(length <= HEAD_WORD_BYTES_MAX)
}

/// What was held for one handle is held for another from here on.
fn passes_on(state: &mut impl HasFields, from: u32, to: u32) -> Result<(), Full> {
    let size = state.fields_taken(from);
    state.fields_made(to, size)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn places_of_fields_that_are_gone_do_not_go_to_the_client() {
        let mut fields = HeaderMap::new();
        for number in 0..1000 {
            let name = HeaderName::from_bytes(format!("x-{number}").as_bytes()).unwrap();
            fields.insert(name, HeaderValue::from_static("gone"));
        }
        fields.clear();
        for value in ["first", "second"] {
            fields.append("kept", HeaderValue::from_static(value));
        }
        assert!(1000 <= fields.capacity());
        let compact = compact(&fields).unwrap();
        assert!(compact.capacity() <= EMPTY_PLACES_MAX, "{}", compact.capacity());
        assert_eq!(compact.get_all("kept").iter().collect::<Vec<_>>(), ["first", "second"]);
    }
}
