//! Objects: from a path to its verb, with permission and body, in time   (request_deadline).

mod request_deadline;

use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::selector::FieldSelector;
use http::Response;
use http::header::CONTENT_TYPE;
use parking_lot::Mutex;

use crate::authz::{Attributes, Resource, What};
use crate::body::{self, Body};
use crate::call::Call;
use crate::context::Context;
use crate::flow;
use crate::memory_account::Held;
use crate::path::{Target, verb};
use crate::query::Query;
use crate::request_body::RequestBody;
use crate::tenant::Tenant;
use crate::view::View;
use crate::{
    apply, bind, computed, delete, media, objectless, proxy, read, respond, scale, streaming,
    tokens, usage, watch, write,
};

/// Answers a request for objects.
pub(crate) async fn answer(
    context: &mut Context<'_>,
    tenant: Tenant,
    target: Target<'_>,
) -> Result<Response<Body>, ApiError> {
    if let Some(answer) = objectless::answer(context, &tenant, &target).await {
        return answer;
    }
    let by_name = bind::is_collection(&target);
    let (call, verb) = asked(context, tenant, target).await?;
    let door = (verb, call.subresource.as_str());
    let patience = request_deadline::patience(door, call.query.timeout.as_deref())?;
    if flow::lasts(verb, &call.subresource) {
        let lasting = context.incoming.unread_until(call.hub.last(&call.user)).await?;
        call.check_still()?;
        if let Some(mut before) = context.passage.replace(lasting) {
            *call.initializing.lock() = before.seat();
        }
    }
    if call.subresource == "proxy" && !call.view.served.has(Trait::RunsPods) {
        let body = context.incoming.take();
        let answer = streaming::proxy(&call, (context.method, context.uri), body).await;
        return Ok(finished(context, &call, answer));
    }
    let copies = context.trail.copies();
    let (body, mut held) = body_of(&call, verb, (context.incoming, copies)).await?;
    let wire = media::body_wire(call.header(&CONTENT_TYPE)).ok();
    context.trail.takes(wire, &body, held.as_mut());
    // What waits beside a clock would be there twice.
    let work = Box::pin(async {
        if by_name {
            bind::bind_named(&call, body).await
        } else {
            let _room = call.room_to_write(verb, &body).await?;
            run(&call, verb, body, &mut held).await
        }
    });
    let answer = request_deadline::in_time(patience, work).await;
    let mut answer = finished(context, &call, answer).map(|body| body.keeping(held));
    if let Some(deprecated) = &call.view.served.deprecated {
        respond::warn(&mut answer, &[deprecated.to_string()]);
    }
    Ok(answer)
}

/// The answer, or the failure as its caller is to see it, with what those who have a say in it have said beside.
fn finished(
    context: &mut Context<'_>,
    call: &Call,
    answer: Result<Response<Body>, ApiError>,
) -> Response<Body> {
    // A failure may say much, too, and its reason may be that nobody writes them any more.
    let mut answer = answer
        .unwrap_or_else(|error| respond::failure_in(call.status_wire(), &call.failure(error)));
    call.slot.upgrade.keep(&mut context.passage);
    context.trail.is_noted(&call.notes);
    respond::warn(&mut answer, &call.notes.warnings());
    answer
}

/// What is asked for, by somebody who may.
async fn asked(
    context: &mut Context<'_>,
    tenant: Tenant,
    target: Target<'_>,
) -> Result<(Call, &'static str), ApiError> {
    let by_name = bind::is_collection(&target);
    let plural = if by_name { "pods" } else { target.plural };
    let registry = context.hub.server.objects.kinds().of(&tenant.name);
    let view = View::find(&registry, target.group, target.version, plural)
        .ok_or_else(respond::no_such_path)?;
    let raw_query = context.uri.query().unwrap_or_default().to_owned();
    // What is asked of somebody behind a proxy is theirs to read.
    let own = if target.subresource == Some("proxy") { "" } else { raw_query.as_str() };
    let mut query = Query::parse(own)?;
    query.watch |= target.watch;
    let verb = verb_of(context, &target, &query)?;
    // What is left out at the end must not make it the end of something larger.
    if matches!(verb, "delete" | "deletecollection")
        && target.subresource != Some("proxy")
        && context.uri.path().ends_with('/')
    {
        return Err(respond::no_such_path());
    }
    context.seen.is_for(verb, &view.served, &target, query.is_dry_run());
    context.trail.is_for(&tenant, verb, &target);
    let mut what = Resource::from(&target);
    // A name in the path is what is read, whatever a selector says.
    let named = named(&query, &view, verb).filter(|_| target.name.is_none());
    what.name = named.as_deref().unwrap_or(what.name);
    (what.fields, what.labels) = selectors(&query, &target, verb);
    let (user, cluster, what) = (&*context.user, tenant.cluster(), What::Resource(what));
    let attributes = Attributes { user, verb, cluster, what };
    let allowed = context.trail.check(&context.hub.authorizers, &attributes);
    context.incoming.unread_until(allowed).await?;
    let shaped = by_name.then(|| check_binding_path(&target, verb));
    shaped.unwrap_or_else(|| check_path_shape(&view, &target, verb))?;
    let call = Call {
        hub: context.hub.clone(),
        user: context.user.clone(),
        tenant,
        view,
        namespace: target.namespace.as_deref().unwrap_or_default().into(),
        name: target.name.map(|name| name.into_owned()).unwrap_or_default(),
        subresource: target.subresource.unwrap_or_default().to_owned(),
        rest: target.rest.to_owned(),
        query,
        raw_query,
        headers: std::mem::take(&mut context.headers),
        notes: Arc::default(),
        slot: context.incoming.slot().clone(),
        initializing: Mutex::default(),
    };
    Ok((call, verb))
}

fn verb_of(
    context: &Context<'_>,
    target: &Target<'_>,
    query: &Query,
) -> Result<&'static str, ApiError> {
    verb::of(context.method, target, query).ok_or_else(ApiError::method_not_allowed)
}

/// The selectors that leave a part of a collection, by its fields and by its labels; where a path names an object, that one
/// is meant whatever they say. Of paths that begin with `watch/` they are no part of the question, as at kube-apiserver.
fn selectors<'a>(query: &'a Query, target: &Target<'_>, verb: &str) -> (&'a str, &'a str) {
    let selects = matches!(verb, "list" | "watch" | "deletecollection");
    let all = (&*query.field_selector, &*query.label_selector);
    if selects && target.name.is_none() && !target.watch { all } else { ("", "") }
}

/// The one name that a selector leaves of a collection: who may do it to that object may do it so.
fn named(query: &Query, view: &View, verb: &str) -> Option<String> {
    if !matches!(verb, "list" | "watch" | "deletecollection")
        || !query.field_selector.contains("metadata.name")
    {
        return None;
    }
    let fields = FieldSelector::parse(&query.field_selector, &view.served).ok()?;
    fields.exact("metadata.name").map(str::to_owned)
}

/// The body, and the room for it and for the object that is answered.
async fn body_of(
    call: &Call,
    verb: &str,
    (incoming, copies): (&mut RequestBody, usize),
) -> Result<(bytes::Bytes, Option<Held>), ApiError> {
    let reads = matches!(verb, "get" | "list" | "watch");
    let comes = if reads { 0 } else { body::declared(incoming) };
    let flows = verb == "watch" || matches!(call.subresource.as_str(), "log" | "proxy");
    let answered = if flows || call.name.is_empty() {
        0
    } else {
        // It may be another encoding's, or there in two.
        call.hub.server.objects.get(&call.object_ref()).map_or(0, |it| 2 * it.object.body.len())
    };
    let room = call.slot.backlog.hold(copies * comes + answered);
    let mut held = incoming.unread_until(room).await?;
    let body = if reads {
        bytes::Bytes::new()
    } else {
        let _comes = call.slot.backlog.account.coming(comes);
        body::read(incoming).await?
    };
    // Of one whose length nobody told it was as much as may come.
    if let Some(held) = &mut held {
        held.shrink(copies * body.len() + answered);
    }
    if !reads || held.is_some() {
        // It may have taken minutes.
        call.check_still()?;
    }
    Ok((body, held))
}

/// Whether the kind has such a path, and the path such a verb.
fn check_path_shape(view: &View, target: &Target<'_>, verb: &str) -> Result<(), ApiError> {
    let kind = &view.served;
    let in_namespace = target.namespace.is_some();
    if in_namespace != kind.namespaced && (in_namespace || target.name.is_some()) {
        return Err(respond::no_such_path());
    }
    let Some(subresource) = target.subresource else {
        let collection = matches!(verb, "create" | "list" | "deletecollection");
        let allowed = kind.verbs.contains(&verb)
            && (verb == "watch" || collection != target.name.is_some())
            && (in_namespace || !kind.namespaced || matches!(verb, "list" | "watch"));
        return if allowed { Ok(()) } else { Err(ApiError::method_not_allowed()) };
    };
    if kind.lacks.contains(&subresource) {
        let plural = kind.plural();
        let message = format!(
            "{plural}/{subresource} is not served yet: this hub serves log, portforward and proxy"
        );
        return Err(respond::generic(501, "NotImplemented", &message));
    }
    let known = kind.subresource_named(subresource);
    let known = known.ok_or_else(respond::no_such_path)?;
    if known.verbs.contains(&verb) { Ok(()) } else { Err(ApiError::method_not_allowed()) }
}

/// Bindings are made, in a namespace, and never seen again.
fn check_binding_path(target: &Target<'_>, verb: &str) -> Result<(), ApiError> {
    if target.subresource.is_some() || target.watch {
        return Err(respond::no_such_path());
    }
    let made = verb == "create" && target.namespace.is_some() && target.name.is_none();
    if made { Ok(()) } else { Err(ApiError::method_not_allowed()) }
}

/// Does it. What is held for it goes along with what is done elsewhere meanwhile.
async fn run(
    call: &Call,
    verb: &str,
    body: bytes::Bytes,
    held: &mut Option<Held>,
) -> Result<Response<Body>, ApiError> {
    if let Some(objects) = computed::objects(call) {
        // Nothing else is done with them.
        return if verb == "list" {
            computed::list(call, objects).await
        } else {
            computed::get(call, objects).await
        };
    }
    match (call.subresource.as_str(), verb) {
        ("scale", "get") => scale::get(call).await,
        ("scale", "update") => scale::update(call, body).await,
        ("scale", "patch") => scale::patch(call, body).await,
        ("log", "get") => streaming::log(call).await,
        ("proxy", "get") => proxy::get(call).await,
        ("proxy", _) => Err(ApiError::method_not_allowed()),
        ("attach", "get" | "create") => streaming::attach(call).await,
        ("exec", "get" | "create") => streaming::exec(call).await,
        ("portforward", "get" | "create") => streaming::port_forward(call).await,
        ("binding", "create") => bind::bind(call, body).await,
        ("token", "create") => tokens::create(call, body).await,
        ("eviction", "create") => delete::evict(call, body).await,
        ("", "get") if usage::is_asked(call) => usage::get(call, held.take()).await,
        ("", "list") if usage::is_asked(call) => usage::list(call).await,
        (_, "get") => read::get(call, held.take()).await,
        ("", "list") => read::list(call).await,
        ("", "watch") => watch::watch(call).await,
        ("", "create") => write::create(call, body).await,
        (_, "update") => write::update(call, body).await,
        (_, "patch") if apply::is_apply(call) => apply::apply(call, &body).await,
        (_, "patch") => write::patch(call, body).await,
        ("", "delete") => delete::delete(call, body).await,
        ("", "deletecollection") => delete::collection(call, body).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}
