//! Copying, by the widest loads and stores that every processor of a kind has. What is copied may be no value of any type:
//! a struct has places between its fields that nobody has written.
//!
//! Guarantees:
//! - all bytes arrive as they were, wherever the two places overlap (`what_is_copied_arrives_as_it_was`).

use core::mem::MaybeUninit;

/// What one instruction loads and stores.
#[cfg(target_arch = "x86_64")]
type Wide = core::arch::x86_64::__m128i;
#[cfg(not(target_arch = "x86_64"))]
type Wide = [u64; 2];

type Block = MaybeUninit<[Wide; 4]>;
const BLOCK_BYTES: usize = size_of::<Block>();

/// The first and the last of the bytes, which overlap or meet: both are read before one is written.
///
/// # Safety
/// As of [`copy`]; one `T` fits into the bytes, and two are enough for them.
#[inline(always)]
unsafe fn ends<T: Copy>(to: *mut u8, from: *const u8, length: usize) {
    let last = length - size_of::<T>();
    // SAFETY: the caller's promise.
    unsafe {
        let first = from.cast::<MaybeUninit<T>>().read_unaligned();
        let end = from.add(last).cast::<MaybeUninit<T>>().read_unaligned();
        to.cast::<MaybeUninit<T>>().write_unaligned(first);
        to.add(last).cast::<MaybeUninit<T>>().write_unaligned(end);
    }
}

/// Copies so many bytes from one place to another, which may overlap it.
///
/// # Safety
/// The bytes may be read there and written here.
#[inline(always)]
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the caller's promise, and the length that each arm has looked at.
    unsafe {
        match length {
            0 => {}
            1 => to.cast::<MaybeUninit<u8>>().write(from.cast::<MaybeUninit<u8>>().read()),
            2..4 => ends::<u16>(to, from, length),
            4..8 => ends::<u32>(to, from, length),
            8..16 => ends::<u64>(to, from, length),
            16..=32 => ends::<Wide>(to, from, length),
            33..=64 => ends::<[Wide; 2]>(to, from, length),
            65..=128 => ends::<[Wide; 4]>(to, from, length),
            // What lies before the source, or is none of it, is written from its beginning on.
            129.. if length <= to.addr().wrapping_sub(from.addr()) => upwards(to, from, length),
            129.. => downwards(to, from, length),
        }
    }
}

/// # Safety
/// As of [`copy`], and the place does not begin within the source. More than a block.
unsafe fn upwards(to: *mut u8, from: *const u8, length: usize) {
    let last = length - BLOCK_BYTES;
    // SAFETY: the caller's promise; no block goes beyond the last.
    unsafe {
        // The end is read before it can be written over.
        let end = from.add(last).cast::<Block>().read_unaligned();
        let mut at = 0;
        while at < last {
            let block = from.add(at).cast::<Block>().read_unaligned();
            to.add(at).cast::<Block>().write_unaligned(block);
            at += BLOCK_BYTES;
        }
        to.add(last).cast::<Block>().write_unaligned(end);
    }
}

/// # Safety
/// As of [`copy`]. More than a block.
unsafe fn downwards(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the caller's promise; no block goes before the first.
    unsafe {
        let first = from.cast::<Block>().read_unaligned();
        let mut at = length;
        while BLOCK_BYTES < at {
            at -= BLOCK_BYTES;
            let block = from.add(at).cast::<Block>().read_unaligned();
            to.add(at).cast::<Block>().write_unaligned(block);
        }
        to.cast::<Block>().write_unaligned(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_arrives_as_it_was() {
        let mut dice = fastrand::Rng::with_seed(7);
        let whole: Vec<u8> = (0..3000).map(|_| dice.u8(..)).collect();
        let mut lengths: Vec<usize> = (0..300).collect();
        lengths.extend((0..50).map(|_| dice.usize(300..1000)));
        for length in lengths {
            for (to, from) in [(1000, 0), (0, 1003), (7, 7)]
                .into_iter()
                .chain((0..8).map(|_| (dice.usize(..300), dice.usize(..300))))
            {
                let (mut ours, mut right) = (whole.clone(), whole.clone());
                let start = ours.as_mut_ptr();
                // SAFETY: both places are within the 3,000 bytes.
                unsafe { copy(start.add(to), start.add(from), length) };
                right.copy_within(from..from + length, to);
                assert!(ours == right, "{length} from {from} to {to}");
            }
        }
    }
}
