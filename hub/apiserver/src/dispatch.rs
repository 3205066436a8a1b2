//! From a request to its verb: caller, logical cluster, path, permission, body.

use std::sync::Arc;

use freewheel_hub_api::KUBERNETES_VERSION;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::registry::Registry;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, Uri};
use serde_json::json;
use tracing::debug;

use crate::account::Held;
use crate::authn::{self, Proven, Shown, User};
use crate::authz::{Attributes, Cluster, Resource, What};
use crate::body::{self, Body};
use crate::call::Call;
use crate::discovery::{self, Aggregated};
use crate::flow::{self, Flow, Passage};
use crate::media::Shape;
use crate::meters::Seen;
use crate::openapi::Asks;
use crate::path::{self, Route, Target};
use crate::query::Query;
use crate::received::Received;
use crate::server::Hub;
use crate::tenant::Tenant;
use crate::unsent::Unsent;
use crate::view::View;
use crate::{
    bind, health, impersonate, log, media, openapi, read, registry, remove, respond, review, scale,
    watch, write,
};

/// [`KUBERNETES_VERSION`] in parts.
const VERSION: (&str, &str) = ("1", "36");

/// Answers a request, whatever it is.
pub(crate) async fn handle(
    hub: Arc<Hub>,
    proven: Option<Proven>,
    request: Request<Received>,
    seen: &mut Seen,
) -> Response<Body> {
    // A connection lives on when the certificate that it began with has ended.
    let now = hub.server.objects.clock().unix_seconds();
    let shown = Shown { certificate: proven.as_ref(), headers: request.headers() };
    let user = match hub.authenticators.user(&shown, now).await {
        Ok(user) => user,
        Err(error) => return respond::failure(&error),
    };
    if registry::has(request.uri().path())
        && let Some(extra) = &hub.server.extra
        && impersonate::asked(request.headers()).is_none()
    {
        seen.is_at("/v2");
        let passage = pass(&hub, &user, Flow::of(request.method())).await;
        return match passage {
            Ok(passage) => {
                let answer = registry::answer(extra, &hub, user, request).await;
                answer.map(|body| body.passing(Some(passage)))
            }
            Err(error) => respond::failure(&error),
        };
    }
    let line = tracing::enabled!(tracing::Level::DEBUG)
        .then(|| (request.method().clone(), request.uri().clone()));
    let (Parts { method, uri, headers, .. }, mut incoming) = request.into_parts();
    let head = Head { method: &method, uri: &uri };
    let accept = headers.get(ACCEPT).cloned();
    let response = match answer(hub, user, head, headers, (&mut incoming, seen)).await {
        Ok(response) => response,
        Err(error) => {
            let accept = accept.as_ref().and_then(|accept| accept.to_str().ok());
            respond::failure_in(media::status_wire(accept), &error)
        }
    };
    if let Some((method, uri)) = line {
        debug!(%method, %uri, code = response.status().as_u16(), "answered");
    }
    response
}

/// The request's first line.
#[derive(Clone, Copy)]
struct Head<'a> {
    method: &'a Method,
    uri: &'a Uri,
}

async fn answer(
    hub: Arc<Hub>,
    user: Arc<User>,
    request: Head<'_>,
    headers: HeaderMap,
    (incoming, seen): (&mut Received, &mut Seen),
) -> Result<Response<Body>, ApiError> {
    impersonate::refuse(&hub.authorizers, &user, &headers).await?;
    let (cluster, path) = path::cluster(request.uri.path());
    let query = request.uri.query().unwrap_or_default();
    let route = path::route(path);
    seen.is_for_path(&route);
    let verb = || request.method.as_str().to_ascii_lowercase();
    // A stranger hears nothing of what there is or is not, clusters included.
    if user.is_stranger() {
        if cluster.is_some() {
            return Err(authn::unauthorized());
        }
        check_path(&hub, &user, Tenant::root().cluster(), (&verb(), path)).await?;
    }
    let mut passage = match route {
        Route::Health { .. } => None,
        _ => Some(pass(&hub, &user, Flow::of(request.method)).await?),
    };
    let tenant = match Tenant::find(&*hub.server.objects.store().snapshot(), cluster) {
        // The same in every cluster. kubectl asks for these first and drops the message of a refusal, so the
        // missing cluster is told where it is heard: with the first object.
        Err(_) if route.describes_the_api() => Tenant::any()?,
        found => found?,
    };
    let answer = match route {
        Route::Resource(target) => {
            let incoming = (incoming, seen, &mut passage);
            resource(hub, user, tenant, target, (request, headers), incoming).await
        }
        route => {
            check_path(&hub, &user, tenant.cluster(), (&verb(), path)).await?;
            if route == Route::Unknown {
                return Err(respond::no_such_path());
            }
            if !matches!(*request.method, Method::GET | Method::HEAD) {
                return Err(respond::method_not_allowed());
            }
            // Of the whole hub, so for nobody whose rights end at a cluster.
            if matches!(route, Route::Metrics) && tenant.name.is_root() {
                let seat = incoming.seat().clone();
                let figures = figures(&hub, &headers, &seat.unsent).await;
                return figures.map(|answer| answer.map(|body| body.passing(passage)));
            }
            let registry = hub.server.objects.kinds().of(&tenant.name);
            let unsent = &incoming.seat().clone().unsent;
            describe(&hub, registry, route, (request, &headers), unsent).await
        }
    };
    answer.map(|answer| answer.map(|body| body.passing(passage)))
}

/// Waits for a passage, at whose end the caller may be known no more.
async fn pass(hub: &Hub, user: &User, flow: Flow) -> Result<Passage, ApiError> {
    let passage = hub.flows.pass(user, flow).await?;
    if user.has_ended(hub.server.objects.clock().unix_seconds()) {
        return Err(authn::unauthorized());
    }
    Ok(passage)
}

fn version() -> Response<Body> {
    let (major, minor) = VERSION;
    respond::json(
        200,
        &json!({
            "major": major, "minor": minor, "emulationMajor": major, "emulationMinor": minor,
            "minCompatibilityMajor": major, "minCompatibilityMinor": "35",
            "gitVersion": format!("{KUBERNETES_VERSION}+freewheel-{}", env!("CARGO_PKG_VERSION")),
            "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "none", "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        }),
    )
}

/// About the bytes of all figures.
const FIGURES: usize = 256 << 10;

/// What the hub counts. Objects are counted for it, which is no work for a thread that serves everybody.
async fn figures(
    hub: &Hub,
    headers: &HeaderMap,
    unsent: &Unsent,
) -> Result<Response<Body>, ApiError> {
    let held = unsent.hold(FIGURES).await?;
    let metrics = hub.server.metrics.clone();
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = media::metrics(accept.unwrap_or_default());
    let text = tokio::task::spawn_blocking(move || metrics.text(format)).await;
    let text = text.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
    let gzip = respond::takes_gzip(headers);
    Ok(respond::compressed(200, format.content_type(), text.into(), gzip, held).await)
}

/// Discovery and schemas.
async fn describe(
    hub: &Hub,
    registry: Registry,
    route: Route<'_>,
    (request, headers): (Head<'_>, &HeaderMap),
    unsent: &Unsent,
) -> Result<Response<Body>, ApiError> {
    // Before it is made: a thousand who wait are to hold nothing.
    let held = match &route {
        Route::OpenApiV3(document) if !document.is_empty() => None,
        Route::OpenApiV2 => None,
        route if route.describes_the_api() || *route == Route::Index => {
            unsent.hold(discovery::estimate(&registry)).await?
        }
        _ => None,
    };
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let query = request.uri.query().unwrap_or_default();
    let aggregated = Aggregated::wanted(header(ACCEPT));
    let found = |document: Option<bytes::Bytes>| {
        let answer = document.map(|bytes| respond::whole(200, media::JSON, bytes));
        answer.ok_or_else(respond::no_such_path)
    };
    let gzip = respond::takes_gzip(headers);
    let asks = Asks { packed: &hub.packed, unsent, gzip };
    let answer = match (route, aggregated) {
        (Route::CoreVersions | Route::Groups, Some(form)) => {
            let core =
                matches!(path::route(path::cluster(request.uri.path()).1), Route::CoreVersions);
            let bytes = discovery::aggregated(&registry, core, form);
            return Ok(respond::compressed(200, form.content_type(), bytes, gzip, held).await);
        }
        (Route::Index, _) => found(Some(discovery::paths(&registry))),
        (Route::CoreVersions, None) => {
            let host = request.uri.authority().map(|a| a.as_str()).or_else(|| header(HOST));
            found(Some(discovery::core_versions(host.unwrap_or_default())))
        }
        (Route::Groups, None) => found(Some(discovery::groups(&registry))),
        (Route::Group(name), _) => found(discovery::group(&registry, name)),
        (Route::Resources { group, version }, _) => {
            found(discovery::resources(&registry, group, version))
        }
        (Route::OpenApiV3(document), _) => {
            let prefix = path::cluster(request.uri.path()).0;
            let prefix = prefix.map(|name| format!("/clusters/{name}")).unwrap_or_default();
            openapi::answer(registry, &prefix, document, query, asks).await
        }
        (Route::OpenApiV2, _) => openapi::answer_v2(registry, header(ACCEPT), asks).await,
        (Route::Version, _) => Ok(version()),
        (Route::Health { probe, check }, _) => {
            Ok(health::answer(probe, check, query, &hub.server.checks))
        }
        (Route::Unknown | Route::Metrics | Route::Resource(_), _) => Err(respond::no_such_path()),
    };
    answer.map(|response| response.map(|body| body.keeping(held)))
}

async fn resource(
    hub: Arc<Hub>,
    user: Arc<User>,
    tenant: Tenant,
    target: Target<'_>,
    (request, headers): (Head<'_>, HeaderMap),
    (incoming, seen, passage): (&mut Received, &mut Seen, &mut Option<Passage>),
) -> Result<Response<Body>, ApiError> {
    if review::is_review(target.group, target.version, target.plural) {
        seen.is_for_objectless(&target);
        let asked = attributes(&user, &tenant, "create", &target);
        return self_review(&hub, &asked, &target, request, &headers, incoming).await;
    }
    if is_list_of_definitions(request, &target) {
        seen.is_for_objectless(&target);
        return no_definitions(&hub, &attributes(&user, &tenant, "list", &target)).await;
    }
    let by_name = bind::is_collection(&target);
    let plural = if by_name { "pods" } else { target.plural };
    let registry = hub.server.objects.kinds().of(&tenant.name);
    let view = View::find(&registry, target.group, target.version, plural)
        .ok_or_else(respond::no_such_path)?;
    let raw_query = request.uri.query().unwrap_or_default().to_owned();
    let mut query = Query::parse(&raw_query)?;
    query.watch |= target.watch;
    let verb = verb(request.method, &target, &query)?;
    // What is left out at the end must not make it the end of something larger.
    if matches!(verb, "delete" | "deletecollection") && request.uri.path().ends_with('/') {
        return Err(respond::no_such_path());
    }
    seen.is_for(verb, &view.served, &target, query.is_dry_run());
    hub.authorizers.check(&attributes(&user, &tenant, verb, &target)).await?;
    if by_name {
        check_binding_path(&target, verb)?;
    } else {
        check_path_shape(&view, &target, verb)?;
    }
    let call = Call {
        hub,
        user,
        tenant,
        view,
        namespace: target.namespace.as_deref().unwrap_or_default().into(),
        name: target.name.map(|name| name.into_owned()).unwrap_or_default(),
        subresource: target.subresource.unwrap_or_default().to_owned(),
        query,
        raw_query,
        headers,
        seat: incoming.seat().clone(),
    };
    if flow::lasts(verb, &call.subresource) {
        *passage = Some(pass(&call.hub, &call.user, Flow::Lasting).await?);
        call.check_still()?;
    }
    let (body, mut held) = body_of(&call, verb, incoming).await?;
    if by_name {
        return bind::bind_named(call, body).await;
    }
    let answer = run(&call, verb, body, &mut held).await.map_err(|error| call.failure(error));
    // A failure may say much, too, and its reason may be that nobody writes them any more.
    let answer = answer.unwrap_or_else(|error| respond::failure_in(call.status_wire(), &error));
    let mut answer = answer.map(|body| body.keeping(held));
    if let Some(deprecated) = call.view.served.deprecated {
        respond::warn(&mut answer, &[deprecated.to_owned()]);
    }
    Ok(answer)
}

/// What somebody asks to do.
fn attributes<'a>(
    user: &'a User,
    tenant: &'a Tenant,
    verb: &'a str,
    target: &'a Target<'_>,
) -> Attributes<'a> {
    let what = What::Resource(Resource {
        group: target.group,
        plural: target.plural,
        subresource: target.subresource.unwrap_or_default(),
        namespace: target.namespace.as_deref().unwrap_or_default(),
        name: target.name.as_deref().unwrap_or_default(),
    });
    Attributes { user, verb, cluster: tenant.cluster(), what }
}

/// Whether somebody may do this to a path that is no resource.
async fn check_path(
    hub: &Hub,
    user: &User,
    cluster: Cluster<'_>,
    (verb, path): (&str, &str),
) -> Result<(), ApiError> {
    let what = What::Path(path);
    hub.authorizers.check(&Attributes { user, verb, cluster, what }).await
}

/// The body, and the room for it and for the object that is answered.
async fn body_of(
    call: &Call,
    verb: &str,
    incoming: &mut Received,
) -> Result<(bytes::Bytes, Option<Held>), ApiError> {
    let reads = matches!(verb, "get" | "list" | "watch");
    let comes = if reads { 0 } else { body::declared(incoming) };
    let answered = match (call.subresource.as_str(), verb) {
        ("log", _) | (_, "watch") => 0,
        _ if call.name.is_empty() => 0,
        // It may be another encoding's, or there in two.
        _ => call.hub.server.objects.get(&call.place()).map_or(0, |it| 2 * it.object.body.len()),
    };
    let held = call.seat.unsent.hold(comes + answered).await?;
    let body = if reads {
        bytes::Bytes::new()
    } else {
        let _comes = call.seat.unsent.account.coming(comes);
        body::read(incoming).await?
    };
    if !reads || held.is_some() {
        // It may have taken minutes.
        call.check_still()?;
    }
    Ok((body, held))
}

/// Whether somebody asks which custom resources there are: kubectl does when it meets a kind that no
/// schema knows, and gives up on any other answer than a list.
fn is_list_of_definitions(request: Head<'_>, target: &Target<'_>) -> bool {
    let mut query = crate::query::pairs(request.uri.query().unwrap_or_default());
    *request.method == Method::GET
        && (target.group, target.version) == ("apiextensions.k8s.io", "v1")
        && target.plural == "customresourcedefinitions"
        && target.namespace.is_none()
        && target.name.is_none()
        && !target.watch
        && !query.any(|(name, _)| name == "watch")
}

/// None: custom resources are not served.
async fn no_definitions(hub: &Hub, asked: &Attributes<'_>) -> Result<Response<Body>, ApiError> {
    hub.authorizers.check(asked).await?;
    let revision = hub.server.objects.store().snapshot().revision().to_string();
    Ok(respond::json(
        200,
        &json!({
            "kind": "CustomResourceDefinitionList", "apiVersion": "apiextensions.k8s.io/v1",
            "metadata": {"resourceVersion": revision}, "items": [],
        }),
    ))
}

async fn self_review(
    hub: &Hub,
    asked: &Attributes<'_>,
    target: &Target<'_>,
    request: Head<'_>,
    headers: &HeaderMap,
    incoming: &mut Received,
) -> Result<Response<Body>, ApiError> {
    if *request.method != Method::POST || target.name.is_some() {
        return Err(respond::method_not_allowed());
    }
    hub.authorizers.check(asked).await?;
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // An answer to a question has no columns.
    let out = media::negotiate(header(ACCEPT), |wanted| wanted.shape == Shape::Object)?;
    let wires = (media::body_wire(header(CONTENT_TYPE))?, out.wire);
    let (seat, comes) = (incoming.seat().clone(), body::declared(incoming));
    let _held = seat.unsent.hold(comes).await?;
    let _comes = seat.unsent.account.coming(comes);
    let body = body::read(incoming).await?;
    let review = (target.group, target.version, target.plural);
    let asks = (&hub.authorizers, asked.user, asked.cluster);
    let answer = review::answer(asks, review, wires, body).await;
    answer.unwrap_or_else(|| Err(respond::no_such_path()))
}

fn verb(method: &Method, target: &Target<'_>, query: &Query) -> Result<&'static str, ApiError> {
    let named = target.name.is_some();
    Ok(match *method {
        Method::GET | Method::HEAD if target.watch => "watch",
        _ if target.watch => return Err(respond::method_not_allowed()),
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD if query.watch => "watch",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => return Err(respond::method_not_allowed()),
    })
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
        return if allowed { Ok(()) } else { Err(respond::method_not_allowed()) };
    };
    if kind.lacks.contains(&subresource) {
        let plural = kind.plural();
        let message =
            format!("{plural}/{subresource} is not served yet: this hub serves {plural}/log");
        return Err(respond::generic(501, "NotImplemented", &message));
    }
    let known = kind.subresource_named(subresource);
    let known = known.ok_or_else(respond::no_such_path)?;
    if known.verbs.contains(&verb) { Ok(()) } else { Err(respond::method_not_allowed()) }
}

/// Bindings are made, in a namespace, and never seen again.
fn check_binding_path(target: &Target<'_>, verb: &str) -> Result<(), ApiError> {
    if target.subresource.is_some() || target.watch {
        return Err(respond::no_such_path());
    }
    let made = verb == "create" && target.namespace.is_some() && target.name.is_none();
    if made { Ok(()) } else { Err(respond::method_not_allowed()) }
}

/// Does it. What is held for it goes along with what is done elsewhere meanwhile.
async fn run(
    call: &Call,
    verb: &str,
    body: bytes::Bytes,
    held: &mut Option<Held>,
) -> Result<Response<Body>, ApiError> {
    match (call.subresource.as_str(), verb) {
        ("scale", "get") => scale::get(call),
        ("scale", "update") => scale::update(call, body).await,
        ("scale", "patch") => scale::patch(call, body).await,
        ("log", "get") => log::log(call).await,
        ("binding", "create") => bind::bind(call, body).await,
        ("eviction", "create") => remove::evict(call, body).await,
        (_, "get") => read::get(call, held.take()).await,
        ("", "list") => read::list(call).await,
        ("", "watch") => watch::watch(call).await,
        ("", "create") => write::create(call, body).await,
        (_, "update") => write::update(call, body).await,
        (_, "patch") => write::patch(call, body).await,
        ("", "delete") => remove::delete(call, body).await,
        ("", "deletecollection") => remove::collection(call, body).await,
        _ => Err(respond::method_not_allowed()),
    }
}
