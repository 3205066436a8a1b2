//! `poll_oneoff` of core programs, where it waits for clocks and for something else.
//!
//! Upstream waits for all of it in one place, and there is none for both: the threads of a pod's files have no timers,
//! and where timers are there are no threads for files. So the clocks are waited for here, and upstream gets a list of
//! the rest, in memory of its own.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use wasmtime::Result;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::types::{Clockid, Errno, Eventtype, Subclockflags};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as upstream;
use wiggle::GuestMemory;

use crate::file_calls::within;

/// What the host holds for each thing that a call waits for.
pub(super) const SUBSCRIPTION_BYTES: usize = 512;

/// Bytes of a subscription, and of an event.
const ASKED_BYTES: usize = 48;
const EVENT_BYTES: usize = 32;

/// What upstream needs for one thing beside its count: both of them.
const OWN_BYTES: usize = ASKED_BYTES + EVENT_BYTES;
const _: () = assert!(2 * OWN_BYTES < SUBSCRIPTION_BYTES, "it is on the program's memory");

/// What one call waits for.
pub(super) struct Asked {
    clocks: Vec<[u8; ASKED_BYTES]>,
    others: Vec<[u8; ASKED_BYTES]>,
}

/// One clock that is waited for.
struct Clock {
    user: [u8; 8],
    left: Duration,
}

/// So many bytes from there on.
fn field<const BYTES: usize>(of: &[u8], at: usize) -> [u8; BYTES] {
    let field = of.get(at..).and_then(|rest| rest.first_chunk());
    field.copied().unwrap_or([0; BYTES])
}

impl Asked {
    /// As it stands in the program's memory; what is not in it is left to upstream to refuse.
    pub(super) fn read(bytes: &[u8], list: i32, count: usize) -> Self {
        let list = bytes.get(list.cast_unsigned() as usize..).unwrap_or_default();
        let all = list.as_chunks().0.iter().take(count).copied();
        let (clocks, others) = all.partition(|one: &[u8; ASKED_BYTES]| one[8] == 0);
        Self { clocks, others }
    }

    /// Whether there is anything to be timed.
    pub(super) const fn has_clocks(&self) -> bool {
        !self.clocks.is_empty()
    }

    /// Whether clocks are not all that is waited for.
    pub(super) const fn is_mixed(&self) -> bool {
        self.has_clocks() && !self.others.is_empty()
    }

    /// Waits for whatever comes first, and tells all that has come then.
    pub(super) async fn wait(
        self,
        wasi: &mut WasiP1Ctx,
        timers: &Handle,
        bytes: &mut [u8],
        (events, done): (i32, i32),
    ) -> Result<i32> {
        let begun = Instant::now();
        let mut clocks = Vec::new();
        for clock in &self.clocks {
            match timed(wasi, clock)? {
                Ok(clock) => clocks.push(clock),
                Err(error) => return Ok(code(error)),
            }
        }
        let first = clocks.iter().map(|clock| clock.left).min().unwrap_or_default();
        let due = within(timers, async { tokio::time::sleep(first).await });
        let mut own = Own::of(&self.others);
        let outcome = tokio::select! {
            biased;
            outcome = own.poll(wasi) => outcome?,
            () = due => code(Errno::Success),
        };
        if outcome != code(Errno::Success) {
            return Ok(outcome);
        }
        let passed = begun.elapsed();
        let due = clocks.iter().filter(|clock| clock.left <= passed).map(event);
        let all: Vec<_> = own.events().chain(due).collect();
        Ok(code(tell(bytes, &all, (events, done))))
    }
}

/// An answer to the program.
const fn code(error: Errno) -> i32 {
    error as i32
}

/// A time from upstream, which asks for alignment.
#[repr(align(8))]
#[derive(Default)]
struct Now([u8; 8]);

/// How long it is until a clock is where it is waited for.
fn timed(wasi: &mut WasiP1Ctx, asked: &[u8; ASKED_BYTES]) -> Result<Result<Clock, Errno>> {
    let id = u32::from_le_bytes(field(asked, 16));
    let at = u64::from_le_bytes(field(asked, 24));
    let flags = u16::from_le_bytes(field(asked, 40));
    if ![Clockid::Realtime as u32, Clockid::Monotonic as u32].contains(&id) {
        return Ok(Err(Errno::Inval));
    }
    let left = if flags & Subclockflags::SUBSCRIPTION_CLOCK_ABSTIME.bits() == 0 {
        at
    } else {
        let mut now = Now::default();
        let mut place = GuestMemory::Unshared(&mut now.0);
        upstream::clock_time_get(wasi, &mut place, id.cast_signed(), 0, 0)?;
        at.saturating_sub(u64::from_le_bytes(now.0))
    };
    Ok(Ok(Clock { user: field(asked, 0), left: Duration::from_nanos(left) }))
}

/// That a clock is where it was waited for.
fn event(clock: &Clock) -> [u8; EVENT_BYTES] {
    let mut event = [0; EVENT_BYTES];
    for (place, byte) in event.iter_mut().zip(clock.user) {
        *place = byte;
    }
    event[10] = Eventtype::Clock as u8;
    event
}

/// Memory for upstream: how many events there are, what it waits for, and the events.
struct Own {
    memory: Vec<u8>,
    /// Where it begins: upstream asks for alignment.
    start: usize,
    asked: usize,
}

impl Own {
    fn of(others: &[[u8; ASKED_BYTES]]) -> Self {
        let mut memory = vec![0; 2 * size_of::<u64>() + others.len() * OWN_BYTES];
        let start = memory.as_ptr().align_offset(size_of::<u64>());
        let places = memory.get_mut(start + size_of::<u64>()..).unwrap_or_default();
        for (place, one) in places.as_chunks_mut().0.iter_mut().zip(others) {
            *place = *one;
        }
        Self { memory, start, asked: others.len() }
    }

    /// Where its events are.
    const fn answers(&self) -> usize {
        size_of::<u64>() + self.asked * ASKED_BYTES
    }

    async fn poll(&mut self, wasi: &mut WasiP1Ctx) -> Result<i32> {
        let number = |at: usize| i32::try_from(at).unwrap_or(i32::MAX);
        let (events, count) = (number(self.answers()), number(self.asked));
        let bytes = self.memory.get_mut(self.start..).unwrap_or_default();
        let mut memory = GuestMemory::Unshared(bytes);
        let list = number(size_of::<u64>());
        upstream::poll_oneoff(wasi, &mut memory, list, events, count, 0).await
    }

    /// What upstream has told; nothing before it has.
    fn events(&self) -> impl Iterator<Item = [u8; EVENT_BYTES]> {
        let memory = self.memory.get(self.start..).unwrap_or_default();
        let count = u32::from_le_bytes(field(memory, 0)) as usize;
        let events = memory.get(self.answers()..).unwrap_or_default();
        events.as_chunks().0.iter().take(count.min(self.asked)).copied()
    }
}

/// Puts them where the program asked for them.
fn tell(bytes: &mut [u8], all: &[[u8; EVENT_BYTES]], (events, done): (i32, i32)) -> Errno {
    let (events, done) = (events.cast_unsigned() as usize, done.cast_unsigned() as usize);
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX).to_le_bytes();
    for (at, what) in [(events, all.as_flattened()), (done, &count)] {
        let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..what.len())) else {
            return Errno::Fault;
        };
        place.copy_from_slice(what);
    }
    Errno::Success
}
