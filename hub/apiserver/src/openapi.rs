//! `/openapi/v3`, its documents and `/openapi/v2`, which hub-schema makes.
//!
//! Guarantees:
//! - a document is compressed once for all who ask for it, while it is one of few
//!   (`a_document_is_compressed_once_while_it_is_one_of_few`), and also for those who ask before it is
//!   (`a_document_is_compressed_once_for_all_who_ask_together`);
//! - what is answered is what was asked for, also from what is compressed already
//!   (`v2_and_v3_of_the_same_kinds_are_told_apart_when_compressed`);
//! - documents are made by the workers that answers are encoded by, on the account of who asks for them, and never by who
//!   serves others meanwhile (`documents_are_made_by_workers_and_then_cost_no_thread`).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::openapi::{self, Document, Form, NotMade};
use freewheel_hub_schema::registry::Registry;
use http::header::{CACHE_CONTROL, ETAG};
use http::{HeaderValue, Response};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::body::Body;
use crate::flow::workers::WorkerQueue;
use crate::media::{self, JSON, Wire};
use crate::respond;
use crate::send_backlog::SendBacklog;

/// Its protobuf form, as kube-apiserver names it in answers.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Bytes of compressed documents that are kept.
const COMPRESSED_BYTES_KEPT: usize = 8 << 20;

/// Compressed documents: everybody asks for the same few.
#[derive(Default)]
pub(crate) struct Packed(Mutex<VecDeque<One>>);

/// A document in one form.
struct One {
    hash: String,
    form: &'static str,
    /// Its bytes, once they are there. Who makes them, and who waits for that, has this, too.
    bytes: Arc<OnceCell<Bytes>>,
}

impl Packed {
    fn one(&self, hash: &str, form: &'static str) -> Arc<OnceCell<Bytes>> {
        let mut kept = self.0.lock();
        if let Some(one) = kept.iter().find(|one| one.hash == hash && one.form == form) {
            return one.bytes.clone();
        }
        // Those that nobody makes any more.
        kept.retain(|one| one.bytes.initialized() || 1 < Arc::strong_count(&one.bytes));
        let bytes = Arc::default();
        kept.push_back(One { hash: hash.to_owned(), form, bytes: Arc::clone(&bytes) });
        bytes
    }

    /// Forgets the oldest when there are too many.
    fn trim(&self) {
        let mut kept = self.0.lock();
        let length = |one: &One| one.bytes.get().map_or(0, Bytes::len);
        while COMPRESSED_BYTES_KEPT < kept.iter().map(length).sum() {
            kept.pop_front();
        }
    }

    /// The document's compressed form.
    async fn of(
        &self,
        document: &Document,
        form: &'static str,
        worker_queue: WorkerQueue<'_>,
    ) -> Result<Bytes, ApiError> {
        let one = self.one(&document.hash, form);
        if let Some(bytes) = one.get() {
            return Ok(bytes.clone());
        }
        let packs = || respond::packed(worker_queue, document.body.clone(), ());
        let bytes = one.get_or_try_init(|| async { packs().await.map(|(bytes, ())| bytes) }).await;
        self.trim();
        bytes.cloned()
    }
}

/// Who asks for what is the same for many.
#[derive(Clone, Copy)]
pub(crate) struct Asks<'a> {
    pub(crate) packed: &'a Packed,
    pub(crate) backlog: &'a SendBacklog,
    /// Who makes it.
    pub(crate) makers: WorkerQueue<'a>,
    /// Who compresses it.
    pub(crate) gzip: Option<WorkerQueue<'a>>,
}

/// The index (an empty path) or one document; `prefix` is the cluster's part of the URL.
///
/// # Errors
/// 404 for a group and version that is not served.
pub(crate) async fn answer(
    registry: Registry,
    prefix: &str,
    path: &str,
    query: &str,
    asks: Asks<'_>,
) -> Result<Response<Body>, ApiError> {
    if path.is_empty() {
        return Ok(respond::json(200, &index(registry, prefix, asks.makers).await?));
    }
    let wanted = path.to_owned();
    let document = move |all: &Registry| openapi::document(all, &wanted);
    let document = made(registry, Form::V3(path), asks.makers, document).await?;
    send(document, JSON, query, asks).await
}

/// `/openapi/v2`, in gnostic's protobuf for older clients of client-go, else in JSON.
///
/// # Errors
/// 406 when neither is taken.
pub(crate) async fn answer_v2(
    registry: Registry,
    accept: Option<&str>,
    asks: Asks<'_>,
) -> Result<Response<Body>, ApiError> {
    let wants_protobuf = |clause: &media::Clause<'_>| {
        matches!(
            clause.media,
            "application/com.github.proto-openapi.spec.v2@v1.0+protobuf" | V2_PROTOBUF
        )
    };
    if accept.is_some_and(|accept| media::clauses(accept).first().is_some_and(wants_protobuf)) {
        let document = |all: &Registry| Some(openapi::v2_protobuf(all));
        let document = made(registry, Form::V2Protobuf, asks.makers, document).await?;
        return send(document, V2_PROTOBUF, "", asks).await;
    }
    media::negotiate(accept, |wanted| wanted.wire == Wire::Json)?;
    let document = |all: &Registry| Some(openapi::v2(all));
    send(made(registry, Form::V2, asks.makers, document).await?, JSON, "", asks).await
}

/// The index of v3. Whoever asks first has a worker make the documents that all share.
async fn index(
    registry: Registry,
    prefix: &str,
    makers: WorkerQueue<'_>,
) -> Result<Value, ApiError> {
    if openapi::is_index_made(&registry) {
        return Ok(openapi::index(&registry, prefix));
    }
    let prefix = prefix.to_owned();
    let (index, ()) = makers.run((), move || Ok(openapi::index(&registry, &prefix))).await?;
    Ok(index)
}

/// A document, where there is one. Whoever asks first has a worker make it; all others find it made.
async fn made(
    registry: Registry,
    form: Form<'_>,
    makers: WorkerQueue<'_>,
    make: impl FnOnce(&Registry) -> Option<Document> + Send + 'static,
) -> Result<Document, ApiError> {
    let document = match openapi::made(&registry, form) {
        Ok(document) => document,
        Err(NotMade) => makers.run((), move || Ok(make(&registry))).await?.0,
    };
    document.ok_or_else(respond::no_such_path)
}

async fn send(
    document: Document,
    content_type: &'static str,
    query: &str,
    asks: Asks<'_>,
) -> Result<Response<Body>, ApiError> {
    let packs = asks.gzip.filter(|_| respond::COMPRESS_FROM_BYTES <= document.body.len());
    let bytes = match packs {
        Some(worker_queue) => asks.packed.of(&document, content_type, worker_queue).await?,
        None => document.body,
    };
    // What waits for room here is the same bytes for all.
    let held = asks.backlog.hold(bytes.len()).await?;
    let mut response = respond::whole(200, content_type, bytes).map(|body| body.keeping(held));
    if packs.is_some() {
        response = respond::gzipped(response);
    }
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", document.hash)) {
        headers.insert(ETAG, tag);
    }
    let asked = crate::query::pairs(query).find(|(name, _)| name == "hash");
    if asked.is_some_and(|(_, hash)| hash == document.hash) {
        // The URL names its content, so a client may keep it for ever.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use freewheel_hub_api::kinds;
    use freewheel_hub_schema::gvk::Gvk;
    use freewheel_hub_schema::kind::{Kind, Strategy};
    use freewheel_link::names::ClusterName;
    use futures::FutureExt as _;
    use http::header::CONTENT_ENCODING;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::flow::workers::Workers;
    use crate::flow::workers::tests::all_turns;

    struct Plain;

    impl Strategy for Plain {}

    fn own_kinds() -> Registry {
        let (registries, root) = (kinds::registries(), ClusterName::root());
        let gvk = Gvk::new("example.com", "v1", "Widget");
        registries.add(&root, Kind::new(gvk, "widgets", Plain)).unwrap();
        registries.of(&root)
    }

    #[tokio::test]
    async fn documents_are_made_by_workers_and_then_cost_no_thread() {
        let workers = Workers::default();
        for form in [Form::V3("apis/example.com/v1"), Form::V2, Form::V2Protobuf] {
            // A registry with kinds of its own, so that no other test has made its documents.
            let registry = own_kinds();
            let make = move |all: &Registry| match form {
                Form::V3(path) => openapi::document(all, path),
                Form::V2 => Some(openapi::v2(all)),
                Form::V2Protobuf => Some(openapi::v2_protobuf(all)),
            };
            let turns = all_turns(&workers);
            let mut asked = Box::pin(made(registry.clone(), form, workers.of_all(), make));
            assert!((&mut asked).now_or_never().is_none(), "there is no worker for it");
            drop(turns);
            let first = asked.await.unwrap();
            let _turns = all_turns(&workers);
            let again = made(registry, form, workers.of_all(), make).now_or_never();
            let again = again.expect("it is there").unwrap();
            assert_eq!(again.body.as_ptr(), first.body.as_ptr(), "{form:?}");
        }
    }

    /// What an answer says, which is compressed, and its ETag.
    async fn unpacked(response: Response<Body>) -> (HeaderValue, String) {
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let tag = response.headers()[ETAG].clone();
        let packed = response.into_body().collect().await.unwrap().to_bytes();
        let mut text = String::new();
        GzDecoder::new(&*packed).read_to_string(&mut text).unwrap();
        (tag, text)
    }

    #[tokio::test]
    async fn v2_and_v3_of_the_same_kinds_are_told_apart_when_compressed() {
        let (registries, root) = (kinds::registries(), ClusterName::root());
        // So many that their one document of v3 is compressed, too.
        for number in 0..100 {
            let (kind, plural) = (format!("Widget{number}"), format!("widget{number}s"));
            let kind = Kind::new(Gvk::new("example.com", "v1", kind), plural, Plain);
            registries.add(&root, kind.with_status()).unwrap();
        }
        let registry = registries.of(&root);
        let (packed, workers) = (Packed::default(), Workers::default());
        let (backlog, all) = (SendBacklog::new(Arc::default()), workers.of_all());
        let asks = Asks { packed: &packed, backlog: &backlog, makers: all, gzip: Some(all) };
        let v3 = answer(registry.clone(), "", "apis/example.com/v1", "", asks).await.unwrap();
        let v2 = answer_v2(registry, None, asks).await.unwrap();
        let ((v3_tag, v3), (v2_tag, v2)) = (unpacked(v3).await, unpacked(v2).await);
        assert!(v3.contains(r#""openapi":"3.0.0""#) && v2.contains(r#""swagger":"2.0""#));
        assert_ne!(v3_tag, v2_tag);
    }

    #[tokio::test]
    async fn a_document_is_compressed_once_for_all_who_ask_together() {
        let (packed, workers) = (Packed::default(), Workers::default());
        let worker_queue = workers.of_all();
        let document = Document { body: vec![b'a'; 1 << 20].into(), hash: "a".to_owned() };
        let asked = (0..50).map(|_| packed.of(&document, JSON, worker_queue));
        let answers: Vec<_> = futures::future::join_all(asked).await;
        let first = answers[0].as_ref().unwrap().as_ptr();
        assert!(answers.iter().all(|bytes| bytes.as_ref().unwrap().as_ptr() == first));
    }

    #[tokio::test]
    async fn a_document_is_compressed_once_while_it_is_one_of_few() {
        let (packed, workers) = (Packed::default(), Workers::default());
        let worker_queue = workers.of_all();
        let document = Document { body: vec![b'a'; 1 << 20].into(), hash: "a".to_owned() };
        let first = packed.of(&document, JSON, worker_queue).await.unwrap();
        assert_eq!(
            packed.of(&document, JSON, worker_queue).await.unwrap().as_ptr(),
            first.as_ptr()
        );
        assert_ne!(
            packed.of(&document, V2_PROTOBUF, worker_queue).await.unwrap().as_ptr(),
            first.as_ptr()
        );
        for number in 0..3 {
            let one = packed.one(&number.to_string(), JSON);
            one.set(vec![0; COMPRESSED_BYTES_KEPT / 3].into()).unwrap();
            packed.trim();
        }
        assert!(packed.one("a", JSON).get().is_none() && packed.one("2", JSON).initialized());
        // What nobody made is not kept.
        drop(packed.one("b", JSON));
        let kept = packed.0.lock();
        assert!(kept.iter().all(|one| one.hash != "a"));
        let kept: usize = kept.iter().filter_map(|one| one.bytes.get()).map(Bytes::len).sum();
        assert!(kept <= COMPRESSED_BYTES_KEPT);
    }
}
