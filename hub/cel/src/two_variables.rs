//! Loops over two variables as loops over one, which the evaluator knows: what is gone through has a name, the one variable is
//! its places, and the second is what is there. Nothing is copied for a turn.
//!
//! ```text
//! l.all(i, x, x > i)            @range7 = l; @places(@range7).all(@place7, @range7[@place7] > @place7)
//! m.transformMap(k, v, f(v))    @mapped(the same that makes a list of [@place7, f(@range7[@place7])])
//! m.transformMapEntry(k, v, e)  @merged(the same that makes a list of e)
//! ```
//!
//! Names with an @ are nobody's to write, and no loop's are another's: inner names hide outer ones
//! (`inner_names_hide_outer_ones`).

use cel::IdedExpr;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, ListExpr, LiteralValue, operators,
};

use crate::macros::{MAP_INSERT, bind};

fn part(expr: Expr) -> IdedExpr {
    IdedExpr { id: 0, expr }
}

fn named(name: &str) -> IdedExpr {
    part(Expr::Ident(name.to_owned()))
}

fn call(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    part(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
}

fn list(elements: Vec<IdedExpr>) -> IdedExpr {
    part(Expr::List(ListExpr::new(elements)))
}

/// The loop with this number over one variable.
pub(crate) fn in_one(id: u64, mut it: ComprehensionExpr) -> IdedExpr {
    let (range, place) = (format!("@range{id}"), format!("@place{id}"));
    let key = std::mem::replace(&mut it.iter_var, place.clone());
    let value = it.iter_var2.take().unwrap_or_default();
    let there = call(operators::INDEX, vec![named(&range), named(&place)]);
    let names = [(key, named(&place).expr), (value, there.expr)];
    let names: Vec<Name<'_>> = names.iter().map(|(name, of)| (name.as_str(), of)).collect();
    for part in [&mut it.loop_cond, &mut it.loop_step, &mut it.result] {
        put(part, &names);
    }
    let around = as_list(&mut it);
    let places = call("@places", vec![named(&range)]);
    let value = std::mem::replace(&mut it.iter_range, places);
    let never = part(Expr::Literal(LiteralValue::Boolean(false.into())));
    let turns = IdedExpr { id, expr: Expr::Comprehension(Box::new(it)) };
    let it = bind(&range, value, [list(Vec::new()), never, named(&range)], turns);
    let it = part(Expr::Comprehension(Box::new(it)));
    match around {
        Some(around) => call(around, vec![it]),
        None => it,
    }
}

/// Has a loop that makes a map make a list of its entries instead; what makes a map of that.
fn as_list(it: &mut ComprehensionExpr) -> Option<&'static str> {
    let around = entries(&mut it.loop_step)?;
    it.accu_init = list(Vec::new());
    Some(around)
}

/// The same of a step, which may be there for what a filter lets through.
fn entries(step: &mut IdedExpr) -> Option<&'static str> {
    let Expr::Call(it) = &mut step.expr else { return None };
    if it.func_name == operators::CONDITIONAL {
        return entries(it.args.get_mut(1)?);
    }
    if it.func_name != MAP_INSERT {
        return None;
    }
    let mut args = std::mem::take(&mut it.args).into_iter();
    let before = args.next()?;
    let (added, around) = match (args.next()?, args.next()) {
        (key, Some(value)) => (list(vec![key, value]), "@mapped"),
        (map, None) => (map, "@merged"),
    };
    *it = CallExpr {
        func_name: operators::ADD.to_owned(),
        target: None,
        args: vec![before, list(vec![added])],
    };
    Some(around)
}

/// A name, and what is put in its place.
type Name<'a> = (&'a str, &'a Expr);

fn put(part: &mut IdedExpr, names: &[Name<'_>]) {
    match &mut part.expr {
        Expr::Ident(own) => {
            if let Some((_, of)) = names.iter().find(|(name, _)| *name == own.as_str()) {
                part.expr = (*of).clone();
            }
        }
        Expr::Call(it) => {
            it.target.as_deref_mut().into_iter().chain(&mut it.args).for_each(|it| put(it, names));
        }
        Expr::Comprehension(it) => put_in_loop(it, names),
        Expr::List(it) => it.elements.iter_mut().for_each(|it| put(it, names)),
        Expr::Map(it) => put_in_entries(it.entries.iter_mut().map(|it| &mut it.expr), names),
        Expr::Struct(it) => put_in_entries(it.entries.iter_mut().map(|it| &mut it.expr), names),
        Expr::Select(it) => put(&mut it.operand, names),
        Expr::Literal(_) | Expr::Unspecified => {}
    }
}

fn put_in_loop(it: &mut ComprehensionExpr, names: &[Name<'_>]) {
    put(&mut it.iter_range, names);
    put(&mut it.accu_init, names);
    let is_own = |name: &str| {
        name == it.iter_var || name == it.accu_var || it.iter_var2.as_deref() == Some(name)
    };
    let left: Vec<Name<'_>> = names.iter().filter(|(name, _)| !is_own(name)).copied().collect();
    for part in [&mut it.loop_cond, &mut it.loop_step, &mut it.result] {
        put(part, &left);
    }
}

fn put_in_entries<'e>(all: impl Iterator<Item = &'e mut EntryExpr>, names: &[Name<'_>]) {
    for entry in all {
        match entry {
            EntryExpr::StructField(field) => put(&mut field.value, names),
            EntryExpr::MapEntry(entry) => {
                put(&mut entry.key, names);
                put(&mut entry.value, names);
            }
        }
    }
}
