//! Opens a stream to a spoke, when there is a place for it, and says why there is none.

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_schema::error::{ApiError, Details};
use freewheel_link::frame::{self, FrameReader};
use freewheel_link::limits::ANSWER_BYTES_MAX;
use freewheel_link::message::{Answer, Open, RefusalV1};
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::{Budget, TOO_MANY_REASON, Use};
use freewheel_link::transport::{Priority, Stream, Transport};
use tokio::time::timeout;

use crate::links::{FiguresRequest, Links};

/// When to ask again for what has no place now: most streams are short, and kube-apiserver says the same.
const RETRY_AFTER_SECONDS: u32 = 1;
/// How long a spoke may take to answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The link of a spoke that can do what is asked of it.
#[derive(Clone)]
pub(super) struct Able {
    pub(super) transport: Arc<dyn Transport>,
    /// Places of the streams that are opened on it.
    pub(super) opened: Arc<Budget>,
    pub(super) figures_request: FiguresRequest,
}

fn offline(spoke: &ClusterName) -> RefusalV1 {
    let text = format!("the spoke {spoke} is not connected to the hub");
    RefusalV1::new("ServiceUnavailable", text)
}

/// The link of a spoke that has these abilities.
pub(super) fn able(links: &Links, spoke: &ClusterName, needs: u64) -> Result<Able, RefusalV1> {
    let links = links.lock();
    let link = links.get(spoke).ok_or_else(|| offline(spoke))?;
    if link.abilities & needs != needs {
        let text = format!("the agent of {spoke} is too old for that");
        return Err(RefusalV1::new("ServiceUnavailable", text));
    }
    let (transport, opened) = (link.transport.clone(), link.opened.clone());
    Ok(Able { transport, opened, figures_request: link.figures_request.clone() })
}

/// Opens a stream to a spoke and waits for its answer.
pub(super) async fn open(
    links: &Links,
    spoke: &ClusterName,
    open: &Open,
    of: Use,
    priority: Priority,
) -> Result<Stream, RefusalV1> {
    let Able { transport, opened, .. } = able(links, spoke, open.ability())?;
    open_on((&*transport, &opened), spoke, open, of, priority).await
}

/// The same on a link that is known.
pub(super) async fn open_on(
    (link, budget): (&dyn Transport, &Arc<Budget>),
    spoke: &ClusterName,
    open: &Open,
    of: Use,
    priority: Priority,
) -> Result<Stream, RefusalV1> {
    let offline = || offline(spoke);
    let place = budget.take(of)?;
    let asked = async {
        let Stream { mut send, recv } = link.open(priority).await.map_err(|_| offline())?;
        let mut recv = FrameReader::new(recv);
        frame::write(&mut send, open).await.map_err(|_| offline())?;
        match recv.next_within::<Answer>(ANSWER_BYTES_MAX).await {
            Ok(Some(Answer::Ready)) => Ok(Stream { send, recv: Box::new(recv) }),
            Ok(Some(Answer::Refused(mut refusal))) => {
                refusal.bound();
                Err(refusal)
            }
            Ok(None) | Err(_) => Err(offline()),
        }
    };
    match timeout(ANSWER_TIMEOUT, asked).await {
        Ok(answered) => answered.map(|stream| place.hold(stream)),
        Err(_) => Err(RefusalV1::new("Timeout", format!("the spoke {spoke} does not answer"))),
    }
}

pub(super) fn api_error(refusal: &RefusalV1) -> ApiError {
    let (code, reason) = match refusal.reason.as_str() {
        "NotFound" => (404, "NotFound"),
        "BadRequest" => (400, "BadRequest"),
        "Forbidden" => (403, "Forbidden"),
        "Timeout" => (504, "Timeout"),
        TOO_MANY_REASON => (429, TOO_MANY_REASON),
        "ServiceUnavailable" => (503, "ServiceUnavailable"),
        _ => (500, "InternalError"),
    };
    let mut error = ApiError::new(code, reason, refusal.message.clone());
    if code == 429 {
        let soon = Details { retry_after_seconds: Some(RETRY_AFTER_SECONDS), ..Details::default() };
        error.details = Some(Box::new(soon));
    }
    error
}
