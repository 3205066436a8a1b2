//! One gate: what was measured, what must hold, whether it does.

use std::fmt;

use serde_json::{Value, json};

use crate::plan::Plan;

/// Whether something holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    DoesNotHold,
    /// Why nobody can say.
    None(String),
}

impl Verdict {
    /// From what was measured in this many rounds.
    pub fn of(plan: Plan, holds: bool) -> Self {
        if plan.rounds < 5 {
            Self::None(format!("{} rounds are too few", plan.rounds))
        } else if plan.quick {
            Self::None("turns were cut short by --quick".to_owned())
        } else {
            Self::once(holds)
        }
    }

    /// From something that has no rounds, such as the size of a file.
    pub fn once(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::DoesNotHold }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => f.write_str("holds"),
            Self::DoesNotHold => f.write_str("DOES NOT HOLD"),
            Self::None(why) => write!(f, "no verdict: {why}"),
        }
    }
}

/// One gate.
pub struct Row {
    pub id: &'static str,
    pub what: &'static str,
    /// One line per figure.
    pub measured: Vec<String>,
    pub gate: (&'static str, Verdict),
    pub stretch: (&'static str, Verdict),
    /// All figures of all rounds.
    pub raw: Value,
}

impl Row {
    /// A gate that could not be measured.
    pub fn missing(id: &'static str, why: &str) -> Self {
        let none = || Verdict::None(why.to_owned());
        Self {
            id,
            what: "not measured",
            measured: Vec::new(),
            gate: ("", none()),
            stretch: ("", none()),
            raw: Value::Null,
        }
    }

    pub fn json(&self) -> Value {
        json!({
            "id": self.id, "what": self.what, "measured": self.measured,
            "gate": self.gate.0, "gate_verdict": self.gate.1.to_string(),
            "stretch": self.stretch.0, "stretch_verdict": self.stretch.1.to_string(),
            "raw": self.raw,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<4} {}", self.id, self.what)?;
        for line in &self.measured {
            writeln!(f, "     | {line}")?;
        }
        if !self.gate.0.is_empty() {
            writeln!(f, "     | gate     {:<72} {}", self.gate.0, self.gate.1)?;
            writeln!(f, "     | stretch  {:<72} {}", self.stretch.0, self.stretch.1)
        } else {
            writeln!(f, "     | {}", self.gate.1)
        }
    }
}
