//! An HTTP handler that does what the request's path says.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};

wasip2::http::proxy::export!(Web);

struct Web;

static SERVED: AtomicU32 = AtomicU32::new(0);

impl Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let served = SERVED.fetch_add(1, Relaxed) + 1;
        let text = match path.as_str() {
            "/hello" => "Hello, world!\n".to_owned(),
            "/served" => format!("{served}\n"),
            "/env" => std::env::var("GREETING").unwrap_or_default(),
            "/trap" => panic!("trapped on purpose"),
            "/spin" => loop {
                std::hint::black_box(0);
            },
            "/slow" => {
                std::thread::sleep(std::time::Duration::from_millis(300));
                "slow\n".to_owned()
            }
            "/eat" => {
                let mut all = Vec::new();
                loop {
                    all.push(vec![1_u8; 1 << 20]);
                    std::hint::black_box(&all);
                }
            }
            other => match (other.strip_prefix("/via/"), other.strip_prefix("/cat")) {
                (Some(authority), _) => fetch(authority),
                (None, Some(file)) => match std::fs::read_to_string(file) {
                    Ok(text) => text,
                    Err(error) => format!("{error}\n"),
                },
                (None, None) => format!("no such thing: {other}\n"),
            },
        };
        answer(out, &text);
    }
}

fn answer(out: ResponseOutparam, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().unwrap();
    stream.blocking_write_and_flush(text.as_bytes()).unwrap();
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

/// What another handler says to `/hello`.
fn fetch(authority: &str) -> String {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some("/hello")).unwrap();
    let future = match outgoing_handler::handle(request, None) {
        Ok(future) => future,
        Err(code) => return format!("{code:?}\n"),
    };
    future.subscribe().block();
    match future.get().unwrap().unwrap() {
        Err(code) => format!("{code:?}\n"),
        Ok(response) => {
            let body = response.consume().unwrap();
            let stream = body.stream().unwrap();
            let mut all = Vec::new();
            while let Ok(bytes) = stream.blocking_read(4096) {
                all.extend(bytes);
            }
            format!("upstream said {}", String::from_utf8_lossy(&all))
        }
    }
}
