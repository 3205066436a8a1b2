//! A plan in lines for people, each short enough for a `Warning:` header, all together for the headers of one answer.
//!
//! Guarantees:
//! - however many clusters there are, the lines fit, and say how many are not named
//!   (`however_many_there_are_the_lines_fit`).

/// What every line begins with, by which it is told from other warnings.
const PREFIX: &str = "plan: ";
/// Characters of a line: what is longer than 256 is cut where the warnings of an answer are long together.
const LINE_CHARS_MAX: usize = 240;
/// Characters of all lines, of 4,096 that the warnings of an answer may have: others are to have room, too.
const CHARS_MAX: usize = 3_000;
/// Of a line, what is kept for saying how many are not named.
const MORE_CHARS: usize = 16;

/// Lines, as many as there is room for.
#[derive(Debug, Default)]
pub(super) struct Lines {
    all: Vec<String>,
    chars: usize,
    left_out: usize,
}

impl Lines {
    /// One more.
    pub fn say(&mut self, text: &str) {
        let line: String = format!("{PREFIX}{text}").chars().take(LINE_CHARS_MAX).collect();
        let chars = line.chars().count();
        if CHARS_MAX < self.chars + chars {
            self.left_out += 1;
            return;
        }
        self.chars += chars;
        self.all.push(line);
    }

    /// One about some clusters: how many, and who as far as there is room, where they may be `named`.
    pub fn say_of(&mut self, text: &str, clusters: &[String], named: bool) {
        let head = format!("{text}: {}", count(clusters.len(), "cluster"));
        let names = if named { listed(&head, clusters) } else { String::new() };
        self.say(&format!("{head}{names}"));
    }

    /// All of them; the last says for how many there was no room.
    pub fn end(mut self) -> Vec<String> {
        if 0 < self.left_out {
            self.all.push(format!("{PREFIX}{} more", count(self.left_out, "line")));
        }
        self.all
    }
}

/// `1 cluster`, `2 clusters`
pub(super) fn count(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// `: a, b; 3 more` to stand behind this head.
pub(super) fn listed<S: AsRef<str>>(head: &str, names: &[S]) -> String {
    let used = PREFIX.len() + head.chars().count() + MORE_CHARS;
    let room = LINE_CHARS_MAX.saturating_sub(used);
    let mut line = String::new();
    for (at, name) in names.iter().enumerate() {
        let name = name.as_ref();
        if room < line.chars().count() + 2 + name.chars().count() {
            let more = names.len() - at;
            let end = if at == 0 { String::new() } else { format!("; {more} more") };
            return line + &end;
        }
        line.push_str(if at == 0 { ": " } else { ", " });
        line.push_str(name);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_there_are_the_lines_fit() {
        let mut lines = Lines::default();
        let all: Vec<String> = (0..10_000).map(|n| format!("device-{n:05}")).collect();
        for wave in all.chunks(100) {
            lines.say_of("wave", wave, true);
        }
        let lines = lines.end();
        assert!(lines.iter().map(|line| line.chars().count()).sum::<usize>() < 3_100);
        assert!(lines.iter().all(|line| line.chars().count() <= LINE_CHARS_MAX), "{lines:?}");
        assert!(lines[0].starts_with("plan: wave: 100 clusters: device-00000, "), "{lines:?}");
        assert!(lines[0].ends_with(" more"), "{lines:?}");
        assert!(lines.last().unwrap().ends_with("lines more"), "{lines:?}");
    }

    #[test]
    fn names_are_told_to_whom_they_may_be_told() {
        let mut lines = Lines::default();
        let one = ["pi-1".to_owned()];
        lines.say_of("chosen", &one, true);
        lines.say_of("chosen", &one, false);
        lines.say_of("chosen", &[], true);
        lines.say_of("chosen", &["x".repeat(300)], true);
        assert_eq!(
            lines.end(),
            [
                "plan: chosen: 1 cluster: pi-1",
                "plan: chosen: 1 cluster",
                "plan: chosen: 0 clusters",
                "plan: chosen: 1 cluster",
            ]
        );
    }
}
