//! What tells an object from every other that had, or will have, its name.

crate::shared_text::shared_text! {
    /// `metadata.uid`: opaque, and empty for what has none. An object's header, its owners and every index name it.
    Uid
}
