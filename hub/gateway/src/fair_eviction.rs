//! Who gives a place up to somebody who has fewer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use freewheel_link::address_networks::Networks;

/// The oldest of the address or network that has most places, where that is more than who comes from here has with one
/// more. `held` is in the order of their coming.
pub(crate) fn oldest_of_most<'a>(
    held: &(impl Iterator<Item = (u64, &'a Networks)> + Clone),
    from: &Networks,
) -> Option<u64> {
    (0..from.len()).find_map(|size| {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (_, networks) in held.clone() {
            *counts.entry(networks[size]).or_default() += 1;
        }
        let own = counts.get(&from[size]).copied().unwrap_or_default();
        let (most, _) = counts
            .iter()
            .max_by_key(|(_, count)| **count)
            .filter(|(_, count)| own + 1 < **count)?;
        held.clone().find(|(_, networks)| networks[size] == *most).map(|(number, _)| number)
    })
}
