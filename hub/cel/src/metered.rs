//! The meter in an expression: what is evaluated in place of what was written.
//!
//! ```text
//! all, exists, …    loop while @turn(n) && what it said
//! map, filter       @turn(n) && what it asked ? and the element : nothing
//! a + b             @sized(a + b)
//! Object{a: 1}      {"@type": "Object", "a": 1}
//! ```
//!
//! Names with an @ are nobody's to write.

use cel::IdedExpr;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, LiteralValue, MapEntryExpr,
    MapExpr, StructExpr, operators,
};

use crate::parts::parts;

/// The key under which an object that an expression makes says its type.
pub(crate) const TYPE_KEY: &str = "@type";

fn call(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    let call = CallExpr { func_name: name.to_owned(), target: None, args };
    IdedExpr { id: 0, expr: Expr::Call(call) }
}

/// Puts the meter into every loop.
pub(crate) fn meter(expression: IdedExpr) -> IdedExpr {
    let IdedExpr { id, expr } = expression;
    let expr = match expr {
        Expr::Call(mut it) => {
            it.target = it.target.map(|target| Box::new(meter(*target)));
            it.args = it.args.into_iter().map(meter).collect();
            if it.func_name == "matches" {
                // Metered, and with patterns that are kept.
                let target = it.target.map(|target| *target);
                return call("@matches", target.into_iter().chain(it.args).collect());
            }
            if it.func_name == operators::ADD {
                return call("@sized", vec![IdedExpr { id, expr: Expr::Call(it) }]);
            }
            Expr::Call(it)
        }
        Expr::Comprehension(it) => Expr::Comprehension(Box::new(metered_loop(*it))),
        Expr::List(mut it) => {
            it.elements = it.elements.into_iter().map(meter).collect();
            Expr::List(it)
        }
        Expr::Map(mut it) => {
            it.entries.iter_mut().for_each(|entry| meter_entry(&mut entry.expr));
            Expr::Map(it)
        }
        Expr::Struct(it) => Expr::Map(made(it)),
        Expr::Select(mut it) => {
            it.operand = Box::new(meter(*it.operand));
            Expr::Select(it)
        }
        plain @ (Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified) => plain,
    };
    IdedExpr { id, expr }
}

/// An object that is made is a map that says its type.
fn made(it: StructExpr) -> MapExpr {
    let text = |text: String| {
        let text = LiteralValue::String(text.as_str().to_owned().into());
        IdedExpr { id: 0, expr: Expr::Literal(text) }
    };
    let entry = |key: String, value: IdedExpr, optional: bool| {
        let entry = MapEntryExpr { key: text(key), value, optional };
        IdedEntryExpr { id: 0, expr: EntryExpr::MapEntry(entry) }
    };
    let mut entries = vec![entry(TYPE_KEY.to_owned(), text(it.type_name), false)];
    for field in it.entries {
        if let EntryExpr::StructField(field) = field.expr {
            entries.push(entry(field.field, meter(field.value), field.optional));
        }
    }
    MapExpr { entries }
}

fn meter_entry(entry: &mut EntryExpr) {
    let renew = |part: &mut IdedExpr| *part = meter(std::mem::take(part));
    match entry {
        EntryExpr::StructField(field) => renew(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            renew(&mut entry.key);
            renew(&mut entry.value);
        }
    }
}

fn metered_loop(mut it: ComprehensionExpr) -> ComprehensionExpr {
    let turn = |parts: u64| {
        let parts = i64::try_from(parts).unwrap_or(i64::MAX);
        call(
            "@turn",
            vec![IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(parts.into())) }],
        )
    };
    let body = parts(&it.loop_step) + parts(&it.loop_cond);
    it.iter_range = meter(it.iter_range);
    it.accu_init = meter(it.accu_init);
    it.result = meter(it.result);
    let never_ends = matches!(it.loop_cond.expr, Expr::Literal(_));
    let step = std::mem::take(&mut it.loop_step);
    match (never_ends, step.expr) {
        // What makes a list, guarded: the evaluator knows this form, and makes it in place.
        (true, Expr::Call(mut step)) if step.func_name == operators::CONDITIONAL => {
            let guard = step.args.first_mut().map(std::mem::take).unwrap_or_default();
            if let Some(place) = step.args.first_mut() {
                *place = call(operators::LOGICAL_AND, vec![turn(body), meter(guard)]);
            }
            if let Some(added) = step.args.get_mut(1) {
                *added = meter_added(std::mem::take(added));
            }
            it.loop_step = IdedExpr { id: 0, expr: Expr::Call(step) };
        }
        (true, Expr::Call(step)) if step.func_name == operators::ADD => {
            let added = meter_added(IdedExpr { id: 0, expr: Expr::Call(step) });
            let kept = IdedExpr { id: 0, expr: Expr::Ident(it.accu_var.clone()) };
            it.loop_step = call(operators::CONDITIONAL, vec![turn(body), added, kept]);
        }
        (_, step) => {
            it.loop_step = meter(IdedExpr { id: 0, expr: step });
            let goes_on = meter(std::mem::take(&mut it.loop_cond));
            it.loop_cond = call(operators::LOGICAL_AND, vec![turn(body), goes_on]);
        }
    }
    it
}

/// `@result + [element]`, with what is inside of the element.
fn meter_added(added: IdedExpr) -> IdedExpr {
    let IdedExpr { id, expr } = added;
    let Expr::Call(mut it) = expr else { return meter(IdedExpr { id, expr }) };
    it.args = it.args.into_iter().map(meter).collect();
    IdedExpr { id, expr: Expr::Call(it) }
}
