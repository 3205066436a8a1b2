//! The specs that are still to run: handed out in batches to runners that work at the same time, and what they found.
//!
//! Guarantees:
//! - slow specs come first, each by itself, so that they end with the others (`slow_specs_come_first_and_by_themselves`);
//! - specs that must be alone with the server are handed out when nobody else works (`serial_specs_come_last_and_alone`);
//! - what a runner's death took with it is run again, and what was running then alone (`a_dead_runner_costs_one_spec`);
//! - a spec that nobody knows is lost (`a_spec_that_the_suite_does_not_know_is_lost`).

use std::collections::VecDeque;

use super::outcome::{Outcome, Story};
use super::spec::Spec;
use super::table::Outcomes;

/// Specs of one process: its start costs some seconds, and a long one leaves others without work at the end.
const BATCH: usize = 6;

/// What is to be done, and what was found.
pub struct Queue {
    batches: VecDeque<Vec<Spec>>,
    serial: VecDeque<Vec<Spec>>,
    working: usize,
    pub outcomes: Outcomes,
}

/// What a runner is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Run(Vec<Spec>),
    /// Others may leave something to do.
    Wait,
    Done,
}

impl Queue {
    /// Of these specs.
    pub fn new(specs: &[Spec]) -> Self {
        let (serial, others): (Vec<Spec>, Vec<Spec>) = specs.iter().partition(|spec| spec.serial());
        let cut = |specs: Vec<Spec>| {
            let (slow, others): (Vec<Spec>, Vec<Spec>) = specs.iter().partition(|spec| spec.slow());
            let alone = slow.into_iter().map(|spec| vec![spec]);
            alone.chain(others.chunks(BATCH).map(<[Spec]>::to_vec)).collect()
        };
        Self { batches: cut(others), serial: cut(serial), working: 0, outcomes: Outcomes::new() }
    }

    /// Hands out a batch.
    pub fn next(&mut self) -> Next {
        let batch = match self.batches.pop_front() {
            None if self.working == 0 => self.serial.pop_front(),
            batch => batch,
        };
        match batch {
            Some(batch) => {
                self.working += 1;
                Next::Run(batch)
            }
            None if self.working == 0 => Next::Done,
            None => Next::Wait,
        }
    }

    /// Takes back what became of a batch; `cut` is why its runner ended too early.
    pub fn done(&mut self, batch: &[Spec], story: &Story, cut: Option<&str>) {
        self.working -= 1;
        let mut rest = Vec::new();
        for spec in batch {
            if let Some(outcome) = story.ended.get(spec.name) {
                self.outcomes.insert(spec.name, outcome.clone());
            } else if let Some(why) = cut {
                let running = story.running.as_deref() == Some(spec.name);
                match (running, batch.len()) {
                    (true, 1) => {
                        self.outcomes.insert(spec.name, Outcome::Lost(why.to_owned()));
                    }
                    // Perhaps what another spec has left behind took it down.
                    (true, _) => self.again(vec![*spec]),
                    (false, _) => rest.push(*spec),
                }
            } else {
                let why = "upstream's suite does not run it here";
                self.outcomes.insert(spec.name, Outcome::Lost(why.to_owned()));
            }
        }
        if !rest.is_empty() {
            self.again(rest);
        }
    }

    /// A runner could not run at all: nothing more is handed out.
    pub fn give_up(&mut self) {
        self.working -= 1;
        self.batches.clear();
        self.serial.clear();
    }

    fn again(&mut self, specs: Vec<Spec>) {
        if specs.iter().any(Spec::serial) {
            self.serial.push_back(specs);
        } else {
            self.batches.push_back(specs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec;
    use super::*;

    fn specs(serial: bool, count: usize) -> Vec<Spec> {
        let fits = |spec: &Spec| spec.serial() == serial && !spec.slow();
        spec::all().filter(fits).take(count).collect()
    }

    fn story(ended: &[Spec], running: Option<Spec>) -> Story {
        Story {
            ended: ended.iter().map(|spec| (spec.name.to_owned(), Outcome::Held)).collect(),
            running: running.map(|spec| spec.name.to_owned()),
        }
    }

    #[test]
    fn serial_specs_come_last_and_alone() {
        let (serial, others) = (specs(true, 1), specs(false, BATCH + 1));
        let mut queue = Queue::new(&[serial.clone(), others.clone()].concat());
        assert_eq!(queue.next(), Next::Run(others[..BATCH].to_vec()));
        assert_eq!(queue.next(), Next::Run(others[BATCH..].to_vec()));
        assert_eq!(queue.next(), Next::Wait);
        queue.done(&others[..BATCH], &story(&others[..BATCH], None), None);
        assert_eq!(queue.next(), Next::Wait);
        queue.done(&others[BATCH..], &story(&others[BATCH..], None), None);
        assert_eq!(queue.next(), Next::Run(serial.clone()));
        queue.done(&serial, &story(&serial, None), None);
        assert_eq!(queue.next(), Next::Done);
        assert_eq!(queue.outcomes.len(), BATCH + 2);
    }

    #[test]
    fn slow_specs_come_first_and_by_themselves() {
        let slow = spec::all().find(|spec| spec.slow() && !spec.serial()).unwrap();
        let others = specs(false, 2);
        let mut queue = Queue::new(&[others.clone(), vec![slow]].concat());
        assert_eq!(queue.next(), Next::Run(vec![slow]));
        assert_eq!(queue.next(), Next::Run(others));
    }

    #[test]
    fn a_dead_runner_costs_one_spec() {
        let all = specs(false, 3);
        let mut queue = Queue::new(&all);
        assert_eq!(queue.next(), Next::Run(all.clone()));
        queue.done(&all, &story(&all[..1], Some(all[1])), Some("it crashed"));
        assert_eq!(queue.next(), Next::Run(vec![all[1]]));
        queue.done(&all[1..2], &story(&[], Some(all[1])), Some("it crashed"));
        assert_eq!(queue.next(), Next::Run(vec![all[2]]));
        queue.done(&all[2..], &story(&all[2..], None), None);
        assert_eq!(queue.next(), Next::Done);
        let crashed = Outcome::Lost("it crashed".into());
        assert_eq!(queue.outcomes.into_values().filter(|outcome| *outcome == crashed).count(), 1);
    }

    #[test]
    fn a_spec_that_the_suite_does_not_know_is_lost() {
        let all = specs(false, 2);
        let mut queue = Queue::new(&all);
        assert_eq!(queue.next(), Next::Run(all.clone()));
        queue.done(&all, &story(&all[..1], None), None);
        assert_eq!(queue.next(), Next::Done);
        assert!(matches!(queue.outcomes[all[1].name], Outcome::Lost(_)));
    }
}
