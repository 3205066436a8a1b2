//! One HTTP/1.1 request over plain TCP, as simple as a user's curl.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// Status line and headers.
    pub head: String,
    /// The body, without chunks.
    pub body: String,
}

/// Status code and body of `GET path`.
///
/// # Errors
/// When there is no whole answer within five seconds.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    send(address, "GET", path, "", b"").map(|answer| (answer.code, answer.body))
}

/// As [`get`], with patience of its own: for what a busy machine may take long to answer.
///
/// # Errors
/// When there is no whole answer within the limit.
pub fn get_within(
    address: SocketAddr,
    path: &str,
    limit: Duration,
) -> Result<(u16, String), String> {
    send_within(address, ("GET", path), "", b"", limit).map(|answer| (answer.code, answer.body))
}

/// One request with a body of this content type; with none when the type is empty.
///
/// # Errors
/// When there is no whole answer within five seconds.
pub fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    content_type: &str,
    body: &[u8],
) -> Result<Answer, String> {
    send_within(address, (method, path), content_type, body, Duration::from_secs(5))
}

fn send_within(
    address: SocketAddr,
    (method, path): (&str, &str),
    content_type: &str,
    body: &[u8],
    limit: Duration,
) -> Result<Answer, String> {
    let lost = |e: std::io::Error| e.to_string();
    let mut stream = TcpStream::connect_timeout(&address, limit).map_err(lost)?;
    stream.set_read_timeout(Some(limit)).map_err(lost)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    if !content_type.is_empty() {
        let length = body.len();
        head += &format!("Content-Type: {content_type}\r\nContent-Length: {length}\r\n");
    }
    stream.write_all(&[head.as_bytes(), b"\r\n", body].concat()).map_err(lost)?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).map_err(lost)?;
    let text = String::from_utf8_lossy(&raw);
    let (head, body) =
        text.split_once("\r\n\r\n").ok_or_else(|| format!("no whole answer: {text:?}"))?;
    let code = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    let code = code.ok_or_else(|| format!("no status line: {head:?}"))?;
    Ok(Answer { code, head: head.to_owned(), body })
}

fn unchunk(mut rest: &str) -> String {
    let mut out = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        if size == 0 || tail.len() < size {
            break;
        }
        out.push_str(&tail[..size]);
        rest = tail[size..].trim_start_matches("\r\n");
    }
    out
}
