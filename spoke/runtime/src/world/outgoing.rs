//! Requests that a guest makes: to pods and Services of its realm, over the pod's own network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use freewheel_spoke_net::{NetError, PodNet};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::handles;
use crate::http_client;

/// Waits when the guest sets no limits of its own; the same as wasmtime's.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// What a connection reads or writes at once, and the largest head of an answer.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// What a guest hears that asks for more than there is: the error itself has no words.
const HTTPS: &str = "https:// is not spoken yet: use http:// for the fleet's pods and Services; the world outside is not reached";

/// Carries the requests of one store, and bounds the bodies that it sends.
pub(crate) struct Outgoing {
    pod: Arc<PodNet>,
}

type Done = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Answer = Result<(Response<WasiBody>, Done), Error>;

impl Outgoing {
    pub(crate) const fn new(pod: Arc<PodNet>) -> Self {
        Self { pod }
    }
}

impl WasiHttpHooks for Outgoing {
    fn default_scheme(&mut self) -> Option<Scheme> {
        // Inside of the cluster nothing speaks TLS unless it says so.
        Some(Scheme::HTTP)
    }

    fn is_supported_scheme(&mut self, scheme: &Scheme) -> bool {
        // Refused by `send`, which can say why.
        *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        handles::BODY_PIECE_BYTES
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Done,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        Box::new(send(self.pod.clone(), request, options.unwrap_or_default()))
    }
}

async fn send(pod: Arc<PodNet>, mut request: Request<WasiBody>, options: RequestOptions) -> Answer {
    if request.uri().scheme() == Some(&Scheme::HTTPS) {
        return Err(Error::InternalError(Some(HTTPS.to_owned())));
    }
    let authority = request.uri().authority().cloned().ok_or(Error::HttpRequestUriInvalid)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let addresses = pod.resolve(host).map_err(to_http)?;
    let ip = addresses.first().ok_or(Error::DestinationNotFound)?;
    let to = SocketAddr::new(*ip, authority.port_u16().unwrap_or(80));
    let wait = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
    let conn = timeout(wait, pod.connect(None, to).done()).await;
    let conn = conn.map_err(|_| Error::ConnectionTimeout)?.map_err(to_http)?;

    if !request.headers().contains_key(header::HOST) {
        let host = HeaderValue::from_str(authority.as_str());
        request.headers_mut().insert(header::HOST, host.map_err(|_| Error::HttpRequestUriInvalid)?);
    }
    // A server is asked for a path; the whole address is for proxies.
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));

    let wait = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
    let answered = timeout(wait, http_client::ask(conn.into_io(), BUFFER_BYTES_MAX, request)).await;
    let (response, driving) = answered.map_err(|_| Error::ConnectionReadTimeout)??;
    let done = async move {
        match driving.await {
            Ok(outcome) => outcome.map_err(Error::from),
            Err(_) => Ok(()),
        }
    };
    Ok((response.map(|body| body.map_err(Error::from).boxed_unsync()), Box::new(done)))
}

fn to_http(error: NetError) -> Error {
    match error {
        NetError::Refused | NetError::Full(_) | NetError::WayFull(_) | NetError::Reset => {
            Error::ConnectionRefused
        }
        NetError::NameUnknown => {
            Error::DnsError { rcode: Some("NXDOMAIN".to_owned()), info_code: None }
        }
        NetError::Denied => Error::DestinationIpProhibited,
        NetError::Unreachable => Error::DestinationIpUnroutable,
        NetError::TooMany => Error::ConnectionLimitReached,
        NetError::Timeout => Error::ConnectionTimeout,
        NetError::InUse | NetError::NotBindable | NetError::Invalid => Error::HttpRequestUriInvalid,
    }
}
