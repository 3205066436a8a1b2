//! One request, for what a bench needs around its loads.

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::LoadError;
use crate::client::{Dialer, Server};

/// Which.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    server: Server,
    method: String,
    path: String,
    #[serde(default)]
    body: Value,
}

/// The JSON that was answered, or the text.
pub async fn run(order: &Order) -> Result<Value, LoadError> {
    let method = Method::from_bytes(order.method.as_bytes()).map_err(http::Error::from)?;
    let body = if order.body.is_null() { Bytes::new() } else { order.body.to_string().into() };
    let mut connection = Dialer::new(&order.server)?.open().await?;
    let answer = connection.must(method, &order.path, body, &[200, 201, 202]).await?;
    let text = || Value::String(String::from_utf8_lossy(&answer).into_owned());
    Ok(serde_json::from_slice(&answer).unwrap_or_else(|_| text()))
}
