//! What trees take of the memory, by what they are made of.

use serde_json::{Map, Value, json};

use super::{Additional, Rules, Schema};

/// The most that a tree may take for each byte of its text.
const MULTIPLE_MAX: usize = 15;
const MANY: usize = 10_000;

/// What a part of so many bytes takes of a heap.
fn heap(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

fn texts(all: &[Box<str>]) -> usize {
    heap(size_of_val(all)) + all.iter().map(|one| heap(one.len())).sum::<usize>()
}

fn rules(rules: &Rules) -> usize {
    let values = rules.values.all();
    let text = |value: &Value| value.as_str().map_or(0, |text| heap(text.len()));
    // And their places.
    let places = heap(values.len() * size_of::<usize>());
    heap(size_of::<Rules>())
        + texts(&rules.required)
        + heap(size_of_val(values))
        + values.iter().map(text).sum::<usize>()
        + places
}

/// What a schema takes beside itself.
fn inside(schema: &Schema) -> usize {
    let each = match &schema.additional {
        Additional::Of(each) => Some(&**each),
        Additional::Unsaid | Additional::None | Additional::Any => None,
    };
    let boxed = each.into_iter().chain(schema.items.as_deref());
    let fields = (&schema.properties).into_iter();
    heap(schema.properties.len() * size_of::<(Box<str>, Schema)>())
        + fields.map(|(name, of)| heap(name.len()) + inside(of)).sum::<usize>()
        + boxed.map(|of| heap(size_of::<Schema>()) + inside(of)).sum::<usize>()
        + schema.rules.0.as_deref().map_or(0, rules)
}

fn fields(of: &Value) -> Value {
    let fields: Map<_, _> = (0..MANY).map(|at| (format!("p{at:05}"), of.clone())).collect();
    json!({"type": "object", "properties": fields})
}

#[test]
fn a_tree_is_a_small_multiple_of_its_text() {
    let names: Vec<String> = (0..MANY).map(|at| format!("n{at:05}")).collect();
    let two = json!({"a": {"type": "string"}, "b": {"type": "integer"}});
    for said in [
        fields(&json!({"type": "string"})),
        fields(&json!({"type": "object", "properties": two})),
        fields(&json!({"type": "array", "items": {"type": "string"}})),
        fields(&json!({"type": "string", "minLength": 1})),
        json!({"type": "object", "required": names}),
        json!({"type": "string", "enum": names}),
        json!({"type": "integer", "enum": (0..MANY).collect::<Vec<_>>()}),
    ] {
        let (text, schema) = (said.to_string().len(), Schema::read(&said));
        let bytes = size_of::<Schema>() + inside(&schema);
        let words: String = said.to_string().chars().take(80).collect();
        assert!(bytes < MULTIPLE_MAX * text, "{bytes} bytes for {text} of {words}");
    }
}
