//! The registry's paths behind the API's door: the same TLS, the same callers.

use std::sync::Arc;

use freewheel_hub_apiserver::{Body, Extra, Received, User};
use freewheel_hub_modules::Modules;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;

/// The group whose members may push and pull.
const ADMINISTRATORS: &str = "system:masters";

/// Serves `/v2/…` to administrators.
pub fn handler(modules: Modules) -> Extra {
    Arc::new(move |user: Option<User>, request: Request<Received>| {
        let modules = modules.clone();
        Box::pin(async move {
            let refused = match user {
                None => Some((
                    StatusCode::UNAUTHORIZED,
                    "UNAUTHORIZED",
                    "show a client certificate of this hub",
                )),
                Some(user) if !user.groups.iter().any(|group| group == ADMINISTRATORS) => Some((
                    StatusCode::FORBIDDEN,
                    "DENIED",
                    "modules are pushed and pulled by administrators",
                )),
                Some(_) => None,
            };
            match refused {
                Some((status, code, message)) => refuse(status, code, message),
                None => modules
                    .serve(request)
                    .await
                    .map(|body| Body::foreign(body.map_err(Into::into).boxed_unsync())),
            }
        })
    })
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let body = serde_json::json!({"errors": [{"code": code, "message": message}]});
    let mut response = Response::new(Body::whole(body.to_string().into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
