//! What a device's guests may really have, out of what the device has.
//!
//! One place for hub and spoke: the number that the scheduler counts with and `kubectl describe node` shows is
//! what the spoke's runtime enforces, less what is pressure. Both follow from the reported capacity, so they need no
//! word on the wire; the shares are part of the contract.

use crate::report::NodeStatusV1;

/// Memory that guests never get: the agent, the system and what the kernel needs to find a way out.
const RESERVED_MEMORY_BYTES: u64 = 64 << 20;

/// The part of a device's memory below which it is under pressure, and no more than so many bytes: what its pods may
/// ask for is that much less than what they may have together, so that those within their requests are no pressure.
pub const MEMORY_PRESSURE_PERCENT_AND_BYTES: (u8, u64) = (5, 100 << 20);

/// The part of a file system that stays free, as kubelet's default for eviction: less is pressure.
const STORAGE_RESERVED_PERCENT: u64 = 10;

/// More than this stays free of no file system: a tenth of a large one is room that its owner paid for.
pub const STORAGE_RESERVED_BYTES_MAX: u64 = 1 << 30;

/// Memory in bytes that all guests together may have on a device with this much: an eighth stays with the
/// system. The spoke's runtime enforces it.
#[must_use]
pub fn memory(capacity: u64) -> u64 {
    capacity.saturating_sub(RESERVED_MEMORY_BYTES.max(capacity / 8))
}

/// Of these, what pods may ask for.
#[must_use]
pub fn requestable_memory(capacity: u64) -> u64 {
    let (percent, most) = MEMORY_PRESSURE_PERCENT_AND_BYTES;
    let share = u128::from(capacity) * u128::from(percent) / 100;
    memory(capacity).saturating_sub(u64::try_from(share).map_or(most, |share| share.min(most)))
}

/// Bytes of a file system of this size that pods may fill before the device is under pressure.
#[must_use]
pub fn storage(capacity: u64) -> u64 {
    capacity - storage_reserve(capacity)
}

/// Bytes of a file system of this size that stay free.
#[must_use]
pub const fn storage_reserve(capacity: u64) -> u64 {
    let share = capacity / STORAGE_RESERVED_PERCENT;
    if share < STORAGE_RESERVED_BYTES_MAX { share } else { STORAGE_RESERVED_BYTES_MAX }
}

/// The device as its guests may use it: CPU and pods as they are, memory and storage without what is kept back.
#[must_use]
pub fn of(status: &NodeStatusV1) -> NodeStatusV1 {
    NodeStatusV1 {
        memory: requestable_memory(status.memory),
        storage: storage(status.storage),
        ..status.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_leave_memory_to_the_system() {
        assert_eq!(memory(256 << 20), 192 << 20);
        assert_eq!(memory(8 << 30), 7 << 30);
        assert_eq!(memory(1 << 20), 0);
        assert_eq!(requestable_memory(8 << 30), (7 << 30) - (100 << 20));
        assert_eq!(requestable_memory(1000 << 20), (875 << 20) - (50 << 20));
    }

    #[test]
    fn a_device_keeps_memory_and_storage_back_and_nothing_else() {
        let device = crate::report::testing::node();
        let guests = of(&device);
        assert_eq!(
            (guests.memory, guests.storage),
            (requestable_memory(1 << 30), (1 << 33) - (1 << 33) / 10)
        );
        assert_eq!((guests.cpu_milli, guests.pods), (device.cpu_milli, device.pods));
        assert_eq!(storage(1 << 40), (1 << 40) - (1 << 30));
    }
}
