//! An expression: parsed once, with a meter in every loop.
//!
//! ```text
//! all, exists, …    loop while @turn(n) && what it said
//! map, filter       @turn(n) && what it asked ? and the element : nothing
//! a + b             @sized(a + b)
//! ```
//!
//! Names with an @ are nobody's to write.
//!
//! Guarantees:
//! - no text overflows the stack, whatever it is made of (`no_expression_overflows_the_stack`).

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};

use super::library;
use super::stack::{STACK_BYTES, on_a_stack_of};

/// Bytes of an expression.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Letters of it that are neither of a word nor space, and each `in`, also of longer words: each level of what the parser makes takes one.
const SIGNS_MAX: usize = 2_000;
/// Levels of one: the evaluator takes a few frames of the stack for each.
const DEPTH_MAX: usize = 200;

/// An expression.
#[derive(Debug)]
pub struct Expression {
    metered: IdedExpr,
    parts: u64,
    uses_old: bool,
}

impl Expression {
    /// From its text.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        check_text(text)?;
        on_a_stack_of(STACK_BYTES, || Self::of(parse_bounded(text)?))?
    }

    /// From what it was parsed to.
    pub(super) fn of(parsed: IdedExpr) -> Result<Self, String> {
        let mut names = Names::default();
        names.look(&parsed, &mut vec!["self".to_owned(), "oldSelf".to_owned()]);
        if let Some(unknown) = names.unknown {
            return Err(format!("undeclared reference to '{unknown}' (in container '')"));
        }
        let parts = parts(&parsed);
        Ok(Self { metered: meter(parsed), parts, uses_old: names.uses_old })
    }

    /// What is evaluated.
    pub(super) fn metered(&self) -> &IdedExpr {
        &self.metered
    }

    /// How many parts it has.
    pub(super) fn parts(&self) -> u64 {
        self.parts
    }

    /// Whether it speaks of what was before.
    pub(super) fn uses_old(&self) -> bool {
        self.uses_old
    }
}

/// The expression that a text is. It is handled where there is room for it.
pub(super) fn parse(text: &str) -> Result<IdedExpr, String> {
    check_text(text)?;
    on_a_stack_of(STACK_BYTES, || parse_bounded(text))?
}

/// Bounds the levels of what the parser will make.
fn check_text(text: &str) -> Result<(), String> {
    if TEXT_BYTES_MAX < text.len() {
        return Err(format!("an expression may have {TEXT_BYTES_MAX} bytes"));
    }
    let mut open = 0_usize;
    for letter in text.chars() {
        match letter {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        if DEPTH_MAX < open {
            return Err("an expression may not be nested so deeply".to_owned());
        }
    }
    let is_sign = |letter: &char| !letter.is_alphanumeric() && !letter.is_whitespace();
    let signs = text.chars().filter(is_sign).count() + text.matches("in").count();
    if SIGNS_MAX < signs {
        return Err(format!("an expression may have {SIGNS_MAX} operators and brackets"));
    }
    Ok(())
}

/// Deep trees are made here, and go here.
fn parse_bounded(text: &str) -> Result<IdedExpr, String> {
    let parsed = library::env().parser().parse(text).map_err(|errors| {
        let text = errors.to_string();
        text.lines().next().unwrap_or_default().to_owned()
    })?;
    if DEPTH_MAX < depth(&parsed, 0) {
        return Err("an expression may not be nested so deeply".to_owned());
    }
    Ok(parsed)
}

/// The parts inside of one.
pub(super) fn inside(expression: &IdedExpr) -> Vec<&IdedExpr> {
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

fn depth(expression: &IdedExpr, above: usize) -> usize {
    if 2 * DEPTH_MAX < above {
        return above;
    }
    inside(expression).into_iter().map(|it| depth(it, above + 1)).max().unwrap_or(above)
}

fn parts(expression: &IdedExpr) -> u64 {
    1 + inside(expression).into_iter().map(parts).sum::<u64>()
}

/// Names that an expression says.
#[derive(Default)]
struct Names {
    unknown: Option<String>,
    uses_old: bool,
}

impl Names {
    fn look(&mut self, expression: &IdedExpr, known: &mut Vec<String>) {
        match &expression.expr {
            Expr::Ident(name) => {
                self.uses_old |= name == "oldSelf";
                let plain = name.trim_start_matches('.');
                if !known.iter().any(|one| one == plain) && !library::is_type(plain) {
                    self.unknown.get_or_insert_with(|| plain.to_owned());
                }
            }
            Expr::Call(call) => self.look_at_call(call, known),
            Expr::Comprehension(it) => {
                self.look(&it.iter_range, known);
                self.look(&it.accu_init, known);
                let before = known.len();
                known.extend([it.iter_var.clone(), it.accu_var.clone()]);
                known.extend(it.iter_var2.clone());
                for part in [&it.loop_cond, &it.loop_step, &it.result] {
                    self.look(part, known);
                }
                known.truncate(before);
            }
            _ => inside(expression).into_iter().for_each(|part| self.look(part, known)),
        }
    }

    fn look_at_call(&mut self, call: &CallExpr, known: &mut Vec<String>) {
        let qualified = call.target.as_deref().and_then(|target| match &target.expr {
            Expr::Ident(space) => Some(format!("{space}.{}", call.func_name)),
            _ => None,
        });
        let spaced = qualified.filter(|name| library::is_function(name));
        if spaced.is_none() {
            if !library::is_function(&call.func_name) {
                self.unknown.get_or_insert_with(|| call.func_name.clone());
            }
            if let Some(target) = &call.target {
                self.look(target, known);
            }
        }
        call.args.iter().for_each(|part| self.look(part, known));
    }
}

fn call(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    let call = CallExpr { func_name: name.to_owned(), target: None, args };
    IdedExpr { id: 0, expr: Expr::Call(call) }
}

/// Puts the meter into every loop.
fn meter(expression: IdedExpr) -> IdedExpr {
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
        Expr::Struct(mut it) => {
            it.entries.iter_mut().for_each(|entry| meter_entry(&mut entry.expr));
            Expr::Struct(it)
        }
        Expr::Select(mut it) => {
            it.operand = Box::new(meter(*it.operand));
            Expr::Select(it)
        }
        plain @ (Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified) => plain,
    };
    IdedExpr { id, expr }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::before::Before;
    use crate::schema::Schema;

    /// What makes trees deep, `n` times.
    fn forms(n: usize) -> Vec<String> {
        let around = |open: &str, close: &str| format!("{}1{}", open.repeat(n), close.repeat(n));
        vec![
            format!("1{}", "+1".repeat(n)),
            format!("1{}", "-1".repeat(n)),
            format!("1{}", "*1".repeat(n)),
            format!("1{}", "<1".repeat(n)),
            format!("1{}", " in 1".repeat(n)),
            format!("{}[]", "1in ".repeat(n)),
            format!("true{}", "&&true".repeat(n / 2)),
            format!("true{}", "||true".repeat(n / 2)),
            format!("self{}", ".a".repeat(n)),
            format!("self{}", "[0]".repeat(n / 2)),
            format!("self{}", ".size()".repeat(n / 3)),
            format!("self{}", ".all(x,x)".repeat(n / 4)),
            format!("self{}", ".map(x,x)".repeat(n / 4)),
            format!("{}1", "1?1:".repeat(n / 2)),
            format!("{}1", "1?".repeat(n)),
            format!("{}true", "!".repeat(n)),
            format!("{}1", "-".repeat(n)),
            format!("{}1", "- ".repeat(n)),
            around("(", ")"),
            around("[", "]"),
            around("{1:", "}"),
            around("size(", ")"),
            around("[1].all(x,", ")"),
            "(".repeat(n),
            "[".repeat(n),
            "{".repeat(n),
        ]
    }

    #[test]
    fn no_expression_overflows_the_stack() {
        let texts = [150, 190, 900, SIGNS_MAX - 1, TEXT_BYTES_MAX].map(forms);
        for text in texts.iter().flatten() {
            // A worker of the hub has twice as much, and the parser four times what it needs.
            let read = || {
                let Ok(expression) = Expression::read(text) else { return };
                drop(expression);
                let rules = json!([{"rule": text}]);
                let schema =
                    Schema::read(&json!({"type": "object", "x-kubernetes-validations": rules}));
                let said = crate::cel::check(&schema, &json!({"a": 1}), Before::nothing());
                assert!(said.len() < 2, "{said:?}");
                drop(crate::cel::wrong(&schema, &rules[0]));
            };
            on_a_stack_of(1 << 20, read).unwrap();
            if check_text(text).is_ok() {
                on_a_stack_of(STACK_BYTES / 4, || drop(parse_bounded(text))).unwrap();
            }
        }
        let long = format!("1{}", "+1".repeat(SIGNS_MAX + 1));
        assert!(parse(&long).unwrap_err().contains("operators"));
        assert!(parse(&format!("{}[]", "1in ".repeat(SIGNS_MAX + 1))).is_err());
        assert!(parse(&format!("1{}", "+1".repeat(50))).is_ok());
    }
}
