//! What a spoke counts: asked of it once at a time, for all who want to know.
//!
//! Guarantees:
//! - whoever asks while a spoke tells has what it tells then, so that nobody who asks over and over keeps anybody else's
//!   question waiting for longer than for that (`who_asks_for_figures_while_a_spoke_tells_has_the_same`,
//!   `loops_of_questions_keep_nobody_elses_waiting`), also when all who asked have gone away: a spoke cannot be told to stop
//!   before it comes to the end (`who_goes_away_leaves_the_figures_to_the_others`);
//! - what a spoke tells is bounded, each text of it too, and what is not all of it is an error
//!   (`figures_that_are_not_whole_are_an_error_and_their_texts_are_cut`).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use freewheel_hub_api::streams::SpokeFigures;
use freewheel_hub_schema::error::ApiError;
use freewheel_link::figures::Figures;
use freewheel_link::frame::{FrameError, FrameReader};
use freewheel_link::limits;
use freewheel_link::message::Open;
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::Use;
use freewheel_link::transport::{Priority, Stream};
use futures::FutureExt as _;
use futures::future::WeakShared;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout};

use super::open::{ANSWER_TIMEOUT, Able, able, api_error, open_on};
use crate::inner::Inner;

/// What a spoke counts.
pub(super) async fn fetch(
    inner: &Arc<Inner>,
    spoke: &ClusterName,
) -> Result<SpokeFigures, ApiError> {
    let able = able(&inner.links, spoke, Open::Figures.ability());
    let able = able.map_err(|refusal| api_error(&refusal))?;
    let request = {
        let mut request = able.figures_request.lock();
        let same = request.as_ref().and_then(WeakShared::upgrade);
        match same.filter(|same| same.peek().is_none()) {
            Some(same) => same,
            None => {
                let asked = fetch_once(inner.clone(), able.clone(), spoke.clone()).boxed().shared();
                *request = asked.downgrade();
                // Whoever comes after who asked waits for this one's end. It has one: both of its steps have a limit.
                tokio::spawn(asked.clone());
                asked
            }
        }
    };
    request.await
}

async fn fetch_once(
    inner: Arc<Inner>,
    able: Able,
    spoke: ClusterName,
) -> Result<SpokeFigures, ApiError> {
    let began = Instant::now();
    let link = (&*able.transport, &able.opened);
    let opened = open_on(link, &spoke, &Open::Figures, Use::Figures, Priority::Logs).await;
    let stream = opened.map_err(|refusal| api_error(&refusal))?;
    read(&inner.skipped, stream, &spoke, began).await
}

async fn read(
    skipped: &AtomicU64,
    stream: Stream,
    spoke: &ClusterName,
    began: Instant,
) -> Result<SpokeFigures, ApiError> {
    match timeout(ANSWER_TIMEOUT, read_all(skipped, stream)).await {
        Ok(Ok(all)) => Ok(SpokeFigures::since(began, all)),
        Ok(Err(why)) => {
            let text = format!("the spoke {spoke} did not tell all of its figures: {why}");
            Err(ApiError::new(503, "ServiceUnavailable", text))
        }
        Err(_) => {
            let text = format!("the spoke {spoke} takes too long to tell its figures");
            Err(ApiError::new(504, "Timeout", text))
        }
    }
}

/// Why figures are not all that a spoke counts.
#[derive(Debug, thiserror::Error)]
enum NotWhole {
    #[error(transparent)]
    Broken(#[from] FrameError),
    #[error("there are more than the hub takes")]
    TooMany,
    #[error("those of the device itself are missing")]
    NoDevice,
}

/// All figures that come.
async fn read_all(skipped: &AtomicU64, stream: Stream) -> Result<Vec<Figures>, NotWhole> {
    let (mut all, mut members) = (Vec::new(), 0);
    // With the byte that is too many, what is cut off between two messages is told from an end.
    let mut bytes = stream.recv.take(limits::FIGURES_BYTES_MAX as u64 + 1);
    let mut recv = FrameReader::new(&mut bytes);
    while let Some(mut one) = recv.next_known::<Figures>(skipped).await? {
        members += one.members();
        if limits::FIGURES_MEMBERS_MAX < members {
            return Err(NotWhole::TooMany);
        }
        one.bound();
        all.push(one);
    }
    if bytes.limit() == 0 {
        return Err(NotWhole::TooMany);
    }
    let device = all.iter().any(|one| matches!(one, Figures::Device(_)));
    if device { Ok(all) } else { Err(NotWhole::NoDevice) }
}
