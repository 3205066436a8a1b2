//! Copying and comparing bytes, under the names by which all code of a program asks for it: `memcpy`, `memmove`, `memcmp` and
//! `bcmp`.
//!
//! The spoke that ships is linked to musl, which copies few bytes by an instruction that takes 20 ns to begin, and moves bytes
//! upwards and compares them one by one. All of it together would be an eighth of what a request costs.
//!
//! ```text
//! copy   to a place that may overlap       compare   which comes first
//! ```
//!
//! It calls nothing, not even the standard library: it is compiled apart from the rest of the program, since the optimiser makes
//! calls of these very functions out of such loops.
//!
//! Guarantees:
//! - it is optimised in programs that are not, where each load and store would be a call of `memcpy`
//!   (`it_is_optimised_whatever_the_program_is`).

#![no_builtins]
#![cfg_attr(not(test), no_std)]
// Beside another C library it is tests alone.
#![cfg(any(target_env = "musl", test))]
#![expect(
    unsafe_code,
    reason = "what is copied is told by addresses; a decision in ARCHITECTURE.md"
)]

#[cfg(all(not(test), debug_assertions))]
compile_error!(
    "unoptimised, these functions call themselves without end: see the profile `dev` of the workspace"
);

mod compare;
// For ARM musl has copies of its own that leave nothing to do.
#[cfg(any(target_arch = "x86_64", test))]
mod copy;

/// A program's own come before those of its C library.
#[cfg(not(test))]
mod symbols {
    /// # Safety
    /// As C has it.
    #[cfg(target_arch = "x86_64")]
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { super::copy::copy(to, from, length) };
        to
    }

    /// # Safety
    /// As C has it.
    #[cfg(target_arch = "x86_64")]
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { super::copy::copy(to, from, length) };
        to
    }

    /// # Safety
    /// As C has it.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
        // SAFETY: the caller's promise.
        unsafe { super::compare::compare(a, b, length) as i32 }
    }

    /// # Safety
    /// As C has it.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
        // SAFETY: the caller's promise.
        unsafe { super::compare::compare(a, b, length) as i32 }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_optimised_whatever_the_program_is() {
        // As what every program is built with that is not optimised.
        assert!(!std::hint::black_box(cfg!(debug_assertions)));
    }
}
