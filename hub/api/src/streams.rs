//! How the API server reaches into a spoke without knowing how it is connected.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::uid::Uid;
use freewheel_link::figures::Figures;
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::PodClient;
use freewheel_link::transport::Stream;
use tokio::time::Instant;

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

/// What `kubectl exec` asks for (core/v1 PodExecOptions).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// Container's name; always filled in by the API server.
    pub container: String,
    /// All of argv.
    pub command: Vec<String>,
    /// It has input.
    pub stdin: bool,
    /// Somebody sits at a terminal.
    pub tty: bool,
}

/// What a spoke has told of what it counts. Cheap to clone: whoever asks while it tells has the same.
#[derive(Clone, Debug)]
pub struct SpokeFigures {
    /// All of it.
    pub figures: Arc<[Figures]>,
    /// When it was asked, be it for somebody else.
    pub asked: Instant,
    /// From the question to its end.
    pub took: Duration,
}

impl SpokeFigures {
    /// What has come just now of a question of that time.
    #[must_use]
    pub fn since(asked: Instant, figures: Vec<Figures>) -> Self {
        Self { figures: figures.into(), asked, took: asked.elapsed() }
    }
}

/// Streams to pods, wherever they run.
#[async_trait]
pub trait SpokeStreams: Send + Sync {
    /// Log of one container of the pod with this UID on the spoke called `spoke`. `client` reads it, and has it of a
    /// share of the link.
    async fn logs(
        &self,
        spoke: &ClusterName,
        pod_uid: &Uid,
        options: LogOptions,
        client: PodClient,
    ) -> Result<ByteStream, ApiError>;

    /// A connection to a port of the pod with this UID on the spoke called `spoke`, as from inside of the pod. `client`
    /// has it, and its share of the link.
    async fn port_forward(
        &self,
        spoke: &ClusterName,
        pod_uid: &Uid,
        port: u16,
        client: PodClient,
    ) -> Result<Stream, ApiError>;

    /// A command in a container of the pod with this UID on the spoke called `spoke`; it is killed when the stream is
    /// dropped. [`ExecInput`](freewheel_link::message::ExecInput) goes in,
    /// [`ExecOutput`](freewheel_link::message::ExecOutput) comes out.
    async fn exec(
        &self,
        spoke: &ClusterName,
        pod_uid: &Uid,
        options: ExecOptions,
        client: PodClient,
    ) -> Result<Stream, ApiError>;

    /// Whether the spoke called `spoke` can be asked for streams to its pods now.
    ///
    /// # Errors
    /// When it is away, or too old.
    fn reaches(&self, spoke: &ClusterName) -> Result<(), ApiError>;

    /// What the spoke called `spoke` counts: asked of it now, once for all who ask meanwhile.
    async fn figures(&self, spoke: &ClusterName) -> Result<SpokeFigures, ApiError>;
}
