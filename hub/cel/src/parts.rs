//! What an expression is made of.

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr};

/// Levels of an expression: the evaluator takes a few frames of the stack for each.
pub(crate) const DEPTH_MAX: usize = 200;

/// The parts inside of one.
#[must_use]
pub fn inside(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(it) => {
            vec![&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => entries(map.entries.iter().map(|entry| &entry.expr)),
        Expr::Struct(it) => entries(it.entries.iter().map(|entry| &entry.expr)),
        Expr::Select(select) => vec![&*select.operand],
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn entries<'a>(all: impl Iterator<Item = &'a EntryExpr>) -> Vec<&'a IdedExpr> {
    let of = |entry: &'a EntryExpr| match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    };
    all.flat_map(of).collect()
}

/// How deep it is, below so many levels.
pub(crate) fn depth(expression: &IdedExpr, above: usize) -> usize {
    if 2 * DEPTH_MAX < above {
        return above;
    }
    inside(expression).into_iter().map(|it| depth(it, above + 1)).max().unwrap_or(above)
}

/// How many there are.
pub(crate) fn parts(expression: &IdedExpr) -> u64 {
    1 + inside(expression).into_iter().map(parts).sum::<u64>()
}
