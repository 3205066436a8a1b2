//! An expression: parsed once, with a meter in every loop.
//!
//! Guarantees:
//! - no text overflows the stack, whatever it is made of (`no_expression_overflows_the_stack`).

use std::collections::BTreeSet;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, EntryExpr, Expr, SourceInfo};

use crate::library;
use crate::literals::without_literals;
use crate::metered::meter;
use crate::parts::{DEPTH_MAX, depth, inside, parts};
use crate::stack::{STACK_BYTES, on_a_stack_of};
use crate::unread::Unread;

/// Bytes of an expression.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Letters of its code that are neither of a word nor space, and each `in`: each level of what the parser makes takes one.
const SIGNS_MAX: usize = 2_000;

/// What an expression may speak of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// Its variables.
    pub names: &'a [&'a str],
    /// Those of them that are expressions themselves (`variables.NAME`).
    pub variables: &'a [String],
    /// It may make objects: `Object{…}`, `JSONPatch{…}`.
    pub makes_objects: bool,
    /// It has the functions of Open Cluster Management as well.
    pub of_fleet: bool,
}

/// An expression.
#[derive(Debug)]
pub struct Expression {
    metered: IdedExpr,
    text: String,
    parts: u64,
    depth: usize,
    uses: BTreeSet<String>,
}

impl Expression {
    /// From its text.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(text: &str, known: &Known<'_>) -> Result<Self, Unread> {
        check_text(text)?;
        let read = || Self::of(parse_bounded(text)?, known);
        let read: Self = on_a_stack_of(STACK_BYTES, read)??;
        Ok(read.with_text(text))
    }

    /// The same with the text that it was parsed from.
    pub(crate) fn with_text(self, text: &str) -> Self {
        Self { text: text.to_owned(), ..self }
    }

    /// From what it was parsed to.
    ///
    /// # Errors
    /// Why it is none.
    pub fn of(parsed: IdedExpr, known: &Known<'_>) -> Result<Self, String> {
        let mut names = Names { of_fleet: known.of_fleet, ..Names::default() };
        names.look(&parsed, &mut known.names.iter().map(|name| (*name).to_owned()).collect());
        if let Some(unknown) = names.unknown {
            return Err(format!("undeclared reference to '{unknown}' (in container '')"));
        }
        names.check(known)?;
        let (parts, depth) = (parts(&parsed), depth(&parsed, 0));
        Ok(Self { metered: meter(parsed), text: String::new(), parts, depth, uses: names.used })
    }

    /// What is evaluated.
    pub(crate) fn metered(&self) -> &IdedExpr {
        &self.metered
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many parts it has.
    pub(crate) fn parts(&self) -> u64 {
        self.parts
    }

    /// How many levels it has.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The variables that it uses which are expressions themselves.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.uses.iter().filter_map(|name| name.strip_prefix("variables."))
    }

    /// Whether it speaks of a variable; of one that is an expression itself, `variables.NAME`.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        self.uses.contains(name)
    }
}

/// The expression that a text is. It is handled where there is room for it.
///
/// # Errors
/// Why it is none.
pub fn parse(text: &str) -> Result<IdedExpr, Unread> {
    check_text(text)?;
    Ok(on_a_stack_of(STACK_BYTES, || parse_bounded(text))??)
}

/// The same, with the places of its parts.
///
/// # Errors
/// Why it is none.
pub(crate) fn parse_placed(text: &str) -> Result<(IdedExpr, SourceInfo), Unread> {
    check_text(text)?;
    Ok(on_a_stack_of(STACK_BYTES, || parse_with_places(text))??)
}

/// Bounds the levels of what the parser will make.
fn check_text(text: &str) -> Result<(), String> {
    if TEXT_BYTES_MAX < text.len() {
        return Err(format!("an expression may have {TEXT_BYTES_MAX} bytes"));
    }
    let code = without_literals(text);
    let mut open = 0_usize;
    for letter in code.chars() {
        match letter {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        if DEPTH_MAX < open {
            return Err("an expression may not be nested so deeply".to_owned());
        }
    }
    if SIGNS_MAX < signs(&code) {
        return Err(format!(
            "an expression may have {SIGNS_MAX} operators and brackets outside of its texts"
        ));
    }
    Ok(())
}

/// How many signs there are of which the parser may make a level. Of what a comma separates it makes none.
fn signs(code: &str) -> usize {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let is_sign = |letter: &char| !is_word(*letter) && !letter.is_whitespace() && *letter != ',';
    let ins = |word: &str| {
        // A number may have the operator right behind it, and so may a letter that is none of the language's.
        let is_name = word.is_ascii() && !word.starts_with(|first: char| first.is_ascii_digit());
        if is_name { usize::from(word == "in") } else { word.matches("in").count() }
    };
    let words = code.split(|letter| !is_word(letter));
    code.chars().filter(is_sign).count() + words.map(ins).sum::<usize>()
}

/// Deep trees are made here, and go here.
fn parse_bounded(text: &str) -> Result<IdedExpr, String> {
    parse_with_places(text).map(|(parsed, _)| parsed)
}

fn parse_with_places(text: &str) -> Result<(IdedExpr, SourceInfo), String> {
    let parsed = library::env().parser().parse_with_source_info(text).map_err(|errors| {
        let text = errors.to_string();
        text.lines().next().unwrap_or_default().to_owned()
    })?;
    if DEPTH_MAX < depth(&parsed.0, 0) {
        return Err("an expression may not be nested so deeply".to_owned());
    }
    Ok(parsed)
}

/// Names that an expression says.
#[derive(Default)]
struct Names {
    of_fleet: bool,
    unknown: Option<String>,
    used: BTreeSet<String>,
    /// Types of objects that it makes, and the fields of those that are no part of what is written.
    made: BTreeSet<String>,
    fields: BTreeSet<String>,
}

/// The variable that holds those that are expressions themselves.
pub(crate) const VARIABLES: &str = "variables";
/// What an operation of a JSON patch is called, and has.
pub(crate) const JSON_PATCH: &str = "JSONPatch";
const JSON_PATCH_FIELDS: [&str; 4] = ["op", "path", "from", "value"];

impl Names {
    fn look(&mut self, expression: &IdedExpr, known: &mut Vec<String>) {
        match &expression.expr {
            Expr::Ident(name) => {
                self.used.insert(name.trim_start_matches('.').to_owned());
                let plain = name.trim_start_matches('.');
                if !known.iter().any(|one| one == plain) && !library::is_type(plain) {
                    self.unknown.get_or_insert_with(|| plain.to_owned());
                }
            }
            Expr::Call(call) => self.look_at_call(call, known),
            Expr::Select(select) => {
                if matches!(&select.operand.expr, Expr::Ident(name) if name == VARIABLES) {
                    self.used.insert(format!("{VARIABLES}.{}", select.field));
                }
                self.look(&select.operand, known);
            }
            Expr::Struct(it) => {
                self.made.insert(it.type_name.clone());
                for entry in &it.entries {
                    if let EntryExpr::StructField(field) = &entry.expr
                        && it.type_name == JSON_PATCH
                    {
                        self.fields.insert(field.field.clone());
                    }
                }
                inside(expression).into_iter().for_each(|part| self.look(part, known));
            }
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

    /// Whether what it makes and what it takes from other expressions is there.
    fn check(&self, known: &Known<'_>) -> Result<(), String> {
        let is_type = |made: &String| {
            known.makes_objects
                && (made == "Object" || made == JSON_PATCH || made.starts_with("Object."))
        };
        if let Some(made) = self.made.iter().find(|made| !is_type(made)) {
            return Err(format!("undeclared reference to '{made}' (in container '')"));
        }
        let mut fields = self.fields.iter();
        if let Some(field) = fields.find(|field| !JSON_PATCH_FIELDS.contains(&field.as_str())) {
            return Err(format!("undefined field '{field}'"));
        }
        let mut taken = self.used.iter().filter_map(|name| name.strip_prefix("variables."));
        match taken.find(|name| !known.variables.iter().any(|one| one == name)) {
            Some(field) => Err(format!("undefined field '{field}'")),
            None => Ok(()),
        }
    }

    fn look_at_call(&mut self, call: &CallExpr, known: &mut Vec<String>) {
        let qualified = call.target.as_deref().and_then(|target| match &target.expr {
            Expr::Ident(space) => Some(format!("{space}.{}", call.func_name)),
            _ => None,
        });
        let spaced = qualified.filter(|name| library::is_function(name));
        if spaced.is_none() {
            let name = &call.func_name;
            let is_behind = call.target.is_some();
            let is_kept =
                library::of_fleet(name).is_some_and(|behind| !self.of_fleet || behind != is_behind);
            if is_kept || !library::is_function(name) {
                self.unknown.get_or_insert_with(|| call.func_name.clone());
            }
            if let Some(target) = &call.target {
                self.look(target, known);
            }
        }
        call.args.iter().for_each(|part| self.look(part, known));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Meter, UNITS_MAX, free};

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
            format!("self{}", ".all(i,x,x)".repeat(n / 4)),
            format!("self{}", ".transformMap(i,x,x)".repeat(n / 4)),
            format!("self{}", ".sortBy(x,x)".repeat(n / 4)),
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
            around("[1].all(i,x,", ")"),
            around("[1].transformMap(i,x,", ")"),
            around("[1].transformMapEntry(i,x,{i:", "})"),
            around("[1].sortBy(x,", ")"),
            "(".repeat(n),
            "[".repeat(n),
            "{".repeat(n),
            format!("[1{}]", ",1".repeat(n / 2)),
            format!("[{}", ",".repeat(n)),
            format!("size(1{}", ",1".repeat(n / 2)),
            format!("'\\q{}", "(".repeat(n)),
            format!("'\n{}'", "-".repeat(n)),
            format!("&'{}'", "[".repeat(n)),
            format!("xr'\\'{}", "!".repeat(n)),
            format!("1{}", " \u{e9}in 1".repeat(n)),
        ]
    }

    #[test]
    fn no_expression_overflows_the_stack() {
        let texts = [150, 190, 900, SIGNS_MAX - 1, TEXT_BYTES_MAX].map(forms);
        for text in texts.iter().flatten() {
            // A worker of the hub has twice as much, and the parser four times what it needs.
            let read = || {
                let known = Known { names: &["self"], ..Known::default() };
                let Ok(expression) = Expression::read(text, &known) else { return };
                let run = || {
                    let mut meter = Meter::of(UNITS_MAX);
                    drop(meter.run(&expression, |context| {
                        context.add_variable_from_value("self", free(&json!({"a": 1})));
                    }));
                };
                on_a_stack_of(STACK_BYTES, run).unwrap();
            };
            on_a_stack_of(1 << 20, read).unwrap();
            if check_text(text).is_ok() {
                on_a_stack_of(STACK_BYTES / 4, || drop(parse_bounded(text))).unwrap();
            }
        }
        let long = format!("1{}", "+1".repeat(SIGNS_MAX + 1));
        assert!(parse(&long).unwrap_err().to_string().contains("operators"));
        for operator in ["1in ", "1 \u{e9}in "] {
            assert!(check_text(&format!("{}[]", operator.repeat(SIGNS_MAX + 1))).is_err());
        }
        assert!(parse(&format!("1{}", "+1".repeat(50))).is_ok());
    }

    #[test]
    fn texts_and_lists_of_them_are_as_long_as_there_is_room() {
        let known = Known { names: &["self"], ..Known::default() };
        let names: Vec<String> = (0..1_000).map(|n| format!("'in-{n}.a_b'")).collect();
        let allowed = format!("self in [{}]", names.join(","));
        let told =
            format!("self != '' ? '' : '{}'", "(what in the world is it, then?) ".repeat(300));
        let matched = format!("self.matches('^({})$')", "[(.)]+|".repeat(500));
        for text in [allowed, told, matched] {
            assert!(Expression::read(&text, &known).is_ok(), "{}", &text[..40]);
        }
    }
}
