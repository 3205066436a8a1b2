//! Ending with a code of one's own, as `kubectl get pod` shows it under `exitCode`.
//!
//! The standard library of WASI 0.2 tells its host whether a program failed and not how: a `main` that returns
//! `ExitCode::from(3)` shows as 1. With this crate in a program there are three ways to say 3: return
//! [`Exit`] from `main`, call [`exit`], or call [`std::process::exit`], which ends here too.

use std::process::{ExitCode, Termination};

#[cfg(target_os = "wasi")]
use wstd::__internal::wasip2::cli::exit::exit_with_code;

/// What a `main` returns that ends with a code of its own.
///
/// ```no_run
/// use freewheel_guest::Exit;
///
/// fn main() -> Exit {
///     match std::fs::read_to_string("/config/greeting") {
///         Ok(greeting) => println!("{greeting}"),
///         Err(_) => return Exit::from(3),
///     }
///     Exit::SUCCESS
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// All is well: 0.
    pub const SUCCESS: Self = Self(0);
    /// Something went wrong: 1.
    pub const FAILURE: Self = Self(1);
}

impl From<u8> for Exit {
    fn from(code: u8) -> Self {
        Self(code)
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        match self.0 {
            // The way out that every program takes.
            0 => ExitCode::SUCCESS,
            code => exit(code),
        }
    }
}

/// Ends the container with this code. What was printed is in its log.
pub fn exit(code: u8) -> ! {
    std::process::exit(code.into())
}

/// What libc's `exit` ends in, in place of the one that tells 0 from all the rest and nothing more. As on other
/// systems the lowest eight bits count.
#[cfg(target_os = "wasi")]
#[unsafe(no_mangle)]
extern "C" fn _Exit(code: i32) -> ! {
    let [low, ..] = code.to_le_bytes();
    exit_with_code(low);
    // The host does not come back.
    std::process::abort()
}

/// The other name of `_Exit`: libc has both in one place, and one of them alone would be there twice.
#[cfg(target_os = "wasi")]
#[unsafe(no_mangle)]
extern "C" fn _exit(code: i32) -> ! {
    _Exit(code)
}
