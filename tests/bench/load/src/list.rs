//! One whole list by one client: the first byte, the last one, how many.
//!
//! In one answer, or in pages as `kubectl --chunk-size` takes them. The driver keeps nothing of what it reads, but for the
//! page that it looks for the next one in.

use std::time::Instant;

use http::Method;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::LoadError;
use crate::client::{Dialer, Server};

/// Which.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    server: Server,
    /// The collection.
    path: String,
    /// Objects in a page; all in one answer without it.
    page: Option<u32>,
}

pub async fn run(order: &Order) -> Result<Value, LoadError> {
    let mut connection = Dialer::new(&order.server)?.open().await?;
    let start = Instant::now();
    let (mut first, mut bytes, mut pages) = (None, 0_usize, 0_u32);
    let mut next = String::new();
    loop {
        let path = match order.page {
            None => order.path.clone(),
            Some(page) => format!("{}?limit={page}&continue={next}", order.path),
        };
        let mut body = connection.begin(Method::GET, &path).await?.into_body();
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            first.get_or_insert_with(|| start.elapsed());
            bytes += data.len();
            if order.page.is_some() {
                whole.extend_from_slice(&data);
            }
        }
        pages += 1;
        match more(&whole) {
            Some(token) => next = token,
            None => break,
        }
    }
    Ok(json!({
        "first_byte": first.map(|first| first.as_secs_f64() * 1e6),
        "seconds": start.elapsed().as_secs_f64(), "bytes": bytes, "pages": pages,
    }))
}

/// Where the next page begins.
fn more(page: &[u8]) -> Option<String> {
    let token = b"\"continue\":\"";
    let at = memchr::memmem::find(page, token)? + token.len();
    let rest = page.get(at..)?;
    let end = memchr::memchr(b'"', rest)?;
    let token = std::str::from_utf8(rest.get(..end)?).ok()?;
    (!token.is_empty()).then(|| token.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"))
}

#[cfg(test)]
mod tests {
    use super::more;

    #[test]
    fn the_next_page_is_found_and_fit_for_a_query() {
        let page = br#"{"kind":"PodList","metadata":{"continue":"aGk+/w==","resourceVersion":"7"},"items":[]}"#;
        assert_eq!(more(page).as_deref(), Some("aGk%2B%2Fw%3D%3D"));
        assert_eq!(more(br#"{"metadata":{"resourceVersion":"7"},"items":[]}"#), None);
        assert_eq!(more(br#"{"metadata":{"continue":""}}"#), None);
    }
}
