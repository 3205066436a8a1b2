//! A native HTTP server that says hello: what a Wasm handler is measured beside.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::LoadError;

/// Where.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    address: SocketAddr,
    body: String,
}

pub async fn run(order: &Order) -> Result<Value, LoadError> {
    let what = || format!("listen on {}", order.address);
    let listener = TcpListener::bind(order.address).await.map_err(LoadError::io(what()))?;
    let body = Bytes::from(order.body.clone());
    loop {
        let (stream, _) = listener.accept().await.map_err(LoadError::io(what()))?;
        stream.set_nodelay(true).map_err(LoadError::io(what()))?;
        let body = body.clone();
        let hello = service_fn(move |_: Request<Incoming>| {
            let body = body.clone();
            async move { Ok::<_, Infallible>(Response::new(Full::new(body))) }
        });
        // A client that goes away is the end of its connection and of nothing else.
        tokio::task::spawn_local(async move {
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), hello).await);
        });
    }
}
