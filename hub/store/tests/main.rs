//! What a store promises: on every backend, after crashes, and of what lies on the disk.

mod compaction;
mod damage;
mod format;
mod kill;
mod lives;
mod promises;
mod sealed;
mod simulated_disk;
mod spare_pages;
