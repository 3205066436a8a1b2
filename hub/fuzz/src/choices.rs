//! Decisions that bytes make: the same bytes, the same decisions. What is left when they have ended is the first of each.

/// The bytes that are left.
pub(crate) struct Choices<'a>(pub(crate) &'a [u8]);

impl Choices<'_> {
    /// Whether nothing is left to decide by.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// One of so many, from 0 on.
    pub(crate) fn of(&mut self, many: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % many.max(1)
    }

    /// Once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.of(times) + 1 == times
    }

    /// One of these.
    pub(crate) fn one<T: Copy>(&mut self, all: &[T], otherwise: T) -> T {
        let place = self.of(all.len());
        all.get(place).copied().unwrap_or(otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_decide_until_they_end() {
        let mut choices = Choices(&[5, 2, 9]);
        assert_eq!(
            (choices.of(3), choices.one(&["a", "b", "c"], ""), choices.once_in(10)),
            (2, "c", true)
        );
        assert!(choices.is_over());
        assert_eq!((choices.of(3), choices.once_in(2)), (0, false));
    }
}
