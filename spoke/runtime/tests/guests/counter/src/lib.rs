//! Counts the requests of its instance, and says itself that one serves three of them.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use freewheel_guest::{Body, Error, Request, Response, http_handler};

static SERVED: AtomicU32 = AtomicU32::new(0);

async fn count(_: Request<Body>) -> Result<Response<Body>, Error> {
    let served = SERVED.fetch_add(1, Relaxed) + 1;
    Ok(Response::new(format!("{served}\n").into()))
}

/// With `SPINS` in the environment it never says it.
fn requests() -> u16 {
    while std::env::var_os("SPINS").is_some() {
        std::hint::black_box(0);
    }
    3
}
http_handler!(count, requests_per_instance = requests());
