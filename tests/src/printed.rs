//! What a program printed: parts that must be there, and tables.

/// Asserts that a text has all these parts.
#[track_caller]
pub fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

/// A table as kubectl prints it: heads in its first line, cells below their heads. An empty line ends it.
pub struct Table<'a> {
    text: &'a str,
    /// Each head and where it starts.
    heads: Vec<(usize, &'a str)>,
}

impl<'a> Table<'a> {
    /// The first table of a text.
    #[must_use]
    pub fn read(text: &'a str) -> Self {
        let first = text.lines().next().unwrap_or_default();
        let mut heads = Vec::new();
        let mut start = 0;
        // Between two heads are three spaces or more, inside of one at most one.
        for piece in first.split("   ") {
            let head = piece.trim();
            if !head.is_empty() {
                heads.push((start + piece.len() - piece.trim_start().len(), head));
            }
            start += piece.len() + 3;
        }
        Self { text, heads }
    }

    /// Its heads, left to right.
    #[must_use]
    pub fn heads(&self) -> Vec<&'a str> {
        self.heads.iter().map(|(_, head)| *head).collect()
    }

    /// The cells under a head, top to bottom.
    #[track_caller]
    #[must_use]
    pub fn column(&self, head: &str) -> Vec<&'a str> {
        self.lines().map(|line| self.cell_of(line, head)).collect()
    }

    /// The cell under a head, in the row whose first cell is this.
    #[track_caller]
    #[must_use]
    pub fn cell(&self, row: &str, head: &str) -> &'a str {
        let line = self.lines().find(|line| line.split_whitespace().next() == Some(row));
        let line = line.unwrap_or_else(|| panic!("no row {row:?} in:\n{}", self.text));
        self.cell_of(line, head)
    }

    fn lines(&self) -> impl Iterator<Item = &'a str> {
        self.text.lines().skip(1).take_while(|line| !line.is_empty())
    }

    #[track_caller]
    fn cell_of(&self, line: &'a str, head: &str) -> &'a str {
        let at = self.heads.iter().position(|(_, found)| *found == head);
        let at = at.unwrap_or_else(|| panic!("no column {head:?} in:\n{}", self.text));
        let start = self.heads[at].0;
        let end = self.heads.get(at + 1).map_or(line.len(), |(next, _)| *next);
        line.get(start..end.min(line.len())).unwrap_or_default().trim()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_below_their_heads() {
        let table = Table::read(
            "NAME   HUB ACCEPTED   URLS   AGE\n\
             pi-1   true                  7s (1s ago)\n\
             pi-2                         8s\n\
             \n\
             NAME   OTHER\n",
        );
        assert_eq!(table.heads(), ["NAME", "HUB ACCEPTED", "URLS", "AGE"]);
        assert_eq!(table.column("NAME"), ["pi-1", "pi-2"]);
        assert_eq!(table.column("HUB ACCEPTED"), ["true", ""]);
        assert_eq!(table.cell("pi-1", "URLS"), "");
        assert_eq!(table.cell("pi-1", "AGE"), "7s (1s ago)");
    }
}
