//! Resources that are answered without objects: reviews, and the list of custom resource definitions.

use freewheel_hub_schema::error::ApiError;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Response};
use serde_json::json;

use crate::authz::{Attributes, What};
use crate::body::{self, Body};
use crate::context::Context;
use crate::media::{self, Shape};
use crate::path::Target;
use crate::query::pairs;
use crate::respond;
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
    if is_list_of_definitions(context, target) {
        context.seen.is_for_objectless(target);
        return Some(no_definitions(context, tenant, target).await);
    }
    None
}

/// Whether somebody asks which custom resources there are: kubectl does when it meets a kind that no
/// schema knows, and gives up on any other answer than a list.
fn is_list_of_definitions(context: &Context<'_>, target: &Target<'_>) -> bool {
    let mut query = pairs(context.uri.query().unwrap_or_default());
    *context.method == Method::GET
        && (target.group, target.version) == ("apiextensions.k8s.io", "v1")
        && target.plural == "customresourcedefinitions"
        && target.namespace.is_none()
        && target.name.is_none()
        && !target.watch
        && !query.any(|(name, _)| name == "watch")
}

/// None: custom resources are not served.
async fn no_definitions(
    context: &Context<'_>,
    tenant: &Tenant,
    target: &Target<'_>,
) -> Result<Response<Body>, ApiError> {
    let (cluster, what) = (tenant.cluster(), What::Resource(target.into()));
    let asked = Attributes { user: &context.user, verb: "list", cluster, what };
    context.hub.authorizers.check(&asked).await?;
    let revision = context.hub.server.objects.store().snapshot().revision().to_string();
    Ok(respond::json(
        200,
        &json!({
            "kind": "CustomResourceDefinitionList", "apiVersion": "apiextensions.k8s.io/v1",
            "metadata": {"resourceVersion": revision}, "items": [],
        }),
    ))
}

/// A question about callers.
async fn answered(
    context: &mut Context<'_>,
    tenant: &Tenant,
    (question, target): (Question, &Target<'_>),
) -> Result<Response<Body>, ApiError> {
    if *context.method != Method::POST || target.name.is_some() {
        return Err(respond::method_not_allowed());
    }
    let (user, cluster) = (&context.user, tenant.cluster());
    let asked = Attributes { user, verb: "create", cluster, what: What::Resource(target.into()) };
    context.hub.authorizers.check(&asked).await?;
    // An answer to a question has no columns.
    let out = media::negotiate(context.header(&ACCEPT), |wanted| wanted.shape == Shape::Object)?;
    let wires = (media::body_wire(context.header(&CONTENT_TYPE))?, out.wire);
    let (slot, comes) = (context.incoming.slot().clone(), body::declared(context.incoming));
    let _held = slot.backlog.hold(comes).await?;
    let _comes = slot.backlog.account.coming(comes);
    let body = body::read(context.incoming).await?;
    let hub = &context.hub;
    let asks = Asks { authorizers: &hub.authorizers, bearers: &hub.bearers, user, cluster };
    let namespace = target.namespace.as_deref().unwrap_or_default();
    review::answer(asks, (question, namespace), wires, body).await
}
