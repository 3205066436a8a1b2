//! What became of specs: read from what the runner told while it ran (`tests/conformance/e2e/observe_test.go`).
//!
//! Guarantees:
//! - what began and did not end is known when the runner died (`a_spec_that_did_not_end_is_known`);
//! - a reason is one short line that says the same in the next run (`a_reason_is_one_short_line`,
//!   `names_made_at_random_are_left_out`).

use std::collections::BTreeMap;

use serde::Deserialize;

/// Longest reason, in characters.
const LONGEST: usize = 200;

/// What Kubernetes makes the ends of names of.
const SUFFIX: &str = "bcdfghjklmnpqrstvwxz2456789";

/// How a spec ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Held,
    /// With the first line of why.
    Lost(String),
}

/// A line of what the runner tells.
#[derive(Deserialize)]
struct Event {
    spec: String,
    state: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    at: String,
    #[serde(default)]
    step: String,
}

/// What one runner has told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Story {
    pub ended: BTreeMap<String, Outcome>,
    /// What has begun and not ended.
    pub running: Option<String>,
}

impl Story {
    /// From its lines; the last one may be half of one.
    pub fn read(text: &str) -> Self {
        let mut story = Self::default();
        for event in text.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok()) {
            if event.state == "started" {
                story.running = Some(event.spec);
            } else {
                story.running = None;
                let outcome = event.outcome();
                story.ended.insert(event.spec, outcome);
            }
        }
        story
    }
}

impl Event {
    fn outcome(&self) -> Outcome {
        match self.state.as_str() {
            "passed" => Outcome::Held,
            "failed" => Outcome::Lost(self.reason("")),
            state => Outcome::Lost(self.reason(state)),
        }
    }

    fn reason(&self, state: &str) -> String {
        let mut parts = Vec::new();
        if !state.is_empty() {
            parts.push(state.to_owned());
        }
        let said = |line: &&str| !line.trim().is_empty() && !line.starts_with("A spec timeout");
        parts.extend(self.message.lines().find(said).map(str::to_owned));
        // What kubectl was told stands below what was run.
        let refused =
            |line: &&str| line.starts_with("Error from server") || line.starts_with("error:");
        parts.extend(self.message.lines().skip(1).find(refused).map(str::to_owned));
        if state == "timedout" && !self.step.is_empty() {
            parts.push(format!("in the step \"{}\"", self.step));
        }
        let place = self.at.rsplit("/test/e2e/").next().unwrap_or_default();
        let place = if place.is_empty() { String::new() } else { format!(" ({place})") };
        let room = LONGEST.saturating_sub(place.chars().count());
        short(&parts.join(": "), room) + &place
    }
}

/// A text as one line that is no longer than this and has nothing in it that is another in each run.
pub fn short(text: &str, longest: usize) -> String {
    let words: Vec<String> = text.split_whitespace().map(settled).collect();
    let line = words.join(" ").replace('|', "/");
    if line.chars().count() <= longest {
        return line;
    }
    let mut cut: String = line.chars().take(longest.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// A word, with numbers and identifiers that are made at random as `N`.
fn settled(word: &str) -> String {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if bare.strip_suffix('s').is_some_and(|time| time.contains('.') && time.parse::<f64>().is_ok())
    {
        return word.replace(bare, "Ns");
    }
    let hex = bare.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if hex && bare.len() == 36 && bare.split('-').count() == 5 {
        return word.replace(bare, "N");
    }
    let mut out = String::new();
    let mut after_dash = false;
    for part in word.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let bare = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let hex = bare.chars().all(|c| c.is_ascii_hexdigit());
        let digits = bare.chars().filter(char::is_ascii_digit).count();
        let counted = after_dash && digits == bare.len() && 3 <= digits;
        let generated = after_dash && bare.len() == 5 && bare.chars().all(|c| SUFFIX.contains(c));
        after_dash = part.ends_with('-');
        if hex && (4 <= digits || 8 <= bare.len() && 2 <= digits) || counted || generated {
            out.push('N');
            out.push_str(&part[bare.len()..]);
        } else {
            out.push_str(part);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(why: &str) -> Outcome {
        Outcome::Lost(why.to_owned())
    }

    #[test]
    fn a_spec_that_did_not_end_is_known() {
        let text = concat!(
            r#"{"spec":"one","state":"started","message":"","at":"","step":""}"#,
            "\n",
            r#"{"spec":"one","state":"passed","message":"","at":"","step":""}"#,
            "\n",
            r#"{"spec":"two","state":"started","message":"","at":"","step":""}"#,
            "\n",
            r#"{"spec":"two","st"#,
        );
        let ended = BTreeMap::from([("one".to_owned(), Outcome::Held)]);
        assert_eq!(Story::read(text), Story { ended, running: Some("two".into()) });
        assert_eq!(Story::read(""), Story::default());
    }

    #[test]
    fn a_reason_is_one_short_line() {
        let event = |state: &str, message: &str| {
            let line = serde_json::json!({
                "spec": "one", "state": state, "message": message, "step": "waiting for a pod",
                "at": "k8s.io/kubernetes@v1.36.4/test/e2e/apimachinery/watch.go:123",
            });
            Story::read(&line.to_string()).ended["one"].clone()
        };
        assert_eq!(
            event("failed", "\nfailed to create: the server | could not\n  find it\n"),
            lost("failed to create: the server / could not (apimachinery/watch.go:123)")
        );
        assert_eq!(
            event("timedout", "A spec timeout occurred\nA spec timeout occurred and then:\nno pod"),
            lost("timedout: no pod: in the step \"waiting for a pod\" (apimachinery/watch.go:123)")
        );
        let Outcome::Lost(long) = event("failed", &"word ".repeat(100)) else { panic!("held") };
        assert_eq!(long.chars().count(), LONGEST);
        assert!(long.ends_with("… (apimachinery/watch.go:123)"), "{long}");
    }

    #[test]
    fn names_made_at_random_are_left_out() {
        assert_eq!(
            short("in watch-1234 the uid 0b6f8a1c-77aa-4cde-9f00-12d3a4b5c6d7,", 100),
            "in watch-N the uid N,"
        );
        assert_eq!(
            short("404 at v1.36 of pods after 59.98s.", 100),
            "404 at v1.36 of pods after Ns."
        );
    }
}
