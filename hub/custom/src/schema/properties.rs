//! Fields of a schema by their names: as one sorted list, for a schema has few of them or is there a thousand times.

/// Fields, sorted by their names, and what is said of each.
#[derive(Debug)]
pub struct Properties<T>(Box<[(Box<str>, T)]>);

impl<T> Default for Properties<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T> Properties<T> {
    /// The field of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        let found = self.0.binary_search_by(|(one, _)| (**one).cmp(name));
        found.ok().and_then(|at| self.0.get(at)).map(|(_, of)| of)
    }

    /// What is said of all of them.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, of)| of)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> FromIterator<(Box<str>, T)> for Properties<T> {
    /// Of names that are there once.
    fn from_iter<I: IntoIterator<Item = (Box<str>, T)>>(all: I) -> Self {
        let mut all: Box<[_]> = all.into_iter().collect();
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Self(all)
    }
}

impl<'a, T> IntoIterator for &'a Properties<T> {
    type Item = &'a (Box<str>, T);
    type IntoIter = std::slice::Iter<'a, (Box<str>, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
