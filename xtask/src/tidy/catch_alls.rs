//! How many arms `_ =>` shipped code may have. Such an arm takes also what nobody has thought of yet: a variant that
//! is added later goes there without a word of the compiler's.
//!
//! Texts that come from outside need one, and so do other people's enums, so it is a share that is bounded.
//!
//! Guarantees:
//! - plain `_ =>` of the lines that [`sizes`](super::sizes) measures counts, no test, comment or text
//!   (`plain_arms_of_shipped_code_count`);
//! - a share of the bound is too large, one below it is not (`the_bound_itself_is_too_much`).

use std::fmt;
use std::path::Path;

use super::exceptions::Finding;
use super::sizes::{before_tests, shipped_by};
use super::tokens::tokens;

/// Of 1,000 lines fewer are such arms.
const PER_THOUSAND: usize = 2;
/// Whose code is bounded: what runs at people's. The tools of this house are not.
const FOLDERS: [&str; 3] = ["hub", "link", "spoke"];

/// What a folder has of them.
pub struct Share {
    folder: &'static str,
    arms: usize,
    lines: usize,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arms, lines, .. } = self;
        let hundredths = arms * 100_000 / lines.max(&1);
        let (whole, part) = (hundredths / 100, hundredths % 100);
        write!(f, "{arms} arms `_ =>` in {lines} lines, {whole}.{part:02} in 1,000")
    }
}

impl Share {
    /// Who has it, and what: for people.
    pub fn note(&self) -> String {
        format!("{} has {self}", self.folder)
    }
}

/// The share of each folder.
pub fn shares(files: &[(impl AsRef<Path>, String)]) -> [Share; 3] {
    FOLDERS.map(|folder| {
        let mut share = Share { folder, arms: 0, lines: 0 };
        for (path, text) in files {
            let path = path.as_ref();
            if path.starts_with(folder) && shipped_by(path).is_some() {
                let lines = before_tests(text);
                share.lines += lines.len();
                share.arms += arms(&lines.join("\n"));
            }
        }
        share
    })
}

/// Which shares are too large.
pub fn check(shares: &[Share]) -> Vec<Finding> {
    let too_many = shares.iter().filter(|it| PER_THOUSAND * it.lines <= it.arms * 1000);
    too_many.filter(|it| 0 < it.arms).map(finding).collect()
}

fn finding(share: &Share) -> Finding {
    let message = format!("{share}; fewer than {PER_THOUSAND} are right: name the variants");
    Finding { rule: "catch-all", subject: share.folder.to_owned(), message }
}

fn arms(code: &str) -> usize {
    tokens(code).windows(3).filter(|three| **three == ["_", "=", ">"]).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(files: &[(&str, String)]) -> (usize, usize) {
        let [Share { folder: "hub", arms, lines }, ..] = shares(files) else { panic!("no hub") };
        (arms, lines)
    }

    #[test]
    fn plain_arms_of_shipped_code_count() {
        let code = "match a {\n    A => 1,\n    // _ => 2,\n    _ if b => 3,\n    (C, _) => 4,\n    _ => 5,\n}\n\
                    let text = \"_ => 6\";\nselect! { _ = c => 7 }\nmatch d { D => 8, _ => 9 }\n";
        assert_eq!(hub(&[("hub/x/src/a.rs", code.to_owned())]), (2, 10));
        assert_eq!(hub(&[("hub/src/a/b.rs", code.to_owned())]), (2, 10));
        let tested = format!("{code}#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert_eq!(hub(&[("hub/x/src/a.rs", tested)]), (2, 10), "what stands before the tests");
        for elsewhere in
            ["hub/x/src/a/tests.rs", "hub/x/tests/a.rs", "spoke/x/src/a.rs", "xtask/src/hub.rs"]
        {
            assert_eq!(hub(&[(elsewhere, code.to_owned())]), (0, 0), "{elsewhere}");
        }
    }

    #[test]
    fn the_bound_itself_is_too_much() {
        let told = |lines: usize| {
            let code = format!("{}{}", "_ => a,\n".repeat(2), "b\n".repeat(lines - 2));
            check(&shares(&[("link/src/a.rs", code)])).into_iter().map(|it| it.message)
        };
        assert_eq!(told(1001).collect::<Vec<_>>(), Vec::<String>::new());
        let message =
            "2 arms `_ =>` in 1000 lines, 2.00 in 1,000; fewer than 2 are right: name the variants";
        assert_eq!(told(1000).collect::<Vec<_>>(), [message]);
    }
}
