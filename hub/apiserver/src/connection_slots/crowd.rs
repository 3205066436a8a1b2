//! Who came in a crowd.
//!
//! Guarantees:
//! - it is the largest network of those that one owner is given, of that the largest part, and of that the address with
//!   most; among as many, the one that came first (`the_crowd_is_the_network_that_most_are_of`).

use std::collections::HashMap;

use freewheel_link::address_networks::Networks;

/// Those who are of the largest network, in the order in which they are given.
pub(super) fn crowd<T>(mut all: Vec<(Networks, T)>) -> impl Iterator<Item = T> {
    // From a large network to a single address.
    for size in (0..3).rev() {
        let mut held = HashMap::new();
        for (from, _) in &all {
            *held.entry(from[size]).or_insert(0_usize) += 1;
        }
        let most = held.values().max().copied();
        let largest =
            all.iter().map(|(from, _)| from[size]).find(|net| held.get(net).copied() == most);
        all.retain(|(from, _)| Some(from[size]) == largest);
    }
    all.into_iter().map(|(_, one)| one)
}

#[cfg(test)]
mod tests {
    use freewheel_link::address_networks::around;

    use super::*;

    #[track_caller]
    fn check(from: &[&str], expected: &[usize]) {
        let all = from.iter().enumerate().map(|(at, from)| (around(from.parse().unwrap()), at));
        assert_eq!(crowd(all.collect()).collect::<Vec<_>>(), expected, "{from:?}");
    }

    #[test]
    fn the_crowd_is_the_network_that_most_are_of() {
        check(&[], &[]);
        check(&["192.0.2.1", "198.51.100.1"], &[0]);
        check(&["192.0.2.1", "198.51.100.1", "198.51.100.1"], &[1, 2]);
        // One owner with many addresses, and in there the address with most.
        check(&["192.0.2.1", "192.0.2.1", "198.51.100.1", "198.51.100.2", "198.51.100.2"], &[3, 4]);
        let site = ["2001:db8::1", "2001:db8:7::1", "2001:db8:7:1::1", "2001:db8:7:101::1"];
        check(&site, &[1]);
    }
}
