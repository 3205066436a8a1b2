//! Levels of one cluster together, and random histories of them.

use serde_json::json;

use super::*;
use crate::testing::{level, limited, request, schema};

fn exempt() -> Arc<PriorityLevel> {
    let exempt = json!({"nominalConcurrencyShares": 0, "lendablePercent": 0});
    level("exempt", &json!({"type": "Exempt", "exempt": exempt}))
}

/// Ann's own level beside everybody's, in which a hundred seats are shared; the root is exempt.
fn configuration(length: u32) -> Arc<Configuration> {
    let queuing = json!({"queues": 64, "handSize": 4, "queueLengthLimit": length});
    let levels = [
        exempt(),
        limited("catch-all", 10, None),
        limited("ann", 40, Some(queuing.clone())),
        limited("all", 50, Some(queuing)),
    ];
    let schemas = [
        schema("exempt", 1, "root", "exempt"),
        schema("ann", 10, "ann", "ann"),
        schema("all", 20, "*", "all"),
        schema("catch-all", 10_000, "*", "catch-all"),
    ];
    Arc::new(Configuration::of(levels, schemas).unwrap())
}

fn ask(seats: &mut Seats, now: Duration, user: &str) -> Asked {
    let class = seats.configuration().classify(&request(user));
    seats.ask(now, &class, 1)
}

fn state(seats: &Seats, name: &str) -> LevelState {
    seats.levels().find(|level| &*level.name == name).unwrap()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_flow_of_a_thousand_holds_up_no_small_one() {
    let mut seats = Seats::new((100, u32::MAX), configuration(50));
    let (mut served, mut waiting, mut refused) = (Vec::new(), 0, 0);
    for _ in 0..1_000 {
        match ask(&mut seats, SECOND, "greedy") {
            Asked::Granted(ticket) => served.push(ticket),
            Asked::Waits(_) => waiting += 1,
            Asked::Refused(why) => {
                assert_eq!(why, Refusal::QueueFull);
                refused += 1;
            }
        }
    }
    assert_eq!((served.len(), waiting, refused), (38, 200, 762));
    // Some seats are left for those who have none; in the end others take them.
    for other in 0..12 {
        let asked = ask(&mut seats, SECOND, &format!("other-{other}"));
        assert!(matches!(asked, Asked::Granted(_)), "{asked:?}");
    }
    let Asked::Waits(bob) = ask(&mut seats, SECOND, "bob") else { panic!("all seats are taken") };
    // With the first few that are over it is another one's turn.
    let mut rounds = 0;
    while !seats.granted().contains(&bob.number) {
        let over = served.pop().unwrap();
        seats.leave(2 * SECOND, &over, End::Over);
        rounds += 1;
        assert!(rounds <= 4, "it waits behind {} others", state(&seats, "all").waiting);
    }
    // And another level has not noticed.
    assert!(matches!(ask(&mut seats, 2 * SECOND, "ann"), Asked::Granted(_)));
}

#[test]
fn seats_are_lent_and_come_back() {
    let (mut seats, mut now) = (Seats::new((100, u32::MAX), configuration(500)), SECOND);
    let mut greedy = Vec::new();
    let mut take = |seats: &mut Seats, now, count: usize| {
        for _ in 0..count {
            if let Asked::Granted(ticket) | Asked::Waits(ticket) = ask(seats, now, "greedy") {
                greedy.push(ticket);
            }
        }
    };
    take(&mut seats, now, 100);
    assert_eq!(state(&seats, "all").executing, 38);
    now += SHARED_EVERY;
    take(&mut seats, now, 1);
    // Twenty of Ann's and five of the last level's are lent.
    let lent = (state(&seats, "all").current, state(&seats, "ann").current);
    assert_eq!((lent, state(&seats, "all").executing), ((75, 20), 57));
    assert_eq!(seats.granted().len(), 19);
    for _ in 0..40 {
        drop(ask(&mut seats, now, "ann"));
    }
    assert_eq!((state(&seats, "ann").executing, state(&seats, "ann").waiting), (15, 25));
    now += SHARED_EVERY;
    take(&mut seats, now, 1);
    let back = (state(&seats, "all").current, state(&seats, "ann").current);
    assert_eq!((back, state(&seats, "ann").executing), ((55, 40), 30));
    // Nobody is thrown out; who is over is not followed.
    assert_eq!(state(&seats, "all").executing, 57);
    for ticket in greedy.iter().take(21) {
        seats.leave(now, ticket, End::Over);
    }
    assert_eq!(state(&seats, "all").executing, 42);
}

#[test]
fn a_level_that_goes_serves_who_is_in_it() {
    let mut seats = Seats::new((100, u32::MAX), configuration(50));
    let mut anns = Vec::new();
    for _ in 0..50 {
        match ask(&mut seats, SECOND, "ann") {
            Asked::Granted(ticket) | Asked::Waits(ticket) => anns.push(ticket),
            Asked::Refused(why) => panic!("{why:?}"),
        }
    }
    let without = [exempt(), limited("catch-all", 10, None)];
    let schemas = [schema("catch-all", 10_000, "*", "catch-all")];
    let other = Arc::new(Configuration::of(without, schemas).unwrap());
    let class = seats.configuration().classify(&request("ann"));
    seats.configure(SECOND, other);
    assert!(state(&seats, "ann").goes && seats.levels().count() == 3);
    let late = seats.ask(SECOND, &class, 1);
    let Asked::Granted(late) = late else { panic!("{late:?}") };
    seats.leave(SECOND, &late, End::Over);
    let mut granted = 0;
    for ticket in &anns {
        seats.leave(2 * SECOND, ticket, End::Over);
        granted += seats.granted().len();
    }
    assert_eq!((granted, seats.levels().count()), (20, 2));
    assert!(seats.is_idle());
}

#[test]
fn who_is_exempt_never_waits() {
    let mut seats = Seats::new((10, u32::MAX), configuration(50));
    for _ in 0..10_000 {
        assert!(matches!(ask(&mut seats, SECOND, "root"), Asked::Granted(_)));
    }
    assert_eq!(state(&seats, "exempt").executing, 10_000);
    // They are there before others' seats are lent.
    drop(ask(&mut seats, SECOND + SHARED_EVERY, "greedy"));
    assert_eq!((state(&seats, "all").current, state(&seats, "ann").current), (2, 2));
}

/// What was asked for, as the model has it.
#[derive(Default)]
struct Model {
    served: Vec<(Ticket, &'static str)>,
    waiting: Vec<(Ticket, &'static str)>,
}

impl Model {
    fn take(&mut self, seats: &mut Seats) {
        for number in seats.granted() {
            let at = self.waiting.iter().position(|(ticket, _)| ticket.number == number).unwrap();
            self.served.push(self.waiting.swap_remove(at));
        }
    }

    fn check(&self, seats: &Seats) {
        let sum = |of: fn(&LevelState) -> usize| seats.levels().map(|level| of(&level)).sum();
        let (executing, waiting): (usize, usize) =
            (sum(|level| level.executing), sum(|level| level.waiting));
        assert_eq!((executing, waiting), (self.served.len(), self.waiting.len()));
        for level in seats.levels() {
            // The next in line may be too wide for what is free, and nobody is thrown out when a level lends.
            let widest = (level.nominal * WIDTH_PERCENT_MAX).div_ceil(100).max(1);
            let free = u64::from(level.current).saturating_sub(level.seats_in_use);
            let waits = |user: &str| self.waiting.iter().any(|(_, other)| *other == user);
            let is_served = |user: &str| self.served.iter().any(|(_, other)| *other == user);
            let own: &[_] =
                if &*level.name == "all" { &["greedy", "bob", "eve"] } else { &["ann"] };
            let left_out = own.iter().any(|user| waits(user) && !is_served(user));
            assert!(level.waiting == 0 || free < u64::from(widest) || !left_out, "{level:?}");
        }
    }
}

#[test]
fn whatever_happens_seats_add_up() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut seats =
            Seats::new((random.u32(5..200), u32::MAX), configuration(random.u32(1..20)));
        let (mut model, mut now) = (Model::default(), Duration::ZERO);
        for _ in 0..2_000 {
            now += Duration::from_millis(random.u64(0..40));
            match random.u32(0..100) {
                0..55 => {
                    let users = ["ann", "greedy", "root", "bob", "eve"];
                    let user = users[random.usize(..users.len())];
                    let class = seats.configuration().classify(&request(user));
                    match seats.ask(now, &class, random.u32(1..12)) {
                        Asked::Granted(ticket) => model.served.push((ticket, user)),
                        Asked::Waits(ticket) => model.waiting.push((ticket, user)),
                        Asked::Refused(_) => {}
                    }
                }
                55..90 if !model.served.is_empty() => {
                    let at = random.usize(..model.served.len());
                    let (over, _) = model.served.swap_remove(at);
                    seats.leave(now, &over, End::Over);
                }
                90..98 if !model.waiting.is_empty() => {
                    let at = random.usize(..model.waiting.len());
                    let (over, _) = model.waiting.swap_remove(at);
                    let end = if random.bool() { End::Over } else { End::TimedOut };
                    seats.leave(now, &over, end);
                }
                98.. => seats.configure(now, configuration(random.u32(1..20))),
                _ => {}
            }
            model.take(&mut seats);
            model.check(&seats);
        }
        // Whoever waits is served when others are over.
        while let Some((over, _)) = model.served.pop() {
            now += Duration::from_millis(5);
            seats.leave(now, &over, End::Over);
            model.take(&mut seats);
        }
        assert!(model.waiting.is_empty() && seats.is_idle(), "seed {seed}");
    }
}
