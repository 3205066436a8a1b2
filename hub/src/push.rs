//! `hub push`: a component into the built-in registry, as an OCI artifact in the CNCF Wasm layout.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use freewheel_hub_modules::BLOB_BYTES_MAX;
use freewheel_hub_modules::reference::{BadReference, Reference};
use freewheel_link::digest::Digest;
use http::Method;
use serde_json::{Value, json};

use crate::cli::PushOptions;
use crate::client::{Client, ClientError};

/// How often it is asked whether the module is compiled.
const COMPILE_POLL_EVERY: Duration = Duration::from_millis(250);

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
    /// The registry would not take it.
    #[error(
        "{path} has more than {BLOB_BYTES_MAX} bytes, which is the most that a module may have"
    )]
    TooLarge {
        /// Which.
        path: PathBuf,
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
    /// It is there and cannot run.
    #[error("it is stored, but for the devices' engine {profile}: {why}")]
    NotCompiled {
        /// The engine.
        profile: String,
        /// The hub's word.
        why: String,
    },
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
    let client = Client::new(options.kubeconfig.as_deref())?.at_root();
    if reference.host.as_ref().is_some_and(|host| !client.is_at(host)) {
        return Err(PushError::Foreign(options.name));
    }
    if reference.digest.is_some() {
        return Err(PushError::Digest(options.name));
    }
    // `oras pull` writes a file when it knows a name for it.
    let title = options.file.file_name().map(|name| name.to_string_lossy().into_owned());
    let bytes = read(options.file)?;
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
        "layers": [{
            "mediaType": "application/wasm", "digest": component.to_string(), "size": size,
            "annotations": {"org.opencontainers.image.title": title.unwrap_or_default()},
        }],
    });
    let path = format!("/v2/{repository}/manifests/{tag}");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = manifest.to_string();
    let pinned = Digest::of(manifest.as_bytes());
    let answer = client.send(Method::PUT, &path, kind, manifest.into()).await?.success()?;
    // The second name is one that no later push changes.
    println!("{repository}:{tag} pushed, {repository}@{pinned}, {size} bytes");
    // Who runs what the tag stood for before.
    answer.warnings.iter().for_each(|warning| println!("{warning}"));
    if options.no_wait { Ok(()) } else { compiled(&client, component).await }
}

/// Waits until the hub has compiled the module for every engine that its devices have.
async fn compiled(client: &Client, component: Digest) -> Result<(), PushError> {
    let path = format!("/v2/_freewheel/compiled/{component}");
    let mut waits = false;
    loop {
        let answer = client.get(&path).await?;
        let profiles = answer["profiles"].as_array().cloned().unwrap_or_default();
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        if let Some(failed) = profiles.iter().find(|entry| entry["state"] == "failed") {
            let (profile, why) = (text(failed, "profile"), text(failed, "why"));
            return Err(PushError::NotCompiled { profile, why });
        }
        let left = profiles.iter().filter(|entry| entry["state"] != "compiled").count();
        if left == 0 {
            if waits {
                eprintln!("compiled");
            }
            return Ok(());
        }
        if !std::mem::replace(&mut waits, true) {
            eprintln!(
                "compiling for {left} engine profiles of the devices; Ctrl-C does not stop it"
            );
        }
        tokio::time::sleep(COMPILE_POLL_EVERY).await;
    }
}

/// A file whole, but never more of it than the registry takes: it may be any file, or none that ends.
fn read(path: PathBuf) -> Result<Vec<u8>, PushError> {
    let mut bytes = Vec::new();
    let read =
        File::open(&path).and_then(|file| file.take(BLOB_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(source) => Err(PushError::File { path, source }),
        Ok(_) if BLOB_BYTES_MAX < bytes.len() as u64 => Err(PushError::TooLarge { path }),
        Ok(_) => Ok(bytes),
    }
}

/// Pushes a blob unless the hub has it. The question alone keeps it there until the manifest comes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_what_the_registry_takes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("module.wasm");
        let file = File::create(&path).unwrap();
        file.set_len(BLOB_BYTES_MAX + 1).unwrap();
        assert!(matches!(read(path.clone()), Err(PushError::TooLarge { .. })));
        file.set_len(3).unwrap();
        assert_eq!(read(path).unwrap(), [0; 3]);
        assert!(matches!(read(dir.path().join("none")), Err(PushError::File { .. })));
    }
}
