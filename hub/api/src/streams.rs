//! How the API server reaches into a spoke without knowing how it is connected.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::uid::Uid;
use freewheel_link::figures::Figures;
use freewheel_link::names::ClusterName;

/// A stream of bytes from a spoke: chunks until the end or an error.
pub type ByteStream = Pin<Box<dyn futures::Stream<Item = Result<Bytes, ApiError>> + Send>>;

/// What `kubectl logs` asks for (core/v1 PodLogOptions).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Container's name; always filled in by the API server.
    pub container: String,
    /// Keep the stream open.
    pub follow: bool,
    /// The instance before the current one.
    pub previous: bool,
    /// Put an RFC 3339 time with nanoseconds before each line.
    pub timestamps: bool,
    /// Only what is newer than this many seconds.
    pub since_seconds: Option<i64>,
    /// Only what is newer than this moment, in Unix nanoseconds.
    pub since_time: Option<i128>,
    /// At most this many lines from the end.
    pub tail_lines: Option<u64>,
    /// At most this many bytes.
    pub limit_bytes: Option<u64>,
}

/// Streams to pods, wherever they run.
#[async_trait]
pub trait SpokeStreams: Send + Sync {
    /// Log of one container of the pod with this UID on the spoke called `spoke`.
    async fn logs(
        &self,
        spoke: &ClusterName,
        pod_uid: &Uid,
        options: LogOptions,
    ) -> Result<ByteStream, ApiError>;

    /// What the spoke called `spoke` counts: asked of it now.
    async fn figures(&self, spoke: &ClusterName) -> Result<Vec<Figures>, ApiError>;
}
