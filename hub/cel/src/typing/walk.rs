//! The walk over an expression that finds what each part of it is.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use cel::IdedExpr;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, ListExpr, LiteralValue, MapExpr, SelectExpr,
    operators,
};

use super::fields::{Selected, select};
use super::mistake::Mistakes;
use super::names::Names;
use super::signature::{self, Call};
use super::value_type::{Type, join};
use super::work::Work;
use crate::library;
use crate::parts::inside;

/// Bytes of types that a mistake shows. Upstream has no such bound.
const SHOWN_BYTES_MAX: usize = 4 << 10;

/// One walk.
pub(super) struct Walk<'n, 'a> {
    names: &'n Names<'a>,
    work: &'n Work,
    /// Variables of loops, the innermost last.
    locals: Vec<(String, Type<'a>)>,
    /// Where somebody wants them.
    types: Option<HashMap<u64, Type<'a>>>,
    mistakes: Mistakes,
}

impl<'n, 'a> Walk<'n, 'a> {
    /// Of what speaks of these.
    pub(super) fn new(names: &'n Names<'a>, work: &'n Work) -> Self {
        Self { names, work, locals: Vec::new(), types: None, mistakes: Mistakes::default() }
    }

    /// One that keeps what each part is.
    pub(super) fn keeping(names: &'n Names<'a>, work: &'n Work) -> Self {
        Self { types: Some(HashMap::new()), ..Self::new(names, work) }
    }

    /// What each part is.
    pub(super) fn types(self) -> HashMap<u64, Type<'a>> {
        self.types.unwrap_or_default()
    }

    /// What is wrong.
    pub(super) fn mistakes(self) -> Mistakes {
        self.mistakes
    }

    /// What a part is.
    pub(super) fn part(&mut self, part: &IdedExpr) -> Type<'a> {
        if !self.work.take(1) {
            return Type::Dyn;
        }
        let is = self.look(part);
        if let Some(types) = &mut self.types {
            types.insert(part.id, is.clone());
        }
        is
    }

    fn look(&mut self, part: &IdedExpr) -> Type<'a> {
        match &part.expr {
            Expr::Ident(name) => self.name(name),
            Expr::Literal(literal) => of_literal(literal),
            Expr::Select(it) => self.select(part.id, it),
            Expr::Call(it) => self.call(part.id, it),
            Expr::List(it) => self.list(it),
            Expr::Map(it) => self.map(it),
            Expr::Comprehension(it) => self.each(it),
            Expr::Struct(_) | Expr::Unspecified => {
                for part in inside(part) {
                    self.part(part);
                }
                Type::Dyn
            }
        }
    }

    /// What is wrong may be anything: it is told once.
    fn wrong(&mut self, part: u64, why: String) -> Type<'a> {
        // Of what was not looked at to the end nothing is wrong.
        if !self.work.is_over() {
            self.mistakes.add(part, why);
        }
        Type::Dyn
    }

    fn name(&self, name: &str) -> Type<'a> {
        let name = name.trim_start_matches('.');
        let local = self.locals.iter().rev().find(|(own, _)| own == name).map(|(_, of)| of);
        match local.or_else(|| self.names.find(name)) {
            Some(of) => of.clone(),
            // The first word of names of types: `google.protobuf.Timestamp`.
            None if name == "google" => Type::Dyn,
            None if library::is_type(name) => Type::of(Type::Dyn),
            None => Type::Dyn,
        }
    }

    fn select(&mut self, part: u64, it: &SelectExpr) -> Type<'a> {
        let (found, is_optional) = self.field(part, &it.operand, &it.field);
        if it.test {
            Type::Bool
        } else if is_optional {
            Type::optional(found)
        } else {
            found
        }
    }

    /// A field, and whether what it is of may be absent.
    fn field(&mut self, part: u64, operand: &IdedExpr, field: &str) -> (Type<'a>, bool) {
        if let Expr::Ident(space) = &operand.expr
            && !self.locals.iter().any(|(own, _)| own == space)
            && let Some(of) = self.names.find(&format!("{space}.{field}"))
        {
            return (of.clone(), false);
        }
        let (of, is_optional) = match self.part(operand) {
            Type::Optional(of) => (Arc::unwrap_or_clone(of), true),
            of => (of, false),
        };
        let found = match select(&of, field) {
            Selected::Field(of) => of,
            Selected::Undefined => self.wrong(part, format!("undefined field '{field}'")),
            Selected::NoObject => {
                self.wrong(part, format!("type '{of}' does not support field selection"))
            }
        };
        (found, is_optional)
    }

    fn call(&mut self, part: u64, it: &CallExpr) -> Type<'a> {
        if it.func_name == operators::OPT_SELECT
            && let [operand, field] = it.args.as_slice()
            && let Expr::Literal(LiteralValue::String(field)) = &field.expr
        {
            return Type::optional(self.field(part, operand, field.inner()).0);
        }
        if let Some(target) = it.target.as_deref()
            && let Expr::Ident(space) = &target.expr
        {
            let name = format!("{space}.{}", it.func_name);
            if library::is_function(&name) {
                return self.answer(part, &name, None, &it.args);
            }
        }
        self.answer(part, &it.func_name, it.target.as_deref(), &it.args)
    }

    fn answer(
        &mut self,
        part: u64,
        name: &str,
        target: Option<&IdedExpr>,
        args: &[IdedExpr],
    ) -> Type<'a> {
        let given: Vec<Type<'a>> =
            target.into_iter().chain(args).map(|part| self.part(part)).collect();
        // Each level of what is given is looked at for each signature.
        if !self.work.take(given.iter().map(Type::levels).sum()) {
            return Type::Dyn;
        }
        match signature::call(name, target.is_some(), &given) {
            Call::Answers(of) => of,
            Call::NoOverload => {
                let applied = match (target, given.split_first()) {
                    (Some(_), Some((receiver, args))) => format!("{receiver}.({})", shown(args)),
                    (Some(_) | None, _) => format!("({})", shown(&given)),
                };
                let why = format!("found no matching overload for '{name}' applied to '{applied}'");
                self.wrong(part, why)
            }
        }
    }

    fn list(&mut self, it: &ListExpr) -> Type<'a> {
        let mut of = Type::Free;
        let optional: HashSet<usize> = it.optional_indices.iter().copied().collect();
        for (place, element) in it.elements.iter().enumerate() {
            let element = match self.part(element) {
                Type::Optional(of) if optional.contains(&place) => Arc::unwrap_or_clone(of),
                of => of,
            };
            self.work.take(element.levels());
            of = join(&of, &element).unwrap_or(Type::Dyn);
        }
        Type::list(of)
    }

    fn map(&mut self, it: &MapExpr) -> Type<'a> {
        let (mut key, mut value) = (Type::Free, Type::Free);
        for entry in &it.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
            key = join(&key, &self.part(&entry.key)).unwrap_or(Type::Dyn);
            let held = match self.part(&entry.value) {
                Type::Optional(of) if entry.optional => Arc::unwrap_or_clone(of),
                of => of,
            };
            self.work.take(held.levels());
            value = join(&value, &held).unwrap_or(Type::Dyn);
        }
        Type::map(key, value)
    }

    fn each(&mut self, it: &ComprehensionExpr) -> Type<'a> {
        let variables = self.variables(it);
        let start = self.part(&it.accu_init);
        let before = self.locals.len();
        self.locals.push((it.accu_var.clone(), start.clone()));
        self.locals.extend(variables);
        self.part(&it.loop_cond);
        let step = self.part(&it.loop_step);
        self.locals.truncate(before);
        // What begins as an empty list becomes one of what is added.
        let made = join(&start, &step).unwrap_or(Type::Dyn);
        self.locals.push((it.accu_var.clone(), made));
        let result = self.part(&it.result);
        self.locals.truncate(before);
        result
    }

    /// The variables of a loop: of a list its elements, of a map its keys; of two, places or keys, and what is there.
    fn variables(&mut self, it: &ComprehensionExpr) -> Vec<(String, Type<'a>)> {
        let range = self.part(&it.iter_range);
        let is_list = matches!(range, Type::List(_));
        let (key, value) = match range {
            Type::List(of) => (Type::Int, Arc::unwrap_or_clone(of)),
            Type::Map(key, value) => (Arc::unwrap_or_clone(key), Arc::unwrap_or_clone(value)),
            Type::Object(_) | Type::Record(_) => (Type::String, Type::Dyn),
            Type::Dyn | Type::Free | Type::Optional(_) | Type::Param(_) => (Type::Dyn, Type::Dyn),
            other @ (Type::Null
            | Type::Bool
            | Type::Int
            | Type::Uint
            | Type::Double
            | Type::String
            | Type::Text
            | Type::Bytes
            | Type::Timestamp
            | Type::Duration
            | Type::Of(_)
            | Type::Opaque(_)) => {
                let why = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                (self.wrong(it.iter_range.id, why), Type::Dyn)
            }
        };
        let first = it.iter_var.clone();
        match &it.iter_var2 {
            Some(second) => vec![(first, key), (second.clone(), value)],
            None => vec![(first, if is_list { value } else { key })],
        }
    }
}

/// Types as a mistake names them: `int, list(string)`.
fn shown(given: &[Type<'_>]) -> String {
    let mut shown = String::new();
    for (place, one) in given.iter().enumerate() {
        let between = if place == 0 { "" } else { ", " };
        if SHOWN_BYTES_MAX < shown.len() {
            shown.push_str(", …");
            break;
        }
        // Nothing fails to be written to a text.
        let _ = write!(shown, "{between}{one}");
    }
    shown
}

fn of_literal<'a>(literal: &LiteralValue) -> Type<'a> {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    }
}
