//! Write a pod's module in a few lines.
//!
//! Build with `cargo build --release --target wasm32-wasip2`, then
//! `hub push target/wasm32-wasip2/release/NAME.wasm NAME:TAG` and use `image: NAME:TAG`.
//!
//! * An HTTP handler: a library (`crate-type = ["cdylib"]`) that calls [`http_handler!`]. It has no
//!   process: each request gets an instance of its own, on the container's first `containerPort`. With
//!   `requests_per_instance`, or the pod's annotation `freewheel.dev/http-instance-reuse`, one instance serves
//!   several, one after another.
//! * A long-running service: a binary. Plain `std::net`, `std::fs` and `println!` work; with
//!   [`service::serve_tcp`] and [`macro@main`] one instance serves many connections at once.
//! * A job: a binary whose `main` returns. With [`Exit`] it says how it went: `exitCode: 3` is a 3; with [`stop`]
//!   it learns that its pod is being deleted, and how long it has to finish.
//!
//! What a module can rely on: its environment, its mounts, the network of its pod (other containers
//! on `127.0.0.1`, Services by name), clocks, randomness. There are no threads and no processes in
//! WASI 0.2, and a panic ends the instance.

#![warn(missing_docs)]

/// Makes an `async fn main` the program's `main`; nothing beside this crate is needed for it.
///
/// ```no_run
/// use freewheel_guest::time::{Duration, Timer};
///
/// #[freewheel_guest::main]
/// async fn main() -> std::io::Result<()> {
///     Timer::after(Duration::from_secs(1)).wait().await;
///     println!("done");
///     Ok(())
/// }
/// ```
pub use freewheel_guest_macros::main;
pub use wstd;
pub use wstd::http::{Body, Error, Request, Response};
pub use wstd::{io, net, time};

mod exit;
pub mod service;
pub mod stop;

pub use exit::{Exit, exit};

/// Makes an async function the HTTP handler of this module.
///
/// The function takes a [`Request<Body>`](Request) and gives a `Result<Response<Body>, Error>`. An error
/// becomes a 500 for the client and a line in the container's log.
///
/// ```no_run
/// use freewheel_guest::{Body, Error, Request, Response, http_handler};
///
/// async fn hello(_request: Request<Body>) -> Result<Response<Body>, Error> {
///     Ok(Response::new("hello\n".to_owned().into()))
/// }
/// http_handler!(hello);
/// ```
///
/// Each request gets an instance of its own. A handler that is made for it says how many requests one instance may
/// serve, one after another: several times faster, and what its globals hold passes from one request to the next. The
/// pod's annotation `freewheel.dev/http-instance-reuse` goes before what the module says.
///
/// ```no_run
/// # use freewheel_guest::{Body, Error, Request, Response, http_handler};
/// # async fn hello(_request: Request<Body>) -> Result<Response<Body>, Error> {
/// #     Ok(Response::new("hello\n".to_owned().into()))
/// # }
/// http_handler!(hello, requests_per_instance = 128);
/// ```
#[macro_export]
macro_rules! http_handler {
    ($handler:path, requests_per_instance = $requests:expr) => {
        $crate::http_handler!($handler);

        const _: () = {
            struct Instance;

            impl $crate::__internal::handler::exports::freewheel::handler::instance::Guest for Instance {
                fn requests() -> u16 {
                    $requests
                }
            }

            $crate::__internal::handler::export_handler!(Instance with_types_in $crate::__internal::handler);
        };
    };
    ($handler:path) => {
        const _: () = {
            use $crate::__internal::wasip2::exports::http::incoming_handler::Guest;
            use $crate::__internal::wasip2::http::types::{IncomingRequest, ResponseOutparam};

            struct Handler;

            impl Guest for Handler {
                fn handle(request: IncomingRequest, out: ResponseOutparam) {
                    $crate::__internal::answer(request, out, $handler);
                }
            }

            $crate::__internal::wasip2::http::proxy::export!(Handler with_types_in $crate::__internal::wasip2);
        };
    };
}

/// For the macros only.
#[doc(hidden)]
pub mod __internal {
    pub use wstd::__internal::wasip2;
    pub use wstd::runtime::block_on;

    #[allow(warnings, missing_docs, clippy::all, reason = "generated")]
    pub mod handler {
        wit_bindgen::generate!({
            path: "../spoke/runtime/wit/handler",
            world: "freewheel:handler/handler",
            export_macro_name: "export_handler",
            pub_export_macro: true,
        });
    }

    use wasip2::http::types::{IncomingRequest, ResponseOutparam};
    use wstd::http::server::Responder;
    use wstd::http::{Body, Error, Request, Response};

    /// Runs one request to its end.
    pub fn answer<F, A>(request: IncomingRequest, out: ResponseOutparam, handler: F)
    where
        F: FnOnce(Request<Body>) -> A,
        A: Future<Output = Result<Response<Body>, Error>>,
    {
        let responder = Responder::new(out);
        wstd::runtime::block_on(async move {
            let outcome = match wstd::http::request::try_from_incoming(request) {
                Ok(request) => handler(request).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(response) => {
                    // The client has gone away: nobody is left to tell but the log.
                    if let Err(error) = responder.respond(response).await {
                        eprintln!("response was cut: {error:?}");
                    }
                }
                Err(error) => {
                    eprintln!("handler failed: {error:?}");
                    responder.fail(error);
                }
            }
        });
    }
}
