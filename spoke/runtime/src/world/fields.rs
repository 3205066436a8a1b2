//! Header fields of `wasi:http`, counted on the container's memory while the host holds them.
//!
//! Upstream bounds one set of fields; a guest may have thousands of them. So the calls that make fields larger are
//! ours: they count first and then do what upstream does.
//!
//! Guarantees:
//! - fields that a guest has, also as a part of a request or a response that is not sent yet or is gone, are on its
//!   memory, with the places of those that it has removed (`what_the_host_holds_for_a_guest_is_on_its_memory`);
//! - so is the head of a request that it was given, as all that hyper has read it into, for as long as it has the
//!   request or its headers (`what_a_handler_keeps_of_its_requests_is_on_its_memory`);
//! - what it lets go is given back, at the latest when [`UNFREED_BYTES_MAX`] bytes more are asked for
//!   (`what_is_gone_is_not_counted_for_long_and_what_is_there_is`, `what_a_guest_lets_go_is_its_own_again`).

use std::any::{Any, TypeId};
use std::collections::HashMap;

use freewheel_spoke_account::Full;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceTable};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi_http::p2::bindings::http::types::{
    self as wit, HeaderError, Host as _, HostFields, Method,
};
use wasmtime_wasi_http::p2::types::{
    HostIncomingRequest, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use crate::memory::Share;

/// The interface of which the calls here are ours, in the version that upstream defines it.
pub(super) const HTTP: &str = "wasi:http/types@0.2.12";

/// What a field costs beside its bytes: its places in the map.
pub(crate) const FIELD_BYTES: usize = 112;

/// What was let go and may still be counted.
const UNFREED_BYTES_MAX: usize = 256 << 10;

/// How far a set of fields may be below what it is counted as, before it is looked at.
const RECOUNT_FROM_BYTES: usize = 4 << 10;

/// What one handle is counted as.
#[derive(Clone, Copy, Default)]
pub(crate) struct Size {
    /// What kind of handle it is.
    of: Option<TypeId>,
    /// When it was last looked at.
    exact: usize,
    /// With all that was added since; what that has replaced is still in it.
    counted: usize,
    /// What stays of it, whatever is removed from the fields: what hyper has read them into.
    stays: usize,
    /// The most fields that there were: their places stay, too.
    places: usize,
}

impl Size {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { exact: bytes, counted: bytes, ..Self::default() }
    }

    /// Of fields that are pieces of what hyper has read them into.
    pub(crate) fn read_into(bytes: usize) -> Self {
        Self { stays: bytes, ..Self::new(bytes) }
    }

    /// With so much beside.
    pub(crate) const fn and(self, bytes: usize) -> Self {
        Self { exact: self.exact + bytes, counted: self.counted + bytes, ..self }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.counted
    }

    /// The most fields that there were.
    pub(super) const fn places(&self) -> usize {
        self.places
    }

    /// At least this.
    fn at_least(self, bytes: usize) -> Self {
        Self { exact: self.exact.max(bytes), counted: self.counted.max(bytes), ..self }
    }
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

    /// Bytes that are counted.
    pub(crate) const fn bytes(&self) -> usize {
        self.share.bytes()
    }

    /// More comes to a handle: so many bytes, in so many values.
    fn grow(
        &mut self,
        table: &mut ResourceTable,
        handle: u32,
        (more, values): (usize, usize),
    ) -> Result<(), Full> {
        let size = self.sizes.entry(handle).or_default();
        size.of = size.of.or_else(|| kind(table, handle));
        if let Ok(fields) = table.get::<FieldMap>(&Resource::new_borrow(handle)) {
            size.places = size.places.max(fields.len() + values);
        }
        size.counted += more;
        self.counted += more;
        if 2 * size.exact + RECOUNT_FROM_BYTES < size.counted
            && let Some(real) = real(table, handle, size)
        {
            // What comes is not there yet.
            let real = (real + more).min(size.counted);
            self.counted -= size.counted - real;
            (size.exact, size.counted) = (real, real);
        }
        self.settle(table)
    }

    /// A handle is new: whatever had its number is gone.
    fn set(&mut self, table: &mut ResourceTable, handle: u32, size: Size) -> Result<(), Full> {
        self.remove(handle);
        self.sizes.insert(handle, Size { of: kind(table, handle), ..size });
        self.counted += size.counted;
        self.settle(table)
    }

    fn settle(&mut self, table: &mut ResourceTable) -> Result<(), Full> {
        if self.live + UNFREED_BYTES_MAX < self.counted || !self.share.fits(self.counted) {
            self.forget_gone(table);
            self.share.set(self.counted)?;
        }
        Ok(())
    }

    /// Looks at what is there.
    pub(crate) fn count(&mut self, table: &mut ResourceTable) -> Result<(), Full> {
        self.forget_gone(table);
        self.share.set(self.counted)
    }

    fn of(&self, handle: u32) -> Size {
        self.sizes.get(&handle).copied().unwrap_or_default()
    }

    fn remove(&mut self, handle: u32) -> Size {
        let size = self.sizes.remove(&handle).unwrap_or_default();
        self.counted -= size.counted;
        size
    }

    /// Handles end in many ways that pass by here.
    fn forget_gone(&mut self, table: &mut ResourceTable) {
        self.sizes.retain(|handle, size| {
            let there = size.of == kind(table, *handle);
            if !there {
                self.counted -= size.counted;
            }
            there
        });
        self.live = self.counted;
    }
}

fn kind(table: &mut ResourceTable, handle: u32) -> Option<TypeId> {
    table.get_any_mut(handle).ok().map(|entry| Any::type_id(&*entry))
}

/// What a handle holds now, if that can be seen.
fn real(table: &ResourceTable, handle: u32, size: &Size) -> Option<usize> {
    if let Ok(fields) = table.get::<FieldMap>(&Resource::new_borrow(handle)) {
        return Some(size.stays + cost(fields, size.places));
    }
    let request = table.get::<HostOutgoingRequest>(&Resource::new_borrow(handle)).ok()?;
    Some(size.stays + cost(&request.headers, size.places) + words(request))
}

/// Bytes of a request's words.
fn words(request: &HostOutgoingRequest) -> usize {
    let method = if let Method::Other(method) = &request.method { method.len() } else { 0 };
    let word = |word: &Option<String>| word.as_ref().map_or(0, String::len);
    method + word(&request.authority) + word(&request.path_with_query)
}

/// What fields cost, with as many places as they ever had.
fn cost(fields: &FieldMap, places: usize) -> usize {
    let bytes: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    bytes + fields.len().max(places) * FIELD_BYTES
}

const fn one(name: usize, value: usize) -> usize {
    name + value + FIELD_BYTES
}

type Entry = (String, Vec<u8>);

fn many(entries: &[Entry]) -> usize {
    entries.iter().map(|(name, value)| one(name.len(), value.len())).sum()
}

/// A store's data with header fields in it.
pub(crate) trait HasFields: WasiHttpView {
    /// Its handles, and what their fields are counted as.
    fn fields(&mut self) -> (&mut ResourceTable, &mut Fields);

    /// So many bytes in so many values are about to come to a handle.
    fn fields_grow(&mut self, handle: u32, more: (usize, usize)) -> Result<(), Full> {
        let (table, fields) = self.fields();
        fields.grow(table, handle, more)
    }

    /// A handle with fields is new.
    fn fields_made(&mut self, handle: u32, size: Size) -> Result<(), Full> {
        let (table, fields) = self.fields();
        fields.set(table, handle, size)
    }

    /// The fields of something of this size, as a handle of their own: they are there as long as either is.
    fn view_made(&mut self, headers: &Map, size: Size) -> Result<()> {
        let cost = cost(self.fields().0.get(headers)?, size.places);
        let size =
            Size { stays: size.stays, places: size.places, ..Size::new(cost.max(size.stays)) };
        Ok(self.fields_made(headers.rep(), size)?)
    }

    /// What is counted for a handle.
    fn fields_of(&mut self, handle: u32) -> Size {
        self.fields().1.of(handle)
    }

    /// A request is given to the guest: what its head was read into is the guest's.
    fn holds_head(
        &mut self,
        request: &Resource<HostIncomingRequest>,
        bytes: usize,
    ) -> Result<(), Full> {
        self.fields_made(request.rep(), Size::read_into(bytes))
    }

    /// What was counted for a handle is another's from here on.
    fn fields_taken(&mut self, handle: u32) -> Size {
        self.fields().1.remove(handle)
    }
}

/// Upstream's outcome as the guest gets it.
fn for_guest<T>(
    state: &mut impl WasiHttpView,
    outcome: wasmtime_wasi_http::p2::HeaderResult<T>,
) -> Result<Result<T, HeaderError>> {
    match outcome {
        Ok(done) => Ok(Ok(done)),
        Err(error) => Ok(Err(state.http().convert_header_error(error)?)),
    }
}

type Map = Resource<FieldMap>;
type Store<'a, T> = StoreContextMut<'a, T>;

/// Puts the calls of this file in place of upstream's.
pub(super) fn add_to_linker<T: HasFields + 'static>(linker: &mut Linker<T>) -> Result<()> {
    let mut types = linker.instance(HTTP)?;
    new(&mut types)?;
    growing(&mut types)?;
    passing_on(&mut types)
}

fn new<T: HasFields + 'static>(types: &mut LinkerInstance<'_, T>) -> Result<()> {
    types.func_wrap("[constructor]fields", |mut store: Store<'_, T>, (): ()| {
        let state = store.data_mut();
        let made = HostFields::new(&mut state.http())?;
        state.fields_made(made.rep(), Size::default())?;
        Ok((made,))
    })?;
    types.func_wrap(
        "[static]fields.from-list",
        |mut store: Store<'_, T>, (entries,): (Vec<Entry>,)| {
            let (state, size) = (store.data_mut(), Size::new(many(&entries)));
            let size = Size { places: entries.len(), ..size };
            let made = HostFields::from_list(&mut state.http(), entries);
            let made = for_guest(state, made)?;
            if let Ok(made) = &made {
                state.fields_made(made.rep(), size)?;
            }
            Ok((made,))
        },
    )?;
    types.func_wrap("[method]fields.clone", |mut store: Store<'_, T>, (map,): (Map,)| {
        let state = store.data_mut();
        // One of a request keeps what that was read into.
        let size = state.fields_of(map.rep());
        let size = size.at_least(cost(state.fields().0.get(&map)?, size.places));
        let clone = HostFields::clone(&mut state.http(), map)?;
        state.fields_made(clone.rep(), size)?;
        Ok((clone,))
    })
}

/// Calls after which there is more.
fn growing<T: HasFields + 'static>(types: &mut LinkerInstance<'_, T>) -> Result<()> {
    types.func_wrap(
        "[method]fields.set",
        |mut store: Store<'_, T>, (map, name, values): (Map, String, Vec<Vec<u8>>)| {
            let state = store.data_mut();
            let more = values.iter().map(|value| one(name.len(), value.len())).sum();
            state.fields_grow(map.rep(), (more, values.len()))?;
            let set = HostFields::set(&mut state.http(), map, name, values);
            Ok((for_guest(state, set)?,))
        },
    )?;
    types.func_wrap(
        "[method]fields.append",
        |mut store: Store<'_, T>, (map, name, value): (Map, String, Vec<u8>)| {
            let state = store.data_mut();
            state.fields_grow(map.rep(), (one(name.len(), value.len()), 1))?;
            let appended = HostFields::append(&mut state.http(), map, name, value);
            Ok((for_guest(state, appended)?,))
        },
    )
}

/// Calls that make fields a part of something else.
fn passing_on<T: HasFields + 'static>(types: &mut LinkerInstance<'_, T>) -> Result<()> {
    types.func_wrap(
        "[constructor]outgoing-response",
        |mut store: Store<'_, T>, (map,): (Map,)| {
            let state = store.data_mut();
            let size = state.fields_taken(map.rep());
            let response: Resource<HostOutgoingResponse> = {
                let mut view = state.http();
                wit::HostOutgoingResponse::new(&mut view, map)?
            };
            state.fields_made(response.rep(), size)?;
            Ok((response,))
        },
    )?;
    types.func_wrap(
        "[constructor]outgoing-request",
        |mut store: Store<'_, T>, (map,): (Map,)| {
            let state = store.data_mut();
            let size = state.fields_taken(map.rep());
            let request: Resource<HostOutgoingRequest> = {
                let mut view = state.http();
                wit::HostOutgoingRequest::new(&mut view, map)?
            };
            state.fields_made(request.rep(), size)?;
            Ok((request,))
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use freewheel_spoke_account::MemoryAccount;

    use super::*;
    use crate::memory::ContainerMemory;

    fn map(table: &mut ResourceTable) -> u32 {
        table.push(FieldMap::new_mutable(128 << 10)).unwrap().rep()
    }

    #[test]
    fn what_is_gone_is_not_counted_for_long_and_what_is_there_is() {
        let memory = ContainerMemory::new(Some(8 << 20), &MemoryAccount::node());
        let (mut table, mut fields) = (ResourceTable::new(), Fields::new(memory.share()));
        for _ in 0..1000 {
            let handle = map(&mut table);
            fields.set(&mut table, handle, Size::new(100_000)).unwrap();
            drop(table.delete(Resource::<FieldMap>::new_own(handle)).unwrap());
        }
        assert!(memory.used() <= UNFREED_BYTES_MAX + 100_000, "{}", memory.used());
        let mut kept = 0;
        loop {
            let handle = map(&mut table);
            if fields.set(&mut table, handle, Size::new(100_000)).is_err() {
                break;
            }
            kept += 1;
        }
        assert!((60..=84).contains(&kept), "{kept} of 100 kB in 8 MiB");
        assert!(memory.take_refused());
    }

    #[test]
    fn a_field_that_is_set_again_and_again_is_one_field() {
        let memory = ContainerMemory::new(Some(1 << 20), &MemoryAccount::node());
        let (mut table, mut fields) = (ResourceTable::new(), Fields::new(memory.share()));
        let handle = map(&mut table);
        for _ in 0..100_000 {
            fields.grow(&mut table, handle, (one(10, 1000), 1)).unwrap();
        }
        assert!(memory.used() < 16 << 10, "{}", memory.used());
    }
}
