//! What the host holds for the handles of one store, by what each of them may cost.
//!
//! Header fields, streams of files and connections are counted to the byte elsewhere; here is what has a known most:
//! the place of every handle, and the buffers of bodies and requests. The table keeps the places of handles that are gone
//! for as long as its store is there, and so they count for as long (`places_of_handles_that_are_gone_count`).
//!
//! All handles are looked at at every tick while the guest runs, and what has buffers is counted when it is made
//! ([`HasHandles::holds`]). So a guest that makes handles within a tick and then sleeps is ahead of its count by their
//! places alone, which are 4 MiB for all that it may have.

use std::any::Any;

use freewheel_spoke_account::Full;
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};

use super::sockets::Addresses;
use crate::memory::Share;

/// Handles that a guest may hold at a time: sockets, files, streams, requests.
pub(super) const HANDLES_PER_GUEST_MAX: usize = 16_384;

/// Bytes of one piece of a body that a guest sends.
pub(crate) const BODY_PIECE_BYTES: usize = 64 << 10;

/// Handles that cost nothing worth a count: those that every program has.
const UNCOUNTED_HANDLES: usize = 64;

/// A handle of any kind: its place in the table and its allocation.
const HANDLE_BYTES: usize = 256;

/// Bytes of a body's trailers, with what they cost.
pub(crate) const TRAILERS_BYTES_MAX: usize = 16 << 10;

/// A body that is sent: two pieces wait for who writes it, and then its trailers.
pub(crate) const SENT_BODY_BYTES: usize = 2 * BODY_PIECE_BYTES + TRAILERS_BYTES_MAX;

/// What whoever writes a body has of it: what is taken before anything is written, one piece more, and the first as long
/// as a part of it is left.
pub(crate) const WRITTEN_BODY_BYTES: usize = 3 * BODY_PIECE_BYTES;

/// What is received: one piece as it came.
pub(crate) const RECEIVED_BODY_BYTES: usize = 64 << 10;

/// A request that is under way, to the end of its answer: what its connection reads into, one piece that was read, and the
/// one of which the guest has a part.
pub(crate) const REQUEST_BYTES: usize = 3 * RECEIVED_BODY_BYTES;

/// What is counted for the handles of one store.
pub(crate) struct HandleCount {
    share: Share,
    /// The most handles that were seen: the table has as many places.
    most: usize,
}

impl HandleCount {
    pub(crate) const fn new(share: Share) -> Self {
        Self { share, most: 0 }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.share.bytes()
    }

    /// The place itself, for what is counted a moment after it was made.
    pub(super) const fn share(&mut self) -> &mut Share {
        &mut self.share
    }

    /// Counts what they may hold: at every tick while the guest runs, as it can make many in a moment.
    pub(crate) fn count(&mut self, table: &mut ResourceTable) -> Result<(), Full> {
        let held = self.held(table);
        self.share.set(held)
    }

    /// Bytes that may be held for these handles.
    fn held(&mut self, table: &mut ResourceTable) -> usize {
        let (mut handles, mut sum) = (0_usize, 0);
        for entry in table.iter_mut() {
            handles += 1;
            sum += buffers(entry);
        }
        self.most = self.most.max(handles);
        sum + self.most.saturating_sub(UNCOUNTED_HANDLES) * HANDLE_BYTES
    }
}

/// A store's data with handles in it.
pub(crate) trait HasHandles {
    /// The handles, and what is counted for them.
    fn handles(&mut self) -> (&mut ResourceTable, &mut HandleCount);

    /// Counts what was made a moment ago and has buffers, without a look at all the rest while there is room: until the
    /// next tick the guest may long sleep.
    fn holds(&mut self, bytes: usize) -> Result<(), Full> {
        let (table, count) = self.handles();
        let share = count.share();
        if share.fits(share.bytes() + bytes) { Ok(()) } else { count.count(table) }
    }

    /// What was counted so is not the store's any more.
    fn lets_go(&mut self, bytes: usize) {
        let (_, count) = self.handles();
        let share = count.share();
        let _ = share.set(share.bytes().saturating_sub(bytes));
    }

    /// Counts what they may hold.
    fn count_handles(&mut self) -> Result<(), Full> {
        let (table, count) = self.handles();
        count.count(table)
    }
}

fn buffers(entry: &dyn Any) -> usize {
    if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        return if response.body.is_some() { SENT_BODY_BYTES } else { 0 };
    }
    if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        return if request.body.is_some() { SENT_BODY_BYTES } else { 0 };
    }
    if let Some(addresses) = entry.downcast_ref::<Addresses>() {
        return addresses.bytes();
    }
    if let Some(future) = entry.downcast_ref::<HostFutureIncomingResponse>() {
        return if matches!(future, HostFutureIncomingResponse::Consumed) {
            0
        } else {
            REQUEST_BYTES
        };
    }
    if let Some(answer) = entry.downcast_ref::<HostIncomingResponse>() {
        // Whoever has its body has its connection.
        return if answer.body.is_some() { REQUEST_BYTES } else { RECEIVED_BODY_BYTES };
    }
    if let Some(trailers) = entry.downcast_ref::<HostFutureTrailers>() {
        return if matches!(trailers, HostFutureTrailers::Waiting(_)) {
            REQUEST_BYTES
        } else {
            RECEIVED_BODY_BYTES
        };
    }
    // One of a request has a part of a connection only, and cannot be told from one of an answer.
    if entry.is::<HostIncomingBody>() { REQUEST_BYTES } else { 0 }
}

#[cfg(test)]
mod tests {
    use freewheel_spoke_account::MemoryAccount;
    use wasmtime_wasi_http::FieldMap;

    use super::*;
    use crate::memory::ContainerMemory;

    fn count() -> HandleCount {
        HandleCount::new(ContainerMemory::new(None, &MemoryAccount::node()).share())
    }

    fn held(table: &mut ResourceTable) -> usize {
        count().held(table)
    }

    #[test]
    fn places_of_handles_that_are_gone_count() {
        let (mut table, mut count) = (ResourceTable::new(), count());
        let all: Vec<_> = (0..1000).map(|_| table.push(7_u32).unwrap()).collect();
        count.count(&mut table).unwrap();
        let most = count.bytes();
        assert_eq!(most, (1000 - UNCOUNTED_HANDLES) * HANDLE_BYTES);
        for handle in all {
            table.delete(handle).unwrap();
        }
        count.count(&mut table).unwrap();
        assert_eq!(count.bytes(), most);
        for _ in 0..1000 {
            table.push(7_u32).unwrap();
        }
        count.count(&mut table).unwrap();
        assert_eq!(count.bytes(), most, "they have others' places");
    }

    #[test]
    fn handles_count_beyond_those_that_every_program_has() {
        let mut table = ResourceTable::new();
        for _ in 0..UNCOUNTED_HANDLES {
            table.push(FieldMap::default()).unwrap();
        }
        assert_eq!(held(&mut table), 0);
        for _ in 0..1000 {
            table.push(7_u32).unwrap();
        }
        assert_eq!(held(&mut table), 1000 * HANDLE_BYTES);
    }

    #[test]
    fn addresses_count_also_when_they_were_taken() {
        let mut addresses = Addresses::new(vec![std::net::Ipv4Addr::LOCALHOST.into(); 1000]);
        let all = addresses.bytes();
        assert!(1000 * 16 < all, "{all}");
        while addresses.take().is_some() {}
        let mut table = ResourceTable::new();
        table.push(addresses).unwrap();
        assert_eq!(held(&mut table), all);
    }

    #[test]
    fn who_keeps_the_body_of_an_answer_keeps_its_connection() {
        let mut table = ResourceTable::new();
        let answer = HostIncomingResponse {
            status: 200,
            headers: FieldMap::default(),
            body: Some(HostIncomingBody::new(Default::default())),
        };
        let answer = table.push(answer).unwrap();
        assert_eq!(held(&mut table), REQUEST_BYTES);
        let body = table.get_mut(&answer).unwrap().body.take().unwrap();
        let body = table.push(body).unwrap();
        table.delete(answer).unwrap();
        assert_eq!(held(&mut table), REQUEST_BYTES);
        let body = table.delete(body).unwrap();
        table.push(body.into_future_trailers()).unwrap();
        assert_eq!(held(&mut table), REQUEST_BYTES);
    }

    #[test]
    fn bodies_that_wait_to_be_sent_count() {
        use wasmtime_wasi_http::p2::body::{HostOutgoingBody, StreamContext};
        let (_, body) = HostOutgoingBody::new(StreamContext::Response, None, 1, BODY_PIECE_BYTES);
        let mut response = HostOutgoingResponse {
            status: http::StatusCode::OK,
            headers: FieldMap::default(),
            body: None,
        };
        let mut table = ResourceTable::new();
        assert_eq!(buffers(&response), 0);
        response.body = Some(body);
        table.push(response).unwrap();
        assert_eq!(held(&mut table), SENT_BODY_BYTES);
    }
}
