//! What the containers of a pod may ask for anew.

use freewheel_hub_schema::error::FieldError;
use serde_json::{Value, json};

use super::super::accessors::{list, map, text};
use super::qos_class;

const LISTS: [&str; 2] = ["containers", "initContainers"];

/// A pod in which nothing has changed but its containers' resources; as it is, where they are others.
pub(crate) fn keep_all_but_resources(new: &mut Value, old: &Value) {
    let all = |spec: &Value, name: &str| list(spec, &format!("/{name}")).to_vec();
    let (now, was) = (&new["spec"], &old["spec"]);
    if LISTS.iter().any(|name| all(now, name).len() != all(was, name).len()) {
        return;
    }
    let mut spec = was.clone();
    for name in LISTS {
        let (asked, mut merged) = (all(now, name), all(was, name));
        let others =
            asked.iter().zip(&merged).any(|(now, was)| text(now, "/name") != text(was, "/name"));
        if others {
            // It is for the check to say so.
            spec[name] = asked.into();
            continue;
        }
        for (container, asked) in merged.iter_mut().zip(&asked) {
            for field in ["resources", "resizePolicy"] {
                put(container, asked, field);
            }
        }
        if !merged.is_empty() {
            spec[name] = merged.into();
        }
    }
    put(&mut spec, now, "resources");
    new["spec"] = spec;
}

/// `field` as it is in `from`.
fn put(into: &mut Value, from: &Value, field: &str) {
    let Some(map) = into.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => map.insert(field.to_owned(), value.clone()),
        None => map.remove(field),
    };
}

/// Every mistake of asking for something else.
pub(crate) fn check(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (now, was) = (&new["spec"], &old["spec"]);
    if text(was, "/os/name") == "windows" {
        return vec![FieldError::forbidden("", "windows pods cannot be resized")];
    }
    if qos_class(now) != qos_class(was) {
        let text = "Pod QOS Class may not change as a result of resizing";
        let shown = json!(self::text(old, "/status/qosClass"));
        errors.push(FieldError::invalid("spec", &shown, text));
    }
    let order: Vec<_> = LISTS.iter().flat_map(|name| check_order(now, was, name)).collect();
    if !order.is_empty() {
        errors.extend(order);
        return errors;
    }
    for name in ["initContainers", "containers"] {
        let all = list(now, &format!("/{name}")).iter().zip(list(was, &format!("/{name}")));
        for (i, (asked, had)) in all.enumerate() {
            if name == "containers" || text(had, "/restartPolicy") == "Always" {
                errors.extend(check_removed(asked, had, &format!("spec.{name}[{i}].resources")));
            }
        }
    }
    errors.extend(check_kinds(now, was));
    errors
}

fn check_order(now: &Value, was: &Value, name: &str) -> Vec<FieldError> {
    let path = format!("/{name}");
    let (now, was) = (list(now, &path), list(was, &path));
    if now.len() != was.len() {
        let text = format!("{name} may not be added or removed on resize");
        return vec![FieldError::forbidden(format!("spec.{name}"), &text)];
    }
    let others = now.iter().zip(was).enumerate();
    let others = others.filter(|(_, (now, was))| text(now, "/name") != text(was, "/name"));
    let error = |(i, _)| {
        let text = format!("{name} may not be renamed or reordered on resize");
        FieldError::forbidden(format!("spec.{name}[{i}].name"), &text)
    };
    others.map(error).collect()
}

fn check_removed(asked: &Value, had: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for sort in ["requests", "limits"] {
        let at = format!("/resources/{sort}");
        let there = |name: &str| map(asked, &at).any(|(known, _)| known == name);
        if map(had, &at).any(|(name, _)| !there(name)) {
            let text = format!("resource {sort} cannot be removed");
            errors.push(FieldError::forbidden(format!("{path}.{sort}"), &text));
        }
    }
    errors
}

/// A container without what may change.
fn fixed(container: &Value) -> Value {
    let mut fixed = container.clone();
    for sort in ["limits", "requests"] {
        let amounts =
            fixed.pointer_mut(&format!("/resources/{sort}")).and_then(Value::as_object_mut);
        if let Some(amounts) = amounts {
            amounts.retain(|name, _| !matches!(&**name, "cpu" | "memory"));
        }
    }
    let resources = fixed.get_mut("resources").and_then(Value::as_object_mut);
    if let Some(resources) = resources {
        resources.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    }
    fixed
}

fn check_kinds(now: &Value, was: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let all = list(now, "/containers").iter().zip(list(was, "/containers"));
    errors.extend(
        all.filter(|(asked, had)| fixed(asked) != fixed(had))
            .map(|_| FieldError::forbidden("spec", "only cpu and memory resources are mutable")),
    );
    let all = list(now, "/initContainers").iter().zip(list(was, "/initContainers"));
    for (i, (asked, had)) in all.enumerate() {
        if text(had, "/restartPolicy") != "Always" && asked != had {
            let text = "resources for non-sidecar init containers are immutable";
            errors.push(FieldError::forbidden("spec", text));
        } else if fixed(asked) != fixed(had) {
            let text = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.push(FieldError::forbidden(format!("spec.initContainers[{i}]"), text));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        let some = json!({"cpu": "1", "memory": "1Mi"});
        json!({"spec": {"nodeName": "pi-7",
            "initContainers": [{"name": "i", "resources": {"requests": some, "limits": some}}],
            "containers": [{"name": "c", "image": "a", "resources":
                {"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"cpu": "2"}}}]}})
    }

    #[track_caller]
    fn wrong(change: impl Fn(&mut Value), expected: &[&str]) {
        let (mut new, old) = (pod(), pod());
        change(&mut new["spec"]);
        keep_all_but_resources(&mut new, &old);
        let errors = check(&new, &old);
        let texts: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_container_may_ask_for_another_amount_and_nothing_else() {
        wrong(|spec| spec["containers"][0]["resources"]["requests"]["cpu"] = json!("1500m"), &[]);
        wrong(
            |spec| {
                drop(spec["containers"][0]["resources"].as_object_mut().unwrap().remove("limits"));
            },
            &["spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"],
        );
        let both = json!({"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "1", "memory": "1Mi"}});
        wrong(
            |spec| spec["containers"][0]["resources"] = both.clone(),
            &["spec: Invalid value: \"\": Pod QOS Class may not change as a result of resizing"],
        );
        wrong(
            |spec| spec["containers"][0]["name"] = json!("d"),
            &[
                "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize",
            ],
        );
        wrong(
            |spec| spec["containers"] = json!([]),
            &[
                "spec: Invalid value: \"\": Pod QOS Class may not change as a result of resizing",
                "spec.containers: Forbidden: containers may not be added or removed on resize",
            ],
        );
        wrong(
            |spec| spec["containers"][0]["resources"]["requests"]["a.b/c"] = json!("1"),
            &["spec: Forbidden: only cpu and memory resources are mutable"],
        );
        wrong(
            |spec| spec["initContainers"][0]["resources"]["requests"]["cpu"] = json!("500m"),
            &["spec: Forbidden: resources for non-sidecar init containers are immutable"],
        );
    }

    #[test]
    fn what_else_is_said_by_that_door_is_not_heard() {
        let (mut new, old) = (pod(), pod());
        new["spec"]["containers"][0]["image"] = json!("b");
        new["spec"]["nodeName"] = json!("pi-8");
        keep_all_but_resources(&mut new, &old);
        assert_eq!(new, old);
    }
}
