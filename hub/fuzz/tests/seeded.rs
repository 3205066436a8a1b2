//! Every target in every run of the tests: its seeds, and as many mutations of them. The same number makes the same
//! mutations; `FREEWHEEL_SEED` and `FREEWHEEL_ROUNDS` make others, and more of them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use freewheel_hub_fuzz::{TARGETS, Target, find};

const ROUNDS: u64 = 400;
/// Larger inputs only take longer.
const BYTES_MAX: usize = 8 << 10;

/// What is in the texts of most targets.
const WORDS: [&str; 24] = [
    "\x1e",
    "null",
    "{}",
    "[]",
    "\"\"",
    "-1",
    "1e400",
    "9223372036854775807",
    "\\u0000",
    "true",
    ",",
    ":",
    "\"metadata\"",
    "\"spec\"",
    "\"$patch\"",
    "\"name\"",
    "&a [*a]",
    "- ",
    "\n",
    " in ",
    "self",
    ".all(x, x)",
    "\u{e9}",
    "0777",
];

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// The target of each line of `targets.txt`, and what its folders have.
fn seeds() -> Vec<(&'static Target, Vec<Vec<u8>>)> {
    let lines = include_str!("../targets.txt").lines();
    let of = |line: &'static str| {
        let mut words = line.split(' ');
        let target = find(words.next().unwrap()).unwrap_or_else(|| panic!("{line}"));
        let mut files: Vec<PathBuf> = words
            .flat_map(|folder| std::fs::read_dir(root().join(folder)).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        (target, files.iter().map(|file| std::fs::read(file).unwrap()).collect())
    };
    lines.map(of).collect()
}

/// A seed with some of it changed, as libFuzzer does it.
fn mutated(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = rng.choice(seeds).unwrap().clone();
    for _ in 0..rng.usize(1..6) {
        let (at, to) = {
            let (a, b) = (rng.usize(0..=bytes.len()), rng.usize(0..=bytes.len()));
            (a.min(b), a.max(b).min(a.min(b) + 64))
        };
        match rng.u8(0..6) {
            0 if at < bytes.len() => bytes[at] = rng.u8(..),
            1 => drop(bytes.drain(at..to)),
            2 => drop(bytes.splice(at..at, rng.choice(WORDS).unwrap().bytes())),
            3 => {
                let again = bytes[at..to].to_vec();
                drop(bytes.splice(at..at, again));
            }
            4 => {
                let other = rng.choice(seeds).unwrap();
                let from = rng.usize(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            0 | 5.. => drop(bytes.splice(at..to, rng.choice(WORDS).unwrap().bytes())),
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

#[test]
fn every_target_has_seeds() {
    let seeds = seeds();
    assert_eq!(seeds.len(), TARGETS.len());
    for (target, of) in &seeds {
        assert!(2 <= of.len(), "{} has {} seeds", target.name, of.len());
    }
}

#[test]
fn no_mutation_of_a_seed_breaks_a_target() {
    let (seed, rounds) = (number("FREEWHEEL_SEED", 1), number("FREEWHEEL_ROUNDS", ROUNDS));
    let wanted = std::env::var("FREEWHEEL_FUZZ_TARGET").ok();
    for (target, seeds) in seeds() {
        if wanted.as_ref().is_some_and(|wanted| wanted != target.name) {
            continue;
        }
        let mut rng = Rng::with_seed(seed);
        let rounds = (0..rounds).map(|_| mutated(&seeds, &mut rng));
        for bytes in seeds.iter().cloned().chain(rounds) {
            let run = catch_unwind(AssertUnwindSafe(|| target.run(&bytes)));
            assert!(
                run.is_ok(),
                "{}, FREEWHEEL_SEED={seed}: {}",
                target.name,
                bytes.escape_ascii()
            );
        }
    }
}
