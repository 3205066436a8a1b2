//! Fields of a schema by their names: as one sorted list, for a schema has few of them or is there a thousand times.

use super::Schema;

/// Fields, sorted by their names.
#[derive(Debug, Default)]
pub struct Properties(Box<[(Box<str>, Schema)]>);

impl Properties {
    /// The field of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Schema> {
        let found = self.0.binary_search_by(|(one, _)| (**one).cmp(name));
        found.ok().and_then(|at| self.0.get(at)).map(|(_, of)| of)
    }

    /// All schemas.
    pub fn values(&self) -> impl Iterator<Item = &Schema> {
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

impl FromIterator<(Box<str>, Schema)> for Properties {
    /// Of names that are there once.
    fn from_iter<I: IntoIterator<Item = (Box<str>, Schema)>>(all: I) -> Self {
        let mut all: Box<[_]> = all.into_iter().collect();
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Self(all)
    }
}

impl<'a> IntoIterator for &'a Properties {
    type Item = &'a (Box<str>, Schema);
    type IntoIter = std::slice::Iter<'a, (Box<str>, Schema)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
