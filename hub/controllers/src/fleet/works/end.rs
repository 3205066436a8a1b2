//! What a work no longer names, and what it leaves when it goes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::conditions::{NamedCondition, find};
use freewheel_hub_fleet::work::Work;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::view::View;
use freewheel_hub_store::Stored;
use freewheel_link::names::ClusterName;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::fault::FAULT_BYTES_MAX;
use super::leaving::{Going, Leaving};
use super::manifest::put_owner;
use super::result::OneResult;
use super::{FINALIZER, ROUND_MAX, Works};
use crate::engine::client::key as key_of;
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Error, Faults};
use crate::index::WORK_SET_LABEL;

/// Holds an AppliedManifestWork until what it owns is gone.
const APPLIED_FINALIZER: &str = "cluster.open-cluster-management.io/applied-manifest-work-cleanup";
/// How long what was applied stays when its work is gone and nobody has said that it is to go, too.
const EVICTION_GRACE: SignedDuration = SignedDuration::from_mins(60);
/// Between two looks at what is on its way out.
const GOING_EVERY: Duration = Duration::from_secs(2);

impl Works {
    /// The record of what a work applies, which owns it.
    pub(super) async fn keep_applied(
        &self,
        client: &Client,
        cluster: &ClusterName,
        work: &Stored,
    ) -> Result<Arc<Stored>, Error> {
        let key = self.applied_key(cluster, &work.key.name);
        let labels = &work.object.header.labels;
        let spec = json!({
            "hubHash": self.hub_hash, "agentID": cluster.as_str(), "manifestWorkName": &*work.key.name,
        });
        let change = |old: Option<Value>| {
            let mut value =
                old.unwrap_or_else(|| json!({"metadata": {"finalizers": [APPLIED_FINALIZER]}}));
            value["metadata"]["labels"] = json!(labels);
            value["spec"] = spec.clone();
            Ok(value)
        };
        let kept = client.create_or_modify(&self.applied, &key, change).await;
        Ok(kept.map_err(Error::api("keep an AppliedManifestWork"))?.stored)
    }

    /// Writes down what is applied before all of it is: a work that is another by then, or is to go, knows of it by that.
    pub(super) async fn note_so_far(
        &self,
        client: &Client,
        owner: &Stored,
        results: &[(usize, OneResult)],
    ) -> Result<(), Error> {
        let new: Vec<Value> = results.iter().filter_map(|(_, one)| item(one)).collect();
        let change = |mut value: Value| {
            let list = &mut value["status"]["appliedResources"];
            let old = list.as_array().cloned().unwrap_or_default();
            let all = old.into_iter().chain(new.iter().cloned());
            let all: HashMap<[String; 4], Value> = all.map(|it| (place(&it), it)).collect();
            let mut all: Vec<Value> = all.into_values().collect();
            sort(&mut all);
            *list = json!(all);
            Ok(value)
        };
        let noted = client.modify_this(&self.applied, owner, Some("status"), change).await;
        noted.map(drop).map_err(Error::api("write the status of an AppliedManifestWork"))
    }

    /// Writes down what is applied now, and removes what is not any more. Whether all of that is gone.
    pub(super) async fn note_applied(
        &self,
        client: &Client,
        cluster: &ClusterName,
        owner: &Arc<Stored>,
        results: &[OneResult],
    ) -> Result<Leaving, Error> {
        let mut now: Vec<Value> = results.iter().filter_map(item).collect();
        let record = owner.object.value().map_err(Error::api("read an AppliedManifestWork"))?;
        let before = record["status"]["appliedResources"].as_array().cloned().unwrap_or_default();
        // What could not be looked at is not known to be gone, and what could not be applied is no less there.
        let unknown = results.iter().any(|it| it.target.is_none());
        let named: HashMap<[String; 4], &OneResult> =
            results.iter().filter_map(|it| Some((place(&resource(it)?), it))).collect();
        let (mut gone, mut pending, mut going) = (Vec::new(), Vec::new(), Going::default());
        for old in before {
            match named.get(&place(&old)).map(|it| it.fault.is_some()) {
                Some(true) => now.push(old),
                Some(false) => {}
                None => gone.push(old),
            }
        }
        let began = Instant::now();
        for old in from_anywhere(&gone, client.clock.now()) {
            let waits = unknown || ROUND_MAX <= began.elapsed();
            if waits || going.is_there(self.remove(client, cluster, old, owner).await) {
                pending.push(old.clone());
            }
        }
        let is_pending = !pending.is_empty();
        now.extend(pending);
        sort(&mut now);
        let change = |mut value: Value| {
            value["status"]["appliedResources"] = json!(now);
            if let Some(status) = value["status"].as_object_mut() {
                status.remove("evictionStartTime");
            }
            Ok(value)
        };
        let noted = client.modify_this(&self.applied, owner, Some("status"), change).await;
        noted.map_err(Error::api("write the status of an AppliedManifestWork"))?;
        going.end(is_pending)
    }

    /// Removes one object that a record owns, if nobody else of its kind does; the object, where it is there still.
    async fn remove(
        &self,
        client: &Client,
        cluster: &ClusterName,
        item: &Value,
        owner: &Stored,
    ) -> Result<Option<Arc<Stored>>, Error> {
        let text = |field: &str| item[field].as_str().unwrap_or_default();
        let registry = client.registry(cluster);
        let view = View::find(&registry, text("group"), text("version"), text("resource"));
        let Some(View { stored: kind, .. }) = view.filter(View::takes_writes) else {
            return Ok(None);
        };
        let key = key_of(&kind, cluster, text("namespace"), text("name"));
        let Some(there) = client.snapshot().get(&key) else { return Ok(None) };
        let header = &there.object.header;
        let own = &owner.object.header.uid;
        if !header.owners.iter().any(|it| it.uid == *own) {
            return Ok(None);
        }
        if header.owners.iter().any(|it| it.uid != *own && it.kind == self.applied.kind()) {
            let let_go = |mut value: Value| {
                put_owner(&mut value, None, own);
                Ok(value)
            };
            let left = client.modify_this(&kind, &there, None, let_go).await;
            let doing = "leave an object to another work";
            return done_or_gone(left).map(|()| None).map_err(Error::api(doing));
        }
        if header.uid.as_str() != text("uid") {
            return Ok(None);
        }
        if !header.deleting {
            let deleted = client.delete(&kind, &key, &header.uid, Propagation::Background).await;
            deleted.map_err(Error::api("delete what a work no longer names"))?;
        }
        Ok(client.snapshot().get(&key))
    }

    /// Removes what a record owns, and then the record.
    async fn clear(&self, cluster: &ClusterName, work: &str) -> Result<Leaving, Error> {
        let key = self.applied_key(cluster, work);
        let Some(record) = self.client.snapshot().get(&key) else { return Ok(Leaving::Gone) };
        let object = record.object.value().map_err(Error::api("read an AppliedManifestWork"))?;
        let (mut pending, mut going) = (false, Going::default());
        let began = Instant::now();
        let all = object["status"]["appliedResources"].as_array().map_or(&[][..], Vec::as_slice);
        for item in from_anywhere(all, self.client.clock.now()) {
            if ROUND_MAX <= began.elapsed() {
                // Others have their turn. What goes is gone by the next one.
                pending = true;
                break;
            }
            pending |= going.is_there(self.remove(&self.client, cluster, item, &record).await);
        }
        let leaving = going.end(pending)?;
        if leaving != Leaving::Gone {
            return Ok(leaving);
        }
        let uid = &record.object.header.uid;
        let deleted = self.client.delete(&self.applied, &key, uid, Propagation::Background).await;
        deleted.map_err(Error::api("delete an AppliedManifestWork"))?;
        let free = |mut value: Value| {
            if let Some(list) = value["metadata"]["finalizers"].as_array_mut() {
                list.retain(|it| it != APPLIED_FINALIZER);
            }
            Ok(value)
        };
        let freed = self.client.modify_this(&self.applied, &record, None, free).await;
        let done = done_or_gone(freed).map(|()| Leaving::Gone);
        done.map_err(Error::api("let an AppliedManifestWork go"))
    }

    /// A work that is to go: after what it owns, as long as its cluster is there.
    pub(super) async fn end(
        &self,
        work: &Arc<Stored>,
        cluster: Option<&ClusterName>,
    ) -> Result<Option<Duration>, Error> {
        if let Some(cluster) = cluster {
            // Who cannot be left behind is not removed either.
            let cleared = match self.orphan(cluster, work).await {
                Ok(true) => self.clear(cluster, &work.key.name).await,
                Ok(false) => Ok(Leaving::Held(None)),
                Err(error) => Err(error),
            };
            if !matches!(cleared, Ok(Leaving::Gone)) {
                let (fault, held) = Leaving::apart(cleared);
                let why = fault.as_ref().map(Error::chain).or(held);
                self.say_deleting(work, why.as_deref()).await?;
                return fault.map_or(Ok(Some(GOING_EVERY)), Err);
            }
        }
        let free = |mut value: Value| {
            if let Some(list) = value["metadata"]["finalizers"].as_array_mut() {
                list.retain(|it| it != FINALIZER);
            }
            Ok(value)
        };
        let freed = self.client.modify_this(&self.works, work, None, free).await;
        done_or_gone(freed).map(|()| None).map_err(Error::api("let a ManifestWork go"))
    }

    /// It waits for what it owns, and for what stands in the way of that.
    async fn say_deleting(&self, work: &Stored, why: Option<&str>) -> Result<(), Error> {
        let mut text = "ManifestWork is being deleted".to_owned();
        if let Some(why) = why {
            text.push_str(": ");
            text.push_str(why);
        }
        let message = &text[..text.floor_char_boundary(FAULT_BYTES_MAX)];
        let observed = Some(work.object.header.generation);
        let (kind, status, reason) = ("Deleting", "True", "WorkDeleting");
        let now = rfc3339(self.client.clock.now());
        let change = |mut value: Value| {
            let said = NamedCondition { kind, status, reason, message, observed };
            said.put(&mut value["status"]["conditions"], &now);
            Ok(value)
        };
        let said = self.client.modify_this(&self.works, work, Some("status"), change).await;
        done_or_gone(said).map_err(Error::api("write the status of a ManifestWork"))
    }

    /// What the work leaves behind is nobody's: it may have said so only just now, with its end.
    /// Whether that is done: it is as long as a round may be.
    async fn orphan(&self, cluster: &ClusterName, work: &Stored) -> Result<bool, Error> {
        let object = work.object.value().map_err(Error::api("read a ManifestWork"))?;
        let spec = Work::read(&object).map_err(|error| Error::Refused(error.to_string()))?;
        let Some(record) = self.client.snapshot().get(&self.applied_key(cluster, &work.key.name))
        else {
            return Ok(true);
        };
        let own = &record.object.header.uid;
        let applied = record.object.value().map_err(Error::api("read an AppliedManifestWork"))?;
        let (mut faults, began) = (Faults::default(), Instant::now());
        let all = applied["status"]["appliedResources"].as_array().map_or(&[][..], Vec::as_slice);
        for item in from_anywhere(all, self.client.clock.now()) {
            if ROUND_MAX <= began.elapsed() {
                return faults.end().map(|()| false);
            }
            let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
            let identifier = freewheel_hub_fleet::work::Identifier {
                group: text("group"),
                resource: text("resource"),
                name: text("name"),
                namespace: text("namespace"),
            };
            let registry = self.client.registry(cluster);
            let view = View::find(&registry, &text("group"), &text("version"), &text("resource"));
            let view = view.filter(|view| view.takes_writes() && !spec.owns(&identifier));
            let Some(View { stored: kind, .. }) = view else { continue };
            let key = key_of(&kind, cluster, &identifier.namespace, &identifier.name);
            let Some(there) = self.client.snapshot().get(&key) else { continue };
            let let_go = |mut value: Value| {
                put_owner(&mut value, None, own);
                Ok(value)
            };
            let left = self.client.modify_this(&kind, &there, None, let_go).await;
            faults.note(done_or_gone(left).map_err(Error::api("leave an object behind")));
        }
        faults.end().map(|()| true)
    }

    /// What was applied for a work that is not there any more, and did not go as works go.
    pub(super) async fn evict(
        &self,
        cluster: &ClusterName,
        work: &str,
    ) -> Result<Option<Duration>, Error> {
        let Some(record) = self.client.snapshot().get(&self.applied_key(cluster, work)) else {
            return Ok(None);
        };
        let object = record.object.value().map_err(Error::api("read an AppliedManifestWork"))?;
        let now = self.client.clock.now();
        let began = object["status"]["evictionStartTime"]
            .as_str()
            .and_then(|it| it.parse::<Timestamp>().ok());
        let Some(began) = began else {
            let change = |mut value: Value| {
                value["status"]["evictionStartTime"] = json!(rfc3339(now));
                Ok(value)
            };
            let noted =
                self.client.modify_this(&self.applied, &record, Some("status"), change).await;
            noted.map_err(Error::api("begin the eviction of an AppliedManifestWork"))?;
            return Ok(Some(Duration::try_from(EVICTION_GRACE).unwrap_or_default()));
        };
        let left = EVICTION_GRACE - now.duration_since(began);
        if !record.object.header.deleting && left.is_positive() {
            return Ok(Some(Duration::try_from(left).unwrap_or_default()));
        }
        let leaving = self.clear(cluster, work).await?;
        Ok((leaving != Leaving::Gone).then_some(GOING_EVERY))
    }

    /// A work that is complete goes when its time is over. Something: it goes, or stays until then.
    pub(super) async fn end_when_complete(
        &self,
        stored: &Arc<Stored>,
        object: &Value,
        work: &Work,
    ) -> Result<Option<Option<Duration>>, Error> {
        let Some(ttl) = work.delete_option.ttl_seconds_after_finished else { return Ok(None) };
        if stored.object.header.labels.contains_key(WORK_SET_LABEL) {
            // Its set would give it to the cluster again, and what has run once would run for ever.
            return Ok(None);
        }
        let complete = find(&object["status"]["conditions"], "Complete");
        let Some(complete) = complete.filter(|it| it["status"] == "True") else { return Ok(None) };
        let since =
            complete["lastTransitionTime"].as_str().and_then(|it| it.parse::<Timestamp>().ok());
        let now = self.client.clock.now();
        let since = now.duration_since(since.unwrap_or(now));
        let left = SignedDuration::from_secs(ttl).saturating_sub(since);
        if left.is_positive() {
            return Ok(Some(Some(Duration::try_from(left).unwrap_or_default())));
        }
        let uid = &stored.object.header.uid;
        let deleted =
            self.client.delete(&self.works, &stored.key, uid, Propagation::Background).await;
        deleted.map_err(Error::api("delete a ManifestWork that is complete"))?;
        Ok(Some(None))
    }
}

/// All of them, beginning with another one each time: who takes long to refuse is not always before the others, which
/// have what is left of a round.
fn from_anywhere(all: &[Value], now: Timestamp) -> impl Iterator<Item = &Value> {
    let chance = now.as_second().unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let at = usize::try_from(chance).unwrap_or_default() % all.len().max(1);
    let (before, after) = all.split_at(at);
    after.iter().chain(before)
}

/// What is gone already is fine.
fn done_or_gone<T>(outcome: Result<T, ApiError>) -> Result<(), ApiError> {
    outcome.map(drop).or_else(|error| if error.code == 404 { Ok(()) } else { Err(error) })
}

/// Which resource a manifest is.
fn resource(one: &OneResult) -> Option<Value> {
    let target = one.target.as_ref()?;
    let kind = &target.kind;
    Some(json!({
        "group": kind.group(), "version": kind.version(), "resource": kind.plural(),
        "namespace": &*target.namespace, "name": target.name,
    }))
}

/// What is written down of one manifest that is there.
fn item(one: &OneResult) -> Option<Value> {
    let mut item = resource(one)?;
    let there = one.there.object().filter(|_| one.fault.is_none())?;
    item["uid"] = json!(there.object.header.uid.as_str());
    Some(item)
}

/// In an order that does not depend on the work's.
fn sort(items: &mut [Value]) {
    items.sort_by_cached_key(|it| {
        ["group", "version", "resource", "namespace", "name"].map(|f| it[f].to_string())
    });
}

/// Which resource is written down.
fn place(item: &Value) -> [String; 4] {
    let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
    ["group", "resource", "namespace", "name"].map(text)
}
