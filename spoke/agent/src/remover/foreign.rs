//! What stays of what is removed, as it is not the agent's, in words for people.

use std::fmt;
use std::path::Path;

/// Of how many it is said where they are.
const TOLD_MAX: usize = 8;

/// What is not the agent's to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    told: Vec<String>,
    more: usize,
}

impl Foreign {
    /// Something is mounted there.
    pub fn is_mounted(&mut self, at: &Path) {
        self.add(format!("something is mounted on {at:?}"));
    }

    /// Another user has put it there.
    pub fn is_anothers(&mut self, at: &Path) {
        self.add(format!("{at:?} is another user's"));
    }

    /// And this.
    pub fn join(&mut self, other: Self) {
        other.told.into_iter().for_each(|one| self.add(one));
        self.more += other.more;
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    fn add(&mut self, one: String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(one);
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told.join("; "))?;
        if self.more == 0 { Ok(()) } else { write!(f, "; and {} more", self.more) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_told_and_the_others_counted() {
        let mut all = Foreign::default();
        assert!(all.is_empty() && all.to_string().is_empty());
        all.is_mounted(Path::new("/data/a\nb"));
        assert_eq!(all.to_string(), r#"something is mounted on "/data/a\nb""#);
        for _ in 0..TOLD_MAX {
            let mut one = Foreign::default();
            one.is_anothers(Path::new("/data/c"));
            all.join(one);
        }
        let said = all.to_string();
        assert!(said.ends_with(r#"; "/data/c" is another user's; and 1 more"#), "{said}");
    }
}
