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
//! - a tree counts for what it takes, about, in whatever form it comes (`a_tree_counts_for_about_what_it_takes`,
//!   `no_form_of_yaml_hides_a_map`), and a long text for little more than its bytes (`a_long_text_is_no_tree`).

use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use memchr::{memchr2, memchr3_iter};
use serde::de::IgnoredAny;

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
/// Of fewer bytes is no large tree: each begins one map, or one member, at most.
const SMALL_TEXT_BYTES: usize = LARGE_WRITE_BYTES / (1 + MAP_BYTES);
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
    if text.len() < SMALL_TEXT_BYTES || serde_json::from_slice::<IgnoredAny>(text).is_ok() {
        return json_tree_bytes(text);
    }
    // There is no map without one of these; more of them there may be.
    let maps = memchr3_iter(b'{', b':', b'?', text).count();
    let members = memchr3_iter(b',', b'\n', b'\r', text).count();
    text.len() + MAP_BYTES * maps + MEMBER_BYTES * members
}

/// The same of what is JSON for sure: what is within its texts makes no values.
pub(crate) fn json_tree_bytes(text: &[u8]) -> usize {
    let mut bytes = text.len();
    if bytes < SMALL_TEXT_BYTES {
        return bytes;
    }
    let mut left = text.iter();
    while let Some(byte) = left.next() {
        match byte {
            b'{' => bytes += MAP_BYTES,
            b',' => bytes += MEMBER_BYTES,
            b'"' => left = after_text(left.as_slice()).iter(),
            _ => {}
        }
    }
    bytes
}

/// What comes behind the text that begins here.
fn after_text(mut text: &[u8]) -> &[u8] {
    while let Some(at) = memchr2(b'"', b'\\', text) {
        // Of what stands behind a backslash nothing ends the text.
        let is_end = text.get(at) == Some(&b'"');
        text = text.get(at + if is_end { 1 } else { 2 }..).unwrap_or_default();
        if is_end {
            return text;
        }
    }
    &[]
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
        assert!(takes <= packed_tree_bytes(dense.as_bytes()));
        assert_eq!(json_tree_bytes(dense.as_bytes()), takes);
    }

    #[test]
    fn no_form_of_yaml_hides_a_map() {
        let maps = 10_000;
        for (before, map, after) in [
            ("a:\n", "- a: 1\n", ""),
            ("a:\r\n", "- b:\r\n    c\r\n", ""),
            ("a:\n", "- b: \n    c\n", ""),
            ("a:\n", "- b: # c\n    d\n", ""),
            ("a:\n", "- ? b\n", ""),
            ("a: [", "b: 1,", "]"),
            ("{a: [", "\"b\":1,", "]}"),
            ("", "{\"a\":1},", ""),
        ] {
            let yaml = format!("{before}{}{after}", map.repeat(maps));
            let takes = tree_bytes(yaml.as_bytes());
            assert!(maps * (MAP_BYTES + MEMBER_BYTES) <= takes, "{map:?}: {takes}");
        }
        // Also where it is few bytes.
        assert!(LARGE_WRITE_BYTES <= tree_bytes("- a: 1\n".repeat(2_000).as_bytes()));
    }

    #[test]
    fn a_long_text_is_no_tree() {
        for text in ["x", "1,2,", "{\"a\": 1},\n", "\\", "a: b\n"] {
            let text = text.repeat((1 << 20) / text.len());
            let json = json!({"data": {"a": text, "b": "c"}}).to_string();
            let takes = tree_bytes(json.as_bytes());
            assert!(takes < json.len() + 3 * (MAP_BYTES + MEMBER_BYTES), "{takes}");
        }
        // The same in YAML, of lines as people write them, leaves room for others.
        let line =
            "    2026-01-01T00:00:00Z a line as a log has it, with words and a number more: 7\n";
        let yaml = format!("data:\n  a: |\n{}", line.repeat((1 << 20) / line.len()));
        assert!(tree_bytes(yaml.as_bytes()) < LARGE_WRITES_BYTES_MAX / 4);
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
