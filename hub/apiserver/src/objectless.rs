//! Resources that are answered without objects: reviews.

use freewheel_hub_schema::error::ApiError;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Response};

use crate::authz::{Attributes, What};
use crate::body::{self, Body};
use crate::context::Context;
use crate::media::{self, Shape};
use crate::path::Target;
use crate::query::Query;
use crate::review::{self, Asks, Question};
use crate::tenant::Tenant;

/// The answer, where the path is one of these.
pub(crate) async fn answer(
    context: &mut Context<'_>,
    tenant: &Tenant,
    target: &Target<'_>,
) -> Option<Result<Response<Body>, ApiError>> {
    let in_namespace = target.namespace.is_some();
    let question = Question::at(target.group, target.version, target.plural, in_namespace);
    if let Some(question) = question {
        context.seen.is_for_objectless(target);
        return Some(answered(context, tenant, (question, target)).await);
    }
    None
}

/// A question about callers.
async fn answered(
    context: &mut Context<'_>,
    tenant: &Tenant,
    (question, target): (Question, &Target<'_>),
) -> Result<Response<Body>, ApiError> {
    if *context.method != Method::POST || target.name.is_some() {
        return Err(ApiError::method_not_allowed());
    }
    let (user, cluster) = (&context.user, tenant.cluster());
    let asked = Attributes { user, verb: "create", cluster, what: What::Resource(target.into()) };
    let allowed = context.trail.check(&context.hub.authorizers, &asked);
    context.incoming.unread_until(allowed).await?;
    // An answer to a question has no columns.
    let out = media::negotiate(context.header(&ACCEPT), |wanted| wanted.shape == Shape::Object)?;
    let query = Query::parse(context.uri.query().unwrap_or_default())?;
    let validation = query.field_validation("CreateOptions")?;
    query.dry_run("CreateOptions")?;
    let wires = (media::body_wire(context.header(&CONTENT_TYPE))?, out.wire);
    let (slot, comes) = (context.incoming.slot().clone(), body::declared(context.incoming));
    let room = slot.backlog.hold(context.trail.copies() * comes);
    let mut held = context.incoming.unread_until(room).await?;
    let coming = slot.backlog.account.coming(comes);
    let body = body::read(context.incoming).await?;
    drop(coming);
    if let Some(held) = &mut held {
        held.shrink(context.trail.copies() * body.len());
    }
    context.trail.takes(Some(wires.0), &body, held.as_mut());
    let hub = &context.hub;
    let asks = Asks { authorizers: &hub.authorizers, bearers: &hub.bearers, user, cluster };
    let namespace = target.namespace.as_deref().unwrap_or_default();
    review::answer(asks, (question, namespace), wires, (body, validation)).await
}
