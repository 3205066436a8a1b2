//! PriorityLevelConfiguration: how much of the API server some requests get.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{
    Column, FieldPaths, Kind, Strategy, keep_all_but_status, reset_all_but_status,
};
use serde_json::{Value, json};

use super::{conditions, mandatory};
use crate::kinds::accessors::{AGE, NAME, age, column, name, set_default, text};
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "Whether there is a limit."),
    column("NominalConcurrencyShares", "string", "Its share."),
    column("Queues", "string", "How many queues there are."),
    column("HandSize", "string", "How many of them a flow may use."),
    column("QueueLengthLimit", "string", "How many may wait in one."),
    AGE,
];
const QUEUES_MAX: i64 = 10_000_000;
/// Bits of the hash that queues are chosen by.
const HASH_BITS: u32 = 60;
const ZERO_SHARES: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";

/// PriorityLevelConfiguration of flowcontrol.apiserver.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    let gvk = Gvk::new("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration");
    Kind::new(gvk, "prioritylevelconfigurations", Rules)
        .cluster_scoped()
        .with_status()
        .columns(COLUMNS)
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        for (half, shares) in [("exempt", 0), ("limited", 30)] {
            let half = object.pointer_mut(&format!("/spec/{half}")).and_then(Value::as_object_mut);
            if let Some(half) = half {
                set_default(half, "nominalConcurrencyShares", shares);
                set_default(half, "lendablePercent", 0);
            }
        }
        let queuing = object.pointer_mut("/spec/limited/limitResponse/queuing");
        if let Some(queuing) = queuing.and_then(Value::as_object_mut) {
            for (field, number) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                if queuing.get(field).and_then(Value::as_i64).unwrap_or_default() == 0 {
                    queuing.insert(field.to_owned(), number.into());
                }
            }
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({}));
        }
    }

    fn prepare_update(&self, door: Option<&str>, new: &mut Value, old: &Value) {
        keep_all_but_status(door, new, old);
    }

    fn reset_fields(&self, door: Option<&str>) -> FieldPaths {
        reset_all_but_status(door)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let own = text(object, "/metadata/name");
        let spec = FieldValue::of(object, "spec");
        let mut errors = Vec::new();
        let annotations = object.pointer("/metadata/annotations");
        if annotations.and_then(|all| all.get(ZERO_SHARES)).is_some() {
            let text = format!("annotation '{ZERO_SHARES}' is forbidden");
            errors.push(FieldError::forbidden("metadata.annotations", &text));
        }
        errors.extend(check_spec(&spec, own));
        if let Some(fixed) = mandatory::fixed_spec(mandatory::levels(), own) {
            let mut found = spec.value.clone();
            let but = if own == "exempt" {
                found["exempt"] = fixed["exempt"].clone();
                " except the 'spec.exempt' field"
            } else {
                ""
            };
            if found != fixed {
                let text = format!("spec of '{own}'{but} must equal the fixed value");
                errors.push(spec.invalid(&text));
            }
        }
        errors.extend(conditions::check(object));
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let or_none = |pointer: &str| {
            let found = object.pointer(&format!("/spec/limited{pointer}")).cloned();
            found.filter(Value::is_number).unwrap_or_else(|| "<none>".into())
        };
        vec![
            name(object),
            text(object, "/spec/type").into(),
            or_none("/nominalConcurrencyShares"),
            or_none("/limitResponse/queuing/queues"),
            or_none("/limitResponse/queuing/handSize"),
            or_none("/limitResponse/queuing/queueLengthLimit"),
            age(object, now),
        ]
    }
}

fn check_spec(spec: &FieldValue<'_>, own: &str) -> Vec<FieldError> {
    let (kind, limited) = (spec.child("type"), spec.child("limited"));
    let exempt = spec.child("exempt");
    let mut errors = Vec::new();
    if (own == "exempt") != (kind.text() == "Exempt") {
        errors.push(kind.invalid("must be 'Exempt' if and only if `name` is 'exempt'"));
    }
    match kind.text() {
        "Exempt" => {
            let text = "must be nil if the type is not Limited";
            errors.extend(limited.is_there().then(|| limited.forbidden(text)));
            errors.extend(check_shares(&exempt));
        }
        "Limited" => {
            let text = "must be nil if the type is Limited";
            errors.extend(exempt.is_there().then(|| exempt.forbidden(text)));
            if limited.is_there() {
                errors.extend(check_limited(&limited));
            } else {
                errors.push(limited.required("must not be empty when type is Limited"));
            }
        }
        _ => errors.push(kind.not_supported(&["Exempt", "Limited"])),
    }
    errors
}

fn check_shares(half: &FieldValue<'_>) -> Vec<FieldError> {
    let shares = half.child("nominalConcurrencyShares");
    let negative = shares.int().is_some_and(|shares| shares < 0);
    let mut errors: Vec<_> =
        negative.then(|| shares.invalid("must be a non-negative integer")).into_iter().collect();
    errors.extend(half.child("lendablePercent").within(0, 100));
    errors
}

fn check_limited(limited: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = check_shares(limited);
    let response = limited.child("limitResponse");
    let (kind, queuing) = (response.child("type"), response.child("queuing"));
    match kind.text() {
        "Reject" => {
            let text = "must be nil if limited.limitResponse.type is not Limited";
            errors.extend(queuing.is_there().then(|| queuing.forbidden(text)));
        }
        "Queue" if queuing.is_there() => errors.extend(check_queues(&queuing)),
        "Queue" => {
            let text = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(queuing.required(text));
        }
        _ => errors.push(kind.not_supported(&["Queue", "Reject"])),
    }
    let borrow = limited.child("borrowingLimitPercent");
    if borrow.int().is_some_and(|percent| percent < 0) {
        errors.push(borrow.invalid("if specified, must be a non-negative integer"));
    }
    errors
}

fn check_queues(queuing: &FieldValue<'_>) -> Vec<FieldError> {
    let (length, queues) = (queuing.child("queueLengthLimit"), queuing.child("queues"));
    let hand = queuing.child("handSize");
    let number = |at: &FieldValue<'_>| at.int().unwrap_or_default();
    let mut errors = Vec::new();
    for at in [&length, &queues, &hand] {
        errors.extend((number(at) <= 0).then(|| at.invalid("must be positive")));
    }
    let (all, some) = (number(&queues), number(&hand));
    if QUEUES_MAX < all {
        errors.push(queues.invalid(&format!("must not be greater than {QUEUES_MAX}")));
    }
    if all < some {
        errors.push(hand.invalid(&format!("should not be greater than queues ({all})")));
    } else if HASH_BITS < entropy(all, some) {
        let text = format!(
            "required entropy bits of deckSize {all} and handSize {some} should not be greater than {HASH_BITS}"
        );
        errors.push(hand.invalid(&text));
    }
    errors
}

/// Bits that it takes to deal a hand from so many cards.
#[expect(clippy::cast_precision_loss, reason = "up to ten million")]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a few hundred at most"
)]
fn entropy(deck: i64, hand: i64) -> u32 {
    let cards = (0..hand.min(HASH_BITS.into())).map(|dealt| ((deck - dealt) as f64).log2());
    cards.sum::<f64>().ceil() as u32
}
