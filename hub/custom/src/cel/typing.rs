//! What an expression says of values that cannot be: fields that their schema does not know.

use freewheel_hub_cel::{Expr, Expression, IdedExpr, STACK_BYTES, inside, on_a_stack_of, parse};
use serde_json::Value;

use super::rule::KNOWN;
use super::values;
use crate::schema::Schema;

/// What is wrong with the rules of a node of a schema, by the place of each.
#[must_use]
pub fn wrong(schema: &Schema, rule: &Value) -> Vec<(&'static str, String)> {
    on_a_stack_of(STACK_BYTES, || mistakes(schema, rule))
        .unwrap_or_else(|why| vec![("rule", format!("compilation failed: {why}"))])
}

fn mistakes(schema: &Schema, rule: &Value) -> Vec<(&'static str, String)> {
    let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
    let (mut found, mut uses_old) = (Vec::new(), false);
    for key in ["rule", "messageExpression"] {
        if text(key).is_empty() {
            continue;
        }
        let parsed = parse(text(key)).map_err(|why| why.to_string());
        let read = parsed.and_then(|parsed| match undefined(schema, &parsed) {
            Some(field) => Err(format!("undefined field '{field}'")),
            None => Expression::of(parsed, &KNOWN),
        });
        match read {
            Ok(read) => uses_old |= key == "rule" && read.uses("oldSelf"),
            Err(why) => found.push((key, format!("compilation failed: {why}"))),
        }
    }
    if rule.get("optionalOldSelf").is_some() && !uses_old {
        found.push(("optionalOldSelf", "may not be set if oldSelf is not used in rule".to_owned()));
    }
    found
}

/// A field that an expression says of `self`, and the schema does not know.
fn undefined(schema: &Schema, expression: &IdedExpr) -> Option<String> {
    if let Err(field) = typed(schema, expression) {
        return Some(field);
    }
    inside(expression).into_iter().find_map(|part| undefined(schema, part))
}

/// The schema of what stands here, when that is known.
fn typed<'a>(schema: &'a Schema, expression: &IdedExpr) -> Result<Option<&'a Schema>, String> {
    match &expression.expr {
        Expr::Ident(name) if name == "self" => Ok(Some(schema)),
        Expr::Select(select) => {
            let Some(of) = typed(schema, &select.operand)? else { return Ok(None) };
            let field = values::field(&select.field);
            let common = matches!(field.as_str(), "metadata" | "apiVersion" | "kind");
            if let Some(found) = of.properties.get(field.as_str()) {
                return Ok(if common { None } else { Some(found) });
            }
            let each = of.additional.each();
            let is_closed = of.is.is_some() && !of.int_or_string && !of.open && each.is_none();
            if is_closed && !common { Err(select.field.clone()) } else { Ok(each) }
        }
        _ => Ok(None),
    }
}
