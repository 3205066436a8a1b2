//! Where guests run: a lane for the well-behaved and one for those that spin or have much memory.
//!
//! A guest that computes without end starves every task of its runtime for hundreds of milliseconds. So the
//! agent's own work runs elsewhere (the caller's runtime), and guests that keep using up their slices move
//! to threads of lower priority until they calm down. File calls have threads of their own (`file_calls.rs`).
//!
//! No tick ends an instruction, and one works on as much memory as its guest has: at the worst about a second per
//! gibibyte. So those that have much are on the other lane from before they have it (`memory/large.rs`), and there each
//! guest that runs has a thread for itself, up to [`HANDOVERS_MAX`] more than there are cores: the kernel shares the cores
//! among them, whatever they do.
//!
//! Bounded so: what one guest of the ordinary lane holds up the others of it, by a tick and one instruction over 16 MiB
//! (some 16 ms where memory is touched for the first time, 2 ms later). Not bounded: that several do so at the same
//! time, one after another; and on the other lane, how long a guest waits once more of them run than there are threads.

use std::io;

use rustix::process::setpriority_process;
use tokio::runtime::{Builder, Handle, Runtime};
use tracing::warn;

/// Niceness of the CPU-bound guests'  threads: they get what the others leave.
const CPU_BOUND_NICE: i32 = 10;

/// Guests of the CPU-bound lane that hold a thread while others of it go on, beside those of its workers. The node keeps
/// a stack free for each.
const HANDOVERS_MAX: usize = 8;

/// One of the two runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Interactive guests.
    Guests,
    /// Guests that spin, and those that have much memory.
    CpuBound,
}

/// The runtimes that guests run on.
pub struct Runtimes {
    guests: Option<Runtime>,
    cpu_bound: Option<Runtime>,
    cores: usize,
    handles: (Handle, Handle),
}

impl Runtimes {
    /// Makes both, with as many workers each as there are cores.
    ///
    /// # Errors
    /// When threads cannot be made.
    pub fn new(cores: usize) -> io::Result<Self> {
        let cores = cores.max(1);
        let build = |name: &'static str, nice: i32, handovers: usize| {
            let lower = move || {
                if nice != 0
                    && let Err(error) = setpriority_process(None, nice)
                {
                    warn!(%error, "threads for busy guests keep their priority");
                }
            };
            Builder::new_multi_thread()
                .worker_threads(cores)
                .max_blocking_threads(handovers)
                .thread_name(name)
                .on_thread_start(lower)
                .enable_all()
                .build()
        };
        // Nothing is handed over among ordinary guests; the least that there can be is one.
        let (guests, cpu_bound) =
            (build("guest", 0, 1)?, build("hog", CPU_BOUND_NICE, HANDOVERS_MAX)?);
        let handles = (guests.handle().clone(), cpu_bound.handle().clone());
        Ok(Self { guests: Some(guests), cpu_bound: Some(cpu_bound), cores, handles })
    }

    /// How many guests can run at the same moment.
    pub(crate) const fn at_once(&self) -> usize {
        2 * self.cores + HANDOVERS_MAX
    }

    /// The runtime of a lane.
    #[must_use]
    pub const fn lane(&self, lane: Lane) -> &Handle {
        match lane {
            Lane::Guests => &self.handles.0,
            Lane::CpuBound => &self.handles.1,
        }
    }
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        // Waiting for guests here would block whoever drops; their stores go with their tasks.
        for runtime in [self.guests.take(), self.cpu_bound.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}
