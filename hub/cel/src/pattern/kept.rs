//! Patterns that were compiled, kept as long as there is room for them: so many bytes in the whole hub, whoever's they are.
//!
//! Guarantees:
//! - however many patterns there are, what is kept of them is bounded (`what_is_kept_of_patterns_is_bounded`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use regex::Regex;

/// Bytes that a compiled pattern may take, in each direction.
pub(super) const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Bytes that the engine remembers while it looks: many are kept.
pub(super) const CACHE_BYTES: usize = 32 << 10;
/// Bytes of all of them, about.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// Bytes of one beside the engine: what the engine remembers while it looks, in each direction.
const EACH_BYTES: usize = 2 * CACHE_BYTES;

/// One that was compiled.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) regex: Regex,
    bytes: usize,
    /// Somebody has asked it since it was last looked at here.
    used: AtomicBool,
}

impl Compiled {
    /// Of an engine of so many bytes, which there is for both directions.
    pub(super) fn new(regex: Regex, bytes: usize) -> Arc<Self> {
        let bytes = bytes.min(COMPILED_BYTES_MAX).saturating_mul(2) + EACH_BYTES;
        Arc::new(Self { regex, bytes, used: AtomicBool::new(false) })
    }

    /// Whether a value has it somewhere.
    pub(super) fn is_match(&self, value: &str) -> bool {
        self.used.store(true, Ordering::Relaxed);
        self.regex.is_match(value)
    }
}

/// All of them, the oldest first.
#[derive(Default)]
pub(super) struct Kept {
    all: VecDeque<Arc<Compiled>>,
    bytes: usize,
}

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

/// Keeps one, as long as there is room for it.
pub(super) fn keep(one: Arc<Compiled>) {
    let gone = KEPT.lock().put(one, KEPT_BYTES_MAX);
    // To drop many takes its time.
    drop(gone);
}

impl Kept {
    /// Takes one in; answers those for which there is no room any more. Who was asked since it came has a second turn.
    fn put(&mut self, one: Arc<Compiled>, most: usize) -> Vec<Arc<Compiled>> {
        self.bytes += one.bytes;
        self.all.push_back(one);
        let mut gone = Vec::new();
        while most < self.bytes {
            let Some(oldest) = self.all.pop_front() else { break };
            if oldest.used.swap(false, Ordering::Relaxed) {
                self.all.push_back(oldest);
            } else {
                self.bytes -= oldest.bytes;
                gone.push(oldest);
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_patterns_is_bounded() {
        let made = || Compiled::new(Regex::new("a").unwrap(), 1_000);
        let most = 10 * made().bytes;
        let mut kept = Kept::default();
        let used = made();
        kept.put(used.clone(), most);
        for _ in 0..100 {
            used.is_match("a");
            kept.put(made(), most);
            assert!(kept.bytes <= most && kept.all.len() <= 10);
        }
        assert_eq!(kept.bytes, kept.all.iter().map(|one| one.bytes).sum::<usize>());
        assert!(kept.all.iter().any(|one| Arc::ptr_eq(one, &used)), "who is asked stays");
    }
}
