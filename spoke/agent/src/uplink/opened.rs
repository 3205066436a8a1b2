//! What serves a stream of the hub's whatever it is for: its reader, and its refusal.

use freewheel_link::frame::{self, FrameReader};
use freewheel_link::message::{Answer, RefusalV1};
use freewheel_link::transport::SendHalf;
use tokio::io::{AsyncRead, AsyncWriteExt as _};

pub(super) type Reader = FrameReader<Box<dyn AsyncRead + Send + Sync + Unpin>>;

pub(super) async fn refuse(send: &mut Box<dyn SendHalf>, refusal: RefusalV1) {
    // Whoever went away meanwhile does not need the answer.
    if frame::write(send, &Answer::Refused(refusal)).await.is_ok() {
        let _ = send.shutdown().await;
    }
}
