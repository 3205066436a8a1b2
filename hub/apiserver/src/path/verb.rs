//! What a method does to a target.

use http::Method;

use crate::path::Target;
use crate::query::Query;

/// The verb, where there is one.
pub(crate) fn of(method: &Method, target: &Target<'_>, query: &Query) -> Option<&'static str> {
    let named = target.name.is_some();
    Some(match *method {
        Method::GET | Method::HEAD if target.watch => "watch",
        _ if target.watch => return None,
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD if query.watch => "watch",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => return None,
    })
}
