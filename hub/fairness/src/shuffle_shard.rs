//! Which queues a flow uses: a hand of them, dealt by its hash, so that two flows that share one hardly share all.
//!
//! Guarantees:
//! - a hand has so many different queues, all there are at most, the same for the same flow (`hands_are_dealt`).

/// The queues of a flow.
pub(crate) fn deal(mut flow: u64, queues: u32, hand: u32) -> Vec<u32> {
    let mut dealt: Vec<u32> = Vec::new();
    for left in (queues.saturating_sub(hand)..queues).rev().map(|below| u64::from(below) + 1) {
        let (card, rest) = (flow % left, flow / left);
        flow = rest;
        // Its place among those that were not dealt yet: it is passed by the smaller ones that were.
        let mut card = u32::try_from(card).unwrap_or_default();
        let mut sorted = dealt.clone();
        sorted.sort_unstable();
        for before in sorted {
            card += u32::from(before <= card);
        }
        dealt.push(card);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn hands_are_dealt() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut seen = BTreeSet::new();
        for _ in 0..2_000 {
            let (queues, hand) = (random.u32(1..200), random.u32(1..9));
            let flow = random.u64(..);
            let dealt = deal(flow, queues, hand);
            let different: BTreeSet<_> = dealt.iter().copied().collect();
            assert_eq!((dealt.len(), different.len()), (hand.min(queues) as usize, dealt.len()));
            assert!(dealt.iter().all(|queue| *queue < queues), "{dealt:?} of {queues}");
            assert_eq!(deal(flow, queues, hand), dealt);
            seen.extend(deal(flow, 16, 4));
        }
        assert_eq!(seen.len(), 16, "all of them are used");
    }
}
