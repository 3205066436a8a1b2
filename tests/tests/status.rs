//! docs/status.md says what works in rows of one form, and every claim names a test (`cargo xtask tidy` looks whether it exists).

use std::collections::BTreeMap;

use freewheel_tests::guests;

/// The rows by letter: A01 to A24 and so on.
const ROWS: &[(char, usize)] = &[
    ('A', 24),
    ('B', 32),
    ('C', 17),
    ('D', 30),
    ('E', 23),
    ('F', 13),
    ('G', 29),
    ('H', 12),
    ('I', 9),
    ('J', 18),
    ('K', 11),
    ('L', 10),
    ('M', 24),
    ('N', 4),
    ('O', 5),
    ('P', 6),
    ('Q', 38),
    ('R', 26),
    ('S', 4),
    ('T', 6),
    ('U', 8),
];

/// One line of a table.
struct Row {
    id: String,
    state: String,
    /// What follows the state's colon.
    missing: Option<String>,
    tests: Vec<String>,
}

fn page() -> String {
    std::fs::read_to_string(guests::root().join("docs/status.md")).expect("docs/status.md")
}

fn rows() -> Vec<Row> {
    let page = page();
    let is_row = |line: &&str| {
        line.starts_with("| ") && !line.starts_with("| ID |") && !line.starts_with("|---")
    };
    page.lines().filter(is_row).map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    assert_eq!(cells.len(), 4, "{line}");
    let (state, missing) = match cells[2].split_once(": ") {
        Some((state, missing)) => (state, Some(missing.to_owned())),
        None => (cells[2], None),
    };
    let tests = cells[3].split(", ").filter(|test| !test.is_empty()).map(|test| {
        let name = test.strip_prefix('`').and_then(|test| test.strip_suffix('`'));
        let name = name.filter(|name| name.contains(".rs::"));
        name.unwrap_or_else(|| panic!("a test is named `path/to/file.rs::name`: {line}")).to_owned()
    });
    let tests = tests.collect();
    Row { id: cells[0].to_owned(), state: state.to_owned(), missing, tests }
}

#[test]
fn every_row_is_there_once() {
    let found: Vec<String> = rows().into_iter().map(|row| row.id).collect();
    let expected: Vec<String> = ROWS
        .iter()
        .flat_map(|(letter, last)| (1..=*last).map(move |n| format!("{letter}{n:02}")))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn states_are_of_the_closed_set_and_claims_name_tests() {
    for Row { id, state, missing, tests } in rows() {
        match state.as_str() {
            "works" => assert!(!tests.is_empty() && missing.is_none(), "{id}"),
            "partly" => assert!(!tests.is_empty() && missing.is_some(), "{id}"),
            "not yet" | "background" => assert!(tests.is_empty() && missing.is_none(), "{id}"),
            other => panic!("{id}: {other:?} is no state"),
        }
    }
}

#[test]
fn the_sum_is_right() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows() {
        *counts.entry(row.state).or_default() += 1;
    }
    let parts: Vec<String> = ["works", "partly", "not yet", "background"]
        .iter()
        .map(|state| format!("{} {state}", counts.get(*state).copied().unwrap_or_default()))
        .collect();
    let line = format!("Of {} rows: {}.", counts.values().sum::<usize>(), parts.join(", "));
    assert!(page().contains(&line), "the page should say: {line}");
}
