//! The registry's paths behind the API's door: the same TLS, the same callers, and logins.

use std::sync::Arc;

use freewheel_hub_apiserver::{Body, Extra, LoggedIn, Received, User};
use freewheel_hub_modules::{Modules, RegistryOnly};
use freewheel_hub_objects::Objects;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;

use super::login;

/// The group whose members may push, pull and delete.
const ADMINISTRATORS: &str = "system:masters";

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Administrator,
    /// By name and password: may push and pull.
    LoggedIn,
}

/// Serves `/v2/…` to administrators and to those who have a login.
pub fn handler(modules: Modules, objects: Objects) -> Extra {
    Arc::new(move |user: Option<User>, mut request: Request<Received>| {
        let (modules, objects) = (modules.clone(), objects.clone());
        Box::pin(async move {
            let caller = match admit(user.as_ref(), &request, &objects) {
                Ok(caller) => caller,
                Err(refusal) => return *refusal,
            };
            if caller == Caller::LoggedIn {
                request.extensions_mut().insert(RegistryOnly);
            }
            let mut response = modules
                .serve(request)
                .await
                .map(|body| Body::foreign(body.map_err(Into::into).boxed_unsync()));
            if caller == Caller::LoggedIn {
                response.extensions_mut().insert(LoggedIn);
            }
            response
        })
    })
}

fn admit(
    user: Option<&User>,
    request: &Request<Received>,
    objects: &Objects,
) -> Result<Caller, Box<Response<Body>>> {
    if user.is_some_and(|user| user.groups.iter().any(|group| group == ADMINISTRATORS)) {
        return Ok(Caller::Administrator);
    }
    let given = request.headers().get(header::AUTHORIZATION);
    if given.is_some_and(|given| login::is_good(objects, given)) {
        // An upload that is cancelled is one's own.
        let deletes = *request.method() == Method::DELETE
            && !request.uri().path().contains("/blobs/uploads/");
        if deletes {
            let text = "what is in the registry is deleted by administrators: `hub rm NAME:TAG`";
            return Err(refuse(StatusCode::FORBIDDEN, "DENIED", text));
        }
        return Ok(Caller::LoggedIn);
    }
    if user.is_some() && given.is_none() {
        let text = "modules are pushed and pulled by administrators and with a login: \
                    `hub token create --registry` makes one";
        return Err(refuse(StatusCode::FORBIDDEN, "DENIED", text));
    }
    let text = match given {
        None => {
            "log in: `hub token create --registry` prints how; or show an administrator's certificate"
        }
        Some(_) => {
            "the login is unknown, wrong or over: `hub token create --registry` makes a new one"
        }
    };
    let mut response = refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", text);
    let challenge = HeaderValue::from_static("Basic realm=\"freewheel\", charset=\"UTF-8\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    Err(response)
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Box<Response<Body>> {
    let body = serde_json::json!({"errors": [{"code": code, "message": message}]});
    let mut response = Response::new(Body::whole(body.to_string().into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Older clients of docker look for it before they look at the challenge.
    let version = header::HeaderName::from_static("docker-distribution-api-version");
    headers.insert(version, HeaderValue::from_static("registry/2.0"));
    Box::new(response)
}
