//! Requests and answers of `wasi:http`: what the host holds for them beside their fields, counted where it is made.
//!
//! Guarantees:
//! - the words of a request (its method, authority and path) are on the memory of who has it, and none is longer than any
//!   server takes (`what_the_host_holds_for_a_guest_is_on_its_memory`, `what_no_request_needs_is_refused`);
//! - so are the fields of what is gone (`what_the_host_holds_for_a_guest_is_on_its_memory`), and a body's trailers, which
//!   have a bound of their own (`what_no_request_needs_is_refused`);
//! - bodies and requests count as all that they may hold from the moment on when they are made, also when the guest sleeps
//!   from then on (`what_the_host_holds_for_a_guest_is_on_its_memory`);
//! - what a request is made of, and its body, counts for as long as anything of its connection is there
//!   (`what_is_sent_counts_until_its_answer_is_gone`).

use freewheel_spoke_account::Full;
use wasmtime::component::{Linker, LinkerInstance, Resource};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{self as wit, ErrorCode, Host as _, Method};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest,
    HostOutgoingResponse, HostResponseOutparam,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpView as _};

use crate::census;
use crate::fields::Size;
use crate::linker::{HANDLER, HTTP};
use crate::state::State;

/// Bytes of a method, an authority or a path: a whole head is no longer where it is read.
const WORD: usize = 64 << 10;

type Map = Resource<FieldMap>;
type Store<'a> = StoreContextMut<'a, State>;
type Sent = Resource<HostOutgoingRequest>;
type Answer = std::result::Result<Resource<HostOutgoingResponse>, ErrorCode>;

/// Puts the calls of this file in place of upstream's.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut types = linker.instance(HTTP)?;
    said(&mut types)?;
    views(&mut types)?;
    bodies(&mut types)?;
    answers(&mut types)?;
    let mut handler = linker.instance(HANDLER)?;
    handler.func_wrap("handle", |mut store: Store<'_>, (request, options): (Sent, Option<_>)| {
        let state = store.data_mut();
        let body = state.table().get(&request)?.body.is_some();
        let size = state.fields_taken(request.rep()).and(if body { census::SENT } else { 0 });
        let answer = match state.http().handle(request, options) {
            Ok(answer) => answer,
            Err(error) => return Ok((Err(state.http().convert_error_code(error)?),)),
        };
        state.fields_made(answer.rep(), size)?;
        state.holds(census::UNDER_WAY)?;
        Ok((Ok(answer),))
    })
}

fn said(types: &mut LinkerInstance<'_, State>) -> Result<()> {
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: Store<'_>, (request, method): (Sent, Method)| {
            let state = store.data_mut();
            let word = if let Method::Other(method) = &method { Some(method) } else { None };
            if !state.takes_word(&request, word)? {
                return Ok((Err(()),));
            }
            Ok((wit::HostOutgoingRequest::set_method(&mut state.http(), request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: Store<'_>, (request, word): (Sent, Option<String>)| {
            let state = store.data_mut();
            if !state.takes_word(&request, word.as_ref())? {
                return Ok((Err(()),));
            }
            Ok((wit::HostOutgoingRequest::set_authority(&mut state.http(), request, word)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: Store<'_>, (request, word): (Sent, Option<String>)| {
            let state = store.data_mut();
            if !state.takes_word(&request, word.as_ref())? {
                return Ok((Err(()),));
            }
            Ok((wit::HostOutgoingRequest::set_path_with_query(&mut state.http(), request, word)?,))
        },
    )
}

/// Fields of what may be gone before them.
fn views(types: &mut LinkerInstance<'_, State>) -> Result<()> {
    types.func_wrap(
        "[method]incoming-request.headers",
        |mut store: Store<'_>, (request,): (Resource<HostIncomingRequest>,)| {
            let state = store.data_mut();
            let size = state.fields_of(request.rep());
            let headers: Map = wit::HostIncomingRequest::headers(&mut state.http(), request)?;
            state.fields_made(headers.rep(), size)?;
            Ok((headers,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.headers",
        |mut store: Store<'_>, (request,): (Resource<HostOutgoingRequest>,)| {
            let state = store.data_mut();
            let size = state.fields_of(request.rep());
            let headers: Map = wit::HostOutgoingRequest::headers(&mut state.http(), request)?;
            state.view_made(&headers, size)?;
            Ok((headers,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-response.headers",
        |mut store: Store<'_>, (response,): (Resource<HostOutgoingResponse>,)| {
            let state = store.data_mut();
            let size = state.fields_of(response.rep());
            let headers: Map = wit::HostOutgoingResponse::headers(&mut state.http(), response)?;
            state.view_made(&headers, size)?;
            Ok((headers,))
        },
    )?;
    types.func_wrap(
        "[method]incoming-response.headers",
        |mut store: Store<'_>, (answer,): (Resource<HostIncomingResponse>,)| {
            let state = store.data_mut();
            let headers: Map = wit::HostIncomingResponse::headers(&mut state.http(), answer)?;
            state.view_made(&headers, Size::read_into(census::RECEIVED))?;
            Ok((headers,))
        },
    )
}

/// Bodies that are sent.
fn bodies(types: &mut LinkerInstance<'_, State>) -> Result<()> {
    types.func_wrap("[method]outgoing-request.body", |mut store: Store<'_>, (of,): (Sent,)| {
        let state = store.data_mut();
        let body = wit::HostOutgoingRequest::body(&mut state.http(), of)?;
        if body.is_ok() {
            state.holds(census::SENT)?;
        }
        Ok((body,))
    })?;
    types.func_wrap(
        "[method]outgoing-response.body",
        |mut store: Store<'_>, (of,): (Resource<HostOutgoingResponse>,)| {
            let state = store.data_mut();
            let body = wit::HostOutgoingResponse::body(&mut state.http(), of)?;
            if body.is_ok() {
                state.holds(census::SENT)?;
            }
            Ok((body,))
        },
    )?;
    types.func_wrap(
        "[static]response-outparam.set",
        |mut store: Store<'_>, (out, answer): (Resource<HostResponseOutparam>, Answer)| {
            let state = store.data_mut();
            if let Ok(answer) = &answer
                && state.table().get(answer)?.body.is_some()
            {
                // From here on it counts for its client.
                state.lets_go(census::SENT);
            }
            wit::HostResponseOutparam::set(&mut state.http(), out, answer)
        },
    )?;
    types.func_wrap(
        "[static]outgoing-body.finish",
        |mut store: Store<'_>, (body, trailers): (Resource<HostOutgoingBody>, Option<Map>)| {
            let state = store.data_mut();
            let size = trailers.as_ref().map_or(0, |map| state.fields_taken(map.rep()).bytes());
            let mut view = state.http();
            if census::TRAILERS < size {
                // As if it had been dropped: it is broken off.
                wit::HostOutgoingBody::drop(&mut view, body)?;
                let why = format!("trailers of more than {} bytes", census::TRAILERS);
                return Ok((Err(ErrorCode::InternalError(Some(why))),));
            }
            match wit::HostOutgoingBody::finish(&mut view, body, trailers) {
                Ok(()) => Ok((Ok(()),)),
                Err(error) => Ok((Err(view.convert_error_code(error)?),)),
            }
        },
    )
}

/// From the answer that is waited for to its trailers, one handle after the other holds the connection, and with it what
/// is still being sent.
fn answers(types: &mut LinkerInstance<'_, State>) -> Result<()> {
    types.func_wrap(
        "[method]future-incoming-response.get",
        |mut store: Store<'_>, (future,): (Resource<HostFutureIncomingResponse>,)| {
            let (state, handle) = (store.data_mut(), future.rep());
            let answer = wit::HostFutureIncomingResponse::get(&mut state.http(), future)?;
            if let Some(Ok(Ok(answer))) = &answer {
                state.passes_on(handle, answer.rep())?;
            }
            Ok((answer,))
        },
    )?;
    types.func_wrap(
        "[method]incoming-response.consume",
        |mut store: Store<'_>, (answer,): (Resource<HostIncomingResponse>,)| {
            let (state, handle) = (store.data_mut(), answer.rep());
            let body = wit::HostIncomingResponse::consume(&mut state.http(), answer)?;
            if let Ok(body) = &body {
                state.passes_on(handle, body.rep())?;
            }
            Ok((body,))
        },
    )?;
    types.func_wrap(
        "[static]incoming-body.finish",
        |mut store: Store<'_>, (body,): (Resource<HostIncomingBody>,)| {
            let (state, handle) = (store.data_mut(), body.rep());
            let trailers: Resource<HostFutureTrailers> =
                wit::HostIncomingBody::finish(&mut state.http(), body)?;
            state.passes_on(handle, trailers.rep())?;
            Ok((trailers,))
        },
    )?;
    types.func_wrap(
        "[method]future-trailers.get",
        |mut store: Store<'_>, (trailers,): (Resource<HostFutureTrailers>,)| {
            let state = store.data_mut();
            let got = wit::HostFutureTrailers::get(&mut state.http(), trailers)?;
            if let Some(Ok(Ok(Some(map)))) = &got {
                state.view_made(map, Size::default())?;
            }
            Ok((got,))
        },
    )
}

impl State {
    /// Whether a request may have this word; then it is counted.
    fn takes_word(&mut self, request: &Sent, word: Option<&String>) -> Result<bool, Full> {
        let length = word.map_or(0, String::len);
        if length <= WORD {
            self.fields_grow(request.rep(), (length, 0))?;
        }
        Ok(length <= WORD)
    }

    /// What was held for one handle is held for another from here on.
    fn passes_on(&mut self, from: u32, to: u32) -> Result<(), Full> {
        let size = self.fields_taken(from);
        self.fields_made(to, size)
    }
}
