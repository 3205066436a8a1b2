//! What a check found, and where the house does not hold its own bounds yet.
//!
//! ```text
//! RULE SUBJECT: reason        one line each in exceptions.txt
//! ```
//!
//! Guarantees:
//! - what is listed with a reason is let pass, and nothing else (`what_is_listed_passes`);
//! - an exception that is no longer needed is told (`an_exception_that_is_no_longer_needed_is_told`).

const LISTED: &str = include_str!("exceptions.txt");

/// One thing that a check found.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// By which rule.
    pub rule: &'static str,
    /// What it is about.
    pub subject: String,
    /// What is wrong.
    pub message: String,
}

/// What is wrong beyond what is listed.
pub fn judge(found: &[Finding]) -> Vec<String> {
    judge_by(LISTED, found)
}

fn judge_by(listed: &str, found: &[Finding]) -> Vec<String> {
    let lines = listed.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut wrong = Vec::new();
    let mut passed = Vec::new();
    for line in lines {
        let named = line.split_once(": ").filter(|(_, reason)| !reason.trim().is_empty());
        let Some((named, _)) = named else {
            wrong.push(format!("an exception without a reason: {line}"));
            continue;
        };
        let it =
            found.iter().find(|finding| format!("{} {}", finding.rule, finding.subject) == named);
        match it {
            Some(finding) if !passed.contains(&finding) => passed.push(finding),
            Some(_) => wrong.push(format!("an exception is listed twice: {named}")),
            None => wrong.push(format!("an exception is no longer needed: {named}")),
        }
    }
    let rest = found.iter().filter(|finding| !passed.contains(finding));
    wrong.extend(
        rest.map(|Finding { rule, subject, message }| format!("{rule} {subject}: {message}")),
    );
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(subject: &str) -> Finding {
        Finding { rule: "function", subject: subject.to_owned(), message: "60 lines".to_owned() }
    }

    #[test]
    fn what_is_listed_passes() {
        let found = [finding("a.rs::f"), finding("a.rs::g")];
        let listed = "# why\n\nfunction a.rs::f: one table\n";
        assert_eq!(judge_by(listed, &found), ["function a.rs::g: 60 lines"]);
        let bare = judge_by("function a.rs::f\n", &found[..1]);
        assert_eq!(bare.len(), 2, "a reason is needed: {bare:?}");
    }

    #[test]
    fn an_exception_that_is_no_longer_needed_is_told() {
        let listed = "function a.rs::f: one table\n";
        assert_eq!(judge_by(listed, &[]), ["an exception is no longer needed: function a.rs::f"]);
        let twice = format!("{listed}{listed}");
        let found = [finding("a.rs::f")];
        assert_eq!(judge_by(&twice, &found), ["an exception is listed twice: function a.rs::f"]);
    }
}
