//! The meter in an expression: what is evaluated in place of what was written.
//!
//! ```text
//! all, exists, …    @kept(@mark(), loop over @ranged(list) while @turn(n) && what it said)
//! map, filter       @turn(n) && what it asked ? and the element : nothing
//! transformMap, …   loops over one variable (`two_variables`)
//! [a, 1]            @list(bytes of what is written there, [@copied(a), 1])
//! a + b             @added(a) + @added(b)
//! a == b, a in b    @equal(a, b), @within(a, b)
//! f(a)              @made(f(@walked(a))), where it is the evaluator's own
//! Object{a: 1}      {"@type": "Object", "a": 1}
//! ```
//!
//! Whatever is copied is counted before, and whatever is not copied is not. `library/metering.rs` says what they do.
//!
//! Names with an @ are nobody's to write.

use cel::IdedExpr;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, ListExpr, LiteralValue,
    MapEntryExpr, MapExpr, StructExpr, operators,
};

use crate::library;
use crate::parts::{inside, parts};
use crate::two_variables;
use crate::value::TYPE_KEY;
use crate::weight::VALUE_BYTES;

fn call(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    let call = CallExpr { func_name: name.to_owned(), target: None, args };
    IdedExpr { id: 0, expr: Expr::Call(call) }
}

/// Puts the meter into every loop, and around every value that is made, copied or compared.
pub(crate) fn meter(expression: IdedExpr) -> IdedExpr {
    around("@copied", inner(expression))
}

fn inner(expression: IdedExpr) -> IdedExpr {
    let IdedExpr { id, expr } = expression;
    let expr = match expr {
        Expr::Call(it) => return metered_call(id, it),
        Expr::Comprehension(it) if it.iter_var2.is_some() => {
            return inner(two_variables::in_one(id, *it));
        }
        Expr::Comprehension(it) => {
            let it = IdedExpr { id, expr: Expr::Comprehension(Box::new(metered_loop(*it))) };
            return call("@kept", vec![call("@mark", Vec::new()), it]);
        }
        Expr::List(it) => return listed(id, it),
        Expr::Map(it) => return mapped(id, it),
        Expr::Struct(it) => return mapped(id, made(it)),
        Expr::Select(mut it) => {
            it.operand = Box::new(inner(*it.operand));
            Expr::Select(it)
        }
        plain @ (Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified) => plain,
    };
    IdedExpr { id, expr }
}

/// What it is, counted by a function; a number costs nothing.
fn around(name: &str, part: IdedExpr) -> IdedExpr {
    match &part.expr {
        Expr::Literal(literal) if literal_bytes(literal) <= VALUE_BYTES => part,
        _ => call(name, vec![part]),
    }
}

fn metered_call(id: u64, mut it: CallExpr) -> IdedExpr {
    let own = is_own(&it);
    let is_space = it.target.as_deref().is_some_and(|target| is_space(target, &it.func_name));
    let count = match it.func_name.as_str() {
        _ if own => None,
        operators::ADD => Some("@added"),
        operators::LESS
        | operators::LESS_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS => Some("@walked"),
        name if name.starts_with(['_', '@', '!', '-']) => None,
        _ => Some("@walked"),
    };
    let part = |part: IdedExpr| match count {
        Some(count) => around(count, inner(part)),
        None => inner(part),
    };
    it.args = it.args.into_iter().map(part).collect();
    if !is_space {
        it.target = it.target.map(|target| Box::new(part(*target)));
    }
    match it.func_name.as_str() {
        "matches" => {
            // Metered, and with patterns that are kept.
            let target = it.target.map(|target| *target);
            call("@matches", target.into_iter().chain(it.args).collect())
        }
        operators::EQUALS => call("@equal", it.args),
        operators::NOT_EQUALS => call(operators::LOGICAL_NOT, vec![call("@equal", it.args)]),
        operators::IN => call("@within", it.args),
        name if own || !makes_values(name) => IdedExpr { id, expr: Expr::Call(it) },
        _ => call("@made", vec![IdedExpr { id, expr: Expr::Call(it) }]),
    }
}

/// A function that counts by itself.
fn is_own(it: &CallExpr) -> bool {
    let space = it.target.as_deref().and_then(|target| qualified(target, &it.func_name));
    let named = |name: &str| library::is_added(name);
    it.func_name == "matches" || named(&it.func_name) || space.is_some_and(|name| named(&name))
}

/// What stands before a function's name is a part of the name, and no value.
fn is_space(target: &IdedExpr, function: &str) -> bool {
    qualified(target, function).is_some_and(|name| library::is_function(&name))
}

fn qualified(target: &IdedExpr, function: &str) -> Option<String> {
    let Expr::Ident(space) = &target.expr else { return None };
    Some(format!("{}.{function}", space.trim_start_matches('.')))
}

/// Whether what a function of the evaluator answers may be more than a number, and new.
fn makes_values(function: &str) -> bool {
    const NUMBERS: [&str; 13] = [
        "size",
        "contains",
        "startsWith",
        "endsWith",
        "int",
        "uint",
        "double",
        "bool",
        "type",
        "duration",
        "timestamp",
        "hasValue",
        "has",
    ];
    let is_operator = function.starts_with(['_', '@', '!', '-']);
    let asks = [operators::OPT_INDEX, operators::OPT_SELECT].contains(&function);
    asks || (!is_operator && !NUMBERS.contains(&function) && !function.starts_with("get"))
}

fn literal_bytes(literal: &LiteralValue) -> usize {
    match literal {
        LiteralValue::String(text) => text.inner().len(),
        LiteralValue::Bytes(bytes) => bytes.inner().len(),
        _ => 0,
    }
}

/// A value that is put into another: its copy is counted, and at once that of what is written there.
fn put(part: IdedExpr, bytes: &mut usize) -> IdedExpr {
    if let Expr::Literal(literal) = &part.expr {
        *bytes = bytes.saturating_add(VALUE_BYTES + literal_bytes(literal));
        return part;
    }
    call("@copied", vec![inner(part)])
}

fn with_bytes(bytes: usize, part: IdedExpr) -> IdedExpr {
    call("@list", vec![number(u64::try_from(bytes).unwrap_or(u64::MAX)), part])
}

fn number(number: u64) -> IdedExpr {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(number.into())) }
}

fn listed(id: u64, mut it: ListExpr) -> IdedExpr {
    let mut bytes = VALUE_BYTES;
    it.elements = it.elements.into_iter().map(|element| put(element, &mut bytes)).collect();
    with_bytes(bytes, IdedExpr { id, expr: Expr::List(it) })
}

fn mapped(id: u64, mut it: MapExpr) -> IdedExpr {
    let mut bytes = VALUE_BYTES;
    let mut renew = |part: &mut IdedExpr| *part = put(std::mem::take(part), &mut bytes);
    for entry in &mut it.entries {
        match &mut entry.expr {
            EntryExpr::StructField(field) => renew(&mut field.value),
            EntryExpr::MapEntry(entry) => {
                renew(&mut entry.key);
                renew(&mut entry.value);
            }
        }
    }
    with_bytes(bytes, IdedExpr { id, expr: Expr::Map(it) })
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
            entries.push(entry(field.field, field.value, field.optional));
        }
    }
    MapExpr { entries }
}

fn metered_loop(mut it: ComprehensionExpr) -> ComprehensionExpr {
    let body = parts(&it.loop_step) + parts(&it.loop_cond);
    let turn = call("@turn", vec![number(body)]);
    it.iter_range = around("@ranged", inner(it.iter_range));
    it.accu_init = match it.accu_init.expr {
        // The evaluator knows it.
        Expr::List(list) if list.elements.is_empty() => {
            IdedExpr { id: it.accu_init.id, expr: Expr::List(list) }
        }
        _ => around("@copied", inner(it.accu_init)),
    };
    let is_kept = matches!(&it.result.expr, Expr::Ident(name) if *name == it.accu_var);
    if !is_kept {
        it.result = around("@copied", inner(it.result));
    }
    let never_ends = matches!(it.loop_cond.expr, Expr::Literal(_));
    let step = std::mem::take(&mut it.loop_step);
    match (never_ends, step.expr) {
        // What makes a list, guarded: the evaluator knows this form, and makes it in place.
        (true, Expr::Call(mut step)) if step.func_name == operators::CONDITIONAL => {
            let guard = step.args.first_mut().map(std::mem::take).unwrap_or_default();
            if let Some(place) = step.args.first_mut() {
                *place = call(operators::LOGICAL_AND, vec![turn, let_go(guard)]);
            }
            if let Some(added) = step.args.get_mut(1) {
                *added = metered_added(std::mem::take(added));
            }
            it.loop_step = IdedExpr { id: 0, expr: Expr::Call(step) };
        }
        (true, Expr::Call(step)) if step.func_name == operators::ADD => {
            let added = metered_added(IdedExpr { id: 0, expr: Expr::Call(step) });
            let kept = IdedExpr { id: 0, expr: Expr::Ident(it.accu_var.clone()) };
            it.loop_step = call(operators::CONDITIONAL, vec![turn, added, kept]);
        }
        (_, step) => {
            it.loop_step = metered_step(IdedExpr { id: 0, expr: step });
            let goes_on = inner(std::mem::take(&mut it.loop_cond));
            it.loop_cond = call(operators::LOGICAL_AND, vec![turn, goes_on]);
        }
    }
    it
}

/// A part of a loop's body, which lets go of all that it made but its value.
fn let_go(part: IdedExpr) -> IdedExpr {
    let makes = makes(&part);
    let part = inner(part);
    if makes { call("@kept", vec![call("@mark", Vec::new()), part]) } else { part }
}

fn makes(part: &IdedExpr) -> bool {
    let itself = match &part.expr {
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Comprehension(_) => true,
        Expr::Call(it) => {
            it.func_name == operators::ADD || is_own(it) || makes_values(&it.func_name)
        }
        _ => false,
    };
    itself || inside(part).into_iter().any(makes)
}

/// `@result && body` keeps its form: the evaluator knows it.
fn metered_step(step: IdedExpr) -> IdedExpr {
    match step.expr {
        Expr::Call(mut it)
            if [operators::LOGICAL_AND, operators::LOGICAL_OR].contains(&it.func_name.as_str()) =>
        {
            it.args = it.args.into_iter().map(let_go).collect();
            IdedExpr { id: step.id, expr: Expr::Call(it) }
        }
        expr => let_go(IdedExpr { id: step.id, expr }),
    }
}

/// `@result + [element]`, with what is inside of the element.
fn metered_added(added: IdedExpr) -> IdedExpr {
    let IdedExpr { id, expr } = added;
    let Expr::Call(mut it) = expr else { return inner(IdedExpr { id, expr }) };
    if let Some(IdedExpr { expr: Expr::List(list), .. }) = it.args.get_mut(1) {
        let elements = std::mem::take(&mut list.elements);
        let copied = |element| call("@copied", vec![let_go(element)]);
        list.elements = elements.into_iter().map(copied).collect();
    }
    IdedExpr { id, expr: Expr::Call(it) }
}
