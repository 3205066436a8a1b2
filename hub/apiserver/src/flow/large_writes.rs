//! Memory for what large writes are made of.
//!
//! An object is a tree of values while it is written, and so is what was there before. A tree is many times its text where
//! that says little at a time: a definition of custom resources whose fields are words is thirty times as large. What waits
//! for somebody who is asked about it (a webhook) has its trees for as long. Who gets how much of the memory is the
//! [pool](super::fair_pool)'s.
//!
//! Guarantees:
//! - what all large writes under way are made of is [`LARGE_WRITES_BYTES_MAX`] at most; who finds no room waits for a while
//!   and is then told to ask again (`large_writes_wait_for_each_other_and_small_ones_for_nobody`);
//! - nobody has all of it (`large_writes_wait_for_each_other_and_small_ones_for_nobody`);
//! - a tree counts for what it takes, about, in whatever form it comes (`a_tree_counts_for_about_what_it_takes`).

use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use memchr::{memchr_iter, memchr2_iter, memmem};

use super::fair_pool::{FairPool, PoolShare};
use super::refusal::too_many;
use super::shares::Sharer;

/// For all large writes together.
const LARGE_WRITES_BYTES_MAX: usize = 192 << 20;
/// Smaller ones are many times fewer bytes than requests under way may be.
const LARGE_WRITE_BYTES: usize = 1 << 20;

/// What a map of values takes, however few are in it: a node of eleven places.
const MAP_BYTES: usize = 640;
/// What a member of a map or list takes beside its text: its place, and its name and value in pieces of their own.
const MEMBER_BYTES: usize = 100;
/// Of a form whose maps and members are not told by a byte: as many times its text as the densest.
const DENSEST: usize = 30;

/// The room.
pub(crate) struct LargeWrites(Arc<FairPool>);

/// Room for one write, until this is dropped.
pub(crate) struct WriteRoom {
    _share: PoolShare,
}

impl Default for LargeWrites {
    fn default() -> Self {
        Self(FairPool::new(LARGE_WRITES_BYTES_MAX))
    }
}

impl LargeWrites {
    /// Waits for room for trees of about so many bytes. A small write needs none.
    ///
    /// # Errors
    /// 429 when there is none for them.
    pub(crate) async fn room(
        &self,
        sharer: Sharer<'_>,
        bytes: usize,
    ) -> Result<Option<WriteRoom>, ApiError> {
        if bytes < LARGE_WRITE_BYTES {
            return Ok(None);
        }
        let share = self.0.part(sharer, bytes).await.map_err(too_many)?;
        Ok(Some(WriteRoom { _share: share }))
    }
}

/// What this JSON or YAML takes as a tree of values, about.
pub(crate) fn tree_bytes(text: &[u8]) -> usize {
    if text.len() < LARGE_WRITE_BYTES / DENSEST {
        return text.len();
    }
    // In YAML what stands indented under a name is a map or a list.
    let maps = memchr_iter(b'{', text).count() + memmem::find_iter(text, b":\n").count();
    let members = memchr2_iter(b',', b'\n', text).count();
    text.len() + MAP_BYTES * maps + MEMBER_BYTES * members
}

/// The same of a form that is read by its numbers.
pub(crate) const fn packed_tree_bytes(bytes: &[u8]) -> usize {
    bytes.len().saturating_mul(DENSEST)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use serde_json::{Map, Value, json};

    use super::*;

    fn properties(count: usize) -> Value {
        let field = json!({"type": "string"});
        Value::Object((0..count).map(|at| (format!("p{at}"), field.clone())).collect::<Map<_, _>>())
    }

    #[test]
    fn a_tree_counts_for_about_what_it_takes() {
        let dense = properties(30_000).to_string();
        let takes = tree_bytes(dense.as_bytes());
        assert!((20..40).contains(&(takes / dense.len())), "{takes} of {}", dense.len());
        let yaml: String = (0..30_000).map(|at| format!("  p{at}:\n    type: string\n")).collect();
        let same = tree_bytes(yaml.as_bytes());
        assert!(takes / 2 < same && same < 2 * takes, "{same} and {takes}");
        let long = json!({"data": {"a": "x".repeat(1 << 20)}}).to_string();
        assert!(tree_bytes(long.as_bytes()) < 2 * long.len());
        assert!(takes <= packed_tree_bytes(dense.as_bytes()));
    }

    #[tokio::test(start_paused = true)]
    async fn large_writes_wait_for_each_other_and_small_ones_for_nobody() {
        let (writes, large) = (LargeWrites::default(), 32 << 20);
        let now = |user: &str, bytes| {
            writes.room(Sharer::in_root(user), bytes).now_or_never().map(Result::unwrap)
        };
        let mut ann = Vec::new();
        while let Some(Some(room)) = now("ann", large) {
            ann.push(room);
        }
        assert_eq!(ann.len(), 4, "three quarters, in wholes");
        assert!(matches!(now("ann", LARGE_WRITE_BYTES - 1), Some(None)));
        assert!(matches!(now("bob", large), Some(Some(_))), "there is some for somebody else");
        let refused = writes.room(Sharer::in_root("ann"), large).await.err().unwrap();
        assert_eq!((refused.code, refused.reason), (429, "TooManyRequests"));
        drop(ann);
        assert!(matches!(now("ann", large), Some(Some(_))));
    }
}
