//! What a swarm is told, one line each.
//!
//! ```text
//! join COUNT [over TIME]         devices with a key each join, and stay in session
//! flap PERCENT/min               of all sessions so many end, and come again
//! report PERCENT/min             of all devices so many tell something new of themselves
//! silent PERCENT                 whole sockets carry nothing any more, until another line says less
//! loss PERCENT                   of all packets, in both directions
//! wait TIME
//! mark                           figures count from here
//! say                            what was seen since the mark
//! until up within TIME           all that are not silent are in session
//! until back within TIME         they were greeted since the mark
//! until held REVISION within TIME    they hold a plan that is as new, durably
//! until running COUNT within TIME    so many containers run, and no other number
//! ```
//!
//! Guarantees:
//! - a line is understood wholly or not at all (`lines_are_understood_wholly_or_not_at_all`).

use std::str::FromStr;
use std::time::Duration;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Devices join.
    Join {
        /// How many.
        count: usize,
        /// Evenly over this time, if the hub lets them.
        over: Duration,
    },
    /// Sessions that end, per minute.
    Flap(Share),
    /// Devices that tell something new, per minute.
    Report(Share),
    /// Spokes that nothing is heard of.
    Silent(Share),
    /// Packets that are lost.
    Loss(Share),
    /// Time passes.
    Wait(Duration),
    /// Figures count from here.
    Mark,
    /// What was seen since the mark.
    Say,
    /// Waits for a state.
    Until {
        /// Which.
        goal: Goal,
        /// How long at most.
        within: Duration,
    },
}

/// What is waited for, of all spokes that are not silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// In session.
    Up,
    /// Greeted since the mark.
    Back,
    /// A plan of this revision or a newer one is durable.
    Held(u64),
    /// So many containers run, of all spokes together.
    Running(u64),
}

/// A part of a whole, from 0 to 1; written in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Share(f64);

/// Why a line is no [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is nothing that a swarm can be told")]
pub struct NotACommand(String);

impl Share {
    /// Of one.
    #[must_use]
    pub const fn of_one(self) -> f64 {
        self.0
    }

    /// In millionths.
    #[must_use]
    pub fn millionths(self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share is between 0 and 1"
        )]
        let millionths = (self.0 * 1e6).round() as u32;
        millionths
    }

    fn read(text: &str) -> Option<Self> {
        let percent: f64 = text.strip_suffix('%')?.parse().ok()?;
        (0.0..=100.0).contains(&percent).then_some(Self(percent / 100.0))
    }

    fn per_minute(text: &str) -> Option<Self> {
        Self::read(text.strip_suffix("/min")?)
    }
}

impl FromStr for Command {
    type Err = NotACommand;

    fn from_str(line: &str) -> Result<Self, NotACommand> {
        let words: Vec<&str> = line.split_whitespace().collect();
        read(&words).ok_or_else(|| NotACommand(line.chars().take(100).collect()))
    }
}

fn read(words: &[&str]) -> Option<Command> {
    let join = |count: &str, over| Some(Command::Join { count: count.parse().ok()?, over });
    let until = |goal, within: &str| Some(Command::Until { goal, within: time(within)? });
    match *words {
        ["join", count] => join(count, Duration::ZERO),
        ["join", count, "over", over] => join(count, time(over)?),
        ["flap", rate] => Share::per_minute(rate).map(Command::Flap),
        ["report", rate] => Share::per_minute(rate).map(Command::Report),
        ["silent", share] => Share::read(share).map(Command::Silent),
        ["loss", share] => Share::read(share).map(Command::Loss),
        ["wait", long] => time(long).map(Command::Wait),
        ["mark"] => Some(Command::Mark),
        ["say"] => Some(Command::Say),
        ["until", "up", "within", long] => until(Goal::Up, long),
        ["until", "back", "within", long] => until(Goal::Back, long),
        ["until", "held", at, "within", long] => until(Goal::Held(at.parse().ok()?), long),
        ["until", "running", count, "within", long] => {
            until(Goal::Running(count.parse().ok()?), long)
        }
        [..] => None,
    }
}

/// `250ms`, `90s`, `5m` or `1h`.
fn time(text: &str) -> Option<Duration> {
    let (number, one) = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]
        .into_iter()
        .find_map(|(unit, one)| Some((text.strip_suffix(unit)?, one)))?;
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * one).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "a table reads better without borrows")]
    #[track_caller]
    fn check(line: &str, expected: Option<Command>) {
        assert_eq!(line.parse().ok(), expected, "{line:?}");
    }

    #[test]
    fn lines_are_understood_wholly_or_not_at_all() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        check("join 100", Some(Command::Join { count: 100, over: Duration::ZERO }));
        check(" join 100  over 1m ", Some(Command::Join { count: 100, over: minute }));
        check("flap 1%/min", Some(Command::Flap(Share(0.01))));
        check("report 100%/min", Some(Command::Report(Share(1.0))));
        check("silent 5%", Some(Command::Silent(Share(0.05))));
        check("loss 0.5%", Some(Command::Loss(Share(0.005))));
        check("wait 1000ms", Some(Command::Wait(second)));
        check("mark", Some(Command::Mark));
        check("say", Some(Command::Say));
        for (text, goal) in [
            ("up", Goal::Up),
            ("back", Goal::Back),
            ("held 42", Goal::Held(42)),
            ("running 7", Goal::Running(7)),
        ] {
            check(
                &format!("until {text} within 60s"),
                Some(Command::Until { goal, within: minute }),
            );
        }
        for odd in [
            "",
            "join",
            "join -1",
            "join 1 over",
            "flap 1%",
            "flap 101%/min",
            "silent 5",
            "loss -1%",
            "wait 5",
            "wait -1s",
            "mark 1",
            "until up",
            "until held x within 1s",
            "until 1s within up",
        ] {
            check(odd, None);
        }
    }

    #[test]
    fn lines_of_scripts_are_understood() {
        let script = include_str!("../scripts/bad-minute");
        let lines = script.lines().filter(|line| !line.starts_with('#'));
        let all: Vec<Command> = lines.map(|line| line.parse().expect(line)).collect();
        assert!(all.contains(&Command::Say), "{all:?}");
    }

    #[test]
    fn a_share_is_told_in_millionths() {
        assert_eq!(Share(0.01).millionths(), 10_000);
        assert_eq!(Share(1.0).millionths(), 1_000_000);
        assert_eq!(Share::default().millionths(), 0);
    }
}
