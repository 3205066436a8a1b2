//! Answers every request with a greeting, the pod that gave it, and the path that was asked for.

use freewheel_guest::{Body, Error, Request, Response, http_handler};

async fn hello(request: Request<Body>) -> Result<Response<Body>, Error> {
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "hello".to_owned());
    let pod = std::env::var("HOSTNAME").unwrap_or_else(|_| "nowhere".to_owned());
    println!("{} {}", request.method(), request.uri().path());
    Ok(Response::new(format!("{greeting} from {pod}\n").into()))
}

http_handler!(hello);
