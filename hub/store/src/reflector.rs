//! A part of the key space for somebody who keeps something of it, and brings that up to date when it is looked at.
//!
//! ```text
//! look ─▶ everything there is, the first time ─▶ events since the last look ─▶ that is all
//!            ▲                                              │ more has happened than is kept
//!            └──────────────────────────────────────────────┘
//! ```
//!
//! Nobody waits here, and nobody is woken: what nobody looks at costs a cursor into the past.
//!
//! Guarantees:
//! - each look takes in all that was published before it, every change once (`a_look_takes_in_what_has_changed_once`);
//! - who has not looked for longer than the past is kept reads everything anew
//!   (`who_has_not_looked_for_long_reads_everything_anew`).

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::{Event, Scope, Snapshot, Store, Watch};

/// What is to be taken in.
pub enum Reflected {
    /// All that there is: what was taken in before counts no more.
    Everything(Arc<dyn Snapshot>),
    /// What has changed since, in the order of its revisions.
    Events(Vec<Event>),
}

/// How far somebody has come with a part of the key space.
pub struct Reflector {
    store: Arc<dyn Store>,
    scopes: Vec<Scope>,
    /// `None` before the first look, and when it fell too far behind.
    watch: Option<Box<dyn Watch>>,
}

impl Reflector {
    /// Of these scopes. Nothing is read, and nothing kept, before the first look.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, scopes: Vec<Scope>) -> Self {
        Self { store, scopes, watch: None }
    }

    /// What is to be taken in next; `None` when that was all that is durable by now.
    pub fn next_change(&mut self) -> Option<Reflected> {
        if let Some(watch) = &mut self.watch {
            match watch.poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return None,
                Poll::Ready(Ok(events)) => return Some(Reflected::Events(events)),
                // More has happened than is kept.
                Poll::Ready(Err(_)) => {}
            }
        }
        let (snapshot, watch) = self.store.follow(self.scopes.clone());
        self.watch = Some(watch);
        Some(Reflected::Everything(snapshot))
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::{Header, Key, Object, Resource};
    use freewheel_link::names::ClusterName;

    use super::*;
    use crate::memory::MemoryStore;
    use crate::{Limits, Operation, Txn};

    fn pods() -> Scope {
        Scope { resource: Resource::new("", "pods"), cluster: None, namespace: None }
    }

    async fn write(store: &dyn Store, plural: &str, name: &str) {
        let key = Key::new(&Resource::new("", plural), &ClusterName::root(), "n", name);
        let object = Object { header: Header::default(), body: "{}".into() };
        let operations = vec![Operation::Put(key, object)];
        store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    }

    /// Everything that a look takes in: a star before all that there is, and the names of pods.
    fn look(reflector: &mut Reflector) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(change) = reflector.next_change() {
            match change {
                Reflected::Everything(snapshot) => {
                    names.push("*".to_owned());
                    names.extend(snapshot.range(&pods(), None).map(|pod| pod.key.name.to_string()));
                }
                Reflected::Events(events) => {
                    let changed = events.iter().filter_map(Event::key);
                    names.extend(changed.map(|key| key.name.to_string()));
                }
            }
        }
        names
    }

    #[tokio::test]
    async fn a_look_takes_in_what_has_changed_once() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        write(&*store, "pods", "a").await;
        let mut reflector = Reflector::new(store.clone(), vec![pods()]);
        write(&*store, "pods", "b").await;
        assert_eq!(look(&mut reflector), ["*", "a", "b"]);
        assert_eq!(look(&mut reflector), [""; 0]);
        write(&*store, "configmaps", "c").await;
        write(&*store, "pods", "d").await;
        write(&*store, "pods", "a").await;
        assert_eq!(look(&mut reflector), ["d"], "the other one is as it was");
        assert_eq!(look(&mut reflector), [""; 0]);
    }

    #[tokio::test]
    async fn who_has_not_looked_for_long_reads_everything_anew() {
        let limits = Limits { events: 4, ..Limits::default() };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::with_limits(1, limits));
        let mut reflector = Reflector::new(store.clone(), vec![pods()]);
        assert_eq!(look(&mut reflector), ["*"]);
        for number in 0..50 {
            write(&*store, "pods", &format!("{number:02}")).await;
        }
        let all = look(&mut reflector);
        assert_eq!((all.len(), &*all[0], &*all[50]), (51, "*", "49"));
        write(&*store, "pods", "a").await;
        assert_eq!(look(&mut reflector), ["a"], "and goes on from there");
    }
}
