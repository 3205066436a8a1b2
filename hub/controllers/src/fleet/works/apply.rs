//! Applies manifests in their cluster, in order, each by its strategy.

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::conditions::holds;
use freewheel_hub_fleet::work::Work;
use freewheel_hub_fleet::work::order::order;
use freewheel_hub_objects::{Actor, Applied, FieldValidation, ObjectRef, Person, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::view::View;
use freewheel_hub_store::Stored;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::asked::Asked;
use super::executor::{Account, NotAllowed, TRY_AGAIN};
use super::fault::Fault;
use super::ignored::to_apply;
use super::leaving::Leaving;
use super::manifest::{put_owner, strip};
use super::result::{ManifestStatuses, OneResult, Outcome, There, Unfinished, Version};
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
        let before = ManifestStatuses::of(object);
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
            Ok(Leaving::Gone)
        } else {
            self.note_applied(client, &cluster, &owner, &results).await
        };
        let pending = !matches!(noted, Ok(Leaving::Gone));
        let missed = !is_whole && is_overtaken(client, &results);
        let look_again = look_again(&results, (pending, missed), turn);
        let (left, held) = Leaving::apart(noted);
        Ok(Some(Outcome { results, complete, left, held, look_again }))
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
        let was = match &one.there {
            There::Is(object) => Some(object.revision),
            There::IsNot => None,
            There::Unseen(_) => return false,
        };
        let now = one.target.as_ref().and_then(|target| snapshot.get(&target.key()));
        now.map(|it| it.revision) != was
    })
}

impl Round<'_> {
    /// Manifests in their order, as long as there is time; whether that was all.
    async fn go_on(
        &self,
        work: &Work,
        before: &ManifestStatuses<'_>,
        so_far: &mut Unfinished,
    ) -> bool {
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
        told: &ManifestStatuses<'_>,
    ) -> (Option<OneResult>, bool) {
        let text =
            |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let registry = self.client.registry(self.cluster);
        let Some(view) = View::by_kind(&registry, text("/apiVersion"), text("/kind")) else {
            return ((!self.complete).then(|| OneResult::unserved(at, manifest)), false);
        };
        let (kind, name) = (view.served.clone(), text("/metadata/name").to_owned());
        let namespace = if kind.namespaced { text("/metadata/namespace") } else { "" };
        let (cluster, namespace) = (self.cluster.clone(), namespace.into());
        let asked = Asked::of(work, ObjectRef { kind, cluster, namespace, name }, view);
        let meta = asked.meta(at);
        let told = told.get(&meta);
        if self.complete && told.is_none() {
            return (None, false);
        }
        let there = self.look(&asked).await;
        let revision = there.object().map(|it| it.revision);
        let written = self.outcome(&asked, manifest, told, &there).await;
        let (there, fault) = match written {
            Ok(now) => (now, None),
            Err(why) => (there, Some(why)),
        };
        let wrote = fault.is_none() && there.object().map(|it| it.revision) != revision;
        let (heard, may_complete) = (asked.is_heard(), asked.may_complete);
        let target = Some(asked.target);
        (Some(OneResult { meta, target, there, fault, heard, may_complete }), wrote)
    }

    /// What is there, as far as it may be seen.
    async fn look(&self, asked: &Asked<'_>) -> There {
        let may_see = match &self.executor {
            // Nothing is stored of it, or another kind is.
            Ok(_) if !asked.view.takes_writes() => Err(ApiError::method_not_allowed().message),
            Ok(None) => Ok(()),
            Ok(Some(account)) => {
                let may_see = account.may_see(&self.works.rights, &asked.target).await;
                may_see.map_err(|why| why.to_string())
            }
            Err(wrong) => Err(wrong.to_string()),
        };
        let found = || There::of(self.client.objects().get(&asked.place()).ok());
        may_see.map_or_else(There::Unseen, |()| found())
    }

    /// What comes of a manifest whose kind is served.
    async fn outcome(
        &self,
        asked: &Asked<'_>,
        manifest: &Value,
        told: Option<&Value>,
        there: &There,
    ) -> Result<There, Fault> {
        let target = &asked.target;
        if target.kind.namespaced && target.namespace.is_empty() {
            let why = "an empty namespace may not be set when a resource name is provided";
            return Err(Fault::failed(why));
        }
        let said = |kind: &str| told.is_some_and(|it| holds(&it["conditions"], kind));
        let rests = self.rests && said("Applied") && there.object().is_some();
        if self.complete || said("Complete") || rests {
            return Ok(there.clone());
        }
        if !asked.view.takes_writes() {
            return Err(ApiError::method_not_allowed().into());
        }
        self.is_allowed(asked).await?;
        self.write(asked, manifest).await.map(There::of)
    }

    /// Whether the work's executor may do this.
    async fn is_allowed(&self, asked: &Asked<'_>) -> Result<(), Fault> {
        let account = match &self.executor {
            Ok(None) => return Ok(()),
            Ok(Some(account)) => account,
            Err(wrong) => return Err(Fault::failed(&wrong.to_string())),
        };
        let what = (&asked.target, asked.owned);
        let allowed = account.may_apply(&self.works.rights, what).await;
        allowed.map_err(|why| Fault::denied(&why))
    }

    async fn write(
        &self,
        asked: &Asked<'_>,
        manifest: &Value,
    ) -> Result<Option<Arc<Stored>>, Fault> {
        let (objects, place) = (self.client.objects(), asked.place());
        let there = objects.get(&place).ok();
        let kind = asked.strategy.map_or("Update", |it| &*it.kind);
        let how = self.how(asked);
        let refused = |error: ApiError| self.refused(asked, error);
        let mut manifest = manifest.clone();
        strip(&mut manifest);
        let reference = asked.owned.then(|| self.owner());
        let owner = (reference.as_ref(), &self.owner.object.header.uid);
        match (kind, &there) {
            ("ReadOnly", _) => return Ok(there),
            ("ServerSideApply", _) => self.lay(asked, (manifest, there.as_deref()), &how).await?,
            (_, None) => {
                let new = asked.made(manifest, owner).map_err(refused)?;
                let made = objects.create(&how, &place, new).await;
                return Ok(Some(made.map_err(refused)?.stored));
            }
            ("CreateOnly", Some(_)) => {}
            (_, Some(_)) => {
                let change = |live: Value| asked.changed(&live, &manifest, owner);
                let changed = objects.modify(&how, &place, None, change).await;
                return Ok(Some(changed.map_err(refused)?.stored));
            }
        }
        let change = |mut live: Value| {
            put_owner(&mut live, owner.0, owner.1);
            Ok(live)
        };
        let owned = objects.modify(&how, &place, None, change).await;
        Ok(Some(owned.map_err(refused)?.stored))
    }

    /// By server-side apply.
    async fn lay(
        &self,
        asked: &Asked<'_>,
        (manifest, there): (Value, Option<&Stored>),
        how: &WriteOptions,
    ) -> Result<(), Fault> {
        let apply = asked.strategy.and_then(|it| it.server_side_apply.as_ref());
        let config = to_apply(manifest, apply, there).map_err(|it| Fault::not_ignored(&it))?;
        let Some(config) = config else { return Ok(()) };
        let (config, force) = (asked.view.inward(config), apply.is_some_and(|it| it.force));
        let applied = Applied { config, force, may_make: true };
        let laid = self.client.objects().apply(how, &asked.place(), None, &applied).await;
        laid.map(drop).map_err(|error| self.refused(asked, error))
    }

    /// The executor, of what gives rights away.
    fn giver(&self, target: &ObjectRef) -> Option<Person> {
        self.executor.as_ref().ok()?.as_ref()?.gives(target)
    }

    /// As the agent that does this upstream.
    fn how(&self, asked: &Asked<'_>) -> WriteOptions {
        let agent = || Person {
            name: AGENT.to_owned(),
            groups: ["system:masters", "system:authenticated"].map(str::to_owned).into(),
            by_controller: true,
            ..Person::default()
        };
        let apply = asked.strategy.and_then(|it| it.server_side_apply.as_ref());
        let manager = apply.map(|it| &*it.field_manager).filter(|it| !it.is_empty());
        let person = self.giver(&asked.target).unwrap_or_else(agent);
        let person = Person { manager: manager.unwrap_or(MANAGER).to_owned(), ..person };
        let field_validation = FieldValidation::Ignore;
        let expect = self.client.how().expect.clone();
        WriteOptions { field_validation, expect, ..WriteOptions::by(Actor::from(person)) }
    }

    fn refused(&self, asked: &Asked<'_>, error: ApiError) -> Fault {
        let (error, target) = (asked.view.error(error), &asked.target);
        if error.code == 403 && self.giver(target).is_some() {
            return Fault::denied(&NotAllowed::to_write(target, error.message));
        }
        error.into()
    }

    fn owner(&self) -> Value {
        let applied: &Kind = &self.works.applied;
        json!({
            "apiVersion": applied.api_version(), "kind": applied.kind(),
            "name": &*self.owner.key.name, "uid": self.owner.object.header.uid.as_str(),
        })
    }
}
