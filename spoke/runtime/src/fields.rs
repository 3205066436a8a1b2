//! Header fields of `wasi:http`, counted on the container's memory while the host holds them.
//!
//! Upstream bounds one set of fields; a guest may have thousands of them. So the calls that make fields larger are
//! ours: they count first and then do what upstream does.
//!
//! Guarantees:
//! - fields that a guest has, also as a part of a request or a response that is not sent yet, are on its memory
//!   (`what_the_host_holds_for_a_guest_is_on_its_memory`);
//! - so is the head of a request that it was given, as all that hyper has read it into, for as long as it has the request
//!   or its headers (`what_a_handler_keeps_of_its_requests_is_on_its_memory`);
//! - what it lets go is given back, at the latest when [`SLACK`] bytes more are asked for
//!   (`what_is_gone_is_not_counted_for_long_and_what_is_there_is`, `what_a_guest_lets_go_is_its_own_again`).

use std::collections::HashMap;

use freewheel_spoke_net::Full;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceTable};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi_http::p2::bindings::http::types::{
    self as wit, HeaderError, Host as _, HostFields,
};
use wasmtime_wasi_http::p2::types::{
    HostIncomingRequest, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpView as _};

use crate::linker::HTTP;
use crate::memory::Share;
use crate::state::State;

/// What a field costs beside its bytes: its places in the map.
const FIELD: usize = 112;

/// What was let go and may still be counted.
const SLACK: usize = 256 << 10;

/// How far a set of fields may be below what it is counted as, before it is looked at.
const DOUBT: usize = 4 << 10;

/// What one set of fields is counted as.
#[derive(Clone, Copy, Default)]
struct Size {
    /// When it was last looked at.
    exact: usize,
    /// With all that was added since; what that has replaced is still in it.
    counted: usize,
}

/// The fields of one store, by handle.
pub(crate) struct Fields {
    sizes: HashMap<u32, Size>,
    counted: usize,
    /// What was counted after the last look for those that are gone.
    live: usize,
    share: Share,
}

impl Fields {
    pub(crate) fn new(share: Share) -> Self {
        Self { sizes: HashMap::new(), counted: 0, live: 0, share }
    }

    fn grow(&mut self, table: &mut ResourceTable, handle: u32, more: usize) -> Result<(), Full> {
        let size = self.sizes.entry(handle).or_default();
        size.counted += more;
        self.counted += more;
        if 2 * size.exact + DOUBT < size.counted
            && let Ok(fields) = table.get::<FieldMap>(&Resource::new_borrow(handle))
        {
            // What comes is not in the map yet.
            let real = cost(fields) + more;
            self.counted = self.counted - size.counted + real.min(size.counted);
            *size = Size { exact: real.min(size.counted), counted: real.min(size.counted) };
        }
        if self.live + SLACK < self.counted || !self.share.fits(self.counted) {
            self.forget_gone(table);
            self.share.set(self.counted)?;
        }
        Ok(())
    }

    /// A handle is new: whatever had its number is gone.
    fn set(&mut self, table: &mut ResourceTable, handle: u32, bytes: usize) -> Result<(), Full> {
        self.remove(handle);
        self.grow(table, handle, bytes)
    }

    /// Looks at what is there.
    pub(crate) fn count(&mut self, table: &mut ResourceTable) -> Result<(), Full> {
        self.forget_gone(table);
        self.share.set(self.counted)
    }

    fn of(&self, handle: u32) -> usize {
        self.sizes.get(&handle).map_or(0, |size| size.counted)
    }

    fn remove(&mut self, handle: u32) -> usize {
        let size = self.sizes.remove(&handle).unwrap_or_default();
        self.counted -= size.counted;
        size.counted
    }

    /// Handles end in many ways that pass by here.
    fn forget_gone(&mut self, table: &mut ResourceTable) {
        self.sizes.retain(|handle, size| {
            let there = table.get_any_mut(*handle).is_ok_and(|entry| {
                entry.is::<FieldMap>()
                    || entry.is::<HostIncomingRequest>()
                    || entry.is::<HostOutgoingResponse>()
                    || entry.is::<HostOutgoingRequest>()
            });
            if !there {
                self.counted -= size.counted;
            }
            there
        });
        self.live = self.counted;
    }
}

fn cost(fields: &FieldMap) -> usize {
    fields.iter().map(|(name, value)| one(name.as_str().len(), value.len())).sum()
}

const fn one(name: usize, value: usize) -> usize {
    name + value + FIELD
}

type Entry = (String, Vec<u8>);

fn many(entries: &[Entry]) -> usize {
    entries.iter().map(|(name, value)| one(name.len(), value.len())).sum()
}

/// Upstream's outcome as the guest gets it.
fn told<T>(
    state: &mut State,
    outcome: wasmtime_wasi_http::p2::HeaderResult<T>,
) -> Result<Result<T, HeaderError>> {
    match outcome {
        Ok(done) => Ok(Ok(done)),
        Err(error) => Ok(Err(state.http().convert_header_error(error)?)),
    }
}

type Map = Resource<FieldMap>;
type Store<'a> = StoreContextMut<'a, State>;

/// Puts the calls of this file in place of upstream's.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut types = linker.instance(HTTP)?;
    growing(&mut types)?;
    passing_on(&mut types)
}

/// Calls after which there is more.
fn growing(types: &mut LinkerInstance<'_, State>) -> Result<()> {
    types.func_wrap(
        "[static]fields.from-list",
        |mut store: Store<'_>, (entries,): (Vec<Entry>,)| {
            let (state, more) = (store.data_mut(), many(&entries));
            let made = HostFields::from_list(&mut state.http(), entries);
            let made = told(state, made)?;
            if let Ok(made) = &made {
                state.fields_made(made.rep(), more)?;
            }
            Ok((made,))
        },
    )?;
    types.func_wrap(
        "[method]fields.set",
        |mut store: Store<'_>, (map, name, values): (Map, String, Vec<Vec<u8>>)| {
            let state = store.data_mut();
            let more = values.iter().map(|value| one(name.len(), value.len())).sum();
            state.fields_grow(map.rep(), more)?;
            let set = HostFields::set(&mut state.http(), map, name, values);
            Ok((told(state, set)?,))
        },
    )?;
    types.func_wrap(
        "[method]fields.append",
        |mut store: Store<'_>, (map, name, value): (Map, String, Vec<u8>)| {
            let state = store.data_mut();
            state.fields_grow(map.rep(), one(name.len(), value.len()))?;
            let appended = HostFields::append(&mut state.http(), map, name, value);
            Ok((told(state, appended)?,))
        },
    )?;
    types.func_wrap("[method]fields.clone", |mut store: Store<'_>, (map,): (Map,)| {
        let state = store.data_mut();
        // One of a request keeps what that was read into.
        let more = cost(state.table().get(&map)?).max(state.fields_of(map.rep()));
        let clone = HostFields::clone(&mut state.http(), map)?;
        state.fields_made(clone.rep(), more)?;
        Ok((clone,))
    })?;
    types.func_wrap(
        "[method]incoming-request.headers",
        |mut store: Store<'_>, (request,): (Resource<HostIncomingRequest>,)| {
            let state = store.data_mut();
            let more = state.fields_of(request.rep());
            let headers: Map = wit::HostIncomingRequest::headers(&mut state.http(), request)?;
            state.fields_made(headers.rep(), more)?;
            Ok((headers,))
        },
    )?;
    Ok(())
}

/// Calls that make fields a part of something else.
fn passing_on(types: &mut LinkerInstance<'_, State>) -> Result<()> {
    types.func_wrap("[constructor]outgoing-response", |mut store: Store<'_>, (map,): (Map,)| {
        let state = store.data_mut();
        let bytes = state.fields_taken(map.rep());
        let response: Resource<HostOutgoingResponse> = {
            let mut view = state.http();
            wit::HostOutgoingResponse::new(&mut view, map)?
        };
        state.fields_made(response.rep(), bytes)?;
        Ok((response,))
    })?;
    types.func_wrap("[constructor]outgoing-request", |mut store: Store<'_>, (map,): (Map,)| {
        let state = store.data_mut();
        let bytes = state.fields_taken(map.rep());
        let request: Resource<HostOutgoingRequest> = {
            let mut view = state.http();
            wit::HostOutgoingRequest::new(&mut view, map)?
        };
        state.fields_made(request.rep(), bytes)?;
        Ok((request,))
    })?;
    Ok(())
}

impl State {
    fn fields_grow(&mut self, handle: u32, more: usize) -> Result<(), Full> {
        let (table, fields) = self.table_and_fields();
        fields.grow(table, handle, more)
    }

    fn fields_made(&mut self, handle: u32, bytes: usize) -> Result<(), Full> {
        let (table, fields) = self.table_and_fields();
        fields.set(table, handle, bytes)
    }

    fn fields_of(&mut self, handle: u32) -> usize {
        self.table_and_fields().1.of(handle)
    }

    /// A request is given to the guest: what its head was read into is the guest's.
    pub(crate) fn holds_head(
        &mut self,
        request: &Resource<HostIncomingRequest>,
        bytes: usize,
    ) -> Result<(), Full> {
        self.fields_made(request.rep(), bytes)
    }

    fn fields_taken(&mut self, handle: u32) -> usize {
        self.table_and_fields().1.remove(handle)
    }
}

#[cfg(test)]
mod tests {
    use freewheel_spoke_net::Account;

    use super::*;
    use crate::memory::Memory;

    fn map(table: &mut ResourceTable) -> u32 {
        table.push(FieldMap::new_mutable(128 << 10)).unwrap().rep()
    }

    #[test]
    fn what_is_gone_is_not_counted_for_long_and_what_is_there_is() {
        let memory = Memory::new(Some(8 << 20), &Account::node());
        let (mut table, mut fields) = (ResourceTable::new(), Fields::new(memory.share()));
        for _ in 0..1000 {
            let handle = map(&mut table);
            fields.set(&mut table, handle, 100_000).unwrap();
            drop(table.delete(Resource::<FieldMap>::new_own(handle)).unwrap());
        }
        assert!(memory.used() <= SLACK + 100_000, "{}", memory.used());
        let mut kept = 0;
        loop {
            let handle = map(&mut table);
            if fields.set(&mut table, handle, 100_000).is_err() {
                break;
            }
            kept += 1;
        }
        assert!((60..=84).contains(&kept), "{kept} of 100 kB in 8 MiB");
        assert!(memory.take_refused());
    }

    #[test]
    fn a_field_that_is_set_again_and_again_is_one_field() {
        let memory = Memory::new(Some(1 << 20), &Account::node());
        let (mut table, mut fields) = (ResourceTable::new(), Fields::new(memory.share()));
        let handle = map(&mut table);
        for _ in 0..100_000 {
            fields.grow(&mut table, handle, one(10, 1000)).unwrap();
        }
        assert!(memory.used() < 16 << 10, "{}", memory.used());
    }
}
