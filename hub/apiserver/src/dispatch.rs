//! From a request to what answers it: logical cluster, caller, path, permission.

use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use tracing::debug;

use crate::authn::impersonate;
use crate::authn::{self, Proven, Shown, User};
use crate::authz::{self, Attributes, Resource, What};
use crate::body::Body;
use crate::context::{Context, Extra, Hub};
use crate::flow;
use crate::flow::asked::Asked;
use crate::flow::shares::Sharer;
use crate::path::{self, Route, verb};
use crate::query::Query;
use crate::request_body::RequestBody;
use crate::request_metrics::Seen;
use crate::tenant::Tenant;
use crate::trail::Trail;
use crate::{describe, media, registry, resource, respond};

/// In an answer's extensions: who has shown by a token who they are. Their connection is no stranger's any more.
#[derive(Clone)]
pub(crate) struct KnownBy(pub(crate) Arc<User>);

/// Answers a request, whatever it is.
pub(crate) async fn handle(
    hub: Arc<Hub>,
    proven: Option<Proven>,
    mut request: Request<RequestBody>,
    (seen, trail): (&mut Seen, &mut Trail),
) -> Response<Body> {
    let (cluster, _) = path::cluster(request.uri().path());
    let tenant = Tenant::find(&*hub.server.objects.store().snapshot(), cluster);
    let known = caller(&hub, proven.as_ref(), tenant.as_ref().ok(), request.headers());
    let known = request.body().unread_until(known).await;
    let user = match known {
        Ok(user) => user,
        Err(error) => {
            trail.begin(hub.auditing.as_ref(), &mut request, None).await;
            return respond::failure(&error);
        }
    };
    trail.is_by(&user);
    trail.begin(hub.auditing.as_ref(), &mut request, Some(&user)).await;
    // Who shows a token sits on a connection that was a stranger's until then.
    let known_by = (proven.is_none() && !user.is_stranger()).then(|| KnownBy(user.clone()));
    if registry::has(request.uri().path())
        && let Some(extra) = &hub.server.extra
        && !impersonate::is_asked(request.headers())
    {
        seen.is_at("/v2");
        return of_registry(&hub, extra, user, request).await;
    }
    let (Parts { method, uri, headers, .. }, mut incoming) = request.into_parts();
    let accept = headers.get(ACCEPT).cloned();
    let (incoming, method, uri) = (&mut incoming, &method, &uri);
    let (passage, class) = (None, None);
    let mut context =
        Context { hub, user, method, uri, headers, incoming, seen, trail, passage, class };
    let mut response = match answer(&mut context, tenant).await {
        Ok(response) => response,
        Err(error) => {
            let accept = accept.as_ref().and_then(|accept| accept.to_str().ok());
            respond::failure_in(media::status_wire(accept), &error)
        }
    };
    let passage = context.passage.take();
    if let Some(class) = &context.class {
        flow::set_headers(class, response.headers_mut());
    }
    debug!(query = uri.query(), code = response.status().as_u16(), "answered");
    // Of health, which has no passage, it is an answer.
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR && passage.is_some() {
        log_failure(&context);
    }
    if let Some(known_by) = known_by {
        response.extensions_mut().insert(known_by);
    }
    response.map(|body| body.passing(passage))
}

/// Logs that a request has failed for a reason that is the hub's, where few of its cluster's have.
fn log_failure(context: &Context<'_>) {
    let user = &*context.user;
    if let Some(unlogged) = context.hub.failures.count(Sharer::from(user).home()) {
        context.trail.failed(user, (context.method, context.uri.path()), unlogged);
    }
}

async fn of_registry(
    hub: &Arc<Hub>,
    extra: &Extra,
    user: Arc<User>,
    request: Request<RequestBody>,
) -> Response<Body> {
    let (root, path) = (Tenant::root(), request.uri().path().to_owned());
    let asked = Asked::of_path(request.method(), &path);
    let class = hub.classify(&root, &asked, &user);
    let passage = request.body().unread_until(hub.pass(&root, &asked, (&*user, &class))).await;
    let mut answer = match passage {
        Ok(passage) => {
            let answer = registry::answer(extra, hub, user, request).await;
            answer.map(|body| body.passing(Some(passage)))
        }
        Err(error) => respond::failure(&error),
    };
    flow::set_headers(&class, answer.headers_mut());
    answer
}

/// Who asks.
async fn caller(
    hub: &Hub,
    proven: Option<&Proven>,
    tenant: Option<&Tenant>,
    headers: &HeaderMap,
) -> Result<Arc<User>, ApiError> {
    // A connection lives on when the certificate that it began with has ended.
    let now = hub.server.objects.clock().unix_seconds();
    let cluster = tenant.map(Tenant::cluster);
    hub.authenticators.user(&Shown { certificate: proven, headers, cluster }, now).await
}

async fn answer(
    context: &mut Context<'_>,
    tenant: Result<Tenant, ApiError>,
) -> Result<Response<Body>, ApiError> {
    let (cluster, path) = path::cluster(context.uri.path());
    let route = path::route(path);
    context.seen.is_for_path(&route);
    run_as_somebody_else(context, tenant.as_ref().ok()).await?;
    check_door(context, cluster, tenant.as_ref().ok(), (path, &route)).await?;
    if !matches!(route, Route::Health { .. }) {
        pass(context, tenant.as_ref().ok(), (path, &route)).await?;
    }
    let tenant = match tenant {
        // The same in every cluster. kubectl asks for these first and drops the message of a refusal, so the
        // missing cluster is told where it is heard: with the first object.
        Err(_) if route.describes_the_api() || context.user.is_stranger() => Tenant::any()?,
        // It may have been long.
        found => {
            let found = found?;
            found.check(&*context.hub.server.objects.store().snapshot())?;
            found
        }
    };
    match route {
        Route::Resource(target) => resource::answer(context, tenant, target).await,
        route => {
            // Strangers were looked at by the door.
            if !context.user.is_stranger() {
                check_path(context, &tenant, path).await?;
            }
            describe::answer(context, &tenant, route).await
        }
    }
}

/// Waits for the request's turn among those of its cluster; what is for one that is not there is the root's.
async fn pass(
    context: &mut Context<'_>,
    tenant: Option<&Tenant>,
    (path, route): (&str, &Route<'_>),
) -> Result<(), ApiError> {
    let (root, hub, user) = (Tenant::root(), &context.hub, &context.user);
    let tenant = tenant.unwrap_or(&root);
    let asked = Asked::of(context.method, context.uri, path, route);
    let passage = if asked.is_session() {
        context.incoming.unread_until(hub.flows.enter(&tenant.name, user)).await?
    } else {
        let class = context.class.insert(hub.classify(tenant, &asked, user));
        context.incoming.unread_until(hub.pass(tenant, &asked, (&**user, &*class))).await?
    };
    context.passage = Some(passage);
    Ok(())
}

/// The request goes on as whom it asks to be, where its caller may be that.
async fn run_as_somebody_else(
    context: &mut Context<'_>,
    tenant: Option<&Tenant>,
) -> Result<(), ApiError> {
    if !impersonate::is_asked(&context.headers) {
        return Ok(());
    }
    let any = Tenant::any()?;
    let cluster = tenant.unwrap_or(&any).cluster();
    let (hub, caller) = (&context.hub, &context.user);
    if caller.is_stranger() {
        return Err(authn::unauthorized());
    }
    let other = impersonate::run_as(&hub.authorizers, caller, cluster, &context.headers);
    let other = context.incoming.unread_until(other).await?;
    debug!(caller = caller.name, user = other.name, "runs as somebody else");
    context.trail.runs_as(&other);
    context.user = Arc::new(other);
    Ok(())
}

/// Nobody hears of a cluster, not even whether there is one, who is let into another one alone; and a stranger hears
/// nothing of what there is or is not, clusters included, but by a right that was given to all.
async fn check_door(
    context: &mut Context<'_>,
    cluster: Option<&str>,
    tenant: Option<&Tenant>,
    (path, route): (&str, &Route<'_>),
) -> Result<(), ApiError> {
    let (root, user) = (Tenant::root(), &context.user);
    if !authz::may_ask_for(user, cluster.unwrap_or(root.name.as_str())) {
        let verb = context.method.as_str().to_ascii_lowercase();
        let what = What::Path(context.uri.path());
        let asked = Attributes { user, verb: &verb, cluster: root.cluster(), what };
        return Err(authz::forbidden(&asked, "this certificate is for another cluster"));
    }
    if user.is_stranger() { check_stranger(context, tenant, (path, route)).await } else { Ok(()) }
}

/// A cluster that is not there answers as one does to which nobody has given any right: by what the root gives to all.
async fn check_stranger(
    context: &mut Context<'_>,
    tenant: Option<&Tenant>,
    (path, route): (&str, &Route<'_>),
) -> Result<(), ApiError> {
    let root = Tenant::root();
    let place = tenant.unwrap_or(&root);
    let Route::Resource(target) = route else {
        check_path(context, place, path).await?;
        let same = matches!(route, Route::Version | Route::Health { .. });
        return match tenant {
            None if !same && !route.describes_the_api() => Err(path_refused(context, path)),
            None | Some(_) => Ok(()),
        };
    };
    let query = Query::parse(context.uri.query().unwrap_or_default())?;
    let verb = verb::of(context.method, target, &query);
    let verb = verb.ok_or_else(ApiError::method_not_allowed)?;
    let what = What::Resource(Resource::from(target));
    let asked = Attributes { user: &context.user, verb, cluster: place.cluster(), what };
    if tenant.is_none() {
        return Err(authz::forbidden(&asked, ""));
    }
    let allowed = context.trail.check(&context.hub.authorizers, &asked);
    context.incoming.unread_until(allowed).await
}

fn path_refused(context: &Context<'_>, path: &str) -> ApiError {
    let verb = context.method.as_str().to_ascii_lowercase();
    let (root, what) = (Tenant::root(), What::Path(path));
    let asked = Attributes { user: &context.user, verb: &verb, cluster: root.cluster(), what };
    authz::forbidden(&asked, "")
}

/// Whether the caller may do this to a path that is no resource.
async fn check_path(
    context: &mut Context<'_>,
    tenant: &Tenant,
    path: &str,
) -> Result<(), ApiError> {
    let (user, verb) = (&*context.user, context.method.as_str().to_ascii_lowercase());
    let (cluster, what) = (tenant.cluster(), What::Path(path));
    let asked = Attributes { user, verb: &verb, cluster, what };
    let allowed = context.trail.check(&context.hub.authorizers, &asked);
    context.incoming.unread_until(allowed).await
}
