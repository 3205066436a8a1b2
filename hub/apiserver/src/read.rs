//! Get and list.
//!
//! Guarantees:
//! - all chunks of one list show the same revision (`a_list_in_chunks_shows_one_revision`);
//! - or the client is told that it is gone, and how to go on (`a_forgotten_chunk_says_how_to_go_on`);
//! - a read shows all that anybody was answered before it, and a client that has seen more at another hub waits for it,
//!   not for long (`a_version_a_moment_ahead_is_waited_for`, `a_version_from_the_future_is_refused`).

mod continue_token;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freewheel_hub_schema::error::{ApiError, Cause, Details, FieldError};
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Snapshot, Stored};
use futures::FutureExt as _;
use http::Response;
use serde_json::json;
use tokio::time::timeout;

use self::continue_token::ContinueToken;
use crate::body::Body;
use crate::call::{Call, Filter};
use crate::converted::{self, GROWTH_MAX};
use crate::encode::{Encoder, LIST_ITEM_EXTRA_BYTES, ListMeta};
use crate::flow::large_answers::{self, AnswerRoom};
use crate::flow::workers::WorkerQueue;
use crate::lease::Renewal;
use crate::media::Wire;
use crate::memory_account::Held;
use crate::query::Query;
use crate::respond;

/// So many bytes of objects are made a list of where the request came: about a millisecond.
const INLINE_LIST_BYTES_MAX: usize = 64 << 10;

/// How long a request waits for a version that is not there yet, as at kube-apiserver.
const FUTURE_REVISION_WAIT_MAX: Duration = Duration::from_secs(3);

/// One object, for which this is held.
pub(crate) async fn get(call: &Call, held: Option<Held>) -> Result<Response<Body>, ApiError> {
    let encoder = call.encoder()?;
    let snapshot = not_older(call, call.query.revision()?).await?;
    let stored = call.hub.server.objects.get_in(&*snapshot, &call.object_ref())?;
    let stored = converted::one(&call.view.served, stored).await?;
    let stored = call.renewal().renew(&stored)?;
    let bytes = encoder.object(&stored)?;
    Ok(respond::compressed(200, encoder.wanted.content_type(), bytes, call.gzip(), held).await)
}

/// A collection, or a chunk of it.
pub(crate) async fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    let encoder = call.encoder()?;
    let filter = call.filter()?;
    validate(&call.query, false)?;
    let resume = match call.query.resume.as_str() {
        "" => None,
        text => Some(ContinueToken::decode(text)?),
    };
    if resume.is_some() && !matches!(call.query.resource_version.as_str(), "" | "0") {
        return Err(ApiError::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    let snapshot = match resume.as_ref().filter(|token| token.revision != 0) {
        Some(token) => match past(call, token.revision).await {
            Some(snapshot) => snapshot,
            None => return Ok(expired(token.clone())),
        },
        None => snapshot(call).await?,
    };
    call.tenant.check(&*call.hub.server.objects.store().snapshot())?;
    let after = resume.map(|token| token.key(&call.scope().resource, &call.tenant.name));
    let (mut items, meta) = collect(call, snapshot.as_ref(), &filter, after.as_ref());
    let renewal = call.renewal();
    let bodies = items.iter().map(|item| item.object.body.len());
    let mut room = pin!(room(call, estimate(&encoder, &renewal, call.gzip().is_some(), bodies)));
    let room = match room.as_mut().now_or_never() {
        Some(room) => room?,
        None => {
            // Of what may be a hundred thousand objects, many who wait would hold many lists.
            items = Vec::new();
            let room = room.await?;
            items.append(&mut collect(call, snapshot.as_ref(), &filter, after.as_ref()).0);
            room
        }
    };
    let content_type = encoder.wanted.content_type();
    let (bytes, room) = encoded(call.worker_queue(), (encoder, renewal), items, meta, room).await?;
    respond::large(content_type, bytes, call.gzip(), room).await
}

/// The list, and what is held for it.
pub(crate) async fn encoded<H: Send + 'static>(
    worker_queue: WorkerQueue<'_>,
    (encoder, renewal): (Encoder, Renewal),
    items: Vec<Arc<Stored>>,
    meta: ListMeta,
    held: H,
) -> Result<(Bytes, H), ApiError> {
    let items = converted::all(&encoder.view.served, items).await?;
    let bodies: usize = items.iter().map(|item| item.object.body.len()).sum();
    // What is only copied takes a hundredth of the time.
    let is_copied = encoder.is_plain() && !renewal.may_change();
    if bodies < INLINE_LIST_BYTES_MAX || (is_copied && bodies < 100 * INLINE_LIST_BYTES_MAX) {
        return Ok((encoder.list(&items, &meta, &renewal)?, held));
    }
    worker_queue.run(held, move || encoder.list(&items, &meta, &renewal)).await
}

/// Bytes that a list takes on its way at most, of objects with bodies of so many.
pub(crate) fn estimate(
    encoder: &Encoder,
    renewal: &Renewal,
    gzip: bool,
    bodies: impl Iterator<Item = usize>,
) -> usize {
    // What is compressed is there twice, and so is what is put into an envelope. In YAML all objects are trees of
    // values at a time.
    let is_copied = encoder.is_plain() && !renewal.may_change();
    let times = match (is_copied, encoder.wanted.wire, gzip) {
        (true, _, false) => 1,
        (true, _, true) => 2,
        (false, Wire::Yaml, _) => 12,
        (false, Wire::Json | Wire::Protobuf, _) => 4,
    };
    // What somebody converts is there before and after.
    let more = encoder.view.served.converter().map_or(0, |_| GROWTH_MAX);
    (times + more) * bodies.map(|body| body + LIST_ITEM_EXTRA_BYTES).sum::<usize>()
}

/// Waits for room for so many bytes.
pub(crate) async fn room(call: &Call, bytes: usize) -> Result<AnswerRoom, ApiError> {
    if bytes < large_answers::LARGE_ANSWER_BYTES {
        return call.slot.backlog.hold(bytes).await.map(AnswerRoom::small);
    }
    call.hub.flows.large_answers.room(call.sharer(), bytes).await
}

fn collect(
    call: &Call,
    snapshot: &dyn Snapshot,
    filter: &Filter,
    after: Option<&Key>,
) -> (Vec<Arc<Stored>>, ListMeta) {
    let scope = call.scope();
    let mut meta = ListMeta { revision: snapshot.revision(), ..ListMeta::default() };
    if let Some(name) = filter.name()
        && (!call.view.stored.namespaced || !call.namespace.is_empty())
    {
        // A list of one name is a get.
        let key = Key::new(&scope.resource, &call.tenant.name, &call.namespace, name);
        let found = snapshot.get(&key).filter(|stored| filter.matches(stored));
        let found = found.filter(|_| after.is_none_or(|after| *after < key));
        return (found.into_iter().collect(), meta);
    }
    let mut matching = snapshot.range(&scope, after).filter(|stored| filter.matches(stored));
    if call.query.limit == 0 {
        return (matching.collect(), meta);
    }
    let items: Vec<_> = matching.by_ref().take(call.query.limit).collect();
    let more = matching.next();
    if let (Some(last), Some(_)) = (items.last(), more) {
        meta.resume = Some(ContinueToken::after(&last.key, meta.revision).encode());
        // With a selector the rest would have to be searched; kube-apiserver does not say it either.
        meta.remaining = filter.is_everything().then(|| 1 + matching.count());
    }
    (items, meta)
}

/// The snapshot that `resourceVersion` and `resourceVersionMatch` ask for.
async fn snapshot(call: &Call) -> Result<Arc<dyn Snapshot>, ApiError> {
    let asked = call.query.revision()?;
    let newest = not_older(call, asked).await?;
    let Some(asked) = asked.filter(|asked| *asked != 0) else { return Ok(newest) };
    // An unset match with a limit means Exact, for the sake of clients that chunk by hand.
    let exact = match call.query.version_match.as_str() {
        "Exact" => true,
        "NotOlderThan" => false,
        _ => call.query.limit != 0,
    };
    if !exact {
        return Ok(newest);
    }
    let too_old = "The resourceVersion for the provided list is too old.";
    past(call, asked).await.ok_or_else(|| ApiError::expired(too_old))
}

/// What is asked for at this revision, if that is kept and of the cluster's own time.
async fn past(call: &Call, revision: u64) -> Option<Arc<dyn Snapshot>> {
    call.tenant.reaches(revision).ok()?;
    not_older(call, Some(revision)).await.ok()?;
    call.hub.server.objects.store().snapshot_at(&call.scope(), revision).ok()
}

/// A state not older than what was asked for: without a version, than anything that anybody was answered; at 0, any.
///
/// # Errors
/// 504 when a client has seen a newer revision than there is, also after a while.
pub(crate) async fn not_older(
    call: &Call,
    asked: Option<u64>,
) -> Result<Arc<dyn Snapshot>, ApiError> {
    let store = call.hub.server.objects.store();
    let Some(asked) = asked else { return Ok(store.fresh().await) };
    let newest = store.snapshot();
    if asked <= newest.revision() {
        return Ok(newest);
    }
    let waited = timeout(FUTURE_REVISION_WAIT_MAX, store.wait_for(asked)).await;
    // It may have taken a while.
    call.check_still()?;
    waited.map_err(|_| too_large(asked, store.snapshot().revision()))
}

fn too_large(asked: u64, current: u64) -> ApiError {
    let mut error = ApiError::new(
        504,
        "Timeout",
        format!("Timeout: Too large resource version: {asked}, current: {current}"),
    );
    error.details = Some(Box::new(Details {
        causes: vec![Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        }],
        retry_after_seconds: Some(1),
        ..Details::default()
    }));
    error
}

/// 410 with a token that goes on from there in what is newest.
fn expired(token: ContinueToken) -> Response<Body> {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
    let mut status = ApiError::expired(message).to_status();
    status["metadata"]["continue"] = json!(token.in_newest().encode());
    respond::json(410, &status)
}

/// apimachinery's ValidateListOptions.
pub(crate) fn validate(query: &Query, watch: bool) -> Result<(), ApiError> {
    const FIELD: &str = "resourceVersionMatch";
    let chosen = query.version_match.as_str();
    let mut errors = Vec::new();
    let mut forbid = |field: &str, why: &str| errors.push(FieldError::forbidden(field, why));
    if query.send_initial_events.is_some() {
        if !watch {
            forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
        } else if chosen != "NotOlderThan" {
            forbid(
                FIELD,
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            );
        }
    } else if watch && !chosen.is_empty() {
        forbid(
            FIELD,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        );
    } else if !chosen.is_empty() {
        if query.resource_version.is_empty() {
            forbid(FIELD, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if !query.resume.is_empty() {
            forbid(FIELD, "resourceVersionMatch is forbidden when continue is provided");
        }
        if chosen == "Exact" && query.resource_version == "0" {
            forbid(FIELD, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
    }
    if !matches!(chosen, "" | "Exact" | "NotOlderThan") {
        let supported = ["Exact", "NotOlderThan", ""];
        errors.push(FieldError::not_supported(FIELD, &json!(chosen), &supported));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", &errors))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use freewheel_hub_api::kinds;
    use freewheel_hub_objects::Objects;
    use freewheel_hub_objects::clock::{SystemClock, SystemRandom};
    use freewheel_hub_schema::object::{Object, Resource};
    use freewheel_hub_schema::table::Include;
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_link::names::ClusterName;

    use super::*;
    use crate::flow::shares::Sharer;
    use crate::flow::workers::Workers;
    use crate::flow::workers::tests::all_turns;
    use crate::media::{PLAIN, Shape, Wanted};
    use crate::view::View;

    #[track_caller]
    fn check(query: &str, watch: bool, valid: bool) {
        let query = Query::parse(query).unwrap();
        assert_eq!(validate(&query, watch).is_ok(), valid, "{query:?}");
    }

    #[test]
    fn version_matches_are_checked_as_in_apimachinery() {
        check("", false, true);
        check("resourceVersion=5&resourceVersionMatch=Exact", false, true);
        check("resourceVersionMatch=Exact", false, false);
        check("resourceVersion=0&resourceVersionMatch=Exact", false, false);
        check("resourceVersion=5&resourceVersionMatch=Newest", false, false);
        check("sendInitialEvents=true", false, false);
        check("sendInitialEvents=true", true, false);
        check("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", true, true);
        check("resourceVersionMatch=NotOlderThan", true, false);
    }

    #[test]
    fn a_client_from_the_future_is_told_so() {
        let error = too_large(9, 4);
        assert_eq!(error.message, "Timeout: Too large resource version: 9, current: 4");
        assert_eq!(error.to_status()["details"]["retryAfterSeconds"], 1);
    }

    fn encoder(plural: &str, wanted: Wanted) -> Encoder {
        let registry = kinds::registry(&ClusterName::root());
        let group = if plural == "leases" { "coordination.k8s.io" } else { "" };
        let view = View::find(&registry, group, "v1", plural).unwrap();
        Encoder { view, wanted, include: Include::Metadata }
    }

    /// One object of about so many bytes.
    fn item(bytes: usize) -> Arc<Stored> {
        let body = json!({"metadata": {"name": "m"}, "data": {"a": "x".repeat(bytes)}});
        let object = Object::from_value(body, BTreeMap::new()).unwrap();
        let key = Key::new(&Resource::new("", "configmaps"), &ClusterName::root(), "default", "m");
        Arc::new(Stored { key, object, revision: u64::MAX, created: 7 })
    }

    #[test]
    fn a_list_is_no_larger_than_was_thought() {
        let (none, meta) = (Renewal::default(), ListMeta::default());
        for bytes in [0, 100, 10_000] {
            let items = vec![item(bytes); 1_000];
            let bodies = || items.iter().map(|item| item.object.body.len());
            for wanted in [
                PLAIN,
                Wanted { wire: Wire::Json, shape: Shape::Metadata },
                Wanted { wire: Wire::Json, shape: Shape::Table { beta: false } },
                Wanted { wire: Wire::Yaml, shape: Shape::Object },
                Wanted { wire: Wire::Protobuf, shape: Shape::Object },
            ] {
                let encoder = encoder("configmaps", wanted);
                let thought = estimate(&encoder, &none, false, bodies());
                let length = encoder.list(&items, &meta, &none).unwrap().len();
                assert!(length <= thought, "{wanted:?} of {bytes}: {length} and not {thought}");
            }
        }
    }

    #[tokio::test]
    async fn a_long_list_is_made_on_no_thread_that_serves() {
        let wanted = Wanted { wire: Wire::Json, shape: Shape::Table { beta: false } };
        let workers = Workers::default();
        let list = |bytes: usize| {
            let how = (encoder("configmaps", wanted), Renewal::default());
            let meta = ListMeta::default();
            Box::pin(encoded(
                workers.of(Sharer::in_root("three")),
                how,
                vec![item(bytes)],
                meta,
                (),
            ))
        };
        let turns = all_turns(&workers);
        assert!(futures::poll!(list(100)).is_ready());
        let mut long = list(INLINE_LIST_BYTES_MAX);
        assert!(futures::poll!(long.as_mut()).is_pending());
        drop(turns);
        assert!(!long.await.unwrap().0.is_empty());
    }

    #[tokio::test]
    async fn leases_of_connected_nodes_are_renewed_where_their_list_is_made() {
        let store = Arc::new(MemoryStore::new());
        let objects = Objects::with(store, Arc::new(SystemClock), Arc::new(SystemRandom));
        let workers = Workers::default();
        let list = |bytes: usize| {
            let encoder = encoder("leases", PLAIN);
            let renewal = Renewal::of(&encoder.view.stored, "kube-node-lease", &objects);
            let (how, meta) = ((encoder, renewal), ListMeta::default());
            Box::pin(encoded(
                workers.of(Sharer::in_root("three")),
                how,
                vec![item(bytes)],
                meta,
                (),
            ))
        };
        let turns = all_turns(&workers);
        assert!(futures::poll!(list(100)).is_ready());
        let mut long = list(INLINE_LIST_BYTES_MAX);
        assert!(futures::poll!(long.as_mut()).is_pending());
        drop(turns);
        assert!(!long.await.unwrap().0.is_empty());
    }
}
