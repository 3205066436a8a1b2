//! JSON as Go's encoder writes it, where a digest or a length is taken of it.
//!
//! Guarantees:
//! - what HTML minds is escaped, and numbers have an exponent where Go's have one (`json_is_written_as_go_writes_it`).

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// A value, maps in the order of their keys.
#[must_use]
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                out.push(if at == 0 { '[' } else { ',' });
                write(item, out);
            }
            out.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Value::Object(map) => {
            for (at, (key, value)) in map.iter().enumerate() {
                out.push(if at == 0 { '{' } else { ',' });
                write_text(key, out);
                out.push(':');
                write(value, out);
            }
            out.push_str(if map.is_empty() { "{}" } else { "}" });
        }
    }
}

fn write_number(number: &Number, out: &mut String) {
    // A text takes whatever is written to it.
    let _ = match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) if float != 0.0 && !(1e-6..1e21).contains(&float.abs()) => {
            let text = format!("{float:e}");
            let sign = if text.contains("e-") { "e" } else { "e+" };
            write!(out, "{}", text.replacen('e', sign, 1))
        }
        Some(float) => write!(out, "{float}"),
        None => write!(out, "{number}"),
    };
}

fn write_text(text: &str, out: &mut String) {
    for letter in Value::from(text).to_string().chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_written_as_go_writes_it() {
        let value = json!({"b": [1, true, null, -2.5, 3.0, 1e21, 1e20, 1e-7, 0.000_001], "a<": "x&\"\u{2028}\n", "c": {}, "d": []});
        let expected = r#"{"a\u003c":"x\u0026\"\u2028\n","b":[1,true,null,-2.5,3,1e+21,100000000000000000000,1e-7,0.000001],"c":{},"d":[]}"#;
        assert_eq!(text(&value), expected);
    }
}
