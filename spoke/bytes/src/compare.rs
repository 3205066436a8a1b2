//! Comparing, by words.
//!
//! Guarantees:
//! - the first byte that differs decides (`the_first_byte_that_differs_decides`).

use core::cmp::Ordering;

/// Which of two texts of so many bytes comes first.
///
/// # Safety
/// So many bytes may be read at both.
#[inline(always)]
pub(crate) unsafe fn compare(a: *const u8, b: *const u8, length: usize) -> Ordering {
    // SAFETY: the caller's promise, and no word goes beyond the end.
    unsafe {
        if length < 8 {
            return few(a, b, length);
        }
        let mut at = 0;
        while at + 32 <= length {
            let [x, y] = [a, b].map(|text| text.add(at).cast::<[u64; 4]>().read_unaligned());
            if (x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) != 0 {
                break;
            }
            at += 32;
        }
        while at < length {
            // The last word reaches back over bytes that are the same.
            let word = at.min(length - 8);
            let [x, y] = [a, b].map(|text| text.add(word).cast::<u64>().read_unaligned());
            if x != y {
                return u64::from_be(x).cmp(&u64::from_be(y));
            }
            at += 8;
        }
        Ordering::Equal
    }
}

/// # Safety
/// As of [`compare`].
#[inline(always)]
unsafe fn few(a: *const u8, b: *const u8, length: usize) -> Ordering {
    let mut at = 0;
    while at < length {
        // SAFETY: the caller's promise.
        let (x, y) = unsafe { (a.add(at).read(), b.add(at).read()) };
        if x != y {
            return x.cmp(&y);
        }
        at += 1;
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_decides() {
        let mut dice = fastrand::Rng::with_seed(8);
        for length in 0..200 {
            for turn in 0..40 {
                let a: Vec<u8> = (0..length).map(|_| dice.u8(..)).collect();
                let mut b = a.clone();
                for _ in 0..turn.min(length) % 3 {
                    b[dice.usize(..length)] = dice.u8(..);
                }
                // SAFETY: both have so many bytes.
                let said = unsafe { compare(a.as_ptr(), b.as_ptr(), length) };
                assert_eq!(said, a.cmp(&b), "{a:?} {b:?}");
            }
        }
    }
}
