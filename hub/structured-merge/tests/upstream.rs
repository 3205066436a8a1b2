//! Random sequences of writes, and what upstream's own field manager made of them (`xtask/schema-go/merge-sequences`):
//! of built-in kinds, of one with a schema of its own, and of kinds with random schemas.
//!
//! Some hundred of each are committed; with `FREEWHEEL_MERGE_SEQUENCES`, a command line that writes more of them, those
//! are played as well.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::gvk::{Gvk, split_api_version};
use freewheel_hub_schema::types::{Schema, Typed, canonicalise};
use freewheel_hub_structured_merge::{Manager, Operation, ResourcePart, Writing, applied, tracked};
use serde_json::{Value, json};

static COMMITTED: &[u8] = include_bytes!("sequences.jsonl.gz");
static SHAPES: &[u8] = include_bytes!("shapes.jsonl.gz");
static WIDGET: &str = include_str!("widget.json");

#[test]
fn sequences_of_writes_come_to_what_upstream_makes_of_them() {
    play_all(COMMITTED, &[]);
}

#[test]
fn writes_by_random_schemas_come_to_what_upstream_makes_of_them() {
    play_all(SHAPES, &["-shapes"]);
}

/// Plays those that are committed, and more where somebody writes them.
fn play_all(committed: &[u8], flags: &[&str]) {
    let mut played = play(BufReader::new(GzDecoder::new(committed)));
    assert!(300 <= played, "{played} sequences are committed");
    if let Ok(command) = std::env::var("FREEWHEEL_MERGE_SEQUENCES") {
        let mut words = command.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        let mut child = command.args(words).args(flags).stdout(Stdio::piped()).spawn().unwrap();
        let more = play(BufReader::new(child.stdout.take().unwrap()));
        assert!(child.wait().unwrap().success());
        assert_ne!(more, 0);
        played += more;
    }
    println!("{played} sequences");
}

fn play(lines: impl BufRead) -> usize {
    let structural = |gvk: Gvk, schema: &Value| Schema::structural(&gvk, schema).unwrap();
    let widget = Gvk::new("example.com", "v1", "Widget");
    let widget = structural(widget, &serde_json::from_str(WIDGET).unwrap());
    let mut played = 0;
    for line in lines.lines() {
        let sequence: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let (group, version) = split_api_version(sequence["apiVersion"].as_str().unwrap());
        let kind = sequence["kind"].as_str().unwrap();
        let own = sequence
            .get("schema")
            .map(|schema| structural(Gvk::new("example.com", "v1", "Shape"), schema));
        let facts = match kind {
            "Widget" => Some(widget.facts()),
            _ => own.as_ref().map(Schema::facts),
        };
        let typed = match kind {
            "Widget" | "Shape" | "Free" => Typed { group, version, kind, facts, form: None },
            _ => Typed::from((group, version, kind)),
        };
        let mut live = None;
        for (number, step) in sequence["steps"].as_array().unwrap().iter().enumerate() {
            let place = format!("seed {}, step {number}", sequence["seed"]);
            live = write(typed, live, step, number, &place);
        }
        played += 1;
    }
    played
}

/// Plays one step; answers the object after it.
fn write(
    typed: Typed<'_>,
    live: Option<Value>,
    step: &Value,
    number: usize,
    place: &str,
) -> Option<Value> {
    let text = |key: &str| step[key].as_str().unwrap_or_default();
    let apply = step["apply"] == true;
    let manager = Manager {
        name: text("manager").to_owned(),
        operation: if apply { Operation::Apply } else { Operation::Update },
        api_version: typed.api_version(),
        subresource: text("subresource").to_owned(),
    };
    let part =
        if manager.subresource.is_empty() { ResourcePart::Main } else { ResourcePart::Subresource };
    let reset: &[&[&str]] = if part == ResourcePart::Main { &[&["status"]] } else { &[&["spec"]] };
    let now = format!("2000-01-01T00:00:{number:02}Z");
    let writing = Writing { manager: &manager, reset, now: &now };
    let outcome = if apply {
        applied(typed, live.as_ref(), &step["body"], &writing, step["force"] == true)
            .map_err(|why| ApiError::from(why).message)
            .and_then(|mut object| formed(typed, &mut object).map(|()| object))
    } else if text("error").is_empty() {
        let mut new = step["body"].clone();
        formed(typed, &mut new).unwrap();
        tracked(typed, part, live.as_ref(), &mut new, &writing);
        Ok(new)
    } else {
        // Upstream gives up all owners where an element of a list has none of its keys.
        return live;
    };
    match outcome {
        Ok(mut object) => {
            assert_eq!(text("error"), "", "{place}: {step:#}");
            object["metadata"]["uid"] = json!("u");
            let mut expected = step["object"].clone();
            formed(typed, &mut expected).unwrap();
            let mut shown = object.clone();
            whole_numbers(&mut shown);
            whole_numbers(&mut expected);
            let before = live.unwrap_or_default();
            assert!(
                shown == expected,
                "{place}: {step}\nbefore: {before}\nours: {shown}\nupstream: {expected}"
            );
            Some(object)
        }
        Err(error) => {
            assert!(same(&error, text("error")), "{place}: {error}\n{step}\nbefore: {live:?}");
            live
        }
    }
}

/// Objects of built-in kinds are canonical between writes; of the others, everything stays.
fn formed(typed: Typed<'_>, object: &mut Value) -> Result<(), String> {
    if typed.group == "example.com" {
        return Ok(());
    }
    canonicalise(object, typed).map(drop).map_err(|error| error.message)
}

/// Go walks maps in any order.
fn same(ours: &str, theirs: &str) -> bool {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    // What is wrong with an object that is there already, or cannot be made a Go struct, is told in words of Go's own.
    let told = ["failed to convert new", "failed to create manager for existing fields"];
    let converted =
        told.iter().any(|told| theirs.starts_with(told)) && !ours.starts_with("Apply failed");
    converted || sorted(ours) == sorted(theirs)
}

/// 1.0 is 1; and a port that was not given, which Go writes as 0, is left out.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(map) => {
            map.values_mut().for_each(whole_numbers);
            map.retain(|key, value| !matches!(&**key, "port" | "targetPort") || *value != 0);
        }
        Value::Number(number) => {
            let whole = number.as_f64().filter(|float| float.fract() == 0.0);
            if let Some(whole) = whole.and_then(|float| format!("{float:.0}").parse::<i64>().ok()) {
                *value = json!(whole);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
