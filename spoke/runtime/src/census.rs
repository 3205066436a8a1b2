//! What the host holds for the handles of one store, by what each of them may cost.
//!
//! Header fields, streams of files and connections are counted to the byte elsewhere; here is what has a known most:
//! the place of every handle, and the buffers of bodies and requests.

use std::any::Any;

use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};

use crate::sockets::Addresses;

/// Bytes of one piece of a body that a guest sends.
pub(crate) const CHUNK: usize = 64 << 10;

/// Handles that cost nothing worth a count: those that every program has.
const FREE: usize = 64;

/// A handle of any kind: its place in the table and its allocation.
const HANDLE: usize = 256;

/// A body that is sent: one piece waits, one is on its way.
pub(crate) const SENT: usize = 2 * CHUNK;

/// A body that is received: one piece as it came.
const RECEIVED: usize = 64 << 10;

/// A request that is under way: what its connection reads and writes at a time.
const UNDER_WAY: usize = 128 << 10;

/// Bytes that may be held for these handles.
pub(crate) fn held(table: &mut ResourceTable) -> usize {
    let (mut handles, mut sum) = (0_usize, 0);
    for entry in table.iter_mut() {
        handles += 1;
        sum += buffers(entry);
    }
    sum + handles.saturating_sub(FREE) * HANDLE
}

fn buffers(entry: &dyn Any) -> usize {
    if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        return if response.body.is_some() { SENT } else { 0 };
    }
    if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        return if request.body.is_some() { SENT } else { 0 };
    }
    if let Some(addresses) = entry.downcast_ref::<Addresses>() {
        return addresses.bytes();
    }
    if entry.is::<HostFutureIncomingResponse>() || entry.is::<HostIncomingResponse>() {
        return UNDER_WAY;
    }
    if entry.is::<HostIncomingBody>() || entry.is::<HostFutureTrailers>() {
        return RECEIVED;
    }
    0
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi_http::FieldMap;

    use super::*;

    #[test]
    fn handles_count_beyond_those_that_every_program_has() {
        let mut table = ResourceTable::new();
        for _ in 0..FREE {
            table.push(FieldMap::default()).unwrap();
        }
        assert_eq!(held(&mut table), 0);
        for _ in 0..1000 {
            table.push(7_u32).unwrap();
        }
        assert_eq!(held(&mut table), 1000 * HANDLE);
    }

    #[test]
    fn bodies_that_wait_to_be_sent_count() {
        use wasmtime_wasi_http::p2::body::{HostOutgoingBody, StreamContext};
        let (_, body) = HostOutgoingBody::new(StreamContext::Response, None, 1, CHUNK);
        let mut response = HostOutgoingResponse {
            status: http::StatusCode::OK,
            headers: FieldMap::default(),
            body: None,
        };
        let mut table = ResourceTable::new();
        assert_eq!(buffers(&response), 0);
        response.body = Some(body);
        table.push(response).unwrap();
        assert_eq!(held(&mut table), SENT);
    }
}
