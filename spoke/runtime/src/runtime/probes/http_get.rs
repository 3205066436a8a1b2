//! A request to a pod, and what its answer says of the pod's health.
//!
//! Redirects within the pod are followed. One that leads elsewhere, or the eleventh, is no failure and is told.

use std::error::Error as _;
use std::net::SocketAddr;

use freewheel_link::probes::HttpGetV1;
use freewheel_spoke_agent::ports::Probed;
use freewheel_spoke_net::ConnIo;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use wasmtime_wasi_http::WasiBody;

use super::target::{PROBE_BYTES_MAX, Target};
use crate::http_client;

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 10;

/// What a connection reads at once, and the largest head of an answer.
const ANSWER_HEAD_BYTES_MAX: usize = 16 << 10;

/// Who asks, as programs know it that tell probes from their users.
const USER_AGENT: HeaderValue = HeaderValue::from_static("kube-probe/freewheel");

/// The request, in words.
pub(super) fn url(address: SocketAddr, path: &str) -> String {
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("http://{address}{slash}{path}")
}

/// What was answered.
struct Answer {
    status: StatusCode,
    /// Where a redirect leads to.
    location: Option<String>,
    body: String,
}

impl Target {
    pub(super) async fn http_get(&self, get: &HttpGetV1) -> Probed {
        let (mut port, mut path) = (get.port, get.path.clone());
        for left in (0..=REDIRECTS_MAX).rev() {
            let answer = match self.ask(port, &path, &get.headers).await {
                Ok(answer) => answer,
                Err(why) => {
                    return Probed::Failure(format!(
                        "Get {:?}: {why}",
                        url(self.address(port), &path)
                    ));
                }
            };
            if answer.status.is_success() {
                return Probed::Success;
            }
            if !answer.status.is_redirection() {
                let code = answer.status.as_u16();
                return Probed::Failure(format!("HTTP probe failed with statuscode: {code}"));
            }
            let next = answer.location.as_deref().filter(|_| 0 < left);
            let Some(next) = next.and_then(|to| self.follow(to, port)) else {
                let body = answer.body;
                return Probed::Warning(format!(
                    "Probe terminated redirects, Response body: {body}"
                ));
            };
            (port, path) = next;
        }
        Probed::Warning("Probe terminated redirects".to_owned())
    }

    /// The port and path that a redirect leads to; `None`: somewhere else.
    fn follow(&self, location: &str, port: u16) -> Option<(u16, String)> {
        let uri: Uri = location.parse().ok()?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        match uri.authority() {
            None => Some((port, path)),
            Some(to) => {
                let here = to.host() == self.ip.to_string() && uri.scheme_str() == Some("http");
                here.then(|| (to.port_u16().unwrap_or(80), path))
            }
        }
    }

    async fn ask(
        &self,
        port: u16,
        path: &str,
        headers: &[(String, String)],
    ) -> Result<Answer, String> {
        let request = request(self.address(port), path, headers)?;
        let conn: ConnIo = self.dial(port)?;
        let answered = http_client::ask(conn, ANSWER_HEAD_BYTES_MAX, request).await;
        let (answer, _driving) = answered.map_err(|error| words(&error))?;
        read(answer).await
    }
}

/// A broken connection in the words of Go's net/http.
fn words(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() {
        return "EOF".to_owned();
    }
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

fn request(
    address: SocketAddr,
    path: &str,
    headers: &[(String, String)],
) -> Result<Request<WasiBody>, String> {
    let uri = url(address, path).parse::<Uri>().map_err(|error| error.to_string())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        let name = name.parse::<HeaderName>().map_err(|error| error.to_string())?;
        let value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
        all.append(name, value);
    }
    let host = HeaderValue::from_str(&address.to_string()).map_err(|error| error.to_string())?;
    for (name, value) in [
        (header::HOST, host),
        (header::USER_AGENT, USER_AGENT),
        (header::ACCEPT, HeaderValue::from_static("*/*")),
        (header::CONNECTION, HeaderValue::from_static("close")),
    ] {
        all.entry(name).or_insert(value);
    }
    let mut request = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *request.uri_mut() = path.parse::<Uri>().map_err(|error| error.to_string())?;
    *request.headers_mut() = all;
    Ok(request)
}

/// Reads an answer to its end, or as much of it as is told.
async fn read(answer: Response<Incoming>) -> Result<Answer, String> {
    let status = answer.status();
    let location = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
    let location = location.map(str::to_owned);
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    while text.len() < PROBE_BYTES_MAX {
        let Some(frame) = body.frame().await else { break };
        let Ok(bytes) = frame.map_err(|error| words(&error))?.into_data() else { continue };
        let room = PROBE_BYTES_MAX - text.len();
        text.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    Ok(Answer { status, location, body: String::from_utf8_lossy(&text).into_owned() })
}
