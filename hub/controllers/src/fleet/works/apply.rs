//! Applies manifests in their cluster, in order, each by its strategy.

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_fleet::work::ignored::NotAPointer;
use freewheel_hub_fleet::work::order::order;
use freewheel_hub_fleet::work::{Identifier, UpdateStrategy, Work};
use freewheel_hub_objects::{Actor, Applied, FieldValidation, ObjectRef, Person, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_store::Stored;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::condition::holds;
use super::executor::{Account, NotAllowed, TRY_AGAIN};
use super::ignored::to_apply;
use super::manifest::{laid_over, put_owner, strip};
use super::result::{Fault, OneResult, Outcome, Told, Unfinished, Version};
use super::{LOOK_EVERY, ROUND_MAX, SET_RIGHT_EVERY, Works};
use crate::engine::{Client, Error};

/// Upstream's agent, which may do everything in its cluster.
const AGENT: &str = "system:serviceaccount:open-cluster-management-agent:klusterlet-work-sa";
/// Whose fields are those that are applied, when nobody says.
const MANAGER: &str = "work-agent";

/// What applies in one cluster for one work.
struct Round<'a> {
    works: &'a Works,
    client: &'a Client,
    cluster: &'a ClusterName,
    owner: &'a Stored,
    /// What is as the work's status says it was left: nothing of it is written.
    rests: bool,
    /// The work is complete: nothing is written at all, and what is new in it is left alone.
    complete: bool,
    /// Whose rights decide what is applied.
    executor: Result<Option<Account>, NotAllowed>,
}

/// What is asked for a manifest whose kind is served.
struct Asked<'a> {
    strategy: Option<&'a UpdateStrategy>,
    owned: bool,
    may_complete: bool,
}

impl Works {
    /// Applies what is not applied yet. Nothing, when its time was over before all of it was.
    pub(super) async fn apply(
        &self,
        client: &Client,
        stored: &Arc<Stored>,
        object: &Value,
        work: &Work,
    ) -> Result<Option<Outcome>, Error> {
        let cluster = ClusterName::try_from(&*stored.key.namespace)
            .map_err(|error| Error::Refused(error.to_string()))?;
        let complete = holds(&object["status"]["conditions"], "Complete");
        let owner = self.keep_applied(client, &cluster, stored).await?;
        let of = Version::of(stored);
        let turn = self.turn(stored, &of);
        let round = Round {
            works: self,
            client,
            cluster: &cluster,
            owner: &owner,
            rests: turn.is_some(),
            complete,
            executor: Account::of(work),
        };
        let before = Told::of(object);
        let begun = self.unfinished.lock().remove(&stored.key);
        let mut so_far = begun.filter(|it| it.of == of).unwrap_or_default();
        so_far.of = of.clone();
        let is_whole = so_far.done == 0;
        if !round.go_on(work, &before, &mut so_far).await {
            // The work may be another before the round goes on, or be on its way out.
            let noted = self.note_so_far(client, &owner, &so_far.results).await;
            self.unfinished.lock().insert(stored.key.clone(), so_far);
            return noted.map(|()| None);
        }
        let Unfinished { mut results, wrote, .. } = so_far;
        results.sort_by_key(|(at, _)| *at);
        let results: Vec<OneResult> = results.into_iter().map(|(_, one)| one).collect();
        if wrote {
            self.set_right.lock().insert(stored.key.clone(), (of, Instant::now()));
        }
        let noted = if complete {
            Ok(false)
        } else {
            self.note_applied(client, &cluster, &owner, &results).await
        };
        let pending = !matches!(noted, Ok(false));
        let missed = !is_whole && is_overtaken(client, &results);
        let look_again = look_again(&results, (pending, missed), turn);
        Ok(Some(Outcome { results, complete, left: noted.err(), look_again }))
    }

    /// How long what others changed stays as it is: it was set right just now.
    fn turn(&self, stored: &Stored, of: &Version) -> Option<Duration> {
        let all = self.set_right.lock();
        let (then, at) = all.get(&stored.key)?;
        let left = SET_RIGHT_EVERY.checked_sub(at.elapsed())?;
        (then == of && !left.is_zero()).then_some(left)
    }
}

/// When to look again though nobody tells of anything.
fn look_again(
    results: &[OneResult],
    (pending, missed): (bool, bool),
    turn: Option<Duration>,
) -> Option<Duration> {
    let unheard = results.iter().any(|it| !it.heard);
    let denied = results.iter().any(|it| it.fault.as_ref().is_some_and(|it| it.is_of_rights));
    let polls = (unheard || pending).then_some(LOOK_EVERY);
    // What has changed since it was looked at was heard while the rest was done.
    let missed = missed.then_some(SET_RIGHT_EVERY);
    polls.into_iter().chain(turn).chain(missed).chain(denied.then_some(TRY_AGAIN)).min()
}

/// Whether something is another by now than it was when it was looked at.
fn is_overtaken(client: &Client, results: &[OneResult]) -> bool {
    let snapshot = client.snapshot();
    results.iter().any(|one| {
        let now = one.target.as_ref().and_then(|target| snapshot.get(&target.key()));
        now.map(|it| it.revision) != one.there.as_ref().map(|it| it.revision)
    })
}

impl Round<'_> {
    /// Manifests in their order, as long as there is time; whether that was all.
    async fn go_on(&self, work: &Work, before: &Told<'_>, so_far: &mut Unfinished) -> bool {
        let manifests = &work.workload.manifests;
        let began = Instant::now();
        for at in order(manifests).into_iter().skip(so_far.done) {
            if ROUND_MAX <= began.elapsed() {
                return false;
            }
            if let Some(manifest) = manifests.get(at) {
                let (one, changed) = self.one(at, manifest, work, before).await;
                so_far.results.extend(one.map(|one| (at, one)));
                so_far.wrote |= changed;
            }
            so_far.done += 1;
        }
        true
    }

    /// One manifest; whether something was written.
    async fn one(
        &self,
        at: usize,
        manifest: &Value,
        work: &Work,
        told: &Told<'_>,
    ) -> (Option<OneResult>, bool) {
        let text =
            |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind, name) =
            (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let registry = self.client.registry(self.cluster);
        let Some(kind) = registry.by_kind(api_version, kind) else {
            let why = format!("no matches for kind {kind:?} in version {api_version:?}");
            let namespace = text("/metadata/namespace");
            let meta = json!({"ordinal": at, "kind": kind, "name": name, "namespace": namespace});
            let fault = Some(failed(&why));
            let one = OneResult {
                meta,
                target: None,
                there: None,
                fault,
                heard: true,
                may_complete: false,
            };
            return ((!self.complete).then_some(one), false);
        };
        let namespace = if kind.namespaced { text("/metadata/namespace") } else { "" };
        let (cluster, kind) = (self.cluster.clone(), kind.clone());
        let target =
            ObjectRef { kind, cluster, namespace: namespace.into(), name: name.to_owned() };
        let meta = meta_of(at, &target);
        let told = told.get(&meta);
        if self.complete && told.is_none() {
            return (None, false);
        }
        let asked = Asked::of(work, &target);
        let there = self.client.objects().get(&target).ok();
        let (written, wrote) = self.outcome(&target, manifest, &asked, told, there.clone()).await;
        let heard = asked.owned && asked.strategy.is_none_or(|it| it.kind != "ReadOnly");
        let (there, fault) = match written {
            Ok(now) => (now, None),
            Err(why) => (there, Some(why)),
        };
        let may_complete = asked.may_complete;
        (Some(OneResult { meta, target: Some(target), there, fault, heard, may_complete }), wrote)
    }

    /// What comes of a manifest whose kind is served; whether something was written.
    async fn outcome(
        &self,
        target: &ObjectRef,
        manifest: &Value,
        asked: &Asked<'_>,
        told: Option<&Value>,
        there: Option<Arc<Stored>>,
    ) -> (Result<Option<Arc<Stored>>, Fault>, bool) {
        if target.kind.namespaced && target.namespace.is_empty() {
            let why = "an empty namespace may not be set when a resource name is provided";
            return (Err(failed(why)), false);
        }
        let said = |kind: &str| told.is_some_and(|it| holds(&it["conditions"], kind));
        let rests = self.rests && said("Applied") && there.is_some();
        if self.complete || said("Complete") || rests {
            return (Ok(there), false);
        }
        if let Err(denied) = self.is_allowed(target, asked).await {
            return (Err(denied), false);
        }
        let revision = there.as_ref().map(|it| it.revision);
        let outcome = self.write(target, manifest, asked).await;
        let now = |it: &Option<Arc<Stored>>| it.as_ref().map(|it| it.revision);
        let wrote = outcome.as_ref().is_ok_and(|it| now(it) != revision);
        (outcome, wrote)
    }

    /// Whether the work's executor may do this.
    async fn is_allowed(&self, target: &ObjectRef, asked: &Asked<'_>) -> Result<(), Fault> {
        let account = match &self.executor {
            Ok(None) => return Ok(()),
            Ok(Some(account)) => account,
            Err(wrong) => return Err(failed(&wrong.to_string())),
        };
        let allowed = account.may_apply(&self.works.rights, (target, asked.owned)).await;
        allowed.map_err(|why| denied(&why))
    }

    async fn write(
        &self,
        target: &ObjectRef,
        manifest: &Value,
        asked: &Asked<'_>,
    ) -> Result<Option<Arc<Stored>>, Fault> {
        let objects = self.client.objects();
        let there = objects.get(target).ok();
        let strategy = asked.strategy;
        let kind = strategy.map_or("Update", |it| &*it.kind);
        let apply = strategy.and_then(|it| it.server_side_apply.as_ref());
        let manager = apply.map(|it| &*it.field_manager).filter(|it| !it.is_empty());
        let how = self.how(target, manager.unwrap_or(MANAGER));
        let refused = |error: ApiError| self.refused(target, &error);
        let mut manifest = manifest.clone();
        strip(&mut manifest);
        let owner = asked.owned.then(|| self.owner());
        let uid = &self.owner.object.header.uid;
        match (kind, &there) {
            ("ReadOnly", _) => return Ok(there),
            ("ServerSideApply", _) => {
                let force = apply.is_some_and(|it| it.force);
                let config = to_apply(manifest, apply, there.as_deref())
                    .map_err(|wrong| not_ignored(&wrong))?;
                if let Some(config) = config {
                    let applied = Applied { config, force, may_make: true };
                    objects.apply(&how, target, None, &applied).await.map_err(refused)?;
                }
            }
            (_, None) => {
                put_owner(&mut manifest, owner.as_ref(), uid);
                let made = objects.create(&how, target, manifest).await;
                return Ok(Some(made.map_err(refused)?.stored));
            }
            ("CreateOnly", Some(_)) => {}
            (_, Some(_)) => {
                let change = |live: Value| Ok(laid_over(&live, &manifest, owner.as_ref(), uid));
                let changed = objects.modify(&how, target, None, change).await;
                return Ok(Some(changed.map_err(refused)?.stored));
            }
        }
        let change = |mut live: Value| {
            put_owner(&mut live, owner.as_ref(), uid);
            Ok(live)
        };
        let owned = objects.modify(&how, target, None, change).await;
        Ok(Some(owned.map_err(refused)?.stored))
    }

    /// The executor, of what gives rights away.
    fn giver(&self, target: &ObjectRef) -> Option<Person> {
        self.executor.as_ref().ok()?.as_ref()?.gives(target)
    }

    /// As the agent that does this upstream.
    fn how(&self, target: &ObjectRef, manager: &str) -> WriteOptions {
        let agent = || Person {
            name: AGENT.to_owned(),
            groups: ["system:masters", "system:authenticated"].map(str::to_owned).into(),
            by_controller: true,
            ..Person::default()
        };
        let person = self.giver(target).unwrap_or_else(agent);
        let person = Person { manager: manager.to_owned(), ..person };
        let field_validation = FieldValidation::Ignore;
        let expect = self.client.how().expect.clone();
        WriteOptions { field_validation, expect, ..WriteOptions::by(Actor::from(person)) }
    }

    fn refused(&self, target: &ObjectRef, error: &ApiError) -> Fault {
        if error.code == 403 && self.giver(target).is_some() {
            return denied(&NotAllowed::to_give(target));
        }
        failed(&error.message)
    }

    fn owner(&self) -> Value {
        let applied: &Kind = &self.works.applied;
        json!({
            "apiVersion": applied.api_version(), "kind": applied.kind(),
            "name": &*self.owner.key.name, "uid": self.owner.object.header.uid.as_str(),
        })
    }
}

impl<'a> Asked<'a> {
    fn of(work: &'a Work, target: &ObjectRef) -> Self {
        let identifier = Identifier {
            group: target.kind.group().to_owned(),
            resource: target.kind.plural().to_owned(),
            name: target.name.clone(),
            namespace: target.namespace.to_string(),
        };
        let treatment = work.treatment(&identifier);
        let may_complete = treatment.conditions.iter().any(|rule| rule.condition == "Complete");
        let (strategy, owned) = (treatment.strategy, work.owns(&identifier));
        Self { strategy, owned, may_complete }
    }
}

fn meta_of(at: usize, target: &ObjectRef) -> Value {
    let kind = &target.kind;
    json!({
        "ordinal": at, "group": kind.group(), "version": kind.version(), "kind": kind.kind(),
        "resource": kind.plural(), "name": target.name, "namespace": &*target.namespace,
    })
}

/// No text of another takes more than so many bytes of a work's status.
pub(super) const FAULT_BYTES_MAX: usize = 1024;

fn cut(why: &str) -> String {
    let end = why.floor_char_boundary(FAULT_BYTES_MAX);
    let (text, dots) = (&why[..end], if end < why.len() { "..." } else { "" });
    format!("{text}{dots}")
}

fn failed(why: &str) -> Fault {
    let message = format!("Failed to apply manifest: {}", cut(why));
    Fault { reason: "AppliedManifestFailed", message, is_of_rights: false }
}

fn denied(why: &NotAllowed) -> Fault {
    Fault { is_of_rights: true, ..failed(&why.to_string()) }
}

fn not_ignored(wrong: &NotAPointer) -> Fault {
    let message = format!("Failed to process ignoreFields: {}", cut(&wrong.to_string()));
    Fault { reason: "AppliedManifestSSAIgnoreFieldError", message, is_of_rights: false }
}
