//! What a client asks its connection to become, and the answer.
//!
//! Guarantees:
//! - who asks for nothing that is served is told what is (`who_asks_for_nothing_known_is_told_what_is`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_schema::error::ApiError;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::body::Body;

/// What of SPDY's streams is for what.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";
/// Before the name of a protocol of SPDY's that is carried in a WebSocket.
const TUNNEL: &str = "SPDY/3.1+";
/// RFC 6455, 1.3.
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a connection is to become.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// SPDY/3.1, with one of these protocols.
    Spdy(Vec<String>),
    /// A WebSocket, with one of these.
    WebSocket { key: String, protocols: Vec<String> },
}

/// What it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Becomes {
    /// SPDY/3.1.
    Spdy,
    /// The same in a WebSocket.
    Tunnel,
    /// A WebSocket with channels, by this protocol.
    Channels(&'static str),
}

/// What is served.
pub(super) struct Served {
    /// Protocols of SPDY's, the newest first.
    pub(super) spdy: &'static [&'static str],
    /// Whether those are served in a WebSocket as well.
    pub(super) tunnels: bool,
    /// Protocols of a WebSocket with channels.
    pub(super) channels: &'static [&'static str],
}

fn texts(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let parts = values.flat_map(|value| value.split(',')).map(str::trim);
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// What is asked for.
///
/// # Errors
/// When it is nothing, or not well said.
pub(super) fn asked(headers: &HeaderMap) -> Result<Asked, ApiError> {
    let upgrade = texts(headers, &UPGRADE);
    let is = |what: &str| upgrade.iter().any(|one| one.eq_ignore_ascii_case(what));
    if is("websocket") {
        let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
        let version = headers.get(SEC_WEBSOCKET_VERSION).and_then(|version| version.to_str().ok());
        let (Some(key), Some("13")) = (key, version) else {
            return Err(ApiError::bad_request("a WebSocket of version 13 with a key is served"));
        };
        let protocols = texts(headers, &SEC_WEBSOCKET_PROTOCOL);
        return Ok(Asked::WebSocket { key: key.to_owned(), protocols });
    }
    if is(SPDY) {
        return Ok(Asked::Spdy(texts(headers, &STREAM_PROTOCOL)));
    }
    Err(ApiError::bad_request("Upgrade request required"))
}

impl Asked {
    /// The answer, and what the connection becomes with it.
    ///
    /// # Errors
    /// When nothing of what is asked for is served.
    pub(super) fn agree(&self, served: &Served) -> Result<(Becomes, Response<Body>), ApiError> {
        let first = |asked: &[String], known: &[&'static str]| {
            asked.iter().find_map(|asked| known.iter().copied().find(|known| known == asked))
        };
        match self {
            Self::Spdy(asked) => {
                // The oldest clients name none.
                let chosen = match (asked.is_empty(), served.spdy.last()) {
                    (true, Some(oldest)) => *oldest,
                    _ => first(asked, served.spdy)
                        .ok_or_else(|| unable(asked, served.spdy.iter().copied()))?,
                };
                let mut answer = switching(SPDY);
                answer.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(chosen));
                Ok((Becomes::Spdy, answer))
            }
            Self::WebSocket { key, protocols: asked } => {
                let tunnelled = asked.iter().find(|asked| {
                    let inner = asked.strip_prefix(TUNNEL);
                    served.tunnels && inner.is_some_and(|inner| served.spdy.contains(&inner))
                });
                let channels = first(asked, served.channels);
                let (becomes, named) = match (tunnelled, channels, served.channels.first()) {
                    (Some(tunnel), ..) => (Becomes::Tunnel, Some(tunnel.as_str())),
                    (None, Some(known), _) => (Becomes::Channels(known), Some(known)),
                    (None, None, Some(usual)) if asked.is_empty() => {
                        (Becomes::Channels(usual), None)
                    }
                    _ => return Err(unable(asked, served.channels.iter().copied())),
                };
                let mut answer = switching("websocket");
                let accept =
                    digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{WEBSOCKET_GUID}").as_bytes());
                let headers = answer.headers_mut();
                let accept = HeaderValue::try_from(STANDARD.encode(accept));
                headers.insert(SEC_WEBSOCKET_ACCEPT, accept.map_err(ApiError::internal)?);
                if let Some(named) = named {
                    let named = HeaderValue::try_from(named).map_err(ApiError::internal)?;
                    headers.insert(SEC_WEBSOCKET_PROTOCOL, named);
                }
                Ok((becomes, answer))
            }
        }
    }
}

fn unable(asked: &[String], served: impl Iterator<Item = &'static str>) -> ApiError {
    let served: Vec<_> = served.collect();
    let text = format!(
        "unable to upgrade: unable to negotiate protocol: client supports {asked:?}, server accepts {served:?}"
    );
    ApiError::new(403, "Forbidden", text)
}

fn switching(to: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(to));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVED: Served = Served {
        spdy: &["portforward.k8s.io"],
        tunnels: true,
        channels: &["v4.channel.k8s.io", "v4.base64.channel.k8s.io"],
    };

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        });
        pairs.collect()
    }

    fn websocket(protocols: &str) -> Result<(Becomes, Response<Body>), ApiError> {
        let mut all = vec![
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        if !protocols.is_empty() {
            all.push(("sec-websocket-protocol", protocols));
        }
        asked(&headers(&all)).unwrap().agree(&SERVED)
    }

    #[test]
    fn a_websocket_is_answered_as_the_standard_says() {
        let (becomes, answer) = websocket("x, SPDY/3.1+portforward.k8s.io").unwrap();
        assert_eq!((becomes, answer.status().as_u16()), (Becomes::Tunnel, 101));
        let told = |name: &HeaderName| answer.headers()[name].to_str().unwrap();
        assert_eq!(told(&SEC_WEBSOCKET_ACCEPT), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(told(&SEC_WEBSOCKET_PROTOCOL), "SPDY/3.1+portforward.k8s.io");
        let (becomes, answer) = websocket("v4.base64.channel.k8s.io").unwrap();
        assert_eq!(becomes, Becomes::Channels("v4.base64.channel.k8s.io"));
        assert!(answer.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        let (becomes, answer) = websocket("").unwrap();
        assert_eq!(becomes, Becomes::Channels("v4.channel.k8s.io"));
        assert!(!answer.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
    }

    #[test]
    fn spdy_is_answered_with_its_protocol() {
        let with = [("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "portforward.k8s.io")];
        for pairs in [&with[..], &with[..1]] {
            let (becomes, answer) = asked(&headers(pairs)).unwrap().agree(&SERVED).unwrap();
            assert_eq!(becomes, Becomes::Spdy);
            assert_eq!(answer.headers()[STREAM_PROTOCOL], "portforward.k8s.io");
        }
    }

    #[test]
    fn who_asks_for_nothing_known_is_told_what_is() {
        let error = asked(&HeaderMap::new()).unwrap_err();
        assert_eq!((error.code, &*error.message), (400, "Upgrade request required"));
        let error = websocket("x").err().unwrap();
        assert_eq!(error.code, 403);
        assert!(error.message.contains("server accepts [\"v4.channel.k8s.io\""), "{error:?}");
        let bad = asked(&headers(&[("upgrade", "websocket")])).unwrap_err();
        assert_eq!(bad.code, 400);
    }
}
