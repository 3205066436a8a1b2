//! What expressions cost at most, beside what upstream comes to.

use super::*;
use crate::{STACK_BYTES, on_a_stack_of};

const TEXT: u64 = REQUEST_BYTES_MAX - 2;

fn cost(text: &str, root: &Declared) -> u64 {
    let parsed = Parsed::read(text).unwrap();
    on_a_stack_of(STACK_BYTES, || Estimator::of(root).at_most(&parsed, false)).unwrap()
}

fn text(letters: Option<u64>) -> Declared {
    Declared::String { most: letters.map_or(TEXT, |letters| letters * 4) }
}

fn list(of: Declared) -> impl Fn(Option<u64>) -> Declared {
    move |most| Declared::List { of: Box::new(of.clone()), most }
}

fn map(of: Declared) -> impl Fn(Option<u64>) -> Declared {
    move |most| Declared::Map { of: Box::new(of.clone()), most }
}

/// `required` is, `optional` may be there: texts.
fn object(least_bytes: u64) -> Declared {
    let fields = ["required", "optional"].map(|name| (name.to_owned(), text(None)));
    Declared::Object { fields: fields.into_iter().collect(), least_bytes }
}

/// Bytes of what has the field `required` at least: braces, the name with quotes, a colon, a comma and an empty text.
const REQUIRED: u64 = 2 + 8 + 2 + 4;

fn either() -> Declared {
    Declared::Dyn { most: TEXT }
}

/// A schema by its bound, an expression, what it costs without a bound (0: upstream's table does not say), a bound, and what
/// it costs with that.
type Case<'a> = (&'a dyn Fn(Option<u64>) -> Declared, &'a str, u64, u64, u64);

fn check(cases: &[Case<'_>]) {
    for (schema, text, calculated, most, set) in cases {
        let bounds = [(None, *calculated), (Some(*most), *set)];
        for (bound, expected) in bounds.into_iter().filter(|(_, expected)| 0 < *expected) {
            assert_eq!(cost(text, &schema(bound)), expected, "{text} of {:?}", schema(bound));
        }
    }
}

/// These and those below are the figures of upstream's table (`TestCostEstimation`).
#[test]
fn estimates_are_those_of_kube_apiserver() {
    let texts = |most: Option<u64>| list(text(most))(most);
    let with_text = |most: Option<u64>| {
        let fields = [("str", text(most)), ("before", text(Some(2))), ("after", text(Some(4)))];
        let fields = fields.map(|(name, of)| (name.to_owned(), of)).into_iter().collect();
        Declared::Object { fields, least_bytes: 2 }
    };
    let nested = |most: Option<u64>| list(map(object(REQUIRED))(most))(most);
    check(&[
        (&text, "self.contains('test')", 314_574, 10, 5),
        (&text, "self.startsWith('test')", 2, 15, 2),
        (&text, "self.endsWith('test')", 2, 30, 2),
        (&text, "size(self + \"hello\") > size(\"hello\")", 314_578, 4, 7),
        (&text, "self.matches(\"x\")", 314_574, 50, 22),
        (&text, "\"\".matches(\"(((((((((())))))))))[0-9]\")", 7, 10, 7),
        (&text, "self.matches(\"\")", 1, 100, 1),
        (&text, "self == \"x\"", 2, 0, 1),
        (&text, "self.find('[0-9]+') == ''", 629_147, 10, 11),
        (&texts, "self.join(' ') == 'aa bb'", 329_853_068_905, 10, 43),
        (&texts, "self.isSorted() == true", 329_854_432_052, 10, 52),
        (
            &with_text,
            "self.str.replace(self.before, self.after) == 'does not matter'",
            629_154,
            4,
            12,
        ),
        (&with_text, "self.str.split(self.str) == []", 629_160, 10, 22),
        (&text, "self.lowerAscii() == 'lower!'", 314_575, 10, 6),
        (&nested, "self.all(x, x[\"y\"].required == \"z\")", 7_340_027, 10, 72),
    ]);
}

#[test]
fn estimates_of_lists_are_those_of_kube_apiserver() {
    check(&[
        (&list(Declared::Double), "self.all(x, true)", 4_718_591, 10, 32),
        (&list(text(None)), "self.all(x, true)", 3_145_727, 20, 62),
        (&list(Declared::Bool), "self.all(x, true)", 1_887_437, 5, 17),
        (&list(list(Declared::Double)(None)), "self.all(x, true)", 3_145_727, 100, 302),
        (&list(object(REQUIRED)), "self.all(x, true)", 555_128, 50, 152),
        (&list(Declared::Double), "self[1] == 0.0", 2, 5_000, 2),
        (&list(text(None)), "self[1] == self[1]", 314_577, 8, 314_577),
        (&list(Declared::Double), "self.all(x, self.all(y, true))", 0, 10, 352),
        (&list(Declared::Double), "self.all(x, self.all(y, self.all(z, true)))", 0, 10, 3_552),
        (&list(Declared::Double), "self[3] == 0.0", 2, 0, 2),
        (&list(Declared::Double), "self.all(x, x == 0.0)", 6_291_454, 3 * 1024 * 2048, 25_165_826),
        (&list(either()), "self.all(x, true)", 4_718_591, 10, 32),
        (&list(either()), "self[0] == 5", 3, 10, 3),
        (&list(Declared::Bool), "self[0] == false", 2, 25, 2),
        (&list(object(REQUIRED)), "self[0] == null", 2, 422, 2),
        (&list(list(Declared::Double)(None)), "self[0][0] == -1.0", 3, 51, 3),
        (&list(map(Declared::Double)(None)), "self.all(x, x.y == 25.2)", 6_291_452, 12, 74),
        (&list(map(Declared::Double)(None)), "self[0].x > 2.0", 4, 3_000, 4),
        (&list(Declared::Duration), "self.all(x, true)", 2_359_295, 5, 17),
        (&list(Declared::Duration), "self[0].getHours() == 2", 4, 525, 4),
        (&list(Declared::Date), "self.all(x, true)", 725_936, 15, 47),
        (&list(Declared::Date), "self[2].getDayOfMonth() == 13", 4, 42, 4),
        (&list(Declared::DateTime), "self.all(x, true)", 428_963, 25, 77),
        (&list(Declared::DateTime), "self[2].getMinutes() == 45", 4, 99, 4),
    ]);
    // Twice as deep is more than anybody may have.
    let deep = list(Declared::Double)(None);
    for text in ["self.all(x, self.all(y, true))", "self.all(x, self.all(y, self.all(z, true)))"] {
        assert!(10_000_000 < cost(text, &deep), "{text}");
    }
}

#[test]
fn estimates_of_maps_are_those_of_kube_apiserver() {
    check(&[
        (&map(Declared::Double), "self.all(x, true)", 1_348_169, 10, 32),
        (&map(text(None)), "self.all(x, true)", 1_179_647, 3, 11),
        (&map(Declared::Bool), "self.all(x, true)", 943_718, 100, 302),
        (&map(text(None)), "self.all(x, x.contains(self[x]))", 2_752_507, 10, 72),
        (&map(Declared::Double), "self[\"x\"] == 0.0", 2, 0, 2),
        (&map(either()), "self.all(x, true)", 1_348_169, 15, 47),
        (&map(object(REQUIRED)), "self.all(x, true)", 428_963, 20, 62),
        (&map(map(Declared::Double)(None)), "self.all(x, true)", 1_179_647, 10, 32),
        (&map(list(Declared::Double)(None)), "self.all(x, true)", 1_179_647, 25, 77),
        (&map(Declared::Duration), "self.all(x, true)", 1_048_577, 5, 17),
        (&map(Declared::Date), "self.all(x, true)", 524_288, 10, 32),
        (&map(Declared::DateTime), "self.all(x, true)", 349_526, 25, 77),
        (&map(Declared::Int), "oldSelf.size() == self.size()", 5, 10, 5),
        (&map(Declared::DateTime), "self[\"a\"] == self[\"b\"]", 8, 7, 8),
        (&map(Declared::Duration), "self[\"c\"] == self[\"d\"]", 8, 42, 8),
    ]);
}

#[test]
fn what_was_before_may_be_absent() {
    let root = object(REQUIRED);
    let cost = |text: &str, optional: bool| {
        let parsed = Parsed::read(text).unwrap();
        on_a_stack_of(STACK_BYTES, || Estimator::of(&root).at_most(&parsed, optional)).unwrap()
    };
    // The name, the call and the field; of what a call answers nothing is known that would be compared.
    assert_eq!(cost("oldSelf.value().required == 'x'", true), 3);
    assert_eq!(cost("oldSelf.required == 'x'", false), 3);
}

#[test]
fn an_address_that_may_be_text_is_read_as_one() {
    let root = Declared::Dyn { most: 40 };
    let contains = |what: &str| cost(&format!("cidr('10.0.0.0/8').containsIP({what})"), &root);
    // To read one, to compare both, and what the other's text takes.
    assert_eq!(contains("self"), 1 + 4 + 4 + 1);
    assert_eq!(contains("dyn(self)"), 1 + 4 + 4 + 2);
    assert_eq!(contains("ip('10.0.0.1')"), 1 + 4 + 1);
}

/// By upstream's formulas: what is made, a call, and a list.
#[test]
fn lists_that_are_made_cost_what_is_in_them() {
    let texts = list(text(Some(3)))(Some(10));
    for (of, units) in [
        ("self.reverse()", 1 + 10 + 11),
        ("self.slice(1, 3)", 1 + 2 + 11),
        ("self.flatten()", 1 + 10 + 11),
        ("self.flatten(3)", 1 + 30 + 11),
        ("self.distinct()", 1 + 200 + 11),
        ("self.sort()", 1 + 210 + 11),
        // An empty list and a name, keys by a loop, the list again, and to sort it.
        ("self.sortBy(x, x)", 10 + 1 + (12 + 10 * 13) + 1 + 210 + 11),
        ("lists.range(5)", 5 + 11),
        ("self.first().value()", 3),
    ] {
        assert_eq!(cost(of, &texts), units, "{of}");
    }
}

/// By upstream's formulas: of loops over two variables a turn costs what one of one does, and what is put into a map a call.
#[test]
fn loops_over_two_variables_cost_their_turns() {
    let (doubles, named) = (list(Declared::Double)(Some(10)), map(Declared::Double)(Some(10)));
    for (of, root, units) in [
        ("self.all(i, x, true)", &doubles, 32),
        ("self.exists(k, v, v == 0.0)", &named, 1 + 1 + 10 * (3 + 1 + 1)),
        ("self.transformList(i, x, x)", &doubles, 1 + 10 + 1 + 10 * 13),
        ("self.transformMap(k, v, v)", &named, 1 + 30 + 1 + 10 * 4),
        ("self.transformMapEntry(i, x, {i: x})", &doubles, 1 + 30 + 1 + 10 * (2 + 32)),
    ] {
        assert_eq!(cost(of, root), units, "{of}");
    }
}

#[test]
fn selectors_of_questions_cost_what_they_may_say() {
    let root = Declared::Dyn { most: 40 };
    assert_eq!(cost("dyn(self).fieldSelector('a=b')", &root), 2 + 10 + 1 + 2 * 50);
}
