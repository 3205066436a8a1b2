//! One client and its own writes: how soon it reads one back, and how soon a watch of its tells of it.
//!
//! All times run from just before the write is sent. The next write waits for both.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::LoadError;
use crate::client::{Dialer, Server};
use crate::closed::{config_map, namespace};
use crate::fan::{follow, resource_version};
use crate::figures::Times;

/// How much.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    server: Server,
    /// The collection, such as `/api/v1/namespaces/echo/configmaps`.
    path: String,
    writes: u32,
    prefix: String,
}

const PATIENCE: Duration = Duration::from_secs(30);

pub async fn run(order: Order) -> Result<Value, LoadError> {
    let dialer = Dialer::new(&order.server)?;
    let (mut client, mut watch) = (dialer.open().await?, dialer.open().await?);
    namespace(&mut client, &order.path).await?;
    let version = resource_version(&mut client, &order.path).await?;
    let path = format!("{}?watch=1&resourceVersion={version}", order.path);
    let events: Incoming = watch.begin(Method::GET, &path).await?.into_body();
    let (tell, mut hear) = mpsc::unbounded_channel();
    tokio::task::spawn_local(follow(events, tell));
    let (mut answered, mut read, mut seen) = (Times::default(), Times::default(), Times::default());
    for number in 0..order.writes {
        let name = format!("{}-{number}", order.prefix);
        let body = config_map(&name, &format!("mark{number:08}."));
        let start = Instant::now();
        client.must(Method::POST, &order.path, body, &[201]).await?;
        answered.push(start.elapsed());
        let one = format!("{}/{name}", order.path);
        client.must(Method::GET, &one, Bytes::new(), &[200]).await?;
        read.push(start.elapsed());
        let late = || LoadError::Late(format!("write {number} was told to its watch"));
        let (which, when) =
            timeout(PATIENCE, hear.recv()).await.map_err(|_| late())?.ok_or_else(late)?;
        if which != number {
            return Err(late());
        }
        seen.push(when - start);
    }
    Ok(json!({"answered": answered.figures(), "read": read.figures(), "seen": seen.figures()}))
}
