//! Serves the API from memory, with certificates made on the spot: for trying clients against.
//!
//! `cargo run -p freewheel-hub-apiserver --example memory [ADDRESS]` prints the path of a kubeconfig.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use freewheel_hub_api::kinds;
use freewheel_hub_api::streams::{ByteStream, ExecOptions, LogOptions, SpokeFigures, SpokeStreams};
use freewheel_hub_apiserver::{Access, AccessOptions, Limits, Server, Tls, Usage, serve};
use freewheel_hub_metrics::Metrics;
use freewheel_hub_objects::{ObjectRef, Objects, WriteOptions};
use freewheel_hub_pki::MASTERS;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::PodClient;
use freewheel_link::transport::Stream;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// There are no spokes here, so a log is one line that says so.
struct NoSpokes;

#[async_trait]
impl SpokeStreams for NoSpokes {
    async fn logs(
        &self,
        spoke: &ClusterName,
        pod_uid: &Uid,
        options: LogOptions,
        _client: PodClient,
    ) -> Result<ByteStream, ApiError> {
        let line = format!("{spoke}/{pod_uid}/{}: no spoke here\n", options.container);
        Ok(Box::pin(futures::stream::iter([Ok(Bytes::from(line))])))
    }

    async fn port_forward(
        &self,
        spoke: &ClusterName,
        _pod_uid: &Uid,
        _port: u16,
        _client: PodClient,
    ) -> Result<Stream, ApiError> {
        Err(away(spoke))
    }

    async fn exec(
        &self,
        spoke: &ClusterName,
        _pod_uid: &Uid,
        _options: ExecOptions,
        _client: PodClient,
    ) -> Result<Stream, ApiError> {
        Err(away(spoke))
    }

    fn reaches(&self, spoke: &ClusterName) -> Result<(), ApiError> {
        Err(away(spoke))
    }

    async fn figures(&self, spoke: &ClusterName) -> Result<SpokeFigures, ApiError> {
        Err(away(spoke))
    }
}

fn away(spoke: &ClusterName) -> ApiError {
    let text = format!("the spoke {spoke} is not connected to the hub");
    ApiError::new(503, "ServiceUnavailable", text)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(&address).await?;
    let address = listener.local_addr()?;
    let ca_key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "memory-ca");
    let ca = params.self_signed(&ca_key)?;
    let issuer = Issuer::new(params, ca_key);

    let (serving, serving_key) = sign(&issuer, None, ExtendedKeyUsagePurpose::ServerAuth)?;
    let key = PrivateKeyDer::try_from(serving_key.serialize_der())?;
    let tls = Tls::new(vec![serving.der().clone()], key, &[ca.der().clone()])?;
    let (admin, admin_key) =
        sign(&issuer, Some(("admin", MASTERS)), ExtendedKeyUsagePurpose::ClientAuth)?;

    let (access, store) = Access::over(Arc::new(MemoryStore::new()), AccessOptions::default());
    let objects = access.guard(Objects::new(store));
    namespaces(&objects).await?;
    let usage = Usage::new(Arc::new(NoSpokes), objects.clock().clone());
    let server = Server {
        audit: None,
        objects,
        access,
        streams: Arc::new(NoSpokes),
        usage,
        extra: None,
        checks: Vec::new(),
        metrics: Metrics::default(),
    };
    let path = std::env::temp_dir().join(format!("memory-{}.kubeconfig", address.port()));
    write_kubeconfig(&path, &address.to_string(), &ca, &admin, &admin_key)?;
    println!("export KUBECONFIG={}", path.display());
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            let _ = tokio::signal::ctrl_c().await;
            stop.cancel();
        }
    });
    serve(listener, tls, Limits::default(), server, stop).await?;
    std::fs::remove_file(path)?;
    Ok(())
}

fn sign(
    issuer: &Issuer<'_, KeyPair>,
    subject: Option<(&str, &str)>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(Certificate, KeyPair), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    if let Some((name, group)) = subject {
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.extended_key_usages = vec![usage];
    Ok((params.signed_by(&key, issuer)?, key))
}

async fn namespaces(objects: &Objects) -> Result<(), Box<dyn Error>> {
    let kind = kinds::find("", "v1", "namespaces").ok_or("there are no namespaces")?;
    for name in ["default", "kube-system"] {
        let place = ObjectRef {
            kind: kind.clone(),
            cluster: ClusterName::root(),
            namespace: "".into(),
            name: name.to_owned(),
        };
        let value = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        objects.create(&WriteOptions::default(), &place, value).await?;
    }
    Ok(())
}

fn write_kubeconfig(
    path: &Path,
    address: &str,
    ca: &Certificate,
    admin: &Certificate,
    key: &KeyPair,
) -> std::io::Result<()> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "memory",
        "clusters": [{"name": "memory", "cluster": {
            "server": format!("https://{address}"),
            "certificate-authority-data": STANDARD.encode(ca.pem()),
        }}],
        "users": [{"name": "admin", "user": {
            "client-certificate-data": STANDARD.encode(admin.pem()),
            "client-key-data": STANDARD.encode(key.serialize_pem()),
        }}],
        "contexts": [{"name": "memory", "context": {"cluster": "memory", "user": "admin"}}],
    });
    std::fs::write(path, config.to_string())
}
