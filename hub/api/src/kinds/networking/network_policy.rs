//! NetworkPolicy: who may reach whom.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::address::{Cidr, check_range};
use crate::kinds::accessors::{AGE, NAME, age, child, column, items, list, name, set_default};
use crate::kinds::field_value::FieldValue;
use crate::kinds::template;

const COLUMNS: &[Column] = &[NAME, column("Pod-Selector", "string", "Whom it is about."), AGE];
const TYPES: &[&str] = &["Ingress", "Egress"];

/// NetworkPolicy of networking.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("networking.k8s.io", "v1", "NetworkPolicy"), "networkpolicies", Rules)
        .short(["netpol"])
        .columns(COLUMNS)
        .without_effect("it is NOT enforced yet: what it forbids is reached all the same")
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let egress = !list(object, "/spec/egress").is_empty();
        let Some(spec) = child(object, "spec") else { return };
        if spec.get("policyTypes").is_none_or(|types| *types == json!([])) {
            let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            spec.insert("policyTypes".to_owned(), types);
        }
        for direction in ["ingress", "egress"] {
            for rule in items(spec, direction) {
                items(rule, "ports").for_each(|port| set_default(port, "protocol", "TCP"));
            }
        }
    }

    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let mut errors = spec.child("podSelector").selector();
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in spec.child(direction).items() {
                errors.extend(rule.child("ports").items().flat_map(|port| check_port(&port)));
                errors.extend(rule.child(peers).items().flat_map(|peer| check_peer(&peer)));
            }
        }
        let types = spec.child("policyTypes");
        if TYPES.len() < list(types.value, "").len() {
            errors.push(types.invalid("may not specify more than two policyTypes"));
            return errors;
        }
        errors.extend(types.items().filter_map(|kind| kind.one_of(TYPES)));
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let none = json!({});
        let selector = object.pointer("/spec/podSelector").unwrap_or(&none);
        vec![name(object), template::selector_cell(Some(selector)), age(object, now)]
    }
}

fn check_port(rule: &FieldValue<'_>) -> Vec<FieldError> {
    let (port, end) = (rule.child("port"), rule.child("endPort"));
    let mut errors: Vec<_> =
        rule.child("protocol").one_of(&["TCP", "UDP", "SCTP"]).into_iter().collect();
    let number = |at: &FieldValue<'_>| -> Vec<FieldError> {
        let found = at.int().unwrap_or_default();
        names::port_number(found).iter().map(|why| at.invalid(why)).collect()
    };
    match (port.value, end.is_there()) {
        (Value::Null, false) => {}
        (Value::Null, true) => {
            errors.push(end.invalid("may not be specified when `port` is not specified"));
        }
        (Value::String(_), with_end) => {
            let text = "may not be specified when `port` is non-numeric";
            errors.extend(with_end.then(|| end.invalid(text)));
            errors.extend(port.follows(names::port_name));
        }
        (_, with_end) => {
            errors.extend(number(&port));
            if with_end && end.int() < port.int() {
                let text = "must be greater than or equal to `port`";
                errors.push(FieldError::invalid(&*end.path, port.value, text));
            }
            errors.extend(with_end.then(|| number(&end)).into_iter().flatten());
        }
    }
    errors
}

fn check_peer(peer: &FieldValue<'_>) -> Vec<FieldError> {
    let selectors = ["podSelector", "namespaceSelector"].map(|selector| peer.child(selector));
    let block = peer.child("ipBlock");
    let mut errors: Vec<_> = selectors.iter().flat_map(FieldValue::selector).collect();
    if block.is_there() {
        errors.extend(check_block(&block));
    }
    let selected = selectors.iter().any(FieldValue::is_there);
    if !selected && !block.is_there() {
        errors.push(peer.required("must specify a peer"));
    } else if selected && block.is_there() {
        errors.push(peer.forbidden("may not specify both ipBlock and another peer"));
    }
    errors
}

fn check_block(block: &FieldValue<'_>) -> Vec<FieldError> {
    let range = block.child("cidr");
    if range.is_empty() {
        return vec![range.required("")];
    }
    let mut errors: Vec<_> = check_range(&range).into_iter().collect();
    let Some(all) = Cidr::read(range.text()) else { return errors };
    for except in block.child("except").items() {
        errors.extend(check_range(&except));
        if Cidr::read(except.text()).is_some_and(|part| !all.has_part(part)) {
            errors.push(except.invalid("must be a strict subset of `cidr`"));
        }
    }
    errors
}
