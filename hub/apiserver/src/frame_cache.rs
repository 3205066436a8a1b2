//! Recent frames, shared by all watchers.
//!
//! ```text
//! get ─▶ slot of the revision ─ another's ─▶ all that are kept ─ not there ─▶ made, kept, into the slot
//! ```
//!
//! Of the last revisions, the watchers of one encoding find it without waiting for each other.
//!
//! Guarantees:
//! - a frame is made once per (event, encoding) while it is kept
//!   (`watchers_of_the_same_encoding_share_a_frames_bytes`), and who wants another does not wait for that
//!   (`a_frame_that_takes_long_holds_up_no_other`);
//! - as long as somebody has it, it counts once among what all connections make the hub hold
//!   (`a_frame_counts_once_as_long_as_somebody_has_it`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::KindId;
use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::table::Include;
use freewheel_hub_store::{Revision, Stored};
use parking_lot::Mutex;

use crate::encode::Encoder;
use crate::frame::Type;
use crate::media::{Shape, Wanted};
use crate::memory_account::{Shared, TotalMemory};

/// Bytes of frames that are kept for watchers to come.
const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;
/// How many revisions' newest frames are at hand; a power of two up to 256.
const REVISION_SLOTS: usize = 16;

/// The frames.
pub(crate) struct FrameCache {
    all: Arc<TotalMemory>,
    slots: [ArcSwapOption<(FrameKey, Frame)>; REVISION_SLOTS],
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Also those that somebody makes.
    frames: HashMap<FrameKey, Making>,
    /// Those that are made, and their bytes.
    order: VecDeque<(FrameKey, usize)>,
    bytes: usize,
}

/// A frame, once it is made. Who makes it has the lock.
type Making = Arc<Mutex<Option<Frame>>>;

/// A frame's bytes.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) bytes: Bytes,
    /// What counts them: they hold it, too.
    pub(crate) shared: Arc<Shared>,
}

/// What a frame's bytes depend on. One revision may hold several keys, so the key is a part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FrameKey {
    key: Key,
    revision: Revision,
    kind: Type,
    wanted: Wanted,
    /// Of tables; nothing else shows a difference.
    include: Option<Include>,
    /// Two views of one stored object differ, and so do two kinds that had one path after another.
    served: KindId,
}

impl FrameKey {
    fn of(encoder: &Encoder, kind: Type, stored: &Stored, revision: Revision) -> Self {
        Self {
            key: stored.key.clone(),
            revision,
            kind,
            wanted: encoder.wanted,
            include: include_of(encoder),
            served: encoder.view.served.id(),
        }
    }

    /// Whether [`FrameKey::of`] these would be equal, without making it.
    fn is_of(&self, encoder: &Encoder, kind: Type, stored: &Stored, revision: Revision) -> bool {
        self.revision == revision
            && self.kind == kind
            && self.wanted == encoder.wanted
            && self.include == include_of(encoder)
            && self.served == encoder.view.served.id()
            && self.key == stored.key
    }
}

fn include_of(encoder: &Encoder) -> Option<Include> {
    matches!(encoder.wanted.shape, Shape::Table { .. }).then_some(encoder.include)
}

/// What [`Frame::bytes`] are.
struct Counted {
    bytes: Bytes,
    _shared: Arc<Shared>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Frame {
    fn of(bytes: Bytes, all: &Arc<TotalMemory>) -> Self {
        let shared = all.share(bytes.len());
        let bytes = Bytes::from_owner(Counted { bytes, _shared: shared.clone() });
        Self { bytes, shared }
    }
}

impl Kept {
    /// Keeps one that is made, in place of the oldest when there are too many.
    fn keep(&mut self, key: FrameKey, making: Making, bytes: usize) {
        self.bytes += bytes;
        self.order.push_back((key.clone(), bytes));
        self.frames.insert(key, making);
        while MAX_FRAME_BYTES < self.bytes {
            let Some((oldest, bytes)) = self.order.pop_front() else { break };
            self.frames.remove(&oldest);
            self.bytes -= bytes;
        }
    }
}

impl FrameCache {
    /// Of which these hold some.
    pub(crate) fn new(all: Arc<TotalMemory>) -> Self {
        let (slots, kept) = Default::default();
        Self { all, slots, kept }
    }

    /// The frame, made when nobody has made it yet.
    pub(crate) fn get(
        &self,
        encoder: &Encoder,
        kind: Type,
        stored: &Stored,
        revision: Revision,
    ) -> Result<Frame, ApiError> {
        let [low, ..] = revision.to_le_bytes();
        let slot = &self.slots[usize::from(low) % REVISION_SLOTS];
        if let Some((key, frame)) = slot.load().as_deref()
            && key.is_of(encoder, kind, stored, revision)
        {
            return Ok(frame.clone());
        }
        let key = FrameKey::of(encoder, kind, stored, revision);
        // A thousand watchers wake for the same event at once: one of them makes it, and the others wait for that
        // alone.
        let making = self.kept.lock().frames.entry(key.clone()).or_default().clone();
        let mut made = making.lock();
        if let Some(frame) = &*made {
            return Ok(frame.clone());
        }
        let bytes = encoder.frame(kind, stored, revision).inspect_err(|_| {
            self.kept.lock().frames.remove(&key);
        })?;
        let frame = Frame::of(bytes, &self.all);
        *made = Some(frame.clone());
        slot.store(Some(Arc::new((key.clone(), frame.clone()))));
        self.kept.lock().keep(key, making.clone(), frame.bytes.len());
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use freewheel_hub_api::kinds;
    use freewheel_hub_schema::object::{Object, Resource};
    use freewheel_link::names::ClusterName;
    use serde_json::json;

    use super::*;
    use crate::media::{PLAIN, Wire};
    use crate::view::View;

    fn stored() -> Stored {
        let body = json!({"metadata": {"name": "a"}});
        let resource = Resource::new("", "configmaps");
        Stored {
            key: Key::new(&resource, &ClusterName::root(), "default", "a"),
            object: Object::from_value(body, BTreeMap::new()).unwrap(),
            revision: 7,
            created: 7,
        }
    }

    fn encoder() -> Encoder {
        let registry = kinds::registry(&ClusterName::root());
        let view = View::find(&registry, "", "v1", "configmaps").unwrap();
        Encoder { view, wanted: PLAIN, include: Include::Metadata }
    }

    #[test]
    fn a_frame_counts_once_as_long_as_somebody_has_it() {
        let all = Arc::new(TotalMemory::of(0));
        let frames = FrameCache::new(all.clone());
        let have = [(); 3].map(|()| frames.get(&encoder(), Type::Added, &stored(), 7).unwrap());
        let length = have[0].bytes.len();
        assert_eq!(all.excess(), length);
        drop(frames);
        assert_eq!(all.excess(), length, "it is forgotten, and somebody has it");
        drop(have);
        assert_eq!(all.excess(), 0);
    }

    #[test]
    fn a_frame_that_takes_long_holds_up_no_other() {
        let registry = kinds::registry(&ClusterName::root());
        let view = View::find(&registry, "", "v1", "configmaps").unwrap();
        let wanted = Wanted { wire: Wire::Json, shape: Shape::Metadata };
        let slow = Encoder { view, wanted, include: Include::Metadata };
        let data: BTreeMap<_, _> = (0..300_000).map(|key| (key.to_string(), "x")).collect();
        let body = json!({"metadata": {"name": "large"}, "data": data});
        let object = Object::from_value(body, BTreeMap::new()).unwrap();
        let large = Stored { object, ..stored() };
        let (frames, others, begins) = (FrameCache::new(Arc::default()), stored(), Barrier::new(2));
        let is_made = AtomicBool::new(false);
        let (took, longest) = std::thread::scope(|scope| {
            let makes = scope.spawn(|| {
                begins.wait();
                let start = Instant::now();
                frames.get(&slow, Type::Added, &large, 1).unwrap();
                is_made.store(true, Ordering::SeqCst);
                start.elapsed()
            });
            begins.wait();
            let made = (2..).take_while(|_| !is_made.load(Ordering::SeqCst)).map(|at| {
                let start = Instant::now();
                frames.get(&encoder(), Type::Added, &others, at).unwrap();
                start.elapsed()
            });
            let longest = made.max();
            (makes.join().unwrap(), longest.unwrap())
        });
        assert!(longest < took / 2, "{longest:?} for a small one, {took:?} for the large one");
    }

    #[test]
    fn watchers_of_the_same_encoding_share_a_frames_bytes() {
        let (stored, encoder) = (stored(), encoder());
        let frames = FrameCache::new(Arc::default());
        let frame = |kind, stored: &Stored, revision| {
            frames.get(&encoder, kind, stored, revision).unwrap().bytes
        };
        let one = frame(Type::Added, &stored, 7);
        let two = frame(Type::Added, &stored, 7);
        assert_eq!(one.as_ptr(), two.as_ptr());
        assert_eq!(
            one,
            "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"7\",\"name\":\"a\"}}}\n"
        );
        let key = Key { name: "b".into(), ..stored.key.clone() };
        let twin = Stored { key, object: stored.object.clone(), revision: 7, created: 7 };
        let twin = frame(Type::Added, &twin, 7);
        assert_ne!(one.as_ptr(), twin.as_ptr(), "another object of that revision");
        let three = frame(Type::Added, &stored, 7);
        assert_eq!(one.as_ptr(), three.as_ptr(), "also when the slot is another's");
        let gone = frame(Type::Deleted, &stored, 8);
        assert!(gone.starts_with(b"{\"type\":\"DELETED\""), "{gone:?}");
    }
}
