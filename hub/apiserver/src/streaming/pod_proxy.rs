//! `pods/NAME/proxy/…` and `services/NAME/proxy/…`: a request goes on to a port of a pod, and its answer back.
//!
//! Guarantees:
//! - who the client is to the hub is not told to the pod: neither its token nor as whom it asks to run
//!   (`a_request_goes_on_to_a_pod_without_its_credentials`);
//! - a redirect of the pod's own leads through the proxy again (`a_redirect_leads_through_the_proxy`);
//! - an answer that breaks off does not look complete (`an_answer_that_breaks_off_does_not_look_complete`);
//! - what a connection to a pod holds is on the client's account, whatever it becomes
//!   (`what_has_changed_its_protocol_behind_a_proxy_is_on_the_account`).
//!
//! Neither body is collected here, and both end with the hub, the cluster and the user's certificate, as all that
//! [`ending`] is asked about.
//!
//! Upstream writes links in HTML anew as well; here a page is passed on as it is.

use freewheel_hub_schema::error::ApiError;
use futures::StreamExt as _;
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::backend::{self, Backend};
use super::pod::client;
use super::stream_end;
use crate::body::Body;
use crate::call::Call;
use crate::connect;
use crate::memory_account::Held;
use crate::path;
use crate::request_body::RequestBody;

/// What a connection to a pod holds while it is used.
const CONNECTION_BYTES: usize = 64 << 10;
/// The longest head of a pod's answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// About one connection, and not about what is sent over it.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Passes a request on.
pub(crate) async fn proxy(
    call: &Call,
    (method, uri): (&Method, &Uri),
    body: RequestBody,
) -> Result<Response<Body>, ApiError> {
    let (prefix, rest) = split(uri.path());
    let asked_by = call.view.served.subresource_named(&call.subresource);
    let options = asked_by.map(|subresource| &*subresource.kind).unwrap_or_default();
    connect::through_proxy(call, options, rest).await?;
    if rest.is_empty() && matches!(*method, Method::GET | Method::HEAD) {
        return redirect(uri);
    }
    let backend = backend::of(call)?;
    let held = call.slot.backlog.hold(CONNECTION_BYTES).await?;
    let (mut sender, connection) = dial(call, &backend).await?;
    let request = request(call, (method, uri), (prefix, rest), body)?;
    let mut answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return change_hands(call, answer, (connection, held));
    }
    let host = call.headers.get(HOST).cloned();
    rewrite_location(answer.headers_mut(), prefix, host.as_ref());
    remove_hop_by_hop(answer.headers_mut());
    let (parts, incoming) = answer.into_parts();
    let stream = BodyDataStream::new(incoming).map(move |chunk| {
        // The connection is driven, and counted, as long as somebody wants something of it.
        let _ = (&connection, &held);
        chunk.map_err(|error| ApiError::new(503, "ServiceUnavailable", error.to_string()))
    });
    let body = Body::chunks(stream_end::until(Box::pin(stream), stream_end::of(call))).followed();
    Ok(Response::from_parts(parts, body))
}

fn unreachable(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(503, "ServiceUnavailable", format!("error trying to reach service: {error}"))
}

/// The path up to the proxy, and what follows it.
fn split(path: &str) -> (&str, &str) {
    let (_, own) = path::cluster(path);
    let rest = own.splitn(9, '/').nth(8);
    let rest = rest.map_or(0, |rest| rest.len() + 1);
    path.split_at(path.len() - rest)
}

/// What is not told where it is relative to is asked for with a slash at its end.
fn redirect(uri: &Uri) -> Result<Response<Body>, ApiError> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let to = HeaderValue::try_from(format!("{}/{query}", uri.path()));
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    answer.headers_mut().insert(LOCATION, to.map_err(ApiError::internal)?);
    Ok(answer)
}

type Connected = (http1::SendRequest<RequestBody>, AbortOnDropHandle<()>);

async fn dial(call: &Call, backend: &Backend) -> Result<Connected, ApiError> {
    let Backend { spoke, uid, port } = backend;
    let streams = &call.hub.server.streams;
    let stream = streams.port_forward(spoke, uid, *port, client(call)).await;
    let stream = stream.map_err(|error| unreachable(&error.message))?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let shaken = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|error| unreachable(&error))?;
    let driven = tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "a connection to a pod broke off");
        }
    });
    Ok((sender, AbortOnDropHandle::new(driven)))
}

/// The request as the pod gets it.
fn request(
    call: &Call,
    (method, uri): (&Method, &Uri),
    (prefix, rest): (&str, &str),
    body: RequestBody,
) -> Result<Request<RequestBody>, ApiError> {
    let path = if rest.is_empty() { "/" } else { rest };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let target = format!("{path}{query}").parse::<Uri>().map_err(ApiError::internal)?;
    let mut headers = call.headers.clone();
    let upgrade = headers.get(UPGRADE).filter(|_| call.slot.upgrade.is_offered()).cloned();
    remove_hop_by_hop(&mut headers);
    headers.remove(AUTHORIZATION);
    let dropped: Vec<_> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
    dropped.iter().for_each(|name| drop(headers.remove(name)));
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    // HTTP/2 has the host in its URL.
    if let Some(host) = uri.authority().filter(|_| !headers.contains_key(HOST)) {
        headers.insert(HOST, HeaderValue::try_from(host.as_str()).map_err(ApiError::internal)?);
    }
    let forwarded = HeaderValue::try_from(format!("{prefix}{path}")).map_err(ApiError::internal)?;
    headers.insert(FORWARDED_URI, forwarded);
    let mut request = Request::new(body);
    (*request.method_mut(), *request.uri_mut()) = (method.clone(), target);
    (*request.version_mut(), *request.headers_mut()) = (Version::HTTP_11, headers);
    Ok(request)
}

/// What is said to the hub alone.
fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("impersonate-")
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    named.iter().chain(&HOP_BY_HOP).for_each(|name| drop(headers.remove(name)));
}

/// A pod knows nothing of the path that leads to it.
fn rewrite_location(headers: &mut HeaderMap, prefix: &str, host: Option<&HeaderValue>) {
    let Some(location) = headers.get(LOCATION).and_then(|location| location.to_str().ok()) else {
        return;
    };
    let Ok(to) = location.parse::<Uri>() else { return };
    let host = host.and_then(|host| host.to_str().ok());
    let is_elsewhere = to.authority().is_some_and(|to| Some(to.as_str()) != host);
    let path = to.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    if is_elsewhere || !path.starts_with('/') || path.starts_with(prefix) {
        return;
    }
    if let Ok(through) = HeaderValue::try_from(format!("{prefix}{path}")) {
        headers.insert(LOCATION, through);
    }
}

/// The pod speaks something else from here on, and so does the client.
fn change_hands(
    call: &Call,
    mut answer: Response<Incoming>,
    used: (AbortOnDropHandle<()>, Option<Held>),
) -> Result<Response<Body>, ApiError> {
    if !call.slot.upgrade.is_offered() {
        return Err(unreachable(&"the pod changes to a protocol that nobody asked for"));
    }
    let upgraded = hyper::upgrade::on(&mut answer);
    let end = stream_end::of(call);
    call.slot.upgrade.promise(move |mut raw| async move {
        // The connection is driven, and on the account, until the session is over.
        let _used = used;
        let carried = async {
            let mut pod = TokioIo::new(upgraded.await.map_err(std::io::Error::other)?);
            copy_bidirectional(&mut raw, &mut pod).await
        };
        tokio::select! {
            biased;
            _ = end => {}
            carried = carried => {
                if let Err(error) = carried {
                    debug!(%error, "a connection through a proxy broke off");
                }
            }
        }
    });
    Ok(Response::from_parts(answer.into_parts().0, Body::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_pod_is_what_follows_the_proxy() {
        for (path, rest) in [
            ("/api/v1/namespaces/n/pods/p/proxy", ""),
            ("/api/v1/namespaces/n/pods/p/proxy/", "/"),
            ("/api/v1/namespaces/n/pods/p/proxy/a/b/", "/a/b/"),
            ("/clusters/pi-7/api/v1/namespaces/n/services/s:80/proxy/a%20b", "/a%20b"),
        ] {
            let (prefix, found) = split(path);
            assert_eq!(found, rest, "{path}");
            assert!(prefix.ends_with("/proxy"), "{path}");
        }
    }

    #[test]
    fn a_redirect_leads_through_the_proxy() {
        let host = HeaderValue::from_static("hub:6443");
        for (from, to) in [
            ("/login", "/x/proxy/login"),
            ("/a/?b=c", "/x/proxy/a/?b=c"),
            ("https://hub:6443/a", "/x/proxy/a"),
            ("https://example.com/a", "https://example.com/a"),
            ("/x/proxy/a", "/x/proxy/a"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_static(from));
            rewrite_location(&mut headers, "/x/proxy", Some(&host));
            assert_eq!(headers[LOCATION], to, "{from}");
        }
    }

    #[test]
    fn what_is_about_a_connection_stays_on_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["accept"]);
    }
}
