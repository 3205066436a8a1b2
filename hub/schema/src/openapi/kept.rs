//! Documents of kinds that clusters have of their own: those that were asked for last, as far as there is room for them.
//! Others are made again.
//!
//! Guarantees:
//! - however many clusters have documents, they take [`KEPT_BYTES_MAX`] and the last one
//!   (`documents_are_kept_as_far_as_there_is_room`);
//! - what is being made is made once for all who ask meanwhile, whatever else is made beside it
//!   (`what_is_being_made_is_kept_for_those_who_ask_meanwhile`).

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::document::Document;

/// Bytes of documents that are kept beside the last one.
pub(super) const KEPT_BYTES_MAX: usize = 16 << 20;

/// Documents that are kept; the last is the one that was asked for last.
#[derive(Default)]
pub(crate) struct KeptDocuments(Mutex<VecDeque<One>>);

/// A document of this hash, in the form of this name.
struct One {
    form: &'static str,
    hash: String,
    /// Who makes it, and who waits for that, has this, too.
    document: Arc<OnceLock<Document>>,
}

impl KeptDocuments {
    /// A document that is there.
    pub(super) fn get(&self, form: &'static str, hash: &str) -> Option<Document> {
        let mut all = self.0.lock();
        let at = all.iter().position(|one| one.form == form && one.hash == hash)?;
        let document = all.get(at)?.document.get()?.clone();
        let one = all.remove(at)?;
        all.push_back(one);
        Some(document)
    }

    /// A document, which is made once for all who ask meanwhile.
    pub(super) fn of(
        &self,
        form: &'static str,
        hash: &str,
        make: impl FnOnce() -> Document,
    ) -> Document {
        let place = self.place(form, hash);
        let document = place.get_or_init(make).clone();
        drop(place);
        self.trim();
        document
    }

    fn place(&self, form: &'static str, hash: &str) -> Arc<OnceLock<Document>> {
        let mut all = self.0.lock();
        let found = all.iter().position(|one| one.form == form && one.hash == hash);
        let one = found.and_then(|at| all.remove(at)).unwrap_or_else(|| {
            let (hash, document) = (hash.to_owned(), Arc::default());
            One { form, hash, document }
        });
        let place = one.document.clone();
        all.push_back(one);
        place
    }

    /// Forgets those that were not asked for the longest, and what nobody makes any more.
    fn trim(&self) {
        let mut all = self.0.lock();
        let bytes = |one: &One| one.document.get().map(|document| document.body.len());
        let mut held: usize = all.iter().filter_map(bytes).sum();
        let mut made = all.iter().filter_map(bytes).count();
        all.retain(|one| match bytes(one) {
            Some(bytes) if 1 < made && KEPT_BYTES_MAX < held => {
                (held, made) = (held - bytes, made - 1);
                false
            }
            Some(_) => true,
            None => 1 < Arc::strong_count(&one.document),
        });
    }

    /// Whether it is there, or being made.
    #[cfg(test)]
    fn knows(&self, form: &'static str, hash: &str) -> bool {
        self.0.lock().iter().any(|one| one.form == form && one.hash == hash)
    }

    /// Bytes of all that are kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let all = self.0.lock();
        all.iter().filter_map(|one| one.document.get()).map(|document| document.body.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(bytes: usize) -> Document {
        Document { body: vec![b'a'; bytes].into(), hash: String::new() }
    }

    #[test]
    fn documents_are_kept_as_far_as_there_is_room() {
        let kept = KeptDocuments::default();
        let part = KEPT_BYTES_MAX / 4;
        for number in 0..100 {
            kept.of("v3", &number.to_string(), || document(part));
            assert!(kept.bytes() <= KEPT_BYTES_MAX);
        }
        assert!(kept.knows("v3", "99") && kept.knows("v3", "96") && !kept.knows("v3", "95"));
        assert!(!kept.knows("v2", "99"), "it is another form");
        // What is asked for again is the last that goes.
        kept.of("v3", "96", || unreachable!());
        kept.of("v3", "100", || document(part));
        assert!(kept.knows("v3", "96") && !kept.knows("v3", "97"));
        // What is too large is there until another one comes.
        kept.of("v2", "large", || document(2 * KEPT_BYTES_MAX));
        assert!(kept.knows("v2", "large") && kept.bytes() == 2 * KEPT_BYTES_MAX);
        kept.of("v3", "101", || document(part));
        assert_eq!(kept.bytes(), part);
    }

    #[test]
    fn what_is_being_made_is_kept_for_those_who_ask_meanwhile() {
        let kept = KeptDocuments::default();
        kept.of("v3", "slow", || {
            kept.of("v3", "large", || document(2 * KEPT_BYTES_MAX));
            assert!(kept.knows("v3", "slow"), "who asks for it now makes it again");
            document(1)
        });
        // Whoever was to make this is gone.
        drop(kept.place("v3", "given up"));
        kept.of("v3", "last", || document(1));
        assert!(!kept.knows("v3", "given up") && kept.get("v3", "last").is_some());
    }
}
