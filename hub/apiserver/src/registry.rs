//! The image registry's paths, `/v2/…`: behind the same TLS and the same callers, and answered by somebody else.

use std::sync::Arc;

use http::{Request, Response};

use crate::authn::User;
use crate::authz::{Attributes, Authorizer as _, Decision, What};
use crate::body::Body;
use crate::context::{Extra, Hub};
use crate::request_body::RequestBody;
use crate::respond;
use crate::tenant::Tenant;

/// In a request's extensions: its caller may do that to this path.
#[derive(Clone, Copy, Debug)]
pub struct Permitted;

/// In an answer's extensions: whoever asked has shown who they are by other means than a certificate, and
/// their connection is no stranger's any more.
#[derive(Clone, Copy, Debug)]
pub struct LoggedIn;

/// Whether a path is one of these.
pub(crate) fn has(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

/// What the registry answers.
pub(crate) async fn answer(
    extra: &Extra,
    hub: &Arc<Hub>,
    user: Arc<User>,
    mut request: Request<RequestBody>,
) -> Response<Body> {
    if user.is_stranger() {
        return extra(None, request).await;
    }
    let permitted = async { Ok(is_permitted(hub, &user, &request).await) };
    let permitted = request.body().unread_until(permitted).await;
    match permitted {
        Ok(true) => drop(request.extensions_mut().insert(Permitted)),
        Ok(false) => {}
        Err(error) => return respond::failure(&error),
    }
    extra(Some(Arc::unwrap_or_clone(user)), request).await
}

async fn is_permitted(hub: &Hub, user: &User, request: &Request<RequestBody>) -> bool {
    let verb = request.method().as_str().to_ascii_lowercase();
    let (tenant, what) = (Tenant::root(), What::Path(request.uri().path()));
    let asked = Attributes { user, verb: &verb, cluster: tenant.cluster(), what };
    matches!(hub.authorizers.decide(&asked).await, Decision::Allow(_))
}
