//! Our hub beside kube-apiserver, driven in turns.

use freewheel_xtask_kit::child;
use freewheel_xtask_kit::command::Stop;
use serde_json::{Value, json};

use crate::figures::{Ratios, column, median, spread};
use crate::hub::Hub;
use crate::load;
use crate::peer::Peer;
use crate::plan::Plan;
use crate::row::Verdict;

/// Both sides, driven in turns.
pub struct Both {
    pub hub: Hub,
    pub peer: Result<Peer, Stop>,
    pub plan: Plan,
}

/// What each side answered, round by round.
#[derive(Default)]
pub struct Turns {
    pub ours: Vec<Value>,
    pub theirs: Vec<Value>,
}

impl Both {
    /// Builds and starts them with empty data.
    pub fn start(plan: Plan, name: &str) -> Result<Self, Stop> {
        load::program()?;
        let peer = Peer::start();
        if let Err(stop) = &peer {
            child::go_on()?;
            println!("{stop}");
        }
        Ok(Self { hub: Hub::start(plan, name)?, peer, plan })
    }

    /// Both sides that are there: ours, then theirs.
    pub fn servers(&self) -> Vec<Value> {
        let theirs = self.peer.as_ref().ok().map(|peer| peer.server.clone());
        std::iter::once(self.hub.server()).chain(theirs).collect()
    }

    /// A B A B: the same order to each side in turn.
    pub fn turns(
        &self,
        what: &str,
        mut order: impl FnMut(u32, &Value, bool) -> Value,
    ) -> Result<Turns, Stop> {
        let mut turns = Turns::default();
        for round in 0..self.plan.rounds {
            let ours = load::ask(&order(round, &self.hub.server(), true))?;
            println!("{what}, round {}: ours   {}", round + 1, brief(&ours));
            turns.ours.push(sound(ours)?);
            if let Ok(peer) = &self.peer {
                let theirs = load::ask(&order(round, &peer.server, false))?;
                println!("{what}, round {}: theirs {}", round + 1, brief(&theirs));
                turns.theirs.push(sound(theirs)?);
            }
        }
        Ok(turns)
    }

    pub fn seconds(&self) -> f64 {
        if self.plan.quick { 2.0 } else { 5.0 }
    }

    pub fn verdict(&self, holds: bool) -> Verdict {
        match &self.peer {
            Ok(_) => Verdict::of(self.plan, holds),
            Err(stop) => Verdict::None(stop.0.clone()),
        }
    }
}

impl Turns {
    pub fn ratios(&self, field: &str) -> Ratios {
        Ratios::of(&column(&self.ours, field), &column(&self.theirs, field))
    }

    pub fn lines(&self, what: &str) -> Vec<String> {
        let line = |side: &str, rounds: &[Value]| {
            format!(
                "{what} {side} {:>6.0}/s, {}",
                median(&column(rounds, "per_second")),
                spread(rounds, "")
            )
        };
        let mut lines = vec![line("ours:  ", &self.ours)];
        if !self.theirs.is_empty() {
            lines.push(line("theirs:", &self.theirs));
        }
        lines
    }

    pub fn raw(&self) -> Value {
        json!({"ours": self.ours, "theirs": self.theirs})
    }
}

/// A round in which requests failed is no measurement.
fn sound(round: Value) -> Result<Value, Stop> {
    match round["failed"].as_u64() {
        None | Some(0) => Ok(round),
        Some(n) => Err(Stop(format!("{n} requests failed: {}", round["first_failure"]))),
    }
}

fn brief(round: &Value) -> String {
    let one = std::slice::from_ref(round);
    if round["last"].is_object() {
        spread(one, "last.")
    } else {
        format!("{:.0}/s, {}", round["per_second"].as_f64().unwrap_or_default(), spread(one, ""))
    }
}
