//! Functions for JSON patches.

use super::function::{Table, one_text, text_value};

pub(super) const FUNCTIONS: Table = &[("jsonpatch.escapeKey", |values, _| {
    one_text(values).map(|key| text_value(key.replace('~', "~0").replace('/', "~1")))
})];
