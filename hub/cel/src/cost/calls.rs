//! What calls cost, and how much they answer.

use cel::IdedExpr;
use cel::common::ast::{Expr, LiteralValue, operators};

use super::declared::Declared;
use super::range::Range;
use crate::library::authorizer::QUESTION_UNITS;
use crate::macros::SORT_BY_KEYS;
use crate::typing::Type;

/// Of a letter of a text that is gone through.
const LETTER_UNITS: f64 = 0.1;
/// Of a letter of a pattern.
const PATTERN_LETTER_UNITS: f64 = 0.25;
/// Of the longest pattern of a named format.
const FORMAT_PATTERN_UNITS: f64 = 128.0 * PATTERN_LETTER_UNITS;
const ONE: Range = Range::exactly(1);
/// What a named format is.
const FORMAT: &str = "kubernetes.NamedFormat";
/// Functions that cost one unit.
const ONES: [&str; 38] = [
    "serviceAccount",
    "path",
    "group",
    "resource",
    "subresource",
    "namespace",
    "name",
    "allowed",
    "reason",
    "error",
    "errored",
    "masked",
    "prefixLength",
    "family",
    "isUnspecified",
    "isLoopback",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isGlobalUnicast",
    "format.named",
    "sign",
    "asInteger",
    "isInteger",
    "asApproximateFloat",
    "isGreaterThan",
    "isLessThan",
    "compareTo",
    "add",
    "sub",
    "getScheme",
    "getHostname",
    "getHost",
    "getPort",
    "getEscapedPath",
    "getQuery",
    "major",
    "minor",
    "patch",
];
/// Of a list that is made.
const LIST: Range = Range::exactly(10);
/// Bytes of an address.
const ADDRESS: Range = Range::of(4, 16);

/// A value that a call is given.
pub(super) struct Node<'e> {
    /// What it is written as, where it is.
    pub(super) part: Option<&'e IdedExpr>,
    /// Where it is in what is declared.
    pub(super) path: Vec<String>,
    pub(super) is: Type<'static>,
    /// How much there is of it, where that is known.
    pub(super) size: Option<Range>,
}

/// What a call costs, and how much it answers, where that is known.
pub(super) struct Estimate {
    pub(super) cost: Range,
    pub(super) size: Option<Range>,
}

/// A call by one of the signatures that fit it.
pub(super) struct Call<'c, 'e> {
    pub(super) name: &'c str,
    /// The first thing that the signature takes.
    pub(super) overload: Option<&'static Type<'static>>,
    pub(super) target: Option<&'c Node<'e>>,
    pub(super) args: &'c [Node<'e>],
    pub(super) costs: &'c [Range],
    pub(super) root: &'c Declared,
}

/// How much there may be of what is declared at this place. The first step is the name of a variable, whichever that is.
pub(super) fn declared_size(root: &Declared, path: &[String]) -> Option<Range> {
    let (_, steps) = path.split_first()?;
    let found = steps.iter().try_fold(root, |of, step| of.at(step))?;
    Some(Range::of(0, found.most()))
}

impl Call<'_, '_> {
    /// What it costs, with its arguments.
    pub(super) fn estimate(&self) -> Estimate {
        let of_args = self.costs.iter().fold(Range::exactly(0), |sum, cost| sum.add(*cost));
        let own = self.of_texts().or_else(|| self.of_lists()).or_else(|| self.of_new_lists());
        let own = own.or_else(|| self.of_selectors()).or_else(|| self.of_values());
        if let Some(Estimate { cost, size }) = own {
            return Estimate { cost: cost.add(of_args), size };
        }
        match (self.name, self.costs, self.args) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [one, other], _) => {
                Estimate { cost: Range::of(one.least, one.add(*other).most), size: None }
            }
            (operators::CONDITIONAL, [asked, one, other], [_, then, otherwise]) => {
                let size = known(then).union(known(otherwise));
                Estimate { cost: asked.add(one.union(*other)), size: Some(size) }
            }
            (_, _, _) => {
                let Estimate { cost, size } = self.of_language();
                Estimate { cost: cost.add(of_args), size }
            }
        }
    }

    fn size_of(&self, node: &Node<'_>) -> Range {
        let declared = || declared_size(self.root, &node.path);
        node.size.or_else(declared).unwrap_or(Range::UNKNOWN)
    }

    /// Functions about text.
    fn of_texts(&self) -> Option<Estimate> {
        let target = self.target.map(|target| self.size_of(target));
        let first = self.args.first().map(|arg| self.size_of(arg));
        let sized = |cost: Range, size: Range| Some(Estimate { cost, size: Some(size) });
        let plain = |cost: Range| Some(Estimate { cost, size: None });
        match (self.name, target, first) {
            ("url" | "jsonpatch.escapeKey", None, Some(text)) => sized(text.at(LETTER_UNITS), text),
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(text), _) => {
                sized(text.at(LETTER_UNITS), text)
            }
            ("replace", Some(text), Some(old)) => {
                let new = self.size_of(self.args.get(1)?);
                sized(text.at(2.0 * LETTER_UNITS), replaced(text, old, new))
            }
            ("split", Some(text), _) => {
                let most = self.args.get(1).and_then(literal_count).unwrap_or(text.most);
                sized(text.at(2.0 * LETTER_UNITS), Range::of(0, most))
            }
            ("find" | "findAll", Some(text), Some(pattern)) => {
                let cost = text.add(ONE).at(LETTER_UNITS).times(pattern.at(PATTERN_LETTER_UNITS));
                sized(cost, Range::of(0, text.most))
            }
            (
                "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver",
                _,
                Some(text),
            ) => plain(text.at(LETTER_UNITS)),
            ("ip", None, Some(text)) => plain(text.at(LETTER_UNITS)),
            ("ip.isCanonical", _, Some(text)) => plain(text.at(2.0 * LETTER_UNITS)),
            ("validate", _, Some(text)) => plain(text.at(LETTER_UNITS).at(FORMAT_PATTERN_UNITS)),
            ("containsIP" | "containsCIDR", _, Some(text)) => {
                let mut cost = ADDRESS.add(ADDRESS).at(LETTER_UNITS);
                if self.name == "containsCIDR" {
                    cost = cost.add(ADDRESS.at(LETTER_UNITS)).add(ONE);
                }
                let read = cost.add(text.at(LETTER_UNITS));
                let is = &self.args.first()?.is;
                let is_text = matches!(is, Type::String | Type::Text);
                // Where it may be anything, both functions of the name may be the one.
                let may_be = matches!(is, Type::Dyn | Type::Free);
                plain(if is_text {
                    read
                } else if may_be {
                    cost.union(read)
                } else {
                    cost
                })
            }
            (_, _, _) => None,
        }
    }

    /// Functions about lists, and places in text.
    fn of_lists(&self) -> Option<Estimate> {
        let target = self.target?;
        let size = self.size_of(target);
        let element = element(target);
        if self.name == "join" {
            let texts = element.map(|element| size.times(self.size_of(&element)));
            let mut all = texts.unwrap_or(Range::exactly(0));
            if let Some(between) = self.args.first() {
                let gaps = Range::of(size.least.saturating_sub(1), size.most.saturating_sub(1));
                all = all.add(self.size_of(between).times(gaps));
            }
            return Some(Estimate { cost: all.at(LETTER_UNITS), size: Some(all) });
        }
        let looks = ["isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"];
        if !looks.contains(&self.name) {
            return None;
        }
        let cost = match element {
            Some(element) => {
                let is_text = matches!(element.is, Type::String | Type::Bytes);
                let letters = || self.size_of(&element).at(LETTER_UNITS);
                size.times(if is_text { ONE.add(letters()) } else { ONE })
            }
            None => size.at(LETTER_UNITS),
        };
        Some(Estimate { cost, size: None })
    }

    /// Functions that make lists.
    fn of_new_lists(&self) -> Option<Estimate> {
        let target = self.target.map(|target| self.size_of(target));
        let literal = |place: usize| self.args.get(place).and_then(literal_count);
        let (each, size) = match (self.name, target) {
            ("lists.range", None) => (1.0, Range::exactly(literal(0).unwrap_or(u64::MAX))),
            ("reverse", Some(size)) => (1.0, size),
            ("slice", Some(size)) => {
                let (from, to) = (literal(0).unwrap_or(0), literal(1).unwrap_or(size.most));
                (1.0, Range::exactly(to.saturating_sub(from)))
            }
            ("flatten", Some(size)) => {
                let levels = if self.args.is_empty() { Some(1) } else { literal(0) };
                let levels = levels.and_then(|levels| u32::try_from(levels).ok());
                (levels.map_or(f64::MAX, f64::from), size)
            }
            ("distinct", Some(size)) => (2.0, size.times(size)),
            ("sort" | SORT_BY_KEYS, Some(_)) => {
                let sorted = if self.name == "sort" { self.target } else { self.args.first() };
                let size = sorted.map_or(Range::UNKNOWN, |sorted| self.size_of(sorted));
                let is = sorted.and_then(element).map(|element| element.is);
                let is_text = matches!(is, Some(Type::String | Type::Bytes));
                (if is_text { 2.0 + LETTER_UNITS } else { 2.0 }, size.times(size))
            }
            (_, _) => return None,
        };
        Some(Estimate { cost: size.at(each).add(ONE).add(LIST), size: Some(size) })
    }

    /// What is said of a part of a collection: to read it, and to make a list and an object for every two letters.
    fn of_selectors(&self) -> Option<Estimate> {
        if !["fieldSelector", "labelSelector"].contains(&self.name) {
            return None;
        }
        let text = self.size_of(self.args.first()?);
        let cost = LIST.add(text.at(LETTER_UNITS)).add(text.at(0.5).at(50.0));
        Some(Estimate { cost, size: None })
    }

    /// Functions that cost the same whatever they are asked about.
    fn of_values(&self) -> Option<Estimate> {
        let opaque = |node: &Node<'_>| matches!(node.is, Type::Opaque(_));
        let cost = if self.name == "check" {
            Range::exactly(QUESTION_UNITS)
        } else if ONES.contains(&self.name) {
            ONE
        } else if self.name == operators::EQUALS && self.args.iter().all(opaque) {
            let is_format = |node: &Node<'_>| matches!(node.is, Type::Opaque(FORMAT));
            if self.args.iter().all(is_format) { Range::of(1, 64).at(LETTER_UNITS) } else { ONE }
        } else {
            return None;
        };
        Some(Estimate { cost, size: None })
    }

    /// What the language has itself.
    fn of_language(&self) -> Estimate {
        let plain = |cost: Range| Estimate { cost, size: None };
        let text = matches!(self.overload, Some(Type::String | Type::Bytes));
        match (self.name, self.target, self.args) {
            ("format", Some(target), _) => plain(known(target).at(LETTER_UNITS)),
            ("bytes", None, [of]) if matches!(self.overload, Some(Type::String)) => {
                let size = known(of);
                let made = Range::of(size.least, size.most.wrapping_mul(4));
                Estimate { cost: size.at(LETTER_UNITS), size: Some(made) }
            }
            ("string", None, [of]) if matches!(self.overload, Some(Type::Bytes)) => {
                let size = known(of);
                let made = Range::of(size.least / 4, size.most);
                Estimate { cost: size.at(LETTER_UNITS), size: Some(made) }
            }
            ("startsWith" | "endsWith", Some(_), [part]) => plain(known(part).at(LETTER_UNITS)),
            (operators::IN, None, [_, Node { is: Type::List(_) | Type::Dyn, .. }]) => {
                plain(self.args.get(1).map_or(ONE, |list| known(list).at(1.0)))
            }
            ("matches", Some(target), [pattern]) => {
                let letters = known(target).add(ONE).at(LETTER_UNITS);
                plain(letters.times(known(pattern).at(PATTERN_LETTER_UNITS)))
            }
            ("contains", Some(target), [part]) => {
                plain(known(target).at(LETTER_UNITS).times(known(part).at(LETTER_UNITS)))
            }
            (operators::ADD, None, [one, other]) if text => {
                let size = known(one).add(known(other));
                Estimate { cost: size.at(LETTER_UNITS), size: Some(size) }
            }
            (operators::ADD, None, [one, other])
                if matches!(self.overload, Some(Type::List(_))) =>
            {
                Estimate { cost: ONE, size: Some(known(one).add(known(other))) }
            }
            (operators::EQUALS | operators::NOT_EQUALS, None, [one, other]) => {
                plain(compared(one, other))
            }
            (
                operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS,
                None,
                [one, other],
            ) if text => plain(compared(one, other)),
            (_, _, _) => plain(ONE),
        }
    }
}

/// How much there is of it, where the expression alone says that.
fn known(node: &Node<'_>) -> Range {
    node.size.unwrap_or(Range::UNKNOWN)
}

/// What is in a list.
fn element(list: &Node<'_>) -> Option<Node<'static>> {
    let (Type::List(of) | Type::Map(of, _) | Type::Optional(of) | Type::Of(of)) = &list.is else {
        return None;
    };
    let mut path = list.path.clone();
    if !path.is_empty() {
        path.push("@items".to_owned());
    }
    Some(Node { part: None, path, is: (**of).clone(), size: None })
}

/// As long as the shorter of two.
fn compared(one: &Node<'_>, other: &Node<'_>) -> Range {
    let most = known(one).most.min(known(other).most);
    Range::of(most.min(1), most).at(LETTER_UNITS)
}

/// A number that is written there.
fn literal_count(node: &Node<'_>) -> Option<u64> {
    match &node.part?.expr {
        Expr::Literal(LiteralValue::Int(count)) => Some(count.inner().cast_unsigned()),
        Expr::Literal(_)
        | Expr::Ident(_)
        | Expr::Select(_)
        | Expr::Call(_)
        | Expr::List(_)
        | Expr::Map(_)
        | Expr::Struct(_)
        | Expr::Comprehension(_)
        | Expr::Unspecified => None,
    }
}

/// How long a text is of which parts are replaced: the longest by the shortest as often as may be, and the other way round.
fn replaced(text: Range, old: Range, new: Range) -> Range {
    let (most_times, most_kept) = if old.least == 0 {
        // What is new surrounds each letter.
        (text.most.saturating_add(1), text.most)
    } else if new.most <= old.least {
        (0, text.most)
    } else {
        (text.most.div_ceil(old.least), 0)
    };
    let (least_times, least_kept) = if old.most == 0 {
        (text.least.saturating_add(1), text.least)
    } else if old.most <= new.least {
        (0, text.least)
    } else {
        (text.least.div_ceil(old.most), 0)
    };
    let times = Range::of(least_times, most_times);
    times.times(new).add(Range::of(least_kept, most_kept))
}
