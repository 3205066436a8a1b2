//! What files and directories take on the disk: bytes, and inodes.

/// What a directory takes on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes.
    pub bytes: u64,
    /// Files, directories and symlinks in it.
    pub inodes: u64,
    /// All of it was seen; else it has at least so much.
    pub whole: bool,
}

/// What some files take on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl Taken {
    pub(super) fn add(&mut self, more: Self) {
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.inodes = self.inodes.saturating_add(more.inodes);
    }

    pub(super) fn most(self, other: Self) -> Self {
        Self { bytes: self.bytes.max(other.bytes), inodes: self.inodes.max(other.inodes) }
    }

    pub(super) const fn size(self, whole: bool) -> Size {
        Size { bytes: self.bytes, inodes: self.inodes, whole }
    }
}
