//! Chooses the engine profile that this machine can hold, and measures its addresses.

use freewheel_link::profile::{MemoryProfile, Profile};
use freewheel_spoke_engine::GUARDED_RESERVATION_BYTES;

use crate::native;

/// The best profile for this many pods, or `None` on a machine that wasmtime cannot run on.
///
/// Many Raspberry Pi kernels give a process 512 GiB of address space: guarded memories would end at about
/// 125 pods there, so the space is tried out instead of assumed.
#[must_use]
pub fn choose_profile(max_pods: u32) -> Option<Profile> {
    let needed = usize::try_from(u64::from(max_pods.max(1)) * GUARDED_RESERVATION_BYTES);
    let guarded = needed.is_ok_and(native::can_reserve);
    let mut candidates = Profile::candidates().into_iter();
    candidates.find(|profile| guarded || profile.memory == MemoryProfile::Bounded)
}

/// Bytes of address space that all linear memories may have together: an eighth of what there is now is for the rest.
#[must_use]
pub fn addresses() -> u64 {
    let mut free = usize::try_from(1_u64 << 47).unwrap_or(isize::MAX.unsigned_abs());
    while 0 < free && !native::can_reserve(free) {
        free -= free.div_ceil(8);
    }
    free as u64 / 8 * 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_room_for_guards_gets_bounds_checks() {
        assert_eq!(choose_profile(1).unwrap().memory, MemoryProfile::Guard4g);
        // 4 PiB and more is beyond the 47 bits that any of our machines give.
        assert_eq!(choose_profile(2_000_000).unwrap().memory, MemoryProfile::Bounded);
    }

    #[test]
    fn there_are_as_many_addresses_as_can_be_reserved() {
        let all = addresses();
        assert!((1 << 30..1 << 47).contains(&all), "{all}");
        assert!(native::can_reserve(usize::try_from(all).unwrap()));
    }
}
