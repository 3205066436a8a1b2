//! What holds for every quantity and every selector: thousands of them are made from a seed, which a failure names.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Kind, Strategy};
use freewheel_hub_schema::quantity::{Quantity, canonical};
use freewheel_hub_schema::selector::{FieldSelector, LabelSelector};
use serde_json::{Value, json};

const CASES: u64 = 4_000;

/// Runs a property on as many cases; `FREEWHEEL_SEED` runs one again.
fn hold(property: impl Fn(&mut Rng) -> Result<(), String>) {
    let asked = std::env::var("FREEWHEEL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = asked.map_or(0..CASES, |seed: u64| seed..seed + 1);
    for seed in seeds {
        if let Err(why) = property(&mut Rng::with_seed(seed)) {
            panic!("FREEWHEEL_SEED={seed}: {why}");
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, a: &T, b: &T) -> Result<(), String> {
    if a == b { Ok(()) } else { Err(format!("{what}: {a:?} is not {b:?}")) }
}

/// A quantity's text, and what it is in nano units times 10^9: exact, and computed another way.
fn quantity(rng: &mut Rng) -> (String, i128) {
    let (whole, decimals) = (rng.u32(0..2_000_000), rng.usize(0..7));
    let fraction = rng.u32(0..10_u32.pow(6)) % 10_u32.pow(u32::try_from(decimals).unwrap());
    let negative = rng.u8(0..4) == 0;
    let suffixes: [(&str, i128, i128); 14] = [
        ("n", 1, 1_000_000_000),
        ("u", 1, 1_000_000),
        ("m", 1, 1_000),
        ("", 1, 1),
        ("k", 1_000, 1),
        ("M", 1_000_000, 1),
        ("G", 1_000_000_000, 1),
        ("Ki", 1 << 10, 1),
        ("Mi", 1 << 20, 1),
        ("Gi", 1 << 30, 1),
        ("e3", 1_000, 1),
        ("E+2", 100, 1),
        ("e-3", 1, 1_000),
        ("e0", 1, 1),
    ];
    let (suffix, times, over) = *rng.choice(&suffixes).unwrap();
    let sign = if negative {
        "-"
    } else if rng.bool() {
        "+"
    } else {
        ""
    };
    let point = if decimals == 0 { String::new() } else { format!(".{fraction:0decimals$}") };
    let zeros = "0".repeat(rng.usize(0..3));
    let text = format!("{sign}{zeros}{whole}{point}{suffix}");
    let unit = 1_000_000_000_000_000_000;
    let scale = 10_i128.pow(u32::try_from(decimals).unwrap());
    let exact = (i128::from(whole) * scale + i128::from(fraction)) * times * (unit / scale / over);
    (text, if negative { -exact } else { exact })
}

/// Rounded away from zero to nano units.
fn nano(exact: i128) -> i128 {
    let up = (exact.unsigned_abs()).div_ceil(1_000_000_000);
    i128::try_from(up).unwrap() * exact.signum()
}

#[test]
fn a_canonical_text_is_as_much_and_its_own_canonical_text() {
    hold(|rng| {
        let (text, _) = quantity(rng);
        let once = canonical(&text).map_err(|why| format!("{text}: {why}"))?;
        same(&text, &canonical(&once).unwrap(), &once)?;
        same(&text, &once.parse::<Quantity>().unwrap(), &text.parse::<Quantity>().unwrap())?;
        let plain = !once.contains('.') && !once.starts_with('+');
        if plain { Ok(()) } else { Err(format!("{text} is {once}")) }
    });
}

/// The canonical text of so much, by upstream's words: nothing is lost, no fraction is shown, and the suffix is as large as
/// can be; of binary ones only what has whole units, and not fewer than the smallest of them.
fn written(nano: i128, of: &str) -> String {
    let units = nano / 1_000_000_000;
    let is_whole = units * 1_000_000_000 == nano;
    let plain = nano.to_string();
    let digits = plain.trim_end_matches('0');
    if nano == 0 {
        return "0".to_owned();
    }
    if of.ends_with('i') && is_whole && 1024 <= units.unsigned_abs() {
        let times = usize::try_from(units.trailing_zeros() / 10).unwrap();
        let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi"][times];
        return format!("{}{suffix}", units / (1_i128 << (10 * times)));
    }
    let thousands = (plain.len() - digits.len()) / 3;
    let shown = &plain[..plain.len() - 3 * thousands];
    let power = 3 * i32::try_from(thousands).unwrap() - 9;
    match of.contains(['e', 'E']) {
        true if power == 0 => shown.to_owned(),
        true => format!("{shown}e{power}"),
        false => format!("{shown}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][thousands]),
    }
}

#[test]
fn a_canonical_text_has_the_largest_suffix_of_its_family() {
    hold(|rng| {
        let (text, exact) = quantity(rng);
        let nano = nano(exact);
        // A part of a unit is written in thousandths.
        let of = if nano.abs() < 1_000_000_000 { text.trim_end_matches('i') } else { &text };
        same(&text, &canonical(&text).unwrap(), &written(nano, of))?;
        let milli = i128::from(text.parse::<Quantity>().unwrap().milli_value()) * 1_000_000;
        let rounded = text.parse::<Quantity>().unwrap().rounded_to_milli();
        same(&text, &rounded.to_string(), &written(milli, of))
    });
}

#[test]
fn quantities_are_as_much_as_they_say_and_ordered_by_it() {
    hold(|rng| {
        let ((a, exact_a), (b, exact_b)) = (quantity(rng), quantity(rng));
        let (x, y): (Quantity, Quantity) = (a.parse().unwrap(), b.parse().unwrap());
        let expected = nano(exact_a).cmp(&nano(exact_b));
        same(&format!("{a} and {b}"), &x.cmp(&y), &expected)?;
        same(&format!("{a} and {b}"), &(x == y), &(expected == Ordering::Equal))?;
        // Up means away from nothing, as in Go.
        let in_units = |unit: i128| {
            let up = nano(exact_a).unsigned_abs().div_ceil(unit.unsigned_abs());
            i64::try_from(i128::try_from(up).unwrap() * exact_a.signum()).unwrap()
        };
        same(&a, &x.value(), &in_units(1_000_000_000))?;
        same(&a, &x.milli_value(), &in_units(1_000_000))?;
        same(&a, &x.is_negative(), &(exact_a < 0))?;
        same(&a, &x.is_zero(), &(exact_a == 0))
    });
}

#[test]
fn any_text_is_a_quantity_or_refused() {
    hold(|rng| {
        let letters: Vec<char> = "0123456789..+--eEinumkKMGTPE xé".chars().collect();
        let text: String = (0..rng.usize(0..14)).map(|_| *rng.choice(&letters).unwrap()).collect();
        match canonical(&text) {
            Ok(once) => same(&text, &canonical(&once), &Ok(once.clone())),
            Err(_) => Ok(()),
        }
    });
}

const KEYS: [&str; 4] = ["app", "tier", "example.com/part", "x"];
const VALUES: [&str; 5] = ["web", "db", "", "7", "a.b_c"];

fn labels(rng: &mut Rng) -> BTreeMap<String, String> {
    let some = KEYS.iter().filter(|_| rng.bool()).copied().collect::<Vec<_>>();
    some.into_iter()
        .map(|key| (key.to_owned(), (*rng.choice(&VALUES).unwrap()).to_owned()))
        .collect()
}

/// Whether a label of this value, or none, is what is asked for.
type Holds = Box<dyn Fn(Option<&str>) -> bool>;

/// One requirement: its text in a query, in an object where there is one, and what it means.
struct Wish {
    text: String,
    object: Option<Value>,
    holds: Holds,
    key: &'static str,
}

/// A list of nothing but an empty value cannot be written in a query.
fn set(rng: &mut Rng) -> BTreeSet<&'static str> {
    let more = (0..rng.usize(0..3)).map(|_| *rng.choice(&VALUES).unwrap()).collect::<Vec<_>>();
    [*rng.choice(&["web", "7"]).unwrap()].into_iter().chain(more).collect()
}

fn wish(rng: &mut Rng) -> Wish {
    let key = *rng.choice(&KEYS).unwrap();
    let (one, some, bound) = (*rng.choice(&VALUES).unwrap(), set(rng), rng.i64(0..10));
    let space = if rng.bool() { " " } else { "" };
    let list = some.iter().copied().collect::<Vec<_>>().join(&format!(",{space}"));
    let object = |operator: &str, values: Vec<&str>| {
        let mut value = json!({"key": key, "operator": operator});
        if !values.is_empty() {
            value["values"] = json!(values);
        }
        Some(value)
    };
    let all = some.iter().copied().collect::<Vec<_>>();
    let number = move |value: Option<&str>| value.and_then(|value| value.parse::<i64>().ok());
    let (text, object, holds): (String, _, Holds) = match rng.u8(0..9) {
        0 => (format!("{key}={one}"), object("In", vec![one]), Box::new(move |is| is == Some(one))),
        1 => (
            format!("{key}{space}=={space}{one}"),
            object("In", vec![one]),
            Box::new(move |is| is == Some(one)),
        ),
        2 => (
            format!("{key}{space}!={one}"),
            object("NotIn", vec![one]),
            Box::new(move |is| is != Some(one)),
        ),
        3 => (
            format!("{key} in ({list})"),
            object("In", all),
            Box::new(move |is| is.is_some_and(|is| some.contains(is))),
        ),
        4 => (
            format!("{key} notin{space}({list})"),
            object("NotIn", all),
            Box::new(move |is| !is.is_some_and(|is| some.contains(is))),
        ),
        5 => (key.to_owned(), object("Exists", vec![]), Box::new(|is| is.is_some())),
        6 => (format!("!{key}"), object("DoesNotExist", vec![]), Box::new(|is| is.is_none())),
        7 => (
            format!("{key}>{bound}"),
            None,
            Box::new(move |is| number(is).is_some_and(|is| bound < is)),
        ),
        _ => (
            format!("{key}<{space}{bound}"),
            None,
            Box::new(move |is| number(is).is_some_and(|is| is < bound)),
        ),
    };
    Wish { text, object, holds, key }
}

fn wishes(rng: &mut Rng) -> Vec<Wish> {
    (0..rng.usize(0..5)).map(|_| wish(rng)).collect()
}

#[test]
fn a_label_selector_asks_for_all_that_its_text_says() {
    hold(|rng| {
        let wishes = wishes(rng);
        let text = wishes.iter().map(|wish| &*wish.text).collect::<Vec<_>>().join(",");
        let selector =
            LabelSelector::parse(&text).map_err(|error| format!("{text}: {}", error.message))?;
        same(&text, &selector.is_everything(), &wishes.is_empty())?;
        let shown = selector.to_string();
        let again = LabelSelector::parse(&shown)
            .map_err(|error| format!("{text} is {shown}: {}", error.message))?;
        same(&text, &again.to_string(), &shown)?;
        for _ in 0..8 {
            let labels = labels(rng);
            let get = |key: &str| labels.get(key).map(String::as_str);
            let expected = wishes.iter().all(|wish| (wish.holds)(get(wish.key)));
            let what = format!("{text} of {labels:?}");
            same(&what, &selector.matches(&labels), &expected)?;
            same(&what, &selector.matches_json(Some(&json!(labels))), &expected)?;
            same(&format!("{shown} of {labels:?}"), &again.matches(&labels), &expected)?;
        }
        Ok(())
    });
}

#[test]
fn an_object_and_a_text_that_say_the_same_select_the_same() {
    hold(|rng| {
        let wishes: Vec<_> = wishes(rng).into_iter().filter(|wish| wish.object.is_some()).collect();
        let text = wishes.iter().map(|wish| &*wish.text).collect::<Vec<_>>().join(",");
        let expressions: Vec<_> = wishes.iter().map(|wish| wish.object.clone()).collect();
        let object = json!({"matchExpressions": expressions});
        let of_object = LabelSelector::from_json(Some(&object), "spec.selector")
            .map_err(|errors| format!("{object}: {errors:?}"))?;
        let of_text = LabelSelector::parse(&text).map_err(|error| error.message)?;
        same(&text, &of_object.to_string(), &of_text.to_string())?;
        let labels = labels(rng);
        same(&text, &of_object.matches(&labels), &of_text.matches(&labels))?;
        let exact = LabelSelector::from_map(labels.iter().map(|(key, value)| (&**key, &**value)));
        same("a map's own labels", &exact.matches(&labels), &true)?;
        let from_object = LabelSelector::from_json(Some(&json!({"matchLabels": labels})), "spec");
        same("a map", &from_object.map(|it| it.to_string()), &Ok(exact.to_string()))
    });
}

#[test]
fn any_text_is_a_label_selector_or_refused() {
    hold(|rng| {
        let pieces = [
            "a", "b", "in", "notin", "(", ")", ",", "=", "==", "!", "!=", ">", "<", " ", "é", "\\",
            "1", "/",
        ];
        let text: String = (0..rng.usize(0..10)).map(|_| *rng.choice(&pieces).unwrap()).collect();
        match LabelSelector::parse(&text) {
            Ok(selector) => {
                let shown = selector.to_string();
                let again = LabelSelector::parse(&shown)
                    .map_err(|error| format!("{text:?} is {shown:?}: {}", error.message))?;
                same(&text, &again.to_string(), &shown)
            }
            Err(error) => same(&text, &error.code, &400),
        }
    });
}

struct Plain;

impl Strategy for Plain {}

#[test]
fn a_field_selector_takes_any_value_that_is_escaped() {
    let pods = &Kind::new(Gvk::new("", "v1", "Pod"), "pods", Plain);
    hold(|rng| {
        let letters: Vec<char> = "ab,=!\\ é".chars().collect();
        let value: String = (0..rng.usize(0..6)).map(|_| *rng.choice(&letters).unwrap()).collect();
        let escaped: String = value
            .chars()
            .flat_map(|c| if ",=\\".contains(c) { vec!['\\', c] } else { vec![c] })
            .collect();
        let (equal, other) = (rng.bool(), *rng.choice(&["a", "b", ""]).unwrap());
        let operator = if equal { *rng.choice(&["=", "=="]).unwrap() } else { "!=" };
        let text = format!("metadata.name{operator}{escaped},metadata.namespace=default");
        let selector = FieldSelector::parse(&text, pods)
            .map_err(|error| format!("{text:?}: {}", error.message))?;
        let none = BTreeMap::new();
        for name in [&*value, other] {
            let expected = (name == value) == equal;
            same(
                &format!("{text:?} of {name:?}"),
                &selector.matches(name, "default", &none),
                &expected,
            )?;
            same(&text, &selector.matches(name, "elsewhere", &none), &false)?;
        }
        same(&text, &selector.exact("metadata.name"), &equal.then_some(&*value))
    });
}
