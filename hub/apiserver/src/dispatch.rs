//! From a request to what answers it: caller, logical cluster, path, permission.

use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use http::header::ACCEPT;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use tracing::debug;

use crate::authn::{self, Proven, Shown};
use crate::authz::{Attributes, What};
use crate::body::Body;
use crate::context::{Context, Hub};
use crate::flow::Flow;
use crate::path::{self, Route};
use crate::request_body::RequestBody;
use crate::request_metrics::Seen;
use crate::tenant::Tenant;
use crate::trail::Trail;
use crate::{describe, impersonate, media, registry, resource, respond};

/// Answers a request, whatever it is.
pub(crate) async fn handle(
    hub: Arc<Hub>,
    proven: Option<Proven>,
    request: Request<RequestBody>,
    (seen, trail): (&mut Seen, &Trail),
) -> Response<Body> {
    // A connection lives on when the certificate that it began with has ended.
    let now = hub.server.objects.clock().unix_seconds();
    let shown = Shown { certificate: proven.as_ref(), headers: request.headers() };
    let user = match hub.authenticators.user(&shown, now).await {
        Ok(user) => user,
        Err(error) => return respond::failure(&error),
    };
    trail.is_by(&user);
    if registry::has(request.uri().path())
        && let Some(extra) = &hub.server.extra
        && impersonate::asked(request.headers()).is_none()
    {
        seen.is_at("/v2");
        return match hub.pass(&user, Flow::of(request.method())).await {
            Ok(passage) => {
                let answer = registry::answer(extra, &hub, user, request).await;
                answer.map(|body| body.passing(Some(passage)))
            }
            Err(error) => respond::failure(&error),
        };
    }
    let (Parts { method, uri, headers, .. }, mut incoming) = request.into_parts();
    let accept = headers.get(ACCEPT).cloned();
    let (incoming, method, uri) = (&mut incoming, &method, &uri);
    let passage = None;
    let mut context = Context { hub, user, method, uri, headers, incoming, seen, trail, passage };
    let response = match answer(&mut context).await {
        Ok(response) => response,
        Err(error) => {
            let accept = accept.as_ref().and_then(|accept| accept.to_str().ok());
            respond::failure_in(media::status_wire(accept), &error)
        }
    };
    let passage = context.passage.take();
    debug!(query = uri.query(), code = response.status().as_u16(), "answered");
    // Of health, which has no passage, it is an answer.
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR && passage.is_some() {
        trail.failed(&context.user, method, uri.path());
    }
    response.map(|body| body.passing(passage))
}

async fn answer(context: &mut Context<'_>) -> Result<Response<Body>, ApiError> {
    impersonate::refuse(&context.hub.authorizers, &context.user, &context.headers).await?;
    let (cluster, path) = path::cluster(context.uri.path());
    let route = path::route(path);
    context.seen.is_for_path(&route);
    // A stranger hears nothing of what there is or is not, clusters included.
    if context.user.is_stranger() {
        if cluster.is_some() {
            return Err(authn::unauthorized());
        }
        check_path(context, &Tenant::root(), path).await?;
    }
    if !matches!(route, Route::Health { .. }) {
        let flow = Flow::of(context.method);
        context.passage = Some(context.hub.pass(&context.user, flow).await?);
    }
    let tenant = match Tenant::find(&*context.hub.server.objects.store().snapshot(), cluster) {
        // The same in every cluster. kubectl asks for these first and drops the message of a refusal, so the
        // missing cluster is told where it is heard: with the first object.
        Err(_) if route.describes_the_api() => Tenant::any()?,
        found => found?,
    };
    match route {
        Route::Resource(target) => resource::answer(context, tenant, target).await,
        route => {
            check_path(context, &tenant, path).await?;
            describe::answer(context, &tenant, route).await
        }
    }
}

/// Whether the caller may do this to a path that is no resource.
async fn check_path(context: &Context<'_>, tenant: &Tenant, path: &str) -> Result<(), ApiError> {
    let (user, verb) = (&*context.user, context.method.as_str().to_ascii_lowercase());
    let (cluster, what) = (tenant.cluster(), What::Path(path));
    context.hub.authorizers.check(&Attributes { user, verb: &verb, cluster, what }).await
}
