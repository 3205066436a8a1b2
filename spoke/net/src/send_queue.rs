//! What the kernel still holds of what was written to a TCP stream.
//!
//! Who closes a stream with a reset, or with something unread in it, takes that away from the other side.
//!
//! Guarantees:
//! - who takes nothing of it is not waited for (`a_client_that_takes_nothing_of_what_broke_off_is_not_waited_for`).

#![expect(
    unsafe_code,
    reason = "asks the kernel how much it holds, which no library does; a decision in ARCHITECTURE.md"
)]

use std::os::fd::AsRawFd as _;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// How long the other side may take nothing.
const SILENCE_MAX: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 10 });
/// Between two looks: at first, and at the most.
const LOOK_PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// Waits until the other side's kernel has all of it, or takes none.
pub(crate) async fn taken(stream: &TcpStream) {
    let (mut left, mut since, mut pause) = (usize::MAX, Instant::now(), LOOK_PAUSES.0);
    // Of a stream that is broken nothing is taken any more.
    while stream.peer_addr().is_ok() {
        let now = bytes(stream);
        if now < left {
            (left, since) = (now, Instant::now());
        }
        if now == 0 || SILENCE_MAX <= since.elapsed() {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_PAUSES.1);
    }
}

/// Bytes that the other side has not said to have.
fn bytes(stream: &TcpStream) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as the stream is, and the kernel writes one number to where this leads.
    unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    usize::try_from(bytes).unwrap_or(0)
}
