//! What a pusher may rely on.

use freewheel_hub_api::images::Images as _;

use super::*;
use crate::modules::Options;
use crate::sign::FleetRoot;

const PROGRAM: &str = r#"(component
    (core module $m (func (export "run") (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $run-i (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $run-i)))"#;

fn modules(dir: &std::path::Path) -> Modules {
    let root = FleetRoot::open(&dir.join("root")).unwrap();
    Modules::open(Options { dir: dir.to_path_buf(), compiler: "/bin/false".into(), root }).unwrap()
}

async fn call(
    modules: &Modules,
    method: Method,
    path: &str,
    body: impl Into<Bytes>,
) -> (StatusCode, String, Option<String>) {
    let request = Request::builder().method(method).uri(path).body(Full::new(body.into())).unwrap();
    let response = modules.serve(request).await;
    let location =
        response.headers().get(header::LOCATION).map(|value| value.to_str().unwrap().to_owned());
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned(), location)
}

fn manifest(layer: Digest) -> String {
    json!({"schemaVersion": 2, "layers": [{"mediaType": "application/wasm", "digest": layer.to_string(), "size": 1}]}).to_string()
}

async fn push(modules: &Modules, name: &str, tag: &str, module: Vec<u8>) -> (StatusCode, String) {
    let digest = Digest::of(&module);
    let (status, body, _) =
        call(modules, Method::POST, &format!("/v2/{name}/blobs/uploads/?digest={digest}"), module)
            .await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let (status, body, _) =
        call(modules, Method::PUT, &format!("/v2/{name}/manifests/{tag}"), manifest(digest)).await;
    (status, body)
}

#[tokio::test]
async fn what_was_pushed_is_resolved_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let module = wat::parse_str(PROGRAM).unwrap();
    let digest = Digest::of(&module);
    assert_eq!(push(&modules, "team/hello", "v1", module).await.0, StatusCode::CREATED);
    assert_eq!(modules.resolve("team/hello:v1").unwrap(), digest);
    let (status, body, _) = call(&modules, Method::GET, "/v2/team/hello/tags/list", "").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, r#"{"name":"team/hello","tags":["v1"]}"#));
    assert_eq!(
        call(&modules, Method::HEAD, &format!("/v2/team/hello/blobs/{digest}"), "").await.0,
        StatusCode::OK
    );
    let (status, body, _) = call(&modules, Method::GET, "/v2/team/hello/manifests/v1", "").await;
    assert_eq!((status, body), (StatusCode::OK, manifest(digest)));
}

#[tokio::test]
async fn an_upload_in_chunks_is_checked_against_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let (status, _, location) = call(&modules, Method::POST, "/v2/a/blobs/uploads/", "").await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let upload = location.unwrap();
    assert_eq!(call(&modules, Method::PATCH, &upload, "hello ").await.0, StatusCode::ACCEPTED);
    let wrong = format!("{upload}?digest={}", Digest::of(b"hello moon"));
    let (status, body, _) = call(&modules, Method::PUT, &wrong, "world").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("DIGEST_INVALID"), "{body}");
    assert_eq!(call(&modules, Method::PATCH, &upload, "x").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_file_that_is_no_module_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let (status, body) = push(&modules, "a", "v1", b"#!/bin/sh\n".to_vec()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("not a WebAssembly file"), "{body}");
    let (status, body) = push(&modules, "a", "v1", wat::parse_str("(module)").unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("core module"), "{body}");
    assert_eq!(modules.resolve("a:v1").unwrap_err().reason, "ErrImagePull");
}

#[tokio::test]
async fn hostile_names_and_uploads_reach_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    for path in [
        "/v2/../x/manifests/v1",
        "/v2/a/blobs/uploads/../../tags.json",
        "/v2/a/blobs/sha256:..",
        "/v2/A/tags/list",
    ] {
        for method in [Method::GET, Method::PUT, Method::PATCH] {
            let (status, _, _) = call(&modules, method, path, "x").await;
            assert!(status.is_client_error(), "{path}: {status}");
        }
    }
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
