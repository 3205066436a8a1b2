//! What functions take and answer, from one table (`signatures.txt`): a function that is not in it takes and answers
//! anything.
//!
//! ```text
//! NAME SIGNATURE [; SIGNATURE …]     all that there are of a name
//! (A, list(A)) bool                  arguments and answer; A and B are whatever they are, twice the same
//! string.(int) string                the same of a function that stands behind a value
//! ```
//!
//! Guarantees:
//! - every function that Kubernetes adds is in the table (`every_function_has_its_signatures`).

use std::collections::HashMap;
use std::sync::LazyLock;

use super::value_type::{Type, join};

static TEXT: &str = include_str!("signatures.txt");

static TABLE: LazyLock<HashMap<&'static str, Vec<Signature>>> =
    LazyLock::new(|| lines().filter_map(read).collect());

/// What a function takes, and what it answers then.
struct Signature {
    /// The first of what it takes stands before its name.
    receiver: bool,
    takes: Vec<Type<'static>>,
    answers: Type<'static>,
}

/// What a call comes to.
pub(super) enum Call<'a> {
    /// It is right, and answers this.
    Answers(Type<'a>),
    /// No function of the name takes what it is given.
    NoOverload,
}

/// What a call of a function comes to.
pub(super) fn call<'a>(name: &str, receiver: bool, given: &[Type<'a>]) -> Call<'a> {
    let Some(all) = TABLE.get(name) else { return Call::Answers(Type::Dyn) };
    let mut answer: Option<Type<'a>> = None;
    for signature in all.iter().filter(|one| one.receiver == receiver) {
        let Some(one) = signature.answer(given) else { continue };
        let same = answer.as_ref().is_none_or(|other| other.to_string() == one.to_string());
        answer = Some(if same { one } else { Type::Dyn });
    }
    answer.map_or(Call::NoOverload, Call::Answers)
}

/// The first thing that each signature takes by which a call may be answered; nothing, where that is not known.
pub(crate) fn first_of_overloads<'a>(
    name: &str,
    receiver: bool,
    given: &[Type<'a>],
) -> Vec<Option<&'static Type<'static>>> {
    let all = TABLE.get(name).into_iter().flatten().filter(|one| one.receiver == receiver);
    let fits = all.filter(|one| one.answer(given).is_some());
    let first: Vec<_> = fits.map(|one| one.takes.first()).collect();
    if first.is_empty() { vec![None] } else { first }
}

/// What `A` and `B` are.
type Bound<'a> = [Option<Type<'a>>; 2];

impl Signature {
    fn answer<'a>(&self, given: &[Type<'a>]) -> Option<Type<'a>> {
        let mut bound: Bound<'a> = [None, None];
        let mut pairs = self.takes.iter().zip(given);
        let takes = self.takes.len() == given.len()
            && pairs.all(|(takes, given)| assign(takes, given, &mut bound));
        takes.then(|| filled(&self.answers, &bound))
    }
}

/// Whether a value of this type may be given where a signature says that one.
fn assign<'a>(takes: &Type<'static>, given: &Type<'a>, bound: &mut Bound<'a>) -> bool {
    match (takes, given) {
        (Type::Param(place), given) => {
            let Some(known) = bound.get_mut(*place) else { return false };
            let both = match known {
                None => Some(given.clone()),
                Some(known) => join(known, given),
            };
            let fits = both.is_some();
            *known = both;
            fits
        }
        (Type::List(of) | Type::Optional(of) | Type::Of(of), Type::Dyn | Type::Free) => {
            assign(of, given, bound)
        }
        (Type::Map(key, value), Type::Dyn | Type::Free) => {
            assign(key, given, bound) && assign(value, given, bound)
        }
        (Type::Map(key, value), Type::Object(_) | Type::Record(_)) => {
            assign(key, &Type::String, bound) && assign(value, &Type::Dyn, bound)
        }
        (Type::List(of), Type::List(given))
        | (Type::Optional(of), Type::Optional(given))
        | (Type::Of(of), Type::Of(given)) => assign(of, given, bound),
        (Type::Map(key, value), Type::Map(given_key, given_value)) => {
            assign(key, given_key, bound) && assign(value, given_value, bound)
        }
        (takes, given) => join(takes, given).is_some(),
    }
}

/// A type of a signature, with what is known of what that leaves open.
fn filled<'a>(of: &Type<'static>, bound: &Bound<'a>) -> Type<'a> {
    match of {
        Type::Param(place) => bound.get(*place).cloned().flatten().unwrap_or(Type::Free),
        Type::List(of) => Type::list(filled(of, bound)),
        Type::Optional(of) => Type::optional(filled(of, bound)),
        Type::Of(of) => Type::of(filled(of, bound)),
        Type::Map(key, value) => Type::map(filled(key, bound), filled(value, bound)),
        plain => plain.clone(),
    }
}

fn lines() -> impl Iterator<Item = &'static str> {
    TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn read(line: &'static str) -> Option<(&'static str, Vec<Signature>)> {
    let (name, signatures) = line.split_once(' ')?;
    let all = signatures.split(';').map(|text| signature(text.trim()));
    Some((name, all.collect::<Option<_>>()?))
}

fn signature(text: &'static str) -> Option<Signature> {
    let mut rest = text;
    let mut takes = Vec::new();
    let receiver = !rest.starts_with('(');
    if receiver {
        takes.push(one_type(&mut rest)?);
        rest = rest.strip_prefix('.')?;
    }
    takes.extend(in_brackets(&mut rest)?);
    rest = rest.strip_prefix(' ')?;
    let answers = one_type(&mut rest)?;
    rest.is_empty().then_some(Signature { receiver, takes, answers })
}

/// `(A, list(A))`
fn in_brackets(rest: &mut &'static str) -> Option<Vec<Type<'static>>> {
    *rest = rest.strip_prefix('(')?;
    let mut all = Vec::new();
    while !rest.starts_with(')') {
        if !all.is_empty() {
            *rest = rest.strip_prefix(", ")?;
        }
        all.push(one_type(rest)?);
    }
    *rest = rest.strip_prefix(')')?;
    Some(all)
}

fn one_type(rest: &mut &'static str) -> Option<Type<'static>> {
    let text: &'static str = rest;
    let end = text.find(|letter: char| !letter.is_alphanumeric()).unwrap_or(text.len());
    let (name, behind) = text.split_at(end);
    *rest = behind;
    let inside = if name.starts_with(|first: char| first.is_lowercase()) && behind.starts_with('(')
    {
        in_brackets(rest)?
    } else {
        Vec::new()
    };
    let mut inside = inside.into_iter();
    Some(match name {
        "A" => Type::Param(0),
        "B" => Type::Param(1),
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "list" => Type::list(inside.next()?),
        "map" => Type::map(inside.next()?, inside.next()?),
        "optional" => Type::optional(inside.next()?),
        "type" => Type::of(inside.next()?),
        name => Type::Opaque(OPAQUE.iter().find(|(short, _)| *short == name)?.1),
    })
}

/// Types that only functions make sense of, by their short names in the table.
const OPAQUE: [(&str, &str); 11] = [
    ("URL", "net.URL"),
    ("IP", "net.IP"),
    ("CIDR", "net.CIDR"),
    ("Quantity", "kubernetes.Quantity"),
    ("Semver", "kubernetes.Semver"),
    ("Format", "kubernetes.NamedFormat"),
    ("Authorizer", "kubernetes.authorization.Authorizer"),
    ("PathCheck", "kubernetes.authorization.PathCheck"),
    ("GroupCheck", "kubernetes.authorization.GroupCheck"),
    ("ResourceCheck", "kubernetes.authorization.ResourceCheck"),
    ("Decision", "kubernetes.authorization.Decision"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library;

    #[test]
    fn every_function_has_its_signatures() {
        for line in lines() {
            assert!(read(line).is_some(), "{line}");
        }
        assert_eq!(TABLE.len(), lines().count(), "a name is there twice");
        let missing: Vec<_> = library::added()
            .filter(|name| !name.starts_with('@') && !TABLE.contains_key(name))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
