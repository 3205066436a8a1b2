//! Being told that the container is to stop, as SIGTERM tells a process.
//!
//! A pod that is deleted has its `terminationGracePeriodSeconds` to end in (30 by default); what still runs then is
//! killed and shows as 137. A service that listens learns of it from its listener, which is closed. Whatever else
//! has something to finish, or would rather end early, asks here. The code that it then ends with is its own.

use std::time::Duration;

use wstd::runtime::AsyncPollable;

#[allow(warnings, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: "../spoke/runtime/wit/lifecycle",
        world: "freewheel:lifecycle/guest",
        with: { "wasi:io/poll@0.2.12": wstd::__internal::wasip2::io::poll },
    });
}

use bindings::freewheel::lifecycle::lifecycle;

/// Waits until the container is asked to stop; at once when it was asked before.
///
/// ```no_run
/// use freewheel_guest::stop;
///
/// #[freewheel_guest::main]
/// async fn main() {
///     println!("working beside the wait is what `wstd::runtime::spawn` is for");
///     stop::asked().await;
///     println!("{:?} to put everything away", stop::grace_left());
/// }
/// ```
pub async fn asked() {
    AsyncPollable::new(lifecycle::on_terminate()).wait_for().await;
}

/// What is left of the grace period; `None` as long as nobody asked the container to stop. A loop asks it between
/// two pieces of its work.
///
/// ```no_run
/// use freewheel_guest::{Exit, stop};
///
/// fn main() -> Exit {
///     for piece in 0..1000 {
///         if stop::grace_left().is_some() {
///             println!("stopped before piece {piece}");
///             return Exit::from(3);
///         }
///     }
///     Exit::SUCCESS
/// }
/// ```
pub fn grace_left() -> Option<Duration> {
    lifecycle::terminating().map(Duration::from_millis)
}
