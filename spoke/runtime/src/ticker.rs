//! The clock that interrupts guests: it advances the engine's epoch while any guest runs, and sleeps while
//! none does, so that an idle device stays idle.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use wasmtime::{Engine, EngineWeak};

/// Longest time that a guest runs before others get a turn.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Counts running guests and ticks while there are any.
pub(crate) struct Ticker {
    running: AtomicUsize,
    parked: Mutex<bool>,
    /// A guest runs, or it is over.
    unparked: Condvar,
    ended: AtomicBool,
    ticks: AtomicU64,
    engine: EngineWeak,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> io::Result<Arc<Self>> {
        let ticker = Arc::new(Self {
            running: AtomicUsize::new(0),
            parked: Mutex::new(false),
            unparked: Condvar::new(),
            ended: AtomicBool::new(false),
            ticks: AtomicU64::new(0),
            engine: engine.weak(),
        });
        let tick = ticker.clone();
        let thread = std::thread::Builder::new().name("epoch".to_owned()).stack_size(64 << 10);
        thread.spawn(move || tick.run())?;
        Ok(ticker)
    }

    fn run(&self) {
        while !self.ended.load(SeqCst) {
            std::thread::sleep(TICK);
            self.interrupt();
            self.ticks.fetch_add(1, SeqCst);
            let mut parked = self.parked.lock();
            *parked = true;
            while self.running.load(SeqCst) == 0 && !self.ended.load(SeqCst) {
                self.unparked.wait(&mut parked);
            }
            *parked = false;
        }
    }

    /// Makes every running guest yield now.
    pub(crate) fn interrupt(&self) {
        if let Some(engine) = self.engine.upgrade() {
            engine.increment_epoch();
        }
    }

    /// A guest runs until the guard is dropped.
    pub(crate) fn enter(&self) -> Running<'_> {
        if self.running.fetch_add(1, SeqCst) == 0 {
            let parked = self.parked.lock();
            if *parked {
                self.unparked.notify_one();
            }
        }
        Running(self)
    }

    /// Ends the thread.
    pub(crate) fn end(&self) {
        self.ended.store(true, SeqCst);
        let _parked = self.parked.lock();
        self.unparked.notify_one();
    }

    /// How often it has ticked.
    pub(crate) fn ticks(&self) -> u64 {
        self.ticks.load(SeqCst)
    }
}

/// A guest runs.
pub(crate) struct Running<'a>(&'a Ticker);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}
