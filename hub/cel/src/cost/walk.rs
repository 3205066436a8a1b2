//! The walk over an expression that adds up what its parts cost, and follows where in what is declared their values are.
//!
//! ```text
//! self.spec.list.all(x, x.name == 'a')     self.spec.list: (spec, list)   x: (spec, list, @items)   x.name: (…, @items, name)
//! ```

use std::collections::HashMap;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};

use super::calls::{self, Node};
use super::declared::Declared;
use super::range::Range;
use crate::library;
use crate::typing::{Type, first_of_overloads};

/// Of a name, or of a field.
const STEP: Range = Range::exactly(1);
const LIST: Range = Range::exactly(10);
const MAP: Range = Range::exactly(30);
const STRUCT: Range = Range::exactly(40);

/// What is in a list or a map that the expression makes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    is_list: bool,
    key: Range,
    pub(super) value: Range,
}

impl Entries {
    pub(super) fn union(self, other: Self) -> Self {
        let (key, value) = (self.key.union(other.key), self.value.union(other.value));
        Self { key, value, ..self }
    }
}

/// What a name stands for inside of a loop.
struct Local {
    name: String,
    path: Vec<String>,
    size: Option<Range>,
    entries: Option<Entries>,
}

/// One walk.
pub(super) struct Walk<'a> {
    types: HashMap<u64, Type<'static>>,
    root: &'a Declared,
    locals: Vec<Local>,
    paths: HashMap<u64, Vec<String>>,
    sizes: HashMap<u64, Range>,
    entries: HashMap<u64, Entries>,
}

impl<'a> Walk<'a> {
    /// Over what has these types and speaks of this.
    pub(super) fn new(types: HashMap<u64, Type<'static>>, root: &'a Declared) -> Self {
        let (locals, paths, sizes, entries) = Default::default();
        Self { types, root, locals, paths, sizes, entries }
    }

    /// What a part costs.
    pub(super) fn part(&mut self, part: &IdedExpr) -> Range {
        match &part.expr {
            Expr::Literal(_) | Expr::Unspecified => Range::exactly(0),
            Expr::Ident(name) => {
                let own = || vec![name.trim_start_matches('.').to_owned()];
                let path = self.local(name).map_or_else(own, |local| local.path.clone());
                self.paths.insert(part.id, path);
                STEP
            }
            Expr::Select(it) => {
                let operand = self.part(&it.operand);
                if it.test {
                    return operand;
                }
                let mut path = self.path(&it.operand);
                path.push(it.field.clone());
                self.paths.insert(part.id, path);
                let is_step = matches!(
                    self.type_of(&it.operand),
                    Type::Map(..) | Type::Record(_) | Type::Free
                );
                if is_step { operand.add(STEP) } else { operand }
            }
            Expr::Call(it) => self.call(part, it),
            Expr::List(it) => {
                let all: Vec<&IdedExpr> = it.elements.iter().collect();
                let (cost, value) = self.all(&all);
                self.entries.insert(part.id, Entries { is_list: true, key: STEP, value });
                cost.add(LIST)
            }
            Expr::Map(it) => {
                let entries = it.entries.iter().filter_map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => Some((&entry.key, &entry.value)),
                    EntryExpr::StructField(_) => None,
                });
                let (keys, values): (Vec<_>, Vec<_>) = entries.unzip();
                let (keys_cost, key) = self.all(&keys);
                let (values_cost, value) = self.all(&values);
                self.entries.insert(part.id, Entries { is_list: false, key, value });
                keys_cost.add(values_cost).add(MAP)
            }
            Expr::Struct(_) => {
                let parts = crate::parts::inside(part);
                self.all(&parts).0.add(STRUCT)
            }
            Expr::Comprehension(it) => self.each(part, it),
        }
    }

    /// What parts cost together, and what holds the sizes of all of them.
    fn all(&mut self, parts: &[&IdedExpr]) -> (Range, Range) {
        let (mut cost, mut size) = (Range::exactly(0), Range::NONE);
        if parts.is_empty() {
            size.least = 0;
        }
        for part in parts {
            cost = cost.add(self.part(part));
            size = size.union(self.size(part).unwrap_or(Range::UNKNOWN));
        }
        (cost, size)
    }

    fn call(&mut self, part: &IdedExpr, it: &CallExpr) -> Range {
        if it.func_name == "dyn"
            && let [inner] = it.args.as_slice()
        {
            let cost = self.part(inner).add(STEP);
            self.copy_sizes(part.id, inner);
            return cost;
        }
        let costs: Vec<Range> = it.args.iter().map(|arg| self.part(arg)).collect();
        let args: Vec<Node<'_>> = it.args.iter().map(|arg| self.node(arg)).collect();
        let (name, target) = self.callee(it);
        let mut own = Range::exactly(0);
        let target = target.map(|target| {
            own = self.part(target);
            self.node(target)
        });
        let given: Vec<Type<'static>> =
            target.iter().chain(&args).map(|node| node.is.clone()).collect();
        let (mut cost, mut size) = (Range::NONE, None::<Range>);
        for overload in first_of_overloads(&name, target.is_some(), &given) {
            let call = calls::Call {
                name: &name,
                overload,
                target: target.as_ref(),
                args: &args,
                costs: &costs,
                root: self.root,
            };
            let estimate = call.estimate();
            cost = cost.union(estimate.cost);
            if let Some(one) = estimate.size {
                size = Some(size.map_or(one, |size| size.union(one)));
            }
            self.keep_entries(part.id, &name, overload, &it.args);
            if name == operators::INDEX
                && let Some(step) = index_step(overload)
                && let Some(of) = it.args.first()
            {
                size = self.entries_of(of).map(|entries| entries.value);
                let mut path = self.path(of);
                path.push(step.to_owned());
                self.paths.insert(part.id, path);
            }
            size = size.or_else(|| self.size(part));
        }
        if let Some(size) = size {
            self.sizes.insert(part.id, size);
        }
        own.add(cost)
    }

    /// The name of what is called, and what stands before it.
    fn callee<'e>(&self, it: &'e CallExpr) -> (String, Option<&'e IdedExpr>) {
        if let Some(IdedExpr { expr: Expr::Ident(space), .. }) = it.target.as_deref() {
            let name = format!("{space}.{}", it.func_name);
            if library::is_function(&name) {
                return (name, None);
            }
        }
        (it.func_name.clone(), it.target.as_deref())
    }

    /// What is in what a call makes of two.
    fn keep_entries(
        &mut self,
        part: u64,
        name: &str,
        overload: Option<&Type<'static>>,
        args: &[IdedExpr],
    ) {
        let (one, other) = match (name, args) {
            (operators::CONDITIONAL, [_, one, other]) => (one, other),
            (operators::ADD, [one, other])
                if matches!(overload, Some(Type::List(_) | Type::String | Type::Bytes)) =>
            {
                (one, other)
            }
            (_, _) => return,
        };
        if let (Some(one), Some(other)) = (self.entries_of(one), self.entries_of(other)) {
            self.entries.insert(part, one.union(other));
        }
    }

    fn each(&mut self, part: &IdedExpr, it: &ComprehensionExpr) -> Range {
        let mut sum = self.part(&it.iter_range).add(self.part(&it.accu_init));
        let before = self.locals.len();
        let start = Local {
            name: it.accu_var.clone(),
            path: self.path(&it.accu_init),
            size: self.size(&it.accu_init),
            entries: self.entries_of(&it.accu_init),
        };
        self.locals.push(start);
        if is_bind(it) {
            sum = sum.add(self.part(&it.result));
            self.locals.truncate(before);
            self.copy_sizes(part.id, &it.result);
            return sum;
        }
        self.push_items(it);
        let turn = self.part(&it.loop_cond).add(self.part(&it.loop_step));
        self.locals.truncate(before + 1);
        sum = sum.add(self.part(&it.result));
        self.locals.truncate(before);
        let count = self.size(&it.iter_range).unwrap_or(Range::UNKNOWN);
        sum = sum.add(count.times(turn));
        match &it.accu_init.expr {
            Expr::Literal(_) => {
                if let Some(size) = self.size(&it.accu_init) {
                    self.sizes.insert(part.id, size);
                }
            }
            Expr::List(_) | Expr::Map(_) => {
                self.sizes.insert(part.id, count);
                if let Some(entries) = self.entries_of(&it.loop_step) {
                    self.entries.insert(part.id, entries);
                }
            }
            Expr::Ident(_)
            | Expr::Select(_)
            | Expr::Call(_)
            | Expr::Struct(_)
            | Expr::Comprehension(_)
            | Expr::Unspecified => {}
        }
        sum
    }

    /// The variables of a loop: of a list its elements, of a map its keys; of two, the second is the value.
    fn push_items(&mut self, it: &ComprehensionExpr) {
        let entries = self.entries_of(&it.iter_range);
        let is_list = entries
            .map_or_else(|| matches!(self.type_of(&it.iter_range), Type::List(_)), |it| it.is_list);
        let path = self.path(&it.iter_range);
        let mut push = |name: &str, step: &str, size: Option<Range>| {
            let mut path = path.clone();
            path.push(step.to_owned());
            self.locals.push(Local { name: name.to_owned(), path, size, entries: None });
        };
        let (key, value) = (entries.map(|it| it.key), entries.map(|it| it.value));
        let steps = if is_list { ("@indices", "@items") } else { ("@keys", "@values") };
        match &it.iter_var2 {
            Some(second) => {
                push(&it.iter_var, steps.0, key);
                push(second, steps.1, value);
            }
            None if is_list => push(&it.iter_var, "@items", value),
            None => push(&it.iter_var, "@keys", key),
        }
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| local.name == name)
    }

    fn type_of(&self, part: &IdedExpr) -> Type<'static> {
        self.types.get(&part.id).cloned().unwrap_or(Type::Dyn)
    }

    fn path(&self, part: &IdedExpr) -> Vec<String> {
        if let Expr::Ident(name) = &part.expr
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&part.id).cloned().unwrap_or_default()
    }

    fn node<'e>(&mut self, part: &'e IdedExpr) -> Node<'e> {
        let size = self.size(part);
        Node { part: Some(part), path: self.path(part), is: self.type_of(part), size }
    }

    fn copy_sizes(&mut self, to: u64, from: &IdedExpr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to, size);
        }
        if let Some(entries) = self.entries_of(from) {
            self.entries.insert(to, entries);
        }
    }

    /// How much there is of a part, where that is known.
    fn size(&mut self, part: &IdedExpr) -> Option<Range> {
        let known = self.sizes.get(&part.id).copied();
        if let Some(size) = known.or_else(|| of_expression(&part.expr)) {
            return Some(size);
        }
        if let Some(size) = calls::declared_size(self.root, &self.path(part)) {
            self.sizes.insert(part.id, size);
            return Some(size);
        }
        if is_scalar(&self.type_of(part)) {
            return Some(STEP);
        }
        let Expr::Ident(name) = &part.expr else { return None };
        self.local(name).and_then(|local| local.size)
    }

    fn entries_of(&self, part: &IdedExpr) -> Option<Entries> {
        let known = self.entries.get(&part.id).copied();
        let Expr::Ident(name) = &part.expr else { return known };
        known.or_else(|| self.local(name).and_then(|local| local.entries))
    }
}

/// What gives a name to a value, and is no loop.
fn is_bind(it: &ComprehensionExpr) -> bool {
    let is_empty = matches!(&it.iter_range.expr, Expr::List(list) if list.elements.is_empty());
    let never =
        matches!(&it.loop_cond.expr, Expr::Literal(LiteralValue::Boolean(turn)) if !turn.inner());
    is_empty && never && it.accu_var != "@result"
}

/// The step of a path that an index is.
fn index_step(overload: Option<&Type<'static>>) -> Option<&'static str> {
    match overload {
        Some(Type::List(_)) => Some("@items"),
        Some(Type::Map(..)) => Some("@values"),
        Some(_) | None => None,
    }
}

fn of_expression(expression: &Expr) -> Option<Range> {
    let count = match expression {
        Expr::Literal(LiteralValue::String(text)) => text.inner().chars().count(),
        Expr::Literal(LiteralValue::Bytes(bytes)) => bytes.inner().len(),
        Expr::Literal(
            LiteralValue::Boolean(_)
            | LiteralValue::Double(_)
            | LiteralValue::Int(_)
            | LiteralValue::UInt(_)
            | LiteralValue::Null,
        ) => 1,
        Expr::List(list) => list.elements.len(),
        Expr::Map(map) => map.entries.len(),
        Expr::Ident(_)
        | Expr::Select(_)
        | Expr::Call(_)
        | Expr::Struct(_)
        | Expr::Comprehension(_)
        | Expr::Unspecified => return None,
    };
    Some(Range::exactly(u64::try_from(count).unwrap_or(u64::MAX)))
}

fn is_scalar(of: &Type<'_>) -> bool {
    match of {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => {
            true
        }
        Type::Optional(of) => is_scalar(of),
        Type::Dyn
        | Type::Free
        | Type::Null
        | Type::String
        | Type::Text
        | Type::Bytes
        | Type::Of(_)
        | Type::List(_)
        | Type::Map(..)
        | Type::Opaque(_)
        | Type::Object(_)
        | Type::Record(_)
        | Type::Param(_) => false,
    }
}
