//! A request to a pod, and what its answer says of the pod's health.
//!
//! Redirects within the pod are followed, and the last answer counts. One that leads elsewhere, or to where TLS is
//! spoken, is no failure and is told; who goes on redirecting has failed.

use std::error::Error as _;
use std::net::SocketAddr;

use freewheel_link::probes::HttpGetV1;
use freewheel_spoke_agent::ports::Probed;
use freewheel_spoke_net::ConnIo;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use wasmtime_wasi_http::WasiBody;

use super::redirect::{follow, rooted};
use super::target::{PROBE_BYTES_MAX, Target};
use crate::http_client;

/// Requests of one look, with those that redirects lead to.
const REQUESTS_MAX: usize = 10;

/// Redirects that lead on.
const FOLLOWED: [StatusCode; 5] = [
    StatusCode::MOVED_PERMANENTLY,
    StatusCode::FOUND,
    StatusCode::SEE_OTHER,
    StatusCode::TEMPORARY_REDIRECT,
    StatusCode::PERMANENT_REDIRECT,
];

/// What a connection reads at once, and the largest head of an answer.
const ANSWER_HEAD_BYTES_MAX: usize = 16 << 10;

/// Who asks, as programs know it that tell probes from their users.
const USER_AGENT: HeaderValue = HeaderValue::from_static("kube-probe/freewheel");

/// The request, in words.
pub(super) fn url(address: SocketAddr, path: &str) -> String {
    format!("http://{address}{}", rooted(path))
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
        let (mut port, mut path) = (get.port, rooted(&get.path));
        let mut asked = 0;
        loop {
            let failure = |why: &str| {
                Probed::Failure(format!("Get {:?}: {why}", url(self.address(port), &path)))
            };
            let answer = match self.ask(port, &path, &get.headers).await {
                Ok(answer) => answer,
                Err(why) => return failure(&why),
            };
            asked += 1;
            if answer.status.is_success() {
                return Probed::Success;
            }
            if !answer.status.is_redirection() {
                let code = answer.status.as_u16();
                return Probed::Failure(format!("HTTP probe failed with statuscode: {code}"));
            }
            // An empty one leads nowhere for Go's client, and the answer counts as it is.
            let leads = |to: &String| !to.is_empty() && FOLLOWED.contains(&answer.status);
            let next = answer.location.filter(leads);
            let Some(next) = next.and_then(|to| follow(&to, self.ip, (port, &path))) else {
                let body = answer.body;
                return Probed::Warning(format!(
                    "Probe terminated redirects, Response body: {body}"
                ));
            };
            if asked == REQUESTS_MAX {
                return failure("stopped after 10 redirects");
            }
            (port, path) = next;
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
    let location = answer.headers().get(header::LOCATION);
    let location = location.map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    while text.len() < PROBE_BYTES_MAX {
        let Some(frame) = body.frame().await else { break };
        let Ok(bytes) = frame.map_err(|error| words(&error))?.into_data() else { continue };
        let room = PROBE_BYTES_MAX - text.len();
        text.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    Ok(Answer { status, location, body: String::from_utf8_lossy(&text).into_owned() })
}
