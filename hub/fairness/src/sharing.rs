//! How the seats of all levels are shared: each has its own by its shares, lends a part of them while it needs less,
//! and borrows what others lend.
//!
//! Guarantees:
//! - a level has what it needs of its own seats, and never less than what it does not lend
//!   (`nobody_lends_what_it_needs`);
//! - what is lent goes to who needs it, by need, up to what each may borrow (`what_is_lent_goes_by_need`).

use crate::priority_level::PriorityLevel;

/// A target of nothing would have no part in what is over.
const TARGET_MIN: f64 = 0.001;

/// What a level may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Its own.
    pub(crate) nominal: u32,
    /// When it lends all that it may.
    pub(crate) least: u32,
    /// When it borrows all that it may.
    pub(crate) most: u32,
}

/// What a level is to have next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// What it never lends.
    pub(crate) least: f64,
    /// What it needs of its own.
    pub(crate) own: f64,
    pub(crate) most: f64,
    pub(crate) target: f64,
}

impl Share {
    /// Of so many seats by so many shares.
    pub(crate) fn of(level: &PriorityLevel, total: u32, all_shares: u64) -> Self {
        let nominal = (u64::from(total) * u64::from(level.shares)).div_ceil(all_shares.max(1));
        let percent = |percent: u32| (nominal * u64::from(percent) + 50) / 100;
        let lends = percent(level.lendable_percent.min(100));
        let borrows = level.borrowing_percent.map_or(u64::from(total), percent);
        let seats = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            nominal: seats(nominal),
            least: seats(nominal - lends.min(nominal)),
            most: seats(nominal.saturating_add(borrows)),
        }
    }
}

fn sum(needs: &[Need], of: impl Fn(&Need) -> f64) -> f64 {
    needs.iter().map(of).sum()
}

/// How much each gets of so many seats.
pub(crate) fn share_out(seats: f64, needs: &[Need]) -> Vec<f64> {
    let (least, own) = (sum(needs, |need| need.least), sum(needs, |need| need.own));
    if seats <= own {
        // What nobody lends is theirs even where there is less.
        let part = if least < own { ((seats - least) / (own - least)).max(0.0) } else { 0.0 };
        return needs.iter().map(|need| need.least + part * (need.own - need.least)).collect();
    }
    let given = |part: f64, need: &Need| {
        (part * need.target.max(TARGET_MIN)).clamp(need.own, need.most.max(need.own))
    };
    let all = |part: f64| sum(needs, |need| given(part, need));
    // The sum grows with the part: it is found by halves.
    let (mut low, mut high) = (0.0, 1.0);
    while all(high) < seats && high < 1e12 {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if all(middle) < seats { low = middle } else { high = middle }
    }
    needs.iter().map(|need| given(high, need)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(least: f64, own: f64, most: f64, target: f64) -> Need {
        Need { least, own, most, target }
    }

    #[test]
    fn nobody_lends_what_it_needs() {
        let needs = [need(20.0, 80.0, 200.0, 80.0), need(50.0, 50.0, 200.0, 300.0)];
        let given = share_out(200.0, &needs);
        assert!(80.0 <= given[0] && (given[0] + given[1] - 200.0).abs() < 1e-6, "{given:?}");
        assert_eq!(share_out(100.0, &needs), [50.0, 50.0], "those who need it share what is short");
        assert_eq!(share_out(10.0, &needs), [20.0, 50.0], "what is not lent is there");
    }

    #[test]
    fn what_is_lent_goes_by_need() {
        let idle = need(10.0, 10.0, 1_000.0, 10.0);
        let given = share_out(
            310.0,
            &[idle, need(50.0, 100.0, 1_000.0, 100.0), need(50.0, 100.0, 1_000.0, 200.0)],
        );
        assert!((given[2] - 2.0 * given[1]).abs() < 1e-6 && given[0] < 11.0, "{given:?}");
        let bounded = share_out(310.0, &[idle, need(50.0, 100.0, 120.0, 400.0)]);
        assert!((bounded[1] - 120.0).abs() < 1e-6 && 120.0 < bounded[0], "{bounded:?}");
        let nobody = share_out(310.0, &[need(0.0, 0.0, 20.0, 0.0), need(0.0, 0.0, 30.0, 0.0)]);
        assert!((nobody[0] - 20.0).abs() < 1e-6 && (nobody[1] - 30.0).abs() < 1e-6, "{nobody:?}");
    }
}
