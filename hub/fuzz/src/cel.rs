//! An expression in CEL over a value: `EXPRESSION VALUE`, which it knows as `self` and, what it was before, as `oldSelf`.

use freewheel_hub_cel::{
    Expression, Failed, Known, Meter, NoRoom, STACK_BYTES, Unread, free, json, on_a_stack_of,
};
use freewheel_hub_schema::types::parse_json;
use serde_json::Value;

use crate::parts;

/// As much as one rule may use.
const UNITS: u64 = 1_000_000;

/// What is told of a mistake in the evaluator itself.
const INTERNAL: &str = "internal error";

/// Bytes of a value as JSON: an evaluation may hold a quarter of that, and a sign may take six in JSON.
const MADE_BYTES_MAX: usize = 64 << 20;

/// It is none, or ends within what it may use, whatever it is about.
pub(crate) fn run(bytes: &[u8]) {
    let [text, value] = parts::parts(bytes);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let value = parse_json(value).map_or(Value::Null, |(value, _)| value);
    let known = Known { names: &["self", "oldSelf"], ..Known::default() };
    let expression = match Expression::read(text, &known) {
        Ok(expression) => expression,
        Err(why) => return unread(&why, text),
    };
    assert_eq!(expression.text(), text);
    let outcome = on_a_stack_of(STACK_BYTES, || evaluate(&expression, &value));
    assert_ne!(outcome, Err(NoRoom::Panicked), "it panicked: {text}");
}

fn unread(why: &Unread, text: &str) {
    let told = why.to_string();
    assert!(!told.contains("no room to look"), "the parser panicked: {text}");
    assert!(told.len() <= 4096 + 8 * text.len(), "{} bytes of a message", told.len());
}

fn evaluate(expression: &Expression, value: &Value) {
    let mut meter = Meter::of(UNITS);
    let outcome = meter.run(expression, |context| {
        context.add_variable_from_value("self", free(value));
        context.add_variable_from_value("oldSelf", free(value));
    });
    assert!(meter.left() < UNITS, "it has used nothing");
    match outcome {
        Ok(value) => {
            let bytes = json(&value, "").map_or(0, |value| parts::size(&value));
            assert!(bytes <= MADE_BYTES_MAX, "{bytes} bytes");
        }
        Err(Failed::Because(why)) => assert_ne!(why, INTERNAL, "the evaluator panicked"),
        Err(Failed::TooMuchWork | Failed::TooMuchMade) => {}
    }
}
