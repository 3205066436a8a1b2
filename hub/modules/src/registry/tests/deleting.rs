//! What is deleted, what goes along, and what stays.

use super::*;

#[tokio::test]
async fn what_somebody_runs_is_deleted_only_by_force() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let pushed = push(&modules, "app", "v1", module("app")).await;
    let other = push(&modules, "other", "v1", module("app")).await;
    modules.ask_who_runs(Arc::new(Three));
    let path = format!("/v2/app/manifests/{}", pushed.manifest);
    let refused = call(&modules, Method::DELETE, &path, "").await;
    assert_eq!(refused.refusal(), (409, "DENIED".to_owned()));
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    for part in [
        ": 3; ReplicaSets, revisions and Jobs without pods that will run it again: 2",
        "rollout restart deployment/app",
        "--force",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(modules.resolve("app:v1").is_ok(), "nothing is gone");
    let none = format!("/v2/app/manifests/{}", Digest::of(b"none"));
    let unknown = call(&modules, Method::DELETE, &none, "").await;
    assert_eq!(unknown.refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));
    // Pods keep what a tag stood for.
    delete(&modules, "/v2/app/manifests/v1").await;
    let forced = call(&modules, Method::DELETE, &format!("{path}?force=true"), "").await;
    assert_eq!(forced.status, StatusCode::ACCEPTED);
    assert!(forced.header("warning").contains(": 3; ReplicaSets"), "{forced:?}");
    assert!(modules.resolve(&format!("app@{}", pushed.manifest)).is_err());
    delete(&modules, &format!("/v2/other/manifests/{}", other.manifest)).await;
}

#[tokio::test]
async fn a_tag_goes_and_its_manifest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let mut changed = modules.changed();
    let pushed = push(&modules, "app", "v1", module("app")).await;
    changed.mark_unchanged();
    delete(&modules, "/v2/app/manifests/v1").await;
    assert!(changed.has_changed().unwrap(), "whoever resolved the tag is told");
    let gone = call(&modules, Method::GET, "/v2/app/manifests/v1", "").await;
    assert_eq!(gone.refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));
    assert!(modules.resolve("app:v1").is_err());
    let pinned = format!("app@{}", pushed.manifest);
    assert_eq!(modules.resolve(&pinned).unwrap().component, pushed.component);
    let tags = call(&modules, Method::GET, "/v2/app/tags/list", "").await;
    assert_eq!(&tags.body[..], br#"{"name":"app","tags":[]}"#);
}

#[tokio::test]
async fn a_manifest_takes_its_tags_along() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let pushed = push(&modules, "app", "v1", module("app")).await;
    push(&modules, "app", "stable", module("app")).await;
    let path = format!("/v2/app/manifests/{}", pushed.manifest);
    delete(&modules, &path).await;
    for path in [path.as_str(), "/v2/app/manifests/v1", "/v2/app/manifests/stable"] {
        for method in [Method::GET, Method::DELETE] {
            let gone = call(&modules, method, path, "").await;
            assert_eq!(gone.refusal(), (404, "MANIFEST_UNKNOWN".to_owned()), "{path}");
        }
    }
    let tags = call(&modules, Method::GET, "/v2/app/tags/list", "").await;
    assert_eq!(tags.refusal(), (404, "NAME_UNKNOWN".to_owned()));
}

#[tokio::test]
async fn a_blob_goes_once_no_manifest_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let pushed = push(&modules, "app", "v1", module("app")).await;
    let config = Digest::of(CONFIG);
    for named in [pushed.component, pushed.manifest, config] {
        let path = format!("/v2/app/blobs/{named}");
        let refused = call(&modules, Method::DELETE, &path, "").await;
        assert_eq!(refused.refusal(), (405, "DENIED".to_owned()));
    }
    delete(&modules, &format!("/v2/app/manifests/{}", pushed.manifest)).await;
    let path = format!("/v2/app/blobs/{}", pushed.component);
    delete(&modules, &path).await;
    for method in [Method::GET, Method::HEAD, Method::DELETE] {
        let gone = call(&modules, method, &path, "").await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
    }
    assert!(modules.inner.blobs.size(&config).is_some(), "another blob");
}
