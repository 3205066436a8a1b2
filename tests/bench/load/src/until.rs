//! Asks for a page until it is answered with 200.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::LoadError;
use crate::client::{Dialer, Server};

/// Which, and for how long.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    server: Server,
    path: String,
    seconds: f64,
}

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(2);

pub async fn run(order: &Order) -> Result<Value, LoadError> {
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < order.seconds {
        // The certificates may not be there yet.
        if let Ok(dialer) = Dialer::new(&order.server)
            && let Ok(mut connection) = dialer.open().await
            && connection.must(Method::GET, &order.path, Bytes::new(), &[200]).await.is_ok()
        {
            return Ok(json!({"seconds": start.elapsed().as_secs_f64()}));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(LoadError::Late(format!("{} was answered with 200", order.path)))
}
