//! A way into something, as those who have a say in it see it: the operation CONNECT, with the options by which it is asked
//! for as its object, and before anybody looks at what it leads to.
//!
//! Guarantees:
//! - policies and webhooks are asked about commands, programs' output, ports, and each request through a proxy
//!   (`ways_into_pods_are_asked_about`, `requests_through_proxies_are_asked_about`);
//! - what they make of the options is what is done (`what_a_rule_makes_of_a_command_is_run`).

use freewheel_hub_objects::{Action, Verb, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::call::Call;

/// What those who have a say make of these options of a kind of core/v1.
///
/// # Errors
/// What they say against it.
pub(crate) async fn admitted(
    call: &Call,
    kind: &str,
    mut options: Value,
) -> Result<Value, ApiError> {
    (options["apiVersion"], options["kind"]) = (json!("v1"), json!(kind));
    let notes = Some(call.notes.clone());
    let how = WriteOptions { notes, ..WriteOptions::by(call.actor(String::new())) };
    let subresource = Some(call.subresource.as_str());
    let action = Action { verb: Verb::Connect, subresource, object: options };
    let objects = &call.hub.server.objects;
    let options = objects.admit(&how, &call.object_ref(), action, Ok).await?;
    // Somebody may have thought about it for long.
    call.check_still()?;
    Ok(options)
}

/// The same of a request through a proxy, whose path stays what it is.
///
/// # Errors
/// Also when somebody wants another path.
pub(crate) async fn through_proxy(call: &Call, kind: &str, rest: &str) -> Result<(), ApiError> {
    let path = path(rest);
    let options = if path.is_empty() { json!({}) } else { json!({"path": path}) };
    let options = admitted(call, kind, options).await?;
    if options["path"].as_str().unwrap_or_default() == path {
        return Ok(());
    }
    let text = "a rule of admission wants another path for a request through a proxy, and the hub changes none";
    Err(ApiError::internal(text))
}

/// What follows the proxy, as kube-apiserver tells it: decoded, and with the slash before it.
fn path(rest: &str) -> String {
    let rest = percent_decode_str(rest).decode_utf8_lossy();
    if rest.is_empty() || rest.starts_with('/') { rest.into_owned() } else { format!("/{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_as_it_is_meant() {
        for (rest, shown) in
            [("", ""), ("metrics", "/metrics"), ("%61dmin/x/", "/admin/x/"), ("/", "/")]
        {
            assert_eq!(path(rest), shown);
        }
    }
}
