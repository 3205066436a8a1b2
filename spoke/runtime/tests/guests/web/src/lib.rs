//! An HTTP handler that does what the request's path says.

use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};

wasip2::http::proxy::export!(Web);

struct Web;

static SERVED: AtomicU32 = AtomicU32::new(0);

impl Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let served = SERVED.fetch_add(1, Relaxed) + 1;
        match path.as_str() {
            "/endless" => return endless(out),
            "/event" => return event(out),
            "/large" => return large(out),
            "/echo" => return echo(&request, out),
            "/after" => return after(&request, out),
            "/half" | "/unfinished" => return half(out, path == "/half"),
            "/nothing" => return std::mem::forget(out),
            "/code" => {
                let inside = ErrorCode::InternalError(Some("secret inside".to_owned()));
                return ResponseOutparam::set(out, Err(inside));
            }
            "/error-long" => {
                let long = ErrorCode::InternalError(Some("\x7f".repeat(3 << 20)));
                return ResponseOutparam::set(out, Err(long));
            }
            _ => {}
        }
        let text = match path.as_str() {
            "/hello" => "Hello, world!\n".to_owned(),
            "/keep" => {
                std::mem::forget(request);
                "kept\n".to_owned()
            }
            "/keep-headers" => {
                std::mem::forget(request.headers());
                "kept\n".to_owned()
            }
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
            "/hang" => {
                println!("hangs");
                std::thread::sleep(std::time::Duration::from_secs(3600));
                String::new()
            }
            "/eat" => {
                let mut all = Vec::new();
                loop {
                    all.push(vec![1_u8; 1 << 20]);
                    std::hint::black_box(&all);
                }
            }
            "/over-tls" => fetch(&Scheme::Https, "hello"),
            other => match (other.strip_prefix("/via/"), other.strip_prefix("/cat")) {
                (Some(authority), _) => fetch(&Scheme::Http, authority),
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

fn begin(out: ResponseOutparam) -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    body
}

/// Writes for ever, and says after each 64 KiB how much that was.
fn endless(out: ResponseOutparam) {
    let body = begin(out);
    let stream = body.write().unwrap();
    let piece = [b'x'; 4096];
    for round in 1_u64.. {
        if stream.blocking_write_and_flush(&piece).is_err() {
            return;
        }
        if round % 16 == 0 {
            println!("wrote {}", round * 4096);
        }
    }
}

/// As much as waits for a client that does not read: the handler is done, whoever reads it.
fn large(out: ResponseOutparam) {
    let body = begin(out);
    let stream = body.write().unwrap();
    for _ in 0..15 {
        stream.blocking_write_and_flush(&[b'x'; 4000]).unwrap();
    }
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

/// One event, and then nothing for an hour.
fn event(out: ResponseOutparam) {
    let body = begin(out);
    let stream = body.write().unwrap();
    stream.blocking_write_and_flush(b"data: first\n\n").unwrap();
    println!("the event is out");
    std::thread::sleep(std::time::Duration::from_secs(3600));
}

/// Sends back what comes, while it comes.
fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let received = request.consume().unwrap();
    let from = received.stream().unwrap();
    let body = begin(out);
    let to = body.write().unwrap();
    while let Ok(bytes) = from.blocking_read(4096) {
        to.blocking_write_and_flush(&bytes).unwrap();
    }
    drop(to);
    OutgoingBody::finish(body, None).unwrap();
}

/// Takes a MiB once something of the body has come, and answers once all of it has.
fn after(request: &IncomingRequest, out: ResponseOutparam) {
    println!("begun");
    let received = request.consume().unwrap();
    let from = received.stream().unwrap();
    from.subscribe().block();
    let grown = vec![1_u8; 1 << 20];
    println!("grown");
    while from.blocking_read(4096).is_ok() {}
    answer(out, &format!("{}\n", std::hint::black_box(&grown).len()));
}

/// Half an answer.
fn half(out: ResponseOutparam, trap: bool) {
    let body = begin(out);
    let stream = body.write().unwrap();
    stream.blocking_write_and_flush(b"half an ans").unwrap();
    std::io::stdout().flush().unwrap();
    // The head and this much reach the client first.
    std::thread::sleep(std::time::Duration::from_millis(100));
    if trap {
        panic!("trapped on purpose");
    }
    std::mem::forget(stream);
    std::mem::forget(body);
}

/// What another handler says to `/hello`.
fn fetch(scheme: &Scheme, authority: &str) -> String {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(scheme)).unwrap();
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
