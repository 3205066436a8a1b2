//! One column of a server-side Table.

use crate::gvk::Text;

/// One column of a server-side Table.
#[derive(Clone, Debug)]
pub struct Column {
    /// `Ready`
    pub name: Text,
    /// `string`, `integer`, `date`, …
    pub kind: Text,
    /// `name` for the name column, else empty.
    pub format: Text,
    /// What it shows.
    pub description: Text,
    /// 0: always; 1: with `-o wide`.
    pub priority: u8,
}
