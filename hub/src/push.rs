//! `hub push`: a component into the built-in registry, as an OCI artifact in the CNCF Wasm layout.

use std::path::PathBuf;

use bytes::Bytes;
use freewheel_hub_modules::reference::{BadReference, Reference};
use freewheel_link::digest::Digest;
use http::Method;
use serde_json::json;

use crate::cli::PushOptions;
use crate::client::{Client, ClientError};

/// Why nothing was pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The file.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The name.
    #[error(transparent)]
    Name(#[from] BadReference),
    /// The name is somebody else's.
    #[error(
        "{0:?} names another registry; `hub push` pushes into the hub's own: leave the host away"
    )]
    Foreign(String),
    /// A digest is computed, not given.
    #[error("{0:?} holds a digest; give a name and a tag")]
    Digest(String),
    /// The hub.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Pushes the file and prints what it is called now.
///
/// # Errors
/// When the file, the name or the hub is not right.
pub async fn run(options: PushOptions) -> Result<(), PushError> {
    let reference: Reference = options.name.parse()?;
    if reference.host.is_some() {
        return Err(PushError::Foreign(options.name));
    }
    if reference.digest.is_some() {
        return Err(PushError::Digest(options.name));
    }
    let bytes = std::fs::read(&options.file)
        .map_err(|source| PushError::File { path: options.file, source })?;
    let client = Client::new(options.kubeconfig.as_deref())?;
    let (repository, tag) = (reference.repository, reference.tag);
    let config = Bytes::from_static(br#"{"architecture":"wasm","os":"wasip2","layerDigests":[]}"#);
    let size = bytes.len();
    let component = blob(&client, &repository, bytes.into()).await?;
    let config_size = config.len();
    let config = blob(&client, &repository, config).await?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": config.to_string(), "size": config_size},
        "layers": [{"mediaType": "application/wasm", "digest": component.to_string(), "size": size}],
    });
    let path = format!("/v2/{repository}/manifests/{tag}");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    client.send(Method::PUT, &path, kind, manifest.to_string().into()).await?.success()?;
    println!("{repository}:{tag} pushed, {component}, {size} bytes");
    Ok(())
}

/// Pushes a blob unless the hub has it.
async fn blob(client: &Client, repository: &str, content: Bytes) -> Result<Digest, ClientError> {
    let digest = Digest::of(&content);
    let path = format!("/v2/{repository}/blobs/{digest}");
    let there = client.send(Method::HEAD, &path, "application/octet-stream", Bytes::new()).await?;
    if !there.status.is_success() {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        client.send(Method::POST, &path, "application/octet-stream", content).await?.success()?;
    }
    Ok(digest)
}
