//! What a thread frees and soon needs again, kept at hand in front of musl's allocator.
//!
//! The spoke that ships is linked to musl, whose allocator leaves little memory unused but has one lock for all threads
//! and asks the kernel for most pieces of a few kilobytes: a request would cost a third more. So each thread
//! keeps some pieces of every size that it has freed.
//!
//! ```text
//! kept   pieces by their size, a list of each for every thread
//! ```

// Beside another C library it is tests alone.
#![cfg(any(target_env = "musl", test))]
#![expect(unsafe_code, reason = "an allocator deals in pointers; a decision in ARCHITECTURE.md")]

mod kept;

pub use kept::keep_nothing;

#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: kept::Allocator = kept::Allocator;
