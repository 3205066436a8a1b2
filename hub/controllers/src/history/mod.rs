//! What the templates of a DaemonSet or StatefulSet were: ControllerRevisions, which `kubectl rollout history|undo`
//! reads.
//!
//! ```text
//! template ─▶ patch ─equal to the newest─▶ it
//!                   ─equal to an older one─▶ that one, with the highest number
//!                   ─equal to none─▶ a new one, named by its hash (the next hash, where another has that name)
//! revision_label    which of them a pod is of
//! ```
//!
//! A revision also keeps what the tags of its template's images stood for when it got its first pod: of that are all of
//! its pods, also those that are made when the template comes back.
//!
//! Guarantees:
//! - a template that comes back has its old revision (`a_template_that_comes_back_has_its_old_revision`,
//!   `a_daemon_set_is_rolled_out_and_back`);
//! - a name that another revision has leads to another hash, and the count of that is kept
//!   (`a_name_that_is_taken_leads_to_the_next_hash`);
//! - what images stand for is looked up for each revision once, and what its owner says of it is left out
//!   (`each_revision_of_a_stateful_set_runs_what_its_tags_stood_for`,
//!   `a_revision_has_nothing_of_what_its_owner_says_of_images`);
//! - what runs is never forgotten (`what_is_beyond_the_limit_goes_oldest_first_and_nothing_that_lives`).

pub(crate) mod revision_label;

use std::cmp::Ordering;
use std::sync::Arc;

use freewheel_hub_api::images::Images;
use freewheel_hub_api::pins::{Pins, take_off};
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_store::Stored;
use serde_json::{Map, Value, json};

use crate::control::{any, claimed, owner_reference};
use crate::deployment::revision::template_hash;
use crate::engine::client::{key as key_of, kind};
use crate::engine::{Client, Error};
use crate::index::{IndexTerm, Indexes};
use crate::pins;
use crate::pods::controller_of;
use crate::selector::Selector;
pub(crate) use revision_label::REVISION_LABEL;
use revision_label::is_of;

/// What of a long owner's name is in those of its revisions.
const PREFIX_BYTES_MAX: usize = 223;
/// How often a name may be taken by another revision before this gives up for now.
const COLLISIONS_MAX: i32 = 16;

/// A ControllerRevision.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    /// The stored object.
    pub(crate) stored: Arc<Stored>,
    /// metadata.name
    pub(crate) name: String,
    /// revision
    pub(crate) number: i64,
    /// data
    pub(crate) data: Value,
}

impl Revision {
    /// Reads a stored one.
    pub(crate) fn read(stored: Arc<Stored>) -> Result<Self, Error> {
        let mut value = stored.object.value().map_err(Error::api("read a ControllerRevision"))?;
        let number = value["revision"].as_i64().unwrap_or_default();
        let name = stored.key.name.to_string();
        Ok(Self { name, number, data: value["data"].take(), stored })
    }

    /// The template that it keeps.
    pub(crate) fn template(&self) -> Value {
        let mut template = self.data["spec"]["template"].clone();
        if let Some(template) = template.as_object_mut() {
            template.remove("$patch");
        }
        template
    }

    /// A label of it.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.stored.object.header.labels.get(key).map(String::as_str)
    }

    fn by_number(a: &Self, b: &Self) -> Ordering {
        let age = |it: &Self| it.stored.created;
        a.number.cmp(&b.number).then(age(a).cmp(&age(b))).then_with(|| a.name.cmp(&b.name))
    }
}

/// Whose template it is, as it is now.
pub(crate) struct Subject<'a> {
    /// The owner's kind.
    pub(crate) kind: &'a Arc<Kind>,
    /// The owner.
    pub(crate) stored: &'a Stored,
    /// Its value.
    pub(crate) value: &'a Value,
    /// The label of the revision that has its hash.
    pub(crate) hash_label: &'static str,
}

impl Subject<'_> {
    /// status.collisionCount
    fn collisions(&self) -> i32 {
        let count = self.value.pointer("/status/collisionCount").and_then(Value::as_i64);
        count.and_then(|count| i32::try_from(count).ok()).unwrap_or_default()
    }

    /// What is kept of it: a strategic merge patch that brings the template back.
    fn data(&self) -> Value {
        let mut template = self.value["spec"]["template"].clone();
        template["$patch"] = json!("replace");
        json!({"spec": {"template": template}})
    }

    fn revision(&self, number: i64, collisions: i32) -> Value {
        let template = &self.value["spec"]["template"];
        let hash = template_hash(template, collisions);
        let mut labels = template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        labels.insert(self.hash_label.to_owned(), json!(hash));
        let owner_name = &self.stored.key.name;
        let prefix = owner_name.get(..PREFIX_BYTES_MAX).unwrap_or(owner_name);
        let name = format!("{prefix}-{hash}");
        let mut meta = Map::new();
        meta.insert("name".to_owned(), json!(name));
        meta.insert("labels".to_owned(), Value::Object(labels));
        let annotations = &self.value["metadata"]["annotations"];
        if annotations.is_object() {
            meta.insert("annotations".to_owned(), annotations.clone());
        }
        let owner = owner_reference(self.kind, self.stored);
        meta.insert("ownerReferences".to_owned(), json!([owner]));
        let mut revision = json!({"metadata": meta, "data": self.data(), "revision": number});
        // Whatever somebody has written there, it is looked up for the revision.
        take_off(&mut revision);
        revision
    }
}

/// The revisions of one owner, after its template's own was found or made.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// All, oldest number first; the last one is the template's.
    pub(crate) all: Vec<Revision>,
    /// status.collisionCount after it.
    pub(crate) collisions: i32,
}

impl Timeline {
    /// The template's.
    pub(crate) fn newest(&self) -> Option<&Revision> {
        self.all.last()
    }
}

/// Reads and writes ControllerRevisions.
pub(crate) struct History {
    client: Client,
    indexes: Indexes,
    revisions: Arc<Kind>,
    images: Arc<dyn Images>,
}

impl History {
    /// Writes through this client.
    pub(crate) fn new(
        client: Client,
        indexes: Indexes,
        images: Arc<dyn Images>,
    ) -> Result<Self, Error> {
        let revisions = kind("apps", "v1", "controllerrevisions")?;
        Ok(Self { client, indexes, revisions, images })
    }

    /// Finds the revision of the subject's template, or makes it.
    pub(crate) async fn settle(
        &self,
        subject: &Subject<'_>,
        selector: &Selector,
    ) -> Result<Timeline, Error> {
        let owner = (&**subject.kind, subject.stored);
        let index = (&self.revisions, &*self.indexes.revisions);
        let mine = claimed(&self.client, owner, index, selector, any).await?;
        let mine = mine.iter().map(|one| Revision::read(one.stored.clone()));
        let mut all = mine.collect::<Result<Vec<_>, _>>()?;
        all.sort_by(Revision::by_number);
        let next = all.last().map_or(0, |newest| newest.number) + 1;
        let mut collisions = subject.collisions();
        match equal(&all, &subject.data()) {
            Some(at) if at + 1 == all.len() => {}
            Some(at) => {
                let back = all.remove(at);
                all.push(self.renumber(&back, next).await?);
            }
            None => {
                let (made, count) = self.make(subject, next, collisions).await?;
                collisions = count;
                all.push(made);
            }
        }
        Ok(Timeline { all, collisions })
    }

    async fn renumber(&self, revision: &Revision, number: i64) -> Result<Revision, Error> {
        let change = |mut value: Value| {
            value["revision"] = json!(number);
            Ok(value)
        };
        let written = self.client.modify_at(&self.revisions, &revision.stored, None, change).await;
        Revision::read(written.map_err(Error::api("roll a ControllerRevision forward"))?.stored)
    }

    /// A new one, and how many names were taken by then.
    async fn make(
        &self,
        subject: &Subject<'_>,
        number: i64,
        mut collisions: i32,
    ) -> Result<(Revision, i32), Error> {
        let (cluster, namespace) = (&subject.stored.key.cluster, &*subject.stored.key.namespace);
        let last = collisions.saturating_add(COLLISIONS_MAX);
        loop {
            let new = subject.revision(number, collisions);
            let taken = match self.client.create(&self.revisions, cluster, namespace, &new).await {
                Ok(made) => return Ok((Revision::read(made)?, collisions)),
                Err(taken) if taken.reason == "AlreadyExists" && collisions < last => taken,
                Err(error) => return Err(refused(error)),
            };
            let name = new["metadata"]["name"].as_str().unwrap_or_default();
            let key = key_of(&self.revisions, cluster, namespace, name);
            if let Some(there) = self.client.snapshot().get(&key) {
                let is_own =
                    there.object.header.owners.iter().any(|owner| {
                        owner.controller && owner.uid == subject.stored.object.header.uid
                    });
                let there = Revision::read(there)?;
                if is_own && there.data == subject.data() {
                    return Ok((there, collisions));
                }
            } else if collisions + 1 == last {
                return Err(refused(taken));
            }
            collisions += 1;
        }
    }

    /// What the pods of a revision are to run; what nobody has looked up before is looked up, and kept with it first.
    ///
    /// # Errors
    /// When the revision cannot be written.
    pub(crate) async fn pins(&self, revision: &Revision) -> Result<Pins, ApiError> {
        let kept = &*revision.stored;
        let (cluster, namespace) = (&kept.key.cluster, &*kept.key.namespace);
        let pods = || {
            let of_owner = controller_of(kept).map(|owner| {
                self.indexes.pods.find(IndexTerm::Controller(cluster, namespace, owner))
            });
            let of_owner = of_owner.unwrap_or_default();
            let pods = of_owner.iter().map(|pod| &pod.stored).filter(|pod| is_of(pod, kept));
            pods.cloned().collect()
        };
        pins::of_template(&self.client, &self.revisions, &*self.images, kept, pods).await
    }

    /// Deletes what is beyond the limit.
    pub(crate) async fn forget(&self, beyond: &[Revision]) -> Result<(), Error> {
        for revision in beyond {
            let (key, uid) = (&revision.stored.key, &revision.stored.object.header.uid);
            let gone = self.client.delete(&self.revisions, key, uid, Propagation::Background).await;
            gone.map_err(Error::api("delete an old ControllerRevision"))?;
        }
        Ok(())
    }
}

fn refused(error: ApiError) -> Error {
    if error.is_namespace_terminating() {
        return Error::Refused("its namespace is being deleted".into());
    }
    Error::api("create a ControllerRevision")(error)
}

/// The newest revision with this data.
fn equal(sorted: &[Revision], data: &Value) -> Option<usize> {
    sorted.iter().rposition(|revision| revision.data == *data)
}

/// Those that go when only so many are to stay beside those that live: the oldest first.
pub(crate) fn beyond(
    old: &[Revision],
    excess: usize,
    lives: impl Fn(&Revision) -> bool,
) -> Vec<Revision> {
    old.iter().filter(|one| !lives(one)).take(excess).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stored;
    use freewheel_hub_api::pins::RESOLVED;
    use freewheel_hub_schema::object::Resource;

    fn revision(name: &str, number: i64, image: &str) -> Revision {
        let value = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "revision": number, "data": {"spec": {"template": {"image": image}}},
        });
        Revision::read(stored(&Resource::new("apps", "controllerrevisions"), name, value)).unwrap()
    }

    #[test]
    fn a_template_that_comes_back_has_its_old_revision() {
        let all = [revision("a", 1, "1"), revision("b", 2, "2"), revision("c", 3, "1")];
        let of = |image: &str| equal(&all, &json!({"spec": {"template": {"image": image}}}));
        assert_eq!((of("1"), of("2"), of("3")), (Some(2), Some(1), None));
    }

    #[test]
    fn what_is_beyond_the_limit_goes_oldest_first_and_nothing_that_lives() {
        let all = [revision("a", 1, "1"), revision("b", 2, "2"), revision("c", 3, "3")];
        let names = |excess: usize, lives: &str| -> Vec<String> {
            beyond(&all, excess, |one| one.name == lives).into_iter().map(|it| it.name).collect()
        };
        assert_eq!(names(1, ""), ["a"]);
        assert_eq!(names(1, "a"), ["b"]);
        assert_eq!(names(9, "b"), ["a", "c"]);
        assert!(names(0, "").is_empty());
    }

    #[test]
    fn a_name_that_is_taken_leads_to_the_next_hash() {
        let value = json!({"metadata": {"name": "d", "annotations": {"why": "because"}},
            "spec": {"template": {"metadata": {"labels": {"app": "d"}}}},
            "status": {"collisionCount": 2}});
        let stored = stored(&Resource::new("apps", "daemonsets"), "d", value.clone());
        let kind = kind("apps", "v1", "daemonsets").unwrap();
        let (kind, hash_label) = (&kind, REVISION_LABEL);
        let subject = Subject { kind, stored: &stored, value: &value, hash_label };
        assert_eq!(subject.collisions(), 2);
        let [first, next] = [2, 3].map(|collisions| subject.revision(7, collisions));
        assert_ne!(first["metadata"]["name"], next["metadata"]["name"]);
        assert_eq!(first["data"]["spec"]["template"]["$patch"], "replace");
        let hash = first["metadata"]["labels"][REVISION_LABEL].as_str().unwrap();
        assert_eq!(first["metadata"]["name"], format!("d-{hash}"));
        assert_eq!(first["metadata"]["annotations"]["why"], "because");
    }

    #[test]
    fn a_revision_has_nothing_of_what_its_owner_says_of_images() {
        let value = json!({"metadata": {"name": "d", "annotations": {"why": "because", RESOLVED: "{}"}},
            "spec": {"template": {"metadata": {"labels": {"app": "d"}}}}});
        let stored = stored(&Resource::new("apps", "daemonsets"), "d", value.clone());
        let kind = kind("apps", "v1", "daemonsets").unwrap();
        let (kind, hash_label) = (&kind, REVISION_LABEL);
        let subject = Subject { kind, stored: &stored, value: &value, hash_label };
        let revision = subject.revision(1, 0);
        assert_eq!(revision["metadata"]["annotations"], json!({"why": "because"}));
    }
}
