//! What a pusher may rely on.

use std::collections::BTreeSet;
use std::time::Duration;

use freewheel_hub_api::images::{Images as _, Running, Users};
use freewheel_link::digest::Digest;
use http::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::modules::Options;
use crate::sign::FleetRoot;

mod deleting;
mod reading;
mod referring;

/// A module that can be started; each name gives another one.
pub(crate) fn module(name: &str) -> Vec<u8> {
    module_of("wasi:cli/run@0.2.0", name)
}

fn module_of(entry: &str, name: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
    (core module $m (@custom "name of it" "{name}") (func (export "run") (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $run-i (export "run" (func $run)))
    (export "{entry}" (instance $run-i)))"#
    );
    wat::parse_str(text).unwrap()
}

pub(crate) fn modules(dir: &std::path::Path) -> Modules {
    let root = FleetRoot::open(&dir.join("root"), true).unwrap();
    Modules::open(Options {
        dir: dir.to_path_buf(),
        compiler: "/bin/false".into(),
        root,
        may_make: true,
    })
    .unwrap()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Bytes of the largest piece that it came in.
    pub(crate) largest: usize,
}

impl Answer {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).to_str().unwrap()
    }

    pub(crate) fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["errors"][0]["code"].as_str().unwrap().to_owned()
    }

    /// The status, and the code that the distribution spec has for it.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status.as_u16(), self.code())
    }
}

pub(crate) async fn ask(modules: &Modules, request: Request<Full<Bytes>>) -> Answer {
    let response = modules.serve(request).await;
    let (head, mut body) = response.into_parts();
    let (mut whole, mut largest) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let piece = frame.unwrap().into_data().unwrap();
        largest = largest.max(piece.len());
        whole.extend_from_slice(&piece);
    }
    Answer { status: head.status, headers: head.headers, body: whole.into(), largest }
}

pub(crate) async fn call(
    modules: &Modules,
    method: Method,
    path: &str,
    body: impl Into<Bytes>,
) -> Answer {
    let request = Request::builder().method(method).uri(path).body(Full::new(body.into())).unwrap();
    ask(modules, request).await
}

pub(crate) async fn delete(modules: &Modules, path: &str) {
    let answer = call(modules, Method::DELETE, path, "").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{path}: {answer:?}");
}

pub(crate) async fn upload(modules: &Modules, name: &str, content: &[u8]) -> Digest {
    let digest = Digest::of(content);
    let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
    let answer = call(modules, Method::POST, &path, content.to_vec()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    digest
}

/// What a push made.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) manifest: Digest,
    pub(crate) component: Digest,
}

const CONFIG: &[u8] = b"{}";

fn manifest(layer: Digest) -> String {
    let config = Digest::of(CONFIG).to_string();
    json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/wasm", "digest": layer.to_string(), "size": 1}],
    })
    .to_string()
}

async fn push_as_is(modules: &Modules, name: &str, tag: &str, module: &[u8]) -> Answer {
    upload(modules, name, CONFIG).await;
    let digest = upload(modules, name, module).await;
    call(modules, Method::PUT, &format!("/v2/{name}/manifests/{tag}"), manifest(digest)).await
}

pub(crate) async fn push(modules: &Modules, name: &str, tag: &str, module: Vec<u8>) -> Pushed {
    let component = upload(modules, name, &module).await;
    self::tag(modules, name, tag, component).await
}

/// A manifest over a module that is here.
pub(crate) async fn tag(modules: &Modules, name: &str, tag: &str, component: Digest) -> Pushed {
    upload(modules, name, CONFIG).await;
    let path = format!("/v2/{name}/manifests/{tag}");
    let answer = call(modules, Method::PUT, &path, manifest(component)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    Pushed { manifest: answer.header("docker-content-digest").parse().unwrap(), component }
}

fn uploads_in(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let all = std::fs::read_dir(dir.join("uploads")).unwrap();
    all.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn what_was_pushed_is_resolved_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let pushed = push(&modules, "team/hello", "v1", module("hello")).await;
    assert_eq!(modules.resolve("team/hello:v1").unwrap().component, pushed.component);
    let tags = call(&modules, Method::GET, "/v2/team/hello/tags/list", "").await;
    assert_eq!(
        (tags.status, &tags.body[..]),
        (StatusCode::OK, &br#"{"name":"team/hello","tags":["v1"]}"#[..])
    );
    let path = "/v2/team/hello/manifests/v1";
    let found = call(&modules, Method::GET, path, "").await;
    assert_eq!(found.body, manifest(pushed.component));
    let head = call(&modules, Method::HEAD, path, "").await;
    assert_eq!(head.header("content-length"), found.body.len().to_string());
    assert!(head.body.is_empty());
    assert!(uploads_in(dir.path()).is_empty(), "nothing is left of the uploads");
}

/// Says of every manifest that three pods run it under the names that it is asked for.
struct Three;

impl Running for Three {
    fn users(&self, _: &Digest, names: &dyn Fn(&str) -> bool) -> Users {
        let images =
            ["app:v1", "hub.example.com/app:v1", "example.com/app:v1", "app:v2", "app", "?"];
        let pods = images.iter().filter(|image| names(image)).count();
        if pods == 0 {
            return Users::default();
        }
        let restarts = vec!["kubectl rollout restart deployment/app".to_owned()];
        Users { pods, without_pods: 2, restarts, loose: 1 }
    }
}

#[tokio::test]
async fn who_moves_a_tag_is_told_from_where_to_where_and_who_runs_the_old_build() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    modules.known_as(["hub.example.com".to_owned()]);
    let put = async |tag: &str, layer: Digest, only: bool| {
        upload(&modules, "app", CONFIG).await;
        let path = format!("/v2/app/manifests/{tag}");
        let mut request = Request::put(path).body(Full::new(manifest(layer).into())).unwrap();
        if only {
            request.extensions_mut().insert(RegistryOnly);
        }
        let answer = ask(&modules, request).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer.headers.get("warning").map(|text| text.to_str().unwrap().to_owned())
    };
    let old = upload(&modules, "app", &module("old")).await;
    let new = upload(&modules, "app", &module("new")).await;
    assert_eq!(put("v1", old, false).await, None, "nothing moved");
    assert_eq!(put("v1", old, false).await, None, "the same again");
    let [from, to] = [old, new].map(|layer| Digest::of(manifest(layer).as_bytes()));
    let moved = format!("299 - \"app:v1 stood for {from} and stands for {to} now; ");
    let told = put("v1", new, false).await.unwrap();
    assert_eq!(told, format!("{moved}no pod runs the old one\""));
    put("v1", old, false).await;
    modules.ask_who_runs(Arc::new(Three));
    let told = put("v1", new, false).await.unwrap();
    let rest = "pods that run the old one and keep it: 2; ReplicaSets, revisions and Jobs without pods that keep it and will run it again: 2; to let them go over: kubectl rollout restart deployment/app; \
                pods that no restart reaches, to be made anew with the Job or set that they are of: 1\"";
    assert_eq!(told, format!("{moved}{rest}"));
    put("v1", old, false).await;
    let told = put("v1", new, true).await.unwrap();
    assert!(told.contains("keep it: 2") && !told.contains("deployment/app"), "{told}");
    assert_eq!(put(&to.to_string(), new, false).await, None, "by its digest nothing moves");
}

#[tokio::test]
async fn a_module_is_called_by_the_manifest_that_was_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let first = push(&modules, "app", "v1", module("first")).await;
    let second = push(&modules, "app", "v1", module("second")).await;
    let found = modules.resolve("app:v1").unwrap();
    assert_eq!((found.manifest, found.component), (second.manifest, second.component));
    assert_eq!(modules.manifest_of("app:v1", &second.component), Some(second.manifest));
    assert_eq!(modules.manifest_of("app:v1", &first.component), Some(first.manifest));
    let by_digest = format!("app@{}", first.manifest);
    assert_eq!(modules.manifest_of(&by_digest, &first.component), Some(first.manifest));
    assert_eq!(modules.manifest_of("other:v1", &first.component), None);
    assert_eq!(modules.manifest_of("example.com/app:v1", &first.component), None);
    delete(&modules, &format!("/v2/app/manifests/{}", first.manifest)).await;
    let gone = modules.resolve(&by_digest).unwrap_err();
    // It may never have been there: a name by digest comes from anywhere.
    assert!(!gone.message.contains("deleted") && gone.message.contains("push"), "{gone}");
    assert!(gone.message.contains("made anew"), "a pod without a Deployment: {gone}");
}

#[tokio::test]
async fn a_handler_is_known_by_the_build_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let program = push(&modules, "app", "v1", module("app")).await;
    assert_eq!(modules.is_handler("app:v1"), Some(false));
    let handler = module_of("wasi:http/incoming-handler@0.2.3", "app");
    let handler = push(&modules, "app", "v1", handler).await;
    assert_eq!(modules.is_handler("app:v1"), Some(true));
    assert_eq!(modules.is_handler(&format!("app@{}", program.manifest)), Some(false));
    assert_eq!(modules.is_handler(&format!("app@{}", handler.manifest)), Some(true));
    assert_eq!(modules.is_handler("other:v1"), None);
}

#[tokio::test]
async fn what_a_module_takes_and_asks_for_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let bytes = module("app").len() as u64;
    push(&modules, "app", "v1", module("app")).await;
    let facts = modules.facts("app:v1").await.unwrap();
    assert_eq!((facts.bytes, facts.imports), (bytes, Some(BTreeSet::new())));
    let imported = BTreeSet::from(["wasi:io/poll".to_owned()]);
    let remember = |imports: Option<BTreeSet<String>>, ago: Duration| {
        for known in modules.inner.imports.lock().values_mut() {
            *known = (known.0.checked_sub(ago).unwrap(), imports.clone());
        }
    };
    remember(Some(imported.clone()), Duration::ZERO);
    let again = modules.facts("app:v1").await.unwrap();
    assert_eq!(again.imports, Some(imported), "it is remembered");
    remember(None, Duration::ZERO);
    assert_eq!(modules.facts("app:v1").await.unwrap().imports, None, "so is a failure");
    remember(None, Duration::from_secs(60));
    let again = modules.facts("app:v1").await.unwrap();
    assert_eq!(again.imports, Some(BTreeSet::new()), "for a while");
    assert_eq!(modules.facts("other:v1").await, None);
}

#[tokio::test]
async fn the_catalog_comes_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let empty = call(&modules, Method::GET, "/v2/_catalog", "").await;
    assert_eq!((empty.status, &empty.body[..]), (StatusCode::OK, &br#"{"repositories":[]}"#[..]));
    let component = upload(&modules, "b", &module("b")).await;
    for name in ["b", "team/a", "c"] {
        tag(&modules, name, "v1", component).await;
    }
    let first = call(&modules, Method::GET, "/v2/_catalog?n=2", "").await;
    assert_eq!(&first.body[..], br#"{"repositories":["b","c"]}"#);
    assert_eq!(first.header("link"), "</v2/_catalog?n=2&last=c>; rel=\"next\"");
    let rest = call(&modules, Method::GET, "/v2/_catalog?n=2&last=c", "").await;
    assert_eq!(&rest.body[..], br#"{"repositories":["team/a"]}"#);
    assert!(!rest.headers.contains_key("link"));
    let none = call(&modules, Method::GET, "/v2/_catalog?last=team%2Fa", "").await;
    assert_eq!(&none.body[..], br#"{"repositories":[]}"#);
}

#[tokio::test]
async fn the_hubs_own_names_before_an_image_are_its_own_registry() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    modules.known_as(["Hub.example.com:6443", "hub.example.com"].map(str::to_owned));
    let pushed = push(&modules, "team/hello", "v1", module("hello")).await;
    for host in ["hub.example.com:6443", "HUB.example.com", "hub.example.com"] {
        let image = format!("{host}/team/hello:v1");
        assert_eq!(modules.resolve(&image).unwrap().component, pushed.component, "{image}");
    }
    for host in ["hub.example.com:5000", "example.com"] {
        let problem = modules.resolve(&format!("{host}/team/hello:v1")).unwrap_err();
        assert!(problem.message.contains("own registry only"), "{}", problem.message);
    }
}

#[tokio::test]
async fn an_upload_in_chunks_is_checked_against_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let begun = call(&modules, Method::POST, "/v2/a/blobs/uploads/", "").await;
    assert_eq!(begun.status, StatusCode::ACCEPTED);
    let upload = begun.header("location").to_owned();
    let first = call(&modules, Method::PATCH, &upload, "hello ").await;
    assert_eq!((first.status, first.header("range")), (StatusCode::ACCEPTED, "0-5"));
    let asked = call(&modules, Method::GET, &upload, "").await;
    assert_eq!((asked.status, asked.header("range")), (StatusCode::NO_CONTENT, "0-5"));
    let wrong = format!("{upload}?digest={}", Digest::of(b"hello moon"));
    let refused = call(&modules, Method::PUT, &wrong, "world").await;
    assert_eq!(refused.refusal(), (400, "DIGEST_INVALID".to_owned()));
    let gone = call(&modules, Method::PATCH, &upload, "x").await;
    assert_eq!(gone.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".to_owned()));
    assert!(uploads_in(dir.path()).is_empty());
}

#[tokio::test]
async fn pieces_come_in_order_and_in_any_number() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let begun = call(&modules, Method::POST, "/v2/a/blobs/uploads/", "").await;
    let upload = begun.header("location").to_owned();
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let send = async |from: usize, to: usize| {
        let request = Request::patch(&upload)
            .header("content-range", format!("{from}-{}", to - 1))
            .body(Full::new(Bytes::copy_from_slice(&content[from..to])))
            .unwrap();
        ask(&modules, request).await
    };
    assert_eq!(send(0, 100_000).await.status, StatusCode::ACCEPTED);
    let skipped = send(200_000, 300_000).await;
    assert_eq!(skipped.refusal(), (416, "BLOB_UPLOAD_INVALID".to_owned()));
    assert_eq!(skipped.header("range"), "0-99999", "where to go on");
    assert_eq!(skipped.header("location"), upload);
    assert_eq!(send(100_000, 700_000).await.status, StatusCode::ACCEPTED);
    let digest = Digest::of(&content);
    let rest = Bytes::copy_from_slice(&content[700_000..]);
    let done = call(&modules, Method::PUT, &format!("{upload}?digest={digest}"), rest).await;
    assert_eq!(done.status, StatusCode::CREATED);
    let found = call(&modules, Method::GET, done.header("location"), "").await;
    assert!(found.body == content);
}

#[tokio::test]
async fn an_upload_may_be_cancelled_and_one_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let begun = call(&modules, Method::POST, "/v2/a/blobs/uploads/", "").await;
    let upload = begun.header("location").to_owned();
    let cancelled = call(&modules, Method::DELETE, &upload, "").await;
    assert_eq!(cancelled.status, StatusCode::NO_CONTENT);
    let gone = call(&modules, Method::DELETE, &upload, "").await;
    assert_eq!(gone.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".to_owned()));
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"other"));
    let wrong = call(&modules, Method::POST, &path, "content").await;
    assert_eq!(wrong.refusal(), (400, "DIGEST_INVALID".to_owned()));
    assert!(uploads_in(dir.path()).is_empty());
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let begun = call(&modules, Method::POST, "/v2/a/blobs/uploads/", "").await;
    let upload = begun.header("location").to_owned();
    // What is written to this upload finds a full disk.
    let file = uploads_in(dir.path()).remove(0);
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    let full = call(&modules, Method::PATCH, &upload, "content").await;
    assert_eq!(full.refusal(), (507, "UNAVAILABLE".to_owned()));
    assert!(String::from_utf8_lossy(&full.body).contains("disk is full"), "{full:?}");
    assert!(uploads_in(dir.path()).is_empty());

    let layer = module("layer");
    std::os::unix::fs::symlink("/dev/full", dir.path().join("tags.new")).unwrap();
    let full = push_as_is(&modules, "a", "v1", &layer).await;
    assert_eq!(full.refusal(), (507, "UNAVAILABLE".to_owned()));
    assert!(modules.resolve("a:v1").is_err(), "what is not on the disk is not so");
    push(&modules, "a", "v1", layer).await;
}

#[tokio::test]
async fn a_blob_that_is_here_is_mounted_and_any_other_is_uploaded() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let digest = upload(&modules, "a", b"content").await;
    let path = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    let mounted = call(&modules, Method::POST, &path, "").await;
    assert_eq!(mounted.status, StatusCode::CREATED);
    assert_eq!(mounted.header("location"), format!("/v2/b/blobs/{digest}"));
    let path = format!("/v2/b/blobs/uploads/?mount={}&from=a", Digest::of(b"other"));
    let begun = call(&modules, Method::POST, &path, "").await;
    assert_eq!(begun.status, StatusCode::ACCEPTED);
    assert!(begun.header("location").starts_with("/v2/b/blobs/uploads/"));
}

#[tokio::test]
async fn a_manifest_comes_after_all_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let layer = upload(&modules, "a", &module("a")).await;
    let early = call(&modules, Method::PUT, "/v2/a/manifests/v1", manifest(layer)).await;
    assert_eq!(early.refusal(), (404, "MANIFEST_BLOB_UNKNOWN".to_owned()));
    upload(&modules, "a", CONFIG).await;
    let whole = call(&modules, Method::PUT, "/v2/a/manifests/v1", manifest(layer)).await;
    assert_eq!(whole.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_file_that_is_no_module_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let cases = [
        (b"#!/bin/sh\n".to_vec(), "not a WebAssembly file"),
        (wat::parse_str("(module)").unwrap(), "core module"),
    ];
    for (file, part) in cases {
        let refused = push_as_is(&modules, "a", "v1", &file).await;
        assert_eq!(refused.refusal(), (400, "MANIFEST_INVALID".to_owned()));
        assert!(String::from_utf8_lossy(&refused.body).contains(part), "{refused:?}");
    }
    assert_eq!(modules.resolve("a:v1").unwrap_err().reason, "ErrImagePull");
}

#[tokio::test]
async fn hostile_names_and_uploads_reach_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    for path in [
        "/v2/../x/manifests/v1",
        "/v2/a/blobs/uploads/../../tags.json",
        "/v2/a/blobs/uploads/..",
        "/v2/a/blobs/sha256:..",
        "/v2/A/tags/list",
    ] {
        for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
            let answer = call(&modules, method, path, "x").await;
            assert!(answer.status.is_client_error(), "{path}: {answer:?}");
        }
    }
    assert!(dir.path().join("uploads").is_dir());
}

#[test]
fn an_image_that_cannot_be_had_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let check = |image: &str, reason: &str, part: &str| {
        let problem = modules.resolve(image).unwrap_err();
        assert_eq!(problem.reason, reason, "{image}");
        assert!(problem.message.contains(part), "{}", problem.message);
    };
    check("nginx", "ErrImagePull", "hub push");
    check("docker.io/library/nginx:1", "ErrImagePull", "own registry only");
    check("Not A Name", "InvalidImageName", "not an image reference");
}
