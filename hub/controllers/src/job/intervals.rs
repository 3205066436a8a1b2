//! Sets of completion indexes, as a Job's status and its policies write them: `1,3-5`.
//!
//! Guarantees:
//! - what is written is read as the same set (`what_is_written_is_read_alike`);
//! - what it costs follows the number of intervals, not that of indexes (`a_text_may_name_billions`).

use std::fmt;

/// Indexes in order, as closed intervals with gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intervals(Vec<(u32, u32)>);

impl Intervals {
    /// The indexes below `completions` that a text names; what cannot be read of it is left out.
    #[must_use]
    pub fn read(text: &str, completions: u32) -> Self {
        let one = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
            let last = last.min(completions.checked_sub(1)?);
            (first <= last).then_some((first, last))
        };
        Self::joined(text.split(',').filter_map(one).collect())
    }

    /// These indexes.
    #[must_use]
    pub fn of(indexes: impl IntoIterator<Item = u32>) -> Self {
        Self::joined(indexes.into_iter().map(|index| (index, index)).collect())
    }

    /// What is in either.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self::joined(self.0.iter().chain(&other.0).copied().collect())
    }

    fn joined(mut all: Vec<(u32, u32)>) -> Self {
        all.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// How many indexes there are.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.0.iter().fold(0, |sum, (first, last)| sum.saturating_add(last - first + 1))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn has(&self, index: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many indexes are in both.
    #[must_use]
    pub fn shared(&self, other: &Self) -> u32 {
        let (mut at, mut its, mut sum) = (0, 0, 0_u32);
        while let (Some(a), Some(b)) = (self.0.get(at), other.0.get(its)) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                sum = sum.saturating_add(last - first + 1);
            }
            if a.1 < b.1 { at += 1 } else { its += 1 }
        }
        sum
    }

    /// The first indexes below `completions` that are not among them, so many at most.
    #[must_use]
    pub fn missing(&self, count: usize, completions: u32) -> Vec<u32> {
        let ends = self.0.iter().copied().chain([(completions, completions)]);
        let mut next = 0;
        let mut gaps = Vec::new();
        for (first, last) in ends {
            gaps.push(next..first.min(completions));
            next = last.saturating_add(1);
        }
        gaps.into_iter().flatten().take(count).collect()
    }
}

impl fmt::Display for Intervals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_alike() {
        for text in ["", "0", "0,1", "0-2,5", "1,3-7,9,10"] {
            assert_eq!(Intervals::read(text, 100).to_string(), text);
        }
        assert_eq!(Intervals::read("3,x,0-2,7-5,90-2147483646", 100).to_string(), "0-3,90-99");
        assert_eq!(Intervals::read("0-5", 0), Intervals::default());
    }

    #[test]
    fn a_text_may_name_billions() {
        let most = Intervals::read("0-2147483645", 2_147_483_647);
        assert_eq!(most.total(), 2_147_483_646);
        assert_eq!(most.shared(&most.with(&Intervals::of([2_147_483_646]))), 2_147_483_646);
        assert_eq!(most.missing(9, 2_147_483_647), [2_147_483_646]);
    }

    #[test]
    fn sets_are_joined_counted_and_asked() {
        let some = Intervals::of([5, 1, 2, 2]);
        let all = some.with(&Intervals::read("3,8-9", 100));
        assert_eq!((all.to_string(), all.total()), ("1-3,5,8,9".to_owned(), 6));
        assert_eq!(
            [0, 1, 4, 5, 9, 10].map(|at| all.has(at)),
            [false, true, false, true, true, false]
        );
        assert_eq!(all.shared(&Intervals::read("0-1,3-8", 100)), 4);
        assert_eq!(all.missing(3, 100), [0, 4, 6]);
        assert_eq!(all.missing(9, 9), [0, 4, 6, 7]);
        assert_eq!(all.missing(9, 3), [0]);
    }
}
