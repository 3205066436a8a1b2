//! Blobs are read from the disk, whole or in part.

use super::*;

fn content() -> Vec<u8> {
    (0..500_000_u32).map(|i| (i / 7).to_le_bytes()[0]).collect()
}

async fn ranged(modules: &Modules, digest: &Digest, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(format!("/v2/a/blobs/{digest}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(modules, request.body(Full::default()).unwrap()).await
}

#[tokio::test]
async fn a_blob_comes_in_pieces_with_its_length_told_before() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let digest = upload(&modules, "a", &content()).await;
    let whole = ranged(&modules, &digest, &[]).await;
    assert_eq!(whole.status, StatusCode::OK);
    assert!(whole.body == content());
    assert_eq!(whole.header("content-length"), "500000");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("docker-content-digest"), digest.to_string());
    assert!(whole.largest <= READ_CHUNK_BYTES, "{} bytes at once in memory", whole.largest);
    let head = call(&modules, Method::HEAD, &format!("/v2/a/blobs/{digest}"), "").await;
    assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, "500000"));
    assert!(head.body.is_empty());
    let unknown = ranged(&modules, &Digest::of(b"other"), &[]).await;
    assert_eq!(unknown.refusal(), (404, "BLOB_UNKNOWN".to_owned()));
}

#[tokio::test]
async fn a_part_of_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let digest = upload(&modules, "a", &content()).await;
    for (range, part, told) in [
        ("bytes=100-199", 100..200, "bytes 100-199/500000"),
        ("bytes=499990-", 499_990..500_000, "bytes 499990-499999/500000"),
        ("bytes=-5", 499_995..500_000, "bytes 499995-499999/500000"),
    ] {
        let found = ranged(&modules, &digest, &[("range", range)]).await;
        assert_eq!(found.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(found.header("content-range"), told);
        assert_eq!(found.header("content-length"), part.len().to_string());
        assert!(found.body == content()[part], "{range}");
    }
    let beyond = ranged(&modules, &digest, &[("range", "bytes=500000-")]).await;
    assert_eq!(beyond.refusal(), (416, "RANGE_INVALID".to_owned()));
    assert_eq!(beyond.header("content-range"), "bytes */500000");
    let several = ranged(&modules, &digest, &[("range", "bytes=0-1,5-6")]).await;
    assert_eq!((several.status, several.body.len()), (StatusCode::OK, 500_000));
    let of_another = [("range", "bytes=0-9"), ("if-range", "\"of another blob\"")];
    assert_eq!(ranged(&modules, &digest, &of_another).await.status, StatusCode::OK);
    let tag = format!("\"{digest}\"");
    let of_this = [("range", "bytes=0-9"), ("if-range", tag.as_str())];
    assert_eq!(ranged(&modules, &digest, &of_this).await.status, StatusCode::PARTIAL_CONTENT);
}

#[tokio::test]
async fn a_question_about_a_blob_is_about_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let digest = upload(&modules, "a", &content()).await;
    for range in ["bytes=0-9", "bytes=500000-"] {
        let head = Request::head(format!("/v2/a/blobs/{digest}")).header("range", range);
        let told = ask(&modules, head.body(Full::default()).unwrap()).await;
        let length = told.header("content-length");
        assert_eq!((told.status, length), (StatusCode::OK, "500000"), "{range}");
    }
}

#[tokio::test]
async fn a_manifest_whose_file_is_gone_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let pushed = push(&modules, "app", "v1", module("app")).await;
    std::fs::remove_file(modules.inner.blobs.path(&pushed.manifest)).unwrap();
    for method in [Method::GET, Method::HEAD] {
        let gone = call(&modules, method, "/v2/app/manifests/v1", "").await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND, "{gone:?}");
    }
}

#[tokio::test]
async fn a_manifest_that_rotted_is_told_and_mended_by_the_next_push() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let pushed = push(&modules, "app", "v1", module("app")).await;
    let file = modules.inner.blobs.path(&pushed.manifest);
    let whole = std::fs::read(&file).unwrap();
    let mut rotten = whole.clone();
    rotten[10] ^= 1;
    std::fs::write(&file, rotten).unwrap();
    let refused = call(&modules, Method::GET, "/v2/app/manifests/v1", "").await;
    assert_eq!(refused.refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));
    let text = String::from_utf8_lossy(&refused.body);
    let told = format!(
        "blobs/sha256/{} of the manifest v1 of app is damaged: push it again",
        pushed.manifest.hex()
    );
    assert!(text.contains(&told), "{text}");
    push(&modules, "app", "v1", module("app")).await;
    assert_eq!(call(&modules, Method::GET, "/v2/app/manifests/v1", "").await.body, whole);
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let digest = upload(&modules, "a", b"").await;
    let whole = ranged(&modules, &digest, &[]).await;
    assert_eq!((whole.status, whole.header("content-length")), (StatusCode::OK, "0"));
}

#[tokio::test]
async fn tags_come_in_order_and_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let component = upload(&modules, "a", &module("a")).await;
    for name in ["v3", "v1", "v2"] {
        tag(&modules, "a", name, component).await;
    }
    let list = async |query: &str| {
        let answer = call(&modules, Method::GET, &format!("/v2/a/tags/list{query}"), "").await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let next = answer.headers.get("link").map(|link| link.to_str().unwrap().to_owned());
        (body["tags"].to_string(), next)
    };
    let next = |last| Some(format!("</v2/a/tags/list?n=2&last={last}>; rel=\"next\""));
    assert_eq!(list("").await, (r#"["v1","v2","v3"]"#.to_owned(), None));
    assert_eq!(list("?n=2").await, (r#"["v1","v2"]"#.to_owned(), next("v2")));
    assert_eq!(list("?n=2&last=v2").await, (r#"["v3"]"#.to_owned(), None));
    assert_eq!(list("?n=0").await, ("[]".to_owned(), None));
    assert_eq!(list("?last=v9").await, ("[]".to_owned(), None));
}
