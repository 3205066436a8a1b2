//! Many requests at once, of which every single one must be answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::http;

/// How long one request may take while the machine is busy with all the others.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends `GET /N-` for every number below `requests`, so many at a time, and panics with all that were not answered with
/// 200 and a body that is right for the path.
#[track_caller]
pub fn answers_all(
    address: SocketAddr,
    requests: usize,
    at_once: usize,
    right: impl Fn(&str, &str) -> bool + Sync,
) {
    let next = AtomicUsize::new(0);
    let ask = || {
        let mut failed = Vec::new();
        loop {
            let number = next.fetch_add(1, Relaxed);
            if requests <= number {
                return failed;
            }
            let path = format!("/{number}-");
            match http::get_within(address, &path, PATIENCE) {
                Ok((200, body)) if right(&path, &body) => {}
                other => failed.push((number, other)),
            }
        }
    };
    let failed: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("answers")).collect()
    });
    assert!(failed.is_empty(), "{} of {requests} requests failed: {failed:#?}", failed.len());
}
