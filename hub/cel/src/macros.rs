//! Macros that Kubernetes has beside the language's own: loops over two variables, and `sortBy`. What a loop makes is what
//! upstream's makes, so that types and estimates are upstream's too; the evaluator knows one variable, and is given what
//! `two_variables` makes of it.
//!
//! ```text
//! l.all(i, x, p)  m.exists(k, v, p)  l.existsOne(i, x, p)
//! l.transformList(i, x, [p,] y)              @result + [y]
//! m.transformMap(k, v, [p,] y)               cel.@mapInsert(@result, k, y)
//! m.transformMapEntry(k, v, [p,] {a: b})     cel.@mapInsert(@result, {a: b})
//! l.sortBy(x, key)                           #sorted.@sortByAssociatedKeys(#sorted.map(x, key))
//! ```
//!
//! Guarantees:
//! - loops and what they make are kube-apiserver's (`loops_over_two_variables_answer_as_those_of_kubernetes`,
//!   `lists_are_sorted_by_keys`), and so is what is said of those that are none (`what_is_no_loop_is_told`).

use cel::common::ast::{
    CallExpr, ComprehensionExpr, Expr, ListExpr, LiteralValue, MapExpr, operators,
};
use cel::parser::{Macro, MacroExprHelper};
use cel::{Env, IdedExpr, ParseError};

/// What a loop has made until now.
const RESULT: &str = "@result";
/// Puts an entry into a map, or all of another map.
pub(crate) const MAP_INSERT: &str = "cel.@mapInsert";
/// A list by the order of another one.
pub(crate) const SORT_BY_KEYS: &str = "@sortByAssociatedKeys";
/// The list that is sorted. It is no space of functions, as names with an @ before them are.
const SORTED: &str = "#sorted";

type Expanded = Result<Option<IdedExpr>, ParseError>;

/// What a loop over two variables makes.
#[derive(Clone, Copy)]
enum Makes {
    All,
    Exists,
    ExistsOne,
    List,
    Map,
    Entries,
}

/// Adds them.
pub(crate) fn add(env: &mut Env) {
    for (name, args, makes) in [
        ("all", 3, Makes::All),
        ("exists", 3, Makes::Exists),
        ("existsOne", 3, Makes::ExistsOne),
        ("exists_one", 3, Makes::ExistsOne),
        ("transformList", 3, Makes::List),
        ("transformList", 4, Makes::List),
        ("transformMap", 3, Makes::Map),
        ("transformMap", 4, Makes::Map),
        ("transformMapEntry", 3, Makes::Entries),
        ("transformMapEntry", 4, Makes::Entries),
    ] {
        let expand = move |helper: &mut MacroExprHelper<'_>,
                           target: &mut Option<IdedExpr>,
                           args: &mut Vec<IdedExpr>| {
            each(makes, &mut Parts(helper), target, args)
        };
        // The language has none of so many arguments.
        let _ = env.add_macro(Macro::receiver(name, args, expand));
    }
    let expand =
        |helper: &mut MacroExprHelper<'_>,
         target: &mut Option<IdedExpr>,
         args: &mut Vec<IdedExpr>| { sort_by(&mut Parts(helper), target, args) };
    let _ = env.add_macro(Macro::receiver("sortBy", 2, expand));
}

/// Makes parts of an expression.
struct Parts<'h, 'p>(&'h mut MacroExprHelper<'p>);

impl Parts<'_, '_> {
    fn of(&mut self, expr: Expr) -> IdedExpr {
        self.0.next_expr(expr)
    }

    fn named(&mut self, name: &str) -> IdedExpr {
        self.of(Expr::Ident(name.to_owned()))
    }

    fn result(&mut self) -> IdedExpr {
        self.named(RESULT)
    }

    fn flag(&mut self, flag: bool) -> IdedExpr {
        self.of(Expr::Literal(LiteralValue::Boolean(flag.into())))
    }

    fn number(&mut self, number: i64) -> IdedExpr {
        self.of(Expr::Literal(LiteralValue::Int(number.into())))
    }

    fn list(&mut self, elements: Vec<IdedExpr>) -> IdedExpr {
        self.of(Expr::List(ListExpr::new(elements)))
    }

    fn call(&mut self, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
        self.of(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
    }

    /// The name that a variable has.
    fn variable(&self, part: &IdedExpr) -> Result<String, ParseError> {
        match &part.expr {
            Expr::Ident(name) if matches!(name.as_str(), RESULT | "__result__") => {
                let why = "iteration variable overwrites accumulator variable";
                Err(self.0.new_error(part.id, why))
            }
            Expr::Ident(name) => Ok(name.clone()),
            Expr::Call(_)
            | Expr::Comprehension(_)
            | Expr::List(_)
            | Expr::Literal(_)
            | Expr::Map(_)
            | Expr::Select(_)
            | Expr::Struct(_)
            | Expr::Unspecified => Err(self.0.new_error(part.id, "argument must be a simple name")),
        }
    }

    /// What a turn of a loop makes where a filter lets it.
    fn where_it_holds(&mut self, filter: Option<IdedExpr>, made: IdedExpr) -> IdedExpr {
        match filter {
            Some(filter) => {
                let kept = self.result();
                self.call(operators::CONDITIONAL, vec![filter, made, kept])
            }
            None => made,
        }
    }

    /// With what a loop begins, whether it goes on, what a turn makes, and what comes of it.
    fn made(
        &mut self,
        makes: Makes,
        key: &str,
        (filter, body): (Option<IdedExpr>, IdedExpr),
    ) -> [IdedExpr; 4] {
        let before = self.result();
        match makes {
            Makes::All => {
                let so_far = self.result();
                let goes_on = self.call(operators::NOT_STRICTLY_FALSE, vec![so_far]);
                let step = self.call(operators::LOGICAL_AND, vec![before, body]);
                [self.flag(true), goes_on, step, self.result()]
            }
            Makes::Exists => {
                let so_far = self.result();
                let not_yet = self.call(operators::LOGICAL_NOT, vec![so_far]);
                let goes_on = self.call(operators::NOT_STRICTLY_FALSE, vec![not_yet]);
                let step = self.call(operators::LOGICAL_OR, vec![before, body]);
                [self.flag(false), goes_on, step, self.result()]
            }
            Makes::ExistsOne => {
                let one = self.number(1);
                let more = self.call(operators::ADD, vec![before, one]);
                let step = self.where_it_holds(Some(body), more);
                let (count, one) = (self.result(), self.number(1));
                let result = self.call(operators::EQUALS, vec![count, one]);
                [self.number(0), self.flag(true), step, result]
            }
            Makes::List => {
                let added = self.list(vec![body]);
                let more = self.call(operators::ADD, vec![before, added]);
                let step = self.where_it_holds(filter, more);
                [self.list(Vec::new()), self.flag(true), step, self.result()]
            }
            Makes::Map => {
                let key = self.named(key);
                self.map_of(filter, vec![before, key, body])
            }
            Makes::Entries => self.map_of(filter, vec![before, body]),
        }
    }

    fn map_of(&mut self, filter: Option<IdedExpr>, put: Vec<IdedExpr>) -> [IdedExpr; 4] {
        let more = self.call(MAP_INSERT, put);
        let step = self.where_it_holds(filter, more);
        let start = self.of(Expr::Map(MapExpr { entries: Vec::new() }));
        [start, self.flag(true), step, self.result()]
    }
}

fn each(
    makes: Makes,
    parts: &mut Parts<'_, '_>,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
) -> Expanded {
    let Some(range) = target.take() else { return Ok(None) };
    let mut args = std::mem::take(args).into_iter();
    let (Some(first), Some(second), Some(third)) = (args.next(), args.next(), args.next()) else {
        return Err(parts.0.new_error(range.id, "a loop has two variables"));
    };
    let (key, value) = (parts.variable(&first)?, parts.variable(&second)?);
    if key == value {
        return Err(parts.0.new_error(second.id, format!("duplicate variable name: {key}")));
    }
    let turn = match args.next() {
        Some(body) => (Some(third), body),
        None => (None, third),
    };
    let [start, goes_on, step, result] = parts.made(makes, &key, turn);
    let it = ComprehensionExpr {
        iter_range: range,
        iter_var: key,
        iter_var2: Some(value),
        accu_var: RESULT.to_owned(),
        accu_init: start,
        loop_cond: goes_on,
        loop_step: step,
        result,
    };
    Ok(Some(parts.of(Expr::Comprehension(Box::new(it)))))
}

fn sort_by(
    parts: &mut Parts<'_, '_>,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
) -> Expanded {
    let Some(list) = target.take() else { return Ok(None) };
    if matches!(list.expr, Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_)) {
        let why = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
        return Err(parts.0.new_error(list.id, why));
    }
    let mut args = std::mem::take(args).into_iter();
    let (Some(variable), Some(key)) = (args.next(), args.next()) else {
        return Err(parts.0.new_error(list.id, "a list is sorted by a variable and a key"));
    };
    let iter_var = parts.variable(&variable)?;
    let [accu_init, loop_cond, loop_step, result] = parts.made(Makes::List, "", (None, key));
    let keys = ComprehensionExpr {
        iter_range: parts.named(SORTED),
        iter_var,
        iter_var2: None,
        accu_var: RESULT.to_owned(),
        accu_init,
        loop_cond,
        loop_step,
        result,
    };
    let keys = parts.of(Expr::Comprehension(Box::new(keys)));
    let target = Some(Box::new(parts.named(SORTED)));
    let sorted = CallExpr { func_name: SORT_BY_KEYS.to_owned(), target, args: vec![keys] };
    let sorted = parts.of(Expr::Call(sorted));
    let (range, never, kept) = (parts.list(Vec::new()), parts.flag(false), parts.named(SORTED));
    let bind = bind(SORTED, list, [range, never, kept], sorted);
    Ok(Some(parts.of(Expr::Comprehension(Box::new(bind)))))
}

/// Gives a name to a value: a loop without a turn, of an empty list, a condition that is false, and the name.
pub(crate) fn bind(
    name: &str,
    value: IdedExpr,
    [iter_range, loop_cond, loop_step]: [IdedExpr; 3],
    result: IdedExpr,
) -> ComprehensionExpr {
    ComprehensionExpr {
        iter_range,
        iter_var: "#unused".to_owned(),
        iter_var2: None,
        accu_var: name.to_owned(),
        accu_init: value,
        loop_cond,
        loop_step,
        result,
    }
}

#[cfg(test)]
mod tests {
    use cel::Value;

    use crate::{Expression, Failed, Known, Meter, STACK_BYTES, UNITS_MAX, json, on_a_stack_of};

    fn run(text: &str) -> Result<Value, String> {
        let expression =
            Expression::read(text, &Known::default()).map_err(|why| why.to_string())?;
        let run = || Meter::of(UNITS_MAX).run(&expression, |_| {});
        on_a_stack_of(STACK_BYTES, run).unwrap().map_err(|why| match why {
            Failed::Because(why) => why,
            other => format!("{other:?}"),
        })
    }

    fn holds(texts: &[&str]) {
        for text in texts {
            assert_eq!(run(text), Ok(Value::Bool(true)), "{text}");
        }
    }

    #[test]
    fn loops_over_two_variables_answer_as_those_of_kubernetes() {
        holds(&[
            "[1, 2, 3].all(i, j, i < j) && ![1, 0].all(i, j, i < j)",
            "!{'hello': 'world', 'taco': 'taco'}.all(k, v, k != v)",
            "{'h': ['hello', 'hi'], 'j': ['joke', 'jog']}.all(k, all, all.all(v, v.startsWith(k)))",
            "{'greeting': 'hello', 'farewell': 'goodbye'}.exists(k, v, k.startsWith('good') || v.endsWith('bye'))",
            "![1, 2, 4, 8, 16].exists(i, v, v == 1024 && i == 10)",
            "![1, 2, 1, 3, 1, 4].existsOne(i, v, i == 1 || v == 1)",
            "[1, 1, 2, 2, 3, 3].existsOne(i, v, i == 2 && v == 2) && [1].exists_one(i, v, v == 1)",
            "[1, 2, 3].transformList(i, v, (i * v) + v) == [1, 4, 9]",
            "[1, 2, 3].transformList(i, v, i % 2 == 0, (i * v) + v) == [1, 9]",
            "{'a': 'b'}.transformList(k, _, k) == ['a'] && {'a': 'b'}.transformList(_, v, v) == ['b']",
            "[1, 2, 3].transformMap(i, v, (i * v) + v) == {0: 1, 1: 4, 2: 9}",
            "[1, 2, 3].transformMap(i, v, i % 2 == 0, (i * v) + v) == {0: 1, 2: 9}",
            "{'greeting': 'hello'}.transformMap(k, v, v + '!') == {'greeting': 'hello!'}",
            "{'greeting': 'hello'}.transformMapEntry(k, v, {v: k}) == {'hello': 'greeting'}",
            "[1, 2, 3].transformMapEntry(i, v, i != 1, {v: i, -v: i}) == {1: 0, -1: 0, 3: 2, -3: 2}",
            "[].all(i, v, false) && ![].exists(i, v, true) && {}.transformMap(k, v, v) == {}",
            // As of one variable, what is wrong with some elements is of no weight where others decide.
            "[0, 1].exists(i, v, 1 / v == 1) && ![0, 1].all(i, v, 1 / v == 2)",
        ]);
    }

    #[test]
    fn inner_names_hide_outer_ones() {
        holds(&[
            "[1].all(i, x, [2, 3].all(i, x, x == i + 2) && x == 1 && i == 0)",
            "[[1, 2], [3]].transformList(i, row, row.transformList(j, x, i * 10 + j + x)) == [[1, 3], [13]]",
            "[5].all(i, x, [7].all(x, x == 7) && [[i]].all(i, i == [0]) && x == 5)",
            "[[1], [2]].all(i, x, x.all(i, y, x == [y] && i == 0))",
            "[{'n': {'m': 3}}].all(i, v, has(v.n) && v.n.m == 3 && v.?o.orValue(i) == 0)",
            "[[1], [2, 3]].transformMap(i, x, x.sortBy(x, -x)) == {0: [1], 1: [3, 2]}",
            "[1].transformMap(i, x, [1].transformMap(i, x, {'x': x})) == {0: {0: {'x': 1}}}",
        ]);
    }

    #[test]
    fn lists_are_sorted_by_keys() {
        holds(&[
            "[3, 1, 2].sortBy(x, -x) == [3, 2, 1] && [3, 1, 2].sortBy(x, x) == [1, 2, 3]",
            "[{'n': 'b'}, {'n': 'a'}].sortBy(o, o.n).map(o, o.n) == ['a', 'b']",
            "[].sortBy(x, x) == [] && ['bb', 'a'].map(x, x).sortBy(x, x.size()) == ['a', 'bb']",
            "[[2, 1], [0]].sortBy(l, l.sortBy(x, x)[0]) == [[0], [2, 1]]",
        ]);
        assert_eq!(run("[1, 2].sortBy(x, [x])"), Err("list elements must be comparable".into()));
        assert_eq!(
            run("[1, 2].sortBy(x, x == 1 ? dyn('a') : dyn(1))"),
            Err("list elements must have the same type".into())
        );
    }

    #[test]
    fn what_is_no_loop_is_told() {
        for (text, why) in [
            ("[1].all(i, i, true)", "duplicate variable name: i"),
            ("[1].all(i, 2, true)", "argument must be a simple name"),
            ("[1].transformMap(i.j, v, true)", "argument must be a simple name"),
            (
                "[1].exists(__result__, v, true)",
                "iteration variable overwrites accumulator variable",
            ),
            ("'a'.sortBy(x, x)", "sortBy can only be applied to a list"),
            ("[1].sortBy(1, x)", "argument must be a simple name"),
            ("[1].transformMap(i, v, w)", "undeclared reference to 'w'"),
            ("[1].transformMap(i, v, v) == {i: 1}", "undeclared reference to 'i'"),
            ("[1].transformList(i, v)", "undeclared reference to 'transformList'"),
            ("['a', 'b'].transformMapEntry(i, v, {'x': v})", "insert failed: key x already exists"),
            (
                "[1, 2].transformMapEntry(i, v, {(v == 1 ? dyn(1) : dyn(1u)): i})",
                "key 1 already exists",
            ),
            ("[1].transformMapEntry(i, v, dyn(v))", "no such overload"),
        ] {
            let told = run(text).map(|value| json(&value, "").unwrap()).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
