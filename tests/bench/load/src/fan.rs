//! Watch fan-out: one namespace, many watchers on a TLS connection each, one writer.
//!
//! A time runs from just before a write is sent until the last watcher has its event. The next write waits for that.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::LoadError;
use crate::client::{Connection, Dialer, Server};
use crate::closed::{config_map, namespace};
use crate::figures::{Times, own_cpu};

/// How much.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    server: Server,
    /// The collection that is watched, such as `/api/v1/namespaces/fan/configmaps`.
    path: String,
    watchers: usize,
    writes: u32,
    prefix: String,
    /// Process whose memory before and after the watches is told.
    memory_of: Option<u32>,
    /// Processes whose CPU during the writes is told.
    #[serde(default)]
    cpu_of: Vec<u32>,
}

const PATIENCE: Duration = Duration::from_secs(30);

/// One event: which write, and when it was seen.
pub type Seen = (u32, Instant);

pub async fn run(order: Order) -> Result<Value, LoadError> {
    let dialer = Dialer::new(&order.server)?;
    let mut writer = dialer.open().await?;
    namespace(&mut writer, &order.path).await?;
    let version = resource_version(&mut writer, &order.path).await?;
    let before = order.memory_of.map(pss);
    let (tell, mut hear) = mpsc::unbounded_channel::<Seen>();
    let watch =
        format!("{}?watch=1&resourceVersion={version}&allowWatchBookmarks=false", order.path);
    // Kept open to the end: a watch ends with its connection.
    let mut open = Vec::with_capacity(order.watchers);
    for _ in 0..order.watchers {
        let mut connection = dialer.open().await?;
        let answer = connection.begin(Method::GET, &watch).await?;
        tokio::task::spawn_local(follow(answer.into_body(), tell.clone()));
        open.push(connection);
    }
    drop(tell);
    // Two warm-up writes: buffers grow, caches fill; they are seen by all but not counted.
    let (mut last, mut answered, mut first) =
        (Times::default(), Times::default(), Times::default());
    let (mut cpu, mut own) = (0.0, 0.0);
    let mut memory = None;
    for number in 0..order.writes + 2 {
        if number == 2 {
            memory = order.memory_of.map(pss);
            cpu = order.cpu_of.iter().copied().map(cpu_of).sum();
            own = own_cpu();
        }
        let body = config_map(&format!("{}-{number}", order.prefix), &format!("mark{number:08}."));
        let start = Instant::now();
        writer.must(Method::POST, &order.path, body, &[201]).await?;
        let written = start.elapsed();
        let (earliest, latest) = all_saw(&mut hear, order.watchers, number).await?;
        if 2 <= number {
            last.push(latest - start);
            answered.push(written);
            first.push(earliest - start);
        }
    }
    let used = order.cpu_of.iter().copied().map(cpu_of).sum::<f64>() - cpu;
    Ok(json!({
        "last": last.figures(), "answered": answered.figures(), "first": first.figures(),
        "server_cpu": used, "driver_cpu": own_cpu() - own,
        "pss_before": before, "pss_with_watches": memory,
        "events": u64::from(order.writes) * open.len() as u64,
    }))
}

/// When the first and the last watcher saw this write.
async fn all_saw(
    hear: &mut mpsc::UnboundedReceiver<Seen>,
    watchers: usize,
    number: u32,
) -> Result<(Instant, Instant), LoadError> {
    let mut span: Option<(Instant, Instant)> = None;
    let late = || LoadError::Late(format!("all watchers saw write {number}"));
    for _ in 0..watchers {
        let (which, when) =
            timeout(PATIENCE, hear.recv()).await.map_err(|_| late())?.ok_or_else(late)?;
        if which != number {
            return Err(LoadError::Late(format!(
                "write {number} came, but {which} came in its place"
            )));
        }
        let (first, last) = span.unwrap_or((when, when));
        span = Some((first.min(when), last.max(when)));
    }
    span.ok_or_else(late)
}

/// Tells of every event that carries a mark.
pub async fn follow(mut body: Incoming, tell: mpsc::UnboundedSender<Seen>) {
    let mut line: Vec<u8> = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        let mut rest: &[u8] = &data;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            line.extend_from_slice(rest.get(..end).unwrap_or_default());
            rest = rest.get(end + 1..).unwrap_or_default();
            // The receiver is gone only when the run is over.
            if let Some(number) = mark(&line)
                && tell.send((number, Instant::now())).is_err()
            {
                return;
            }
            line.clear();
        }
        line.extend_from_slice(rest);
    }
}

fn mark(line: &[u8]) -> Option<u32> {
    let at = memchr::memmem::find(line, b"\"mark")?;
    let digits = line.get(at + 5..at + 13)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

pub async fn resource_version(
    connection: &mut Connection,
    path: &str,
) -> Result<String, LoadError> {
    let list =
        connection.must(Method::GET, &format!("{path}?limit=1"), Bytes::new(), &[200]).await?;
    let list: Value = serde_json::from_slice(&list)?;
    Ok(list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned())
}

/// Proportional set size of a process in KiB.
fn pss(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// CPU seconds of a process.
fn cpu_of(process: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after = text.rsplit(") ").next().unwrap_or_default();
    let ticks =
        |at: usize| after.split(' ').nth(at).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_by_its_mark() {
        assert_eq!(
            mark(br#"{"type":"ADDED","object":{"data":{"value":"mark00000042.abc"}}}"#),
            Some(42)
        );
        assert_eq!(mark(br#"{"type":"BOOKMARK"}"#), None);
    }
}
