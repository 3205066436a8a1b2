//! GET of `pods/NAME/log`: what `kubectl logs` reads.
//!
//! Guarantees:
//! - an answer does not look complete that broke off, or whose cluster goes or whose reader's certificate ends meanwhile
//!   (`watches_and_logs_end_with_their_cluster_and_read_nothing_of_the_next`,
//!   `a_certificate_that_ends_is_refused_over_its_open_connection_and_ends_what_runs`,
//!   `a_certificate_ends_by_the_clock_however_it_is_put_on`);
//! - a device is asked for the cluster that is its own, and for the root
//!   (`a_site_hears_nothing_of_other_devices_by_naming_them_in_its_pods`);
//! - a container that came to a pod which runs, and that no device starts, keeps nobody from the others' logs: its own is
//!   empty, and a warning says why (`somebody_who_looks_into_a_pod_comes_to_it_and_stays`).

use bytes::Bytes;
use freewheel_hub_api::streams::{ByteStream, LogOptions};
use freewheel_hub_schema::error::{ApiError, FieldError};
use freewheel_hub_schema::time;
use futures::StreamExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde_json::{Value, json};

use super::pod::{client, spoke_of};
use super::stream_end;
use crate::authn;
use crate::body::Body;
use crate::call::Call;
use crate::query::{flag, number, pairs};
use crate::respond::warn;

/// Streams a container's log from the pod's spoke.
pub(crate) async fn log(call: &Call) -> Result<Response<Body>, ApiError> {
    let mut options = parse(&call.raw_query)?;
    let stored = call.hub.server.objects.get(&call.object_ref())?;
    let pod = stored.object.value()?;
    if let Some(why) = never_started(&pod, &call.name, &options.container)
        && !options.previous
    {
        return Ok(no_log(why));
    }
    options.container = container(&pod, &call.name, &options.container)?;
    check_started(&pod, &call.name, &options)?;
    let node = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    let spoke = spoke_of(&call.tenant, node)?;
    let uid = &stored.object.header.uid;
    let end = stream_end::of(call);
    let streams = &call.hub.server.streams;
    let stream = streams.logs(&spoke, uid, options, client(call)).await?;
    let stream = while_known(call, stream);
    let mut response = Response::new(Body::chunks(stream_end::until(stream, end)).followed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The whole log of a container that has written nothing and never will. `kubectl logs --all-containers` ends at the
/// first refusal, whichever containers it has asked for by then.
fn no_log(why: String) -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::new()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    warn(&mut response, &[why]);
    response
}

/// The log, until the clock says that its reader's certificate has ended: a timer knows neither of a clock that is put
/// on nor of a machine that slept.
fn while_known(call: &Call, stream: ByteStream) -> ByteStream {
    let (user, clock) = (call.user.clone(), call.hub.server.objects.clock().clone());
    Box::pin(stream.map(move |chunk| match user.has_ended(clock.unix_seconds()) {
        true => Err(authn::unauthorized()),
        false => chunk,
    }))
}

fn parse(query: &str) -> Result<LogOptions, ApiError> {
    let mut options = LogOptions::default();
    let mut errors = Vec::new();
    let mut at_least = |field: &str, least: i64, text: &str| -> Result<i64, ApiError> {
        let value = number(text)?;
        if value < least {
            let why = if least == 0 {
                "must be greater than or equal to 0"
            } else {
                "must be greater than 0"
            };
            errors.push(FieldError::invalid(field, &json!(value), why));
        }
        Ok(value)
    };
    for (name, value) in pairs(query) {
        match &*name {
            "container" => options.container = value.into_owned(),
            "follow" => options.follow = flag(&value),
            "previous" => options.previous = flag(&value),
            "timestamps" => options.timestamps = flag(&value),
            "sinceSeconds" => options.since_seconds = Some(at_least(&name, 1, &value)?),
            "sinceTime" => options.since_time = Some(moment(&value)?),
            "tailLines" => options.tail_lines = at_least(&name, 0, &value)?.try_into().ok(),
            "limitBytes" => options.limit_bytes = at_least(&name, 1, &value)?.try_into().ok(),
            _ => {}
        }
    }
    if options.since_seconds.is_some() && options.since_time.is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden("", why));
    }
    if errors.is_empty() {
        Ok(options)
    } else {
        Err(ApiError::invalid("", "PodLogOptions", "", &errors))
    }
}

fn moment(text: &str) -> Result<i128, ApiError> {
    if matches!(text, "" | "null") {
        // As apimachinery reads a time that is none: from the beginning.
        return Ok(i128::MIN);
    }
    let moment = time::parse(text).ok_or_else(|| {
        ApiError::bad_request(format!("parsing time {text:?} as RFC 3339: cannot parse"))
    })?;
    Ok(moment.as_nanosecond())
}

fn names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    let containers = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
    containers.into_iter().flatten().filter_map(|c| c.get("name")?.as_str()).collect()
}

/// The container that is meant.
pub(crate) fn container(pod: &Value, name: &str, asked: &str) -> Result<String, ApiError> {
    let main = names(pod, "containers");
    let init = names(pod, "initContainers");
    if !asked.is_empty() {
        if main.contains(&asked) || init.contains(&asked) {
            return Ok(asked.to_owned());
        }
        let invalid = || format!("container {asked} is not valid for pod {name}");
        let why = never_started(pod, name, asked).unwrap_or_else(invalid);
        return Err(ApiError::bad_request(why));
    }
    if let [only] = main.as_slice() {
        return Ok((*only).to_owned());
    }
    let default = pod
        .pointer("/metadata/annotations/kubectl.kubernetes.io~1default-container")
        .and_then(Value::as_str);
    if let Some(default) = default.filter(|default| main.contains(default)) {
        return Ok(default.to_owned());
    }
    let mut message = format!(
        "a container name must be specified for pod {name}, choose one of: [{}]",
        main.join(" ")
    );
    if !init.is_empty() {
        message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
    }
    Err(ApiError::bad_request(message))
}

/// Why a container that came to a pod which runs does not.
fn never_started(pod: &Value, name: &str, asked: &str) -> Option<String> {
    let is_one = !asked.is_empty() && names(pod, "ephemeralContainers").contains(&asked);
    let statuses = pod.pointer("/status/ephemeralContainerStatuses").and_then(Value::as_array);
    let status = statuses.into_iter().flatten().find(|status| status["name"] == asked);
    let why = status.and_then(|status| status.pointer("/state/terminated/message")?.as_str());
    let state = why.map_or_else(
        || "is waiting to start: ContainerCreating".to_owned(),
        |why| format!("cannot start: {why}"),
    );
    is_one.then(|| format!("container {asked:?} in pod {name:?} {state}"))
}

/// Refuses what cannot have a log yet, in the kubelet's words.
pub(crate) fn check_started(pod: &Value, name: &str, options: &LogOptions) -> Result<(), ApiError> {
    let refuse = |why: String| Err(ApiError::bad_request(why));
    let container = &options.container;
    let node = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    if node.is_empty() {
        return refuse(format!("pod {name} does not have a host assigned"));
    }
    let status = ["containerStatuses", "initContainerStatuses"].iter().find_map(|list| {
        let list = pod.pointer(&format!("/status/{list}"))?.as_array()?;
        list.iter().find(|status| status["name"] == container.as_str())
    });
    let ended_before =
        status.is_some_and(|status| status.pointer("/lastState/terminated").is_some());
    if options.previous {
        if ended_before {
            return Ok(());
        }
        return refuse(format!(
            "previous terminated container {container:?} in pod {name:?} not found"
        ));
    }
    let waiting = match status {
        None => Some("ContainerCreating"),
        Some(status) => status.pointer("/state/waiting").map(|waiting| {
            waiting.get("reason").and_then(Value::as_str).unwrap_or("ContainerCreating")
        }),
    };
    match waiting {
        None => Ok(()),
        // Between two starts the last one's log is what is asked for.
        Some(_) if ended_before => Ok(()),
        Some("ErrImagePull" | "ImagePullBackOff") => refuse(format!(
            "container {container:?} in pod {name:?} is waiting to start: trying and failing to pull image"
        )),
        Some(reason) => {
            refuse(format!("container {container:?} in pod {name:?} is waiting to start: {reason}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: &[&str]) -> Value {
        let list: Vec<Value> = containers.iter().map(|name| json!({"name": name})).collect();
        json!({"metadata": {"name": "web"}, "spec": {"nodeName": "pi-7", "containers": list}})
    }

    #[test]
    fn the_container_is_the_only_one_or_must_be_named() {
        assert_eq!(container(&pod(&["a"]), "web", "").unwrap(), "a");
        assert_eq!(container(&pod(&["a", "b"]), "web", "b").unwrap(), "b");
        assert_eq!(
            container(&pod(&["a", "b"]), "web", "").unwrap_err().message,
            "a container name must be specified for pod web, choose one of: [a b]"
        );
        let mut annotated = pod(&["a", "b"]);
        annotated["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] =
            json!("b");
        assert_eq!(container(&annotated, "web", "").unwrap(), "b");
        assert_eq!(
            container(&pod(&["a"]), "web", "x").unwrap_err().message,
            "container x is not valid for pod web"
        );
        annotated["spec"]["ephemeralContainers"] = json!([{"name": "eye"}]);
        annotated["status"]["ephemeralContainerStatuses"] =
            json!([{"name": "eye", "state": {"terminated": {"message": "there is no way"}}}]);
        assert_eq!(
            container(&annotated, "web", "eye").unwrap_err().message,
            r#"container "eye" in pod "web" cannot start: there is no way"#
        );
    }

    #[test]
    fn what_has_not_started_has_no_log() {
        let options = LogOptions { container: "a".to_owned(), ..LogOptions::default() };
        let mut pod = pod(&["a"]);
        assert_eq!(
            check_started(&pod, "web", &options).unwrap_err().message,
            r#"container "a" in pod "web" is waiting to start: ContainerCreating"#
        );
        pod["status"]["containerStatuses"] = json!([{"name": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1}}}]);
        assert!(check_started(&pod, "web", &options).is_ok());
        pod["status"]["containerStatuses"] = json!([{"name": "a", "state": {"running": {}}}]);
        assert!(check_started(&pod, "web", &options).is_ok());
        let previous = LogOptions { previous: true, ..options };
        assert_eq!(
            check_started(&pod, "web", &previous).unwrap_err().message,
            r#"previous terminated container "a" in pod "web" not found"#
        );
    }

    #[test]
    fn log_options_are_parsed_and_checked() {
        let options = parse("follow=true&tailLines=5&sinceTime=2026-11-20T12:00:00Z").unwrap();
        assert!(options.follow);
        assert_eq!(options.tail_lines, Some(5));
        assert_eq!(options.since_time, Some(1_795_176_000_000_000_000));
        assert_eq!(parse("sinceTime=2026-11-20T12:00:60Z").unwrap_err().code, 400);
        assert_eq!(parse("sinceTime=2026-11-20T12:00Z").unwrap_err().code, 400);
        assert!(parse("sinceTime=9999-12-31T23:59:59Z").unwrap().since_time.is_some());
        assert_eq!(parse("sinceTime=").unwrap().since_time, Some(i128::MIN));
        assert_eq!(parse("tailLines=-1").unwrap_err().code, 422);
        assert_eq!(parse("tailLines=x").unwrap_err().code, 400);
    }
}
