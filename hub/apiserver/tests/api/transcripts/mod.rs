//! Scripts of requests (`tests/api/data/transcripts`) that were played against a real kube-apiserver 1.36: ours answers the
//! same, but for what a script names with the reason.
//!
//! `cargo xtask record` plays them against kube-apiserver and writes the answers into the scripts.

mod script;
mod settle;

use std::path::PathBuf;
use std::sync::Arc;

use freewheel_hub_controllers::definitions::Definitions;
use freewheel_hub_controllers::engine::{self, Client as ControllerClient};
use freewheel_hub_controllers::events::Recorder;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{Client, Hub};
use script::{Known, Player, Script};

/// What is different in many answers, and why.
const EVERYWHERE: [(&str, &str); 3] = [
    ("/**/managedFields", "those who wrote in one second come in another order"),
    ("/**/items/*/apiVersion", "items of a list are whole objects, as they are at rest"),
    ("/**/items/*/kind", "items of a list are whole objects, as they are at rest"),
];

fn scripts() -> Vec<(PathBuf, Script)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/api/data/transcripts");
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).unwrap();
        let script = serde_json::from_str(&text);
        let script = script.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        (file, script)
    };
    files.into_iter().map(read).collect()
}

#[tokio::test]
async fn transcripts_are_those_of_kube_apiserver() {
    if let Ok(port) = std::env::var("FREEWHEEL_RECORD_PORT") {
        return record(port.parse().unwrap()).await;
    }
    let scripts = scripts();
    assert!(10 <= scripts.len(), "only {} scripts", scripts.len());
    let mut wrong = Vec::new();
    let mut everywhere = Known::new(EVERYWHERE.iter().map(|(pattern, _)| *pattern));
    for (file, script) in scripts {
        let hub = Hub::start().await;
        let _controller = controllers(&hub);
        let answers = Player { client: hub.admin(), headers: Vec::new() }.play(&script).await;
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        for (step, answer) in script.steps.iter().zip(&answers) {
            assert!(step.answer.is_object(), "{name}, {}: not recorded", step.name);
            let told = step.judge(answer, &mut everywhere);
            wrong.extend(told.iter().map(|text| format!("{name}, {}: {text}", step.name)));
        }
    }
    wrong.extend(everywhere.gone().map(|known| format!("{known}: is no difference any more")));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// Those whose work shows in answers.
fn controllers(hub: &Hub) -> JoinSet<()> {
    let objects = &hub.objects;
    let recorder = Recorder::channel(objects).0;
    let client =
        ControllerClient::new(objects.clone(), "customresourcedefinition-controller", recorder);
    let definitions = Arc::new(Definitions::new(client).unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(engine::run(objects.store().clone(), definitions, CancellationToken::new()));
    tasks
}

/// Writes what a server on this port of loopback answers into the scripts.
async fn record(port: u16) {
    let variable = |name: &str| std::env::var(name).unwrap();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(variable("FREEWHEEL_RECORD_CA")).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Client::of(([127, 0, 0, 1], port).into(), "kubernetes.default.svc", config);
    let token = format!("Bearer {}", variable("FREEWHEEL_RECORD_TOKEN"));
    let player = Player { client, headers: vec![("authorization".to_owned(), token)] };
    for (file, mut script) in scripts() {
        let answers = player.play(&script).await;
        for (step, answer) in script.steps.iter_mut().zip(answers) {
            step.answer = answer;
        }
        std::fs::write(&file, serde_json::to_string_pretty(&script).unwrap() + "\n").unwrap();
    }
}
