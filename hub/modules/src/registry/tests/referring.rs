//! What says something of a manifest, as `oras attach` and cosign push it; and what is not served, and how that is said.

use super::*;

const EMPTY: &str = "application/vnd.oci.empty.v1+json";

fn attachment(subject: Digest, kind: &str, says: &str, layer: Digest) -> String {
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": kind,
        "config": {"mediaType": EMPTY, "digest": Digest::of(CONFIG).to_string(), "size": 2},
        "layers": [{"mediaType": "text/plain", "digest": layer.to_string(), "size": 1}],
        "subject": {"mediaType": "x", "digest": subject.to_string(), "size": 1},
        "annotations": {"says": says},
    })
    .to_string()
}

/// Pushes it by its digest, as those tools do.
async fn attach(modules: &Modules, subject: Digest, kind: &str, says: &str) -> Digest {
    upload(modules, "app", CONFIG).await;
    let layer = upload(modules, "app", says.as_bytes()).await;
    let text = attachment(subject, kind, says, layer);
    let digest = Digest::of(text.as_bytes());
    let answer = call(modules, Method::PUT, &format!("/v2/app/manifests/{digest}"), text).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    assert_eq!(answer.header("oci-subject"), subject.to_string());
    digest
}

async fn referrers(modules: &Modules, path: &str) -> (Answer, Vec<Value>) {
    let answer = call(modules, Method::GET, path, "").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/vnd.oci.image.index.v1+json");
    let index: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (&index["schemaVersion"], &index["mediaType"]),
        (&json!(2), &json!(answer.header("content-type")))
    );
    let all = index["manifests"].as_array().unwrap().clone();
    (answer, all)
}

#[tokio::test]
async fn what_is_attached_to_a_manifest_is_listed_there() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let app = push(&modules, "app", "v1", module("app")).await.manifest;
    let path = format!("/v2/app/referrers/{app}");
    assert!(referrers(&modules, &path).await.1.is_empty(), "nobody has said anything");
    let signature = attach(&modules, app, "a/signature+json", "it is mine").await;
    let parts = attach(&modules, app, "a/parts", "one, two").await;
    // Of one that is still to come.
    let later = Digest::of(b"later");
    let early = attach(&modules, later, "a/signature+json", "it will be mine").await;

    let (answer, all) = referrers(&modules, &path).await;
    assert!(!answer.headers.contains_key("oci-filters-applied"));
    let mut digests: Vec<&str> = all.iter().map(|one| one["digest"].as_str().unwrap()).collect();
    digests.sort_unstable();
    let mut both = [signature, parts].map(|one| one.to_string());
    both.sort();
    assert_eq!(digests, both);
    let found = all.iter().find(|one| one["digest"] == signature.to_string()).unwrap();
    let whole = call(&modules, Method::GET, &format!("/v2/app/manifests/{signature}"), "").await;
    assert_eq!(found["size"], whole.body.len());
    assert_eq!(found["mediaType"], whole.header("content-type"));
    assert_eq!(found["artifactType"], "a/signature+json");
    assert_eq!(found["annotations"], json!({"says": "it is mine"}));

    let (_, of_later) = referrers(&modules, &format!("/v2/app/referrers/{later}")).await;
    assert_eq!(of_later[0]["digest"], early.to_string());
    for kind in ["a%2Fsignature%2Bjson", "a/signature+json"] {
        let (answer, some) = referrers(&modules, &format!("{path}?artifactType={kind}")).await;
        assert_eq!(answer.header("oci-filters-applied"), "artifactType");
        assert_eq!(some.len(), 1, "{kind}");
        assert_eq!(some[0]["digest"], signature.to_string());
    }
    assert!(referrers(&modules, &format!("{path}?artifactType=none")).await.1.is_empty());
    for nowhere in ["/v2/app/referrers/", "/v2/none/referrers/"] {
        let path = format!("{nowhere}{}", Digest::of(b"nothing"));
        assert!(referrers(&modules, &path).await.1.is_empty(), "{path}");
    }
    let odd = call(&modules, Method::GET, "/v2/app/referrers/v1", "").await;
    assert_eq!(odd.refusal(), (400, "DIGEST_INVALID".to_owned()));

    // It is no module, stays while nobody deletes it, and goes with what it is about.
    let refused = modules.resolve(&format!("app@{signature}")).unwrap_err();
    assert!(refused.message.contains("is no module"), "{}", refused.message);
    assert_eq!(modules.resolve("app:v1").unwrap().manifest, app);
    delete(&modules, &format!("/v2/app/manifests/{app}")).await;
    assert!(referrers(&modules, &path).await.1.is_empty());
    let gone = call(&modules, Method::GET, &format!("/v2/app/manifests/{signature}"), "").await;
    assert_eq!(gone.refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));
}

#[tokio::test]
async fn a_long_list_of_what_is_attached_comes_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let app = push(&modules, "app", "v1", module("app")).await.manifest;
    let mut all = std::collections::BTreeSet::new();
    for n in 0..3 {
        let says = format!("{n}{}", "x".repeat(1 << 20));
        all.insert(attach(&modules, app, "a/b", &says).await.to_string());
    }
    let mut path = format!("/v2/app/referrers/{app}?artifactType=a%2Fb");
    let mut found = Vec::new();
    loop {
        let (answer, page) = referrers(&modules, &path).await;
        assert_eq!(page.len(), 1, "each is as much as one answer holds");
        found.push(page[0]["digest"].as_str().unwrap().to_owned());
        let Some(next) = answer.headers.get("link") else { break };
        let next = next.to_str().unwrap().strip_prefix('<').unwrap();
        path = next.strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    assert!(found.iter().eq(&all), "{found:?}");
}

#[tokio::test]
async fn a_build_with_a_subject_is_a_module_and_older_signatures_have_tags() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let first = push(&modules, "app", "v1", module("first")).await;
    let component = upload(&modules, "app", &module("second")).await;
    let mut second: Value = serde_json::from_str(&manifest(component)).unwrap();
    second["subject"] = json!({"mediaType": "x", "digest": first.manifest.to_string(), "size": 1});
    let put = async |tag: &str, text: String| {
        call(&modules, Method::PUT, &format!("/v2/app/manifests/{tag}"), text).await
    };
    assert_eq!(put("v2", second.to_string()).await.status, StatusCode::CREATED);
    assert_eq!(modules.resolve("app:v2").unwrap().component, component);
    // What cosign signs with before it knows subjects.
    let layer = upload(&modules, "app", b"a signature").await;
    let mut signature: Value = serde_json::from_str(&manifest(layer)).unwrap();
    signature["layers"][0]["mediaType"] = json!("application/vnd.dev.cosign.simplesigning.v1+json");
    let tag = format!("sha256-{}.sig", first.manifest.hex());
    assert_eq!(put(&tag, signature.to_string()).await.status, StatusCode::CREATED);
    let back = call(&modules, Method::GET, &format!("/v2/app/manifests/{tag}"), "").await;
    assert_eq!(back.body, signature.to_string());
    let refused = put("v3", signature.to_string()).await;
    assert_eq!(refused.refusal(), (400, "MANIFEST_INVALID".to_owned()));
    signature["subject"] = json!({"mediaType": "x", "digest": "sha512:00", "size": 1});
    assert_eq!(
        put("v3", signature.to_string()).await.refusal(),
        (400, "MANIFEST_INVALID".to_owned())
    );
}

#[tokio::test]
async fn who_asks_for_what_is_not_served_is_told_what_is() {
    let dir = tempfile::tempdir().unwrap();
    let modules = modules(dir.path());
    let pushed = push(&modules, "app", "v1", module("app")).await;
    let digest = pushed.component;
    let cases = [
        (Method::POST, "/v2/".to_owned(), "GET, HEAD"),
        (Method::PUT, "/v2/_catalog".to_owned(), "GET, HEAD"),
        (Method::DELETE, "/v2/app/tags/list".to_owned(), "GET, HEAD"),
        (Method::PUT, format!("/v2/app/referrers/{digest}"), "GET, HEAD"),
        (Method::POST, "/v2/app/manifests/v1".to_owned(), "GET, HEAD, PUT, DELETE"),
        (Method::PUT, format!("/v2/app/blobs/{digest}"), "GET, HEAD, DELETE"),
        // It is a manifest's.
        (Method::DELETE, format!("/v2/app/blobs/{digest}"), "GET, HEAD"),
        (Method::GET, "/v2/app/blobs/uploads/".to_owned(), "POST"),
        (Method::POST, "/v2/app/blobs/uploads/x".to_owned(), "GET, PATCH, PUT, DELETE"),
        (Method::PUT, format!("/v2/_freewheel/compiled/{digest}"), "GET"),
    ];
    for (method, path, allowed) in cases {
        let refused = call(&modules, method, &path, "").await;
        assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(refused.header("allow"), allowed, "{path}");
    }
}
