//! What a Placement or a ManifestWorkReplicaSet would do, told to whoever writes it in a dry run: `kubectl apply
//! --dry-run=server`, `hub plan`.
//!
//! ```text
//! Placement                ─▶ who is chosen, who is not and why
//! ManifestWorkReplicaSet   ─▶ the same of its placements, modules that are fetched, what they ask for, waves in order
//! ```
//!
//! It is decided by what the controllers decide with (`Placements::observe`, `PlacementView`), of what is there now: who is
//! chosen as it would be decided, waves as it was decided last, with the windows that are open. A Placement that is to be
//! written with a set is not there yet. What annotations lead to is not planned; that they change is said.
//!
//! It is said in warnings: an answer that had it in the object would look as a change of that to `kubectl
//! diff` and to whoever compares dry runs. Where nothing that matters changes, nothing is said.
//!
//! Guarantees:
//! - a dry run says who would be chosen, who not and why, and in which waves, and nothing is done
//!   (`a_dry_run_tells_what_would_be_done`);
//! - clusters are named to those who may list them, others are told numbers
//!   (`a_plan_names_no_clusters_to_who_may_not_list_them`), and how large modules are and what they import is told to
//!   administrators, as the registry gives modules to nobody else (`modules_are_told_to_administrators_alone`).

mod lines;
mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_api::maintenance_window::MAINTENANCE_WINDOW;
use freewheel_hub_api::rollout_annotations::{ABORT, PAUSED, ROLLBACK, RolloutControl};
use freewheel_hub_fleet::rollout::Stage;
use freewheel_hub_objects::{Actor, Claims, Objects, Person, Plugin, Refusal, Review};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use jiff::Timestamp;
use serde_json::Value;

use super::api_group::{CLUSTER_GROUP, WORK_GROUP};
use super::choice::Choice;
use super::placements::{DISABLED, Foreseen, Placements};
use super::work_sets::{PlacementView, WorkSets, is_aborted};
use crate::engine::client::kind;
use crate::engine::{Client, Clock, Error};
use crate::events::Recorder;
use crate::index::{Indexes, WorkEntry, spec_digest};
use crate::rights::{RightAsked, Rights};
use lines::{Lines, count, listed};
pub use modules::{ModuleFacts, ModuleLookup};
use modules::{difference, images, look_up};

/// Placements of a set that are planned, each of which is a choice from all clusters.
const PLACEMENTS_MAX: usize = 16;
/// Different works that clusters of a placement may have, each of which is read.
const WORKS_MAX: usize = 16;

/// Annotations that lead a rollout or a choice.
const LEADING: [&str; 5] = [ABORT, PAUSED, ROLLBACK, MAINTENANCE_WINDOW, DISABLED];

/// Tells whoever writes in a dry run what would be done.
pub struct RolloutPlans {
    placements: Placements,
    sets: WorkSets,
    placement: Resource,
    set: Resource,
    clock: Clock,
    rights: Arc<dyn Rights>,
    modules: Arc<dyn ModuleLookup>,
}

/// Whom it is told, and what.
struct Plan {
    lines: Lines,
    /// Whether clusters may be named.
    named: bool,
    /// Whether it may be told what modules are like.
    modules: bool,
}

impl RolloutPlans {
    /// Over what the controllers decide from.
    ///
    /// # Errors
    /// When the hub does not serve a kind that it looks at.
    pub fn new(
        objects: &Objects,
        indexes: &Indexes,
        rights: Arc<dyn Rights>,
        modules: Arc<dyn ModuleLookup>,
    ) -> Result<Self, Error> {
        // It does nothing of which there were something to tell.
        let (recorder, _) = Recorder::channel(objects);
        let client = Client::new(objects.clone(), "rollout-plan", recorder);
        Ok(Self {
            clock: client.clock.clone(),
            placements: Placements::new(client.clone(), indexes.clone())?,
            sets: WorkSets::new(client, indexes.clone())?,
            placement: kind(CLUSTER_GROUP, "v1beta1", "placements")?.storage().clone(),
            set: kind(WORK_GROUP, "v1alpha1", "manifestworkreplicasets")?.storage().clone(),
            rights,
            modules,
        })
    }

    async fn may(&self, person: &Person, [verb, group, resource]: [&str; 3]) -> bool {
        let root = ClusterName::root();
        let (user, groups) = (&*person.name, &*person.groups);
        let (cluster, namespace, name) = (&root, "", "");
        let asked = RightAsked { cluster, user, groups, verb, group, resource, namespace, name };
        self.rights.may(asked).await
    }

    async fn of_set(&self, set: &Key, object: &Value, plan: &mut Plan) -> Result<(), Error> {
        let works = self.sets.works_of(set);
        let refs =
            object["spec"]["placementRefs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let named =
            |work: &&Arc<WorkEntry>| refs.iter().any(|it| it["name"] == *work.facts().placement);
        let left = works.iter().filter(|work| !named(work));
        let left: Vec<String> = left.map(|work| work.cluster().to_owned()).collect();
        if !left.is_empty() {
            plan.of("their placement is named no more, their works go", &left);
        }
        plan.of_control(object);
        if PLACEMENTS_MAX < refs.len() {
            let more = count(refs.len() - PLACEMENTS_MAX, "placement");
            plan.lines.say(&format!("{more} beyond {PLACEMENTS_MAX} are not planned"));
        }
        for reference in refs.iter().take(PLACEMENTS_MAX) {
            let placement = reference["name"].as_str().unwrap_or_default();
            let place = (&*set.namespace, placement);
            if let Some(foreseen) = self.placements.foresee_stored(place).await? {
                plan.of_choice(placement, &foreseen);
            }
            match self.sets.choice(&set.namespace, placement)? {
                Choice::Groups(groups) => {
                    let template = &object["spec"]["manifestWorkTemplate"];
                    let digest = spec_digest(template);
                    let view = PlacementView::of(placement, digest, &groups, &works);
                    self.of_modules(&view, template, plan).await;
                    let closed = self.sets.closed(object, &view).clusters;
                    if !closed.is_empty() {
                        let wait: Vec<String> = closed.iter().cloned().collect();
                        let text = format!("placement {placement}, wait for a maintenance window");
                        plan.of(&text, &wait);
                    }
                    let (strategy, now) = (&reference["rolloutStrategy"], self.clock.now());
                    plan.of_rollout(&view, (strategy, &closed), now);
                }
                Choice::Unsettled => {
                    plan.lines.say(&format!("placement {placement} is deciding: ask again"));
                }
                Choice::NotFound => plan.lines.say(&format!(
                    "placement {placement} is not there, or nobody has decided: no cluster is given anything"
                )),
            }
        }
        Ok(())
    }

    /// What is fetched, and what asks for more than what was there before: of clusters that have the same, together.
    async fn of_modules(&self, view: &PlacementView<'_>, template: &Value, plan: &mut Plan) {
        let after = images(template);
        let of: BTreeMap<&str, &WorkEntry> =
            view.kept.iter().map(|work| (work.cluster(), *work)).collect();
        let mut alike: BTreeMap<Option<Digest>, (BTreeSet<String>, Vec<String>)> = BTreeMap::new();
        let mut others = Vec::new();
        for cluster in view.groups.iter().flat_map(|group| &group.clusters) {
            let work = of.get(&**cluster);
            let key = work.map(|work| work.facts().spec);
            if WORKS_MAX <= alike.len() && !alike.contains_key(&key) {
                others.push(cluster.clone());
                continue;
            }
            let has = || work.and_then(|work| work.stored.object.value().ok());
            let before = || has().map(|work| images(&work["spec"])).unwrap_or_default();
            let (_, clusters) = alike.entry(key).or_insert_with(|| (before(), Vec::new()));
            clusters.push(cluster.clone());
        }
        let all: BTreeSet<String> =
            alike.values().flat_map(|(before, _)| before).chain(&after).cloned().collect();
        let known =
            if plan.modules { look_up(&all, &*self.modules).await } else { BTreeMap::new() };
        for (before, clusters) in alike.values() {
            let new = difference((before, &after), &known);
            if 0 < new.modules {
                let modules = count(new.modules, "module");
                let size = match new.unknown {
                    _ if !plan.modules => String::new(),
                    0 => format!(" of {} bytes", new.bytes),
                    unknown => {
                        let bytes = new.bytes;
                        format!(" of {bytes} bytes, {unknown} of which the registry cannot tell")
                    }
                };
                let text = format!("{modules}{size} to fetch");
                plan.of(&text, clusters);
            }
            if !new.imports.is_empty() {
                let head = "they import what modules there did not";
                let imports: Vec<&String> = new.imports.iter().collect();
                plan.lines.say(&format!("{head}{}", listed(head, &imports)));
            }
        }
        if !others.is_empty() {
            plan.of("their works are still others, what is new to them is not told", &others);
        }
    }
}

/// That annotations change which lead a rollout or a choice beside the spec.
fn led_otherwise(old: &Value, new: &Value) -> Option<String> {
    let of = |object: &Value, key: &str| object["metadata"]["annotations"][key].clone();
    let changed = LEADING.iter().filter(|key| of(old, key) != of(new, key));
    let changed: Vec<&str> = changed.copied().collect();
    let head =
        "nothing in the spec would change, and what these annotations lead to is not planned";
    (!changed.is_empty()).then(|| format!("{head}: {}", changed.join(", ")))
}

impl Plan {
    fn of(&mut self, text: &str, clusters: &[String]) {
        self.lines.say_of(text, clusters, self.named);
    }

    fn of_control(&mut self, set: &Value) {
        if is_aborted(set) {
            let text = "the rollout of this template is aborted: nobody new is given it, whatever waves it would have";
            self.lines.say(text);
        } else if RolloutControl::of(set).paused {
            self.lines
                .say("the rollout is paused: nobody new is given anything until it is resumed");
        }
    }

    fn of_choice(&mut self, placement: &str, foreseen: &Foreseen) {
        self.of(&format!("placement {placement} chooses"), &foreseen.chosen);
        if let Some(problem) = &foreseen.problem {
            self.lines.say(&format!("placement {placement}: {problem}"));
        }
        for (why, clusters) in &foreseen.refused {
            self.of(&format!("placement {placement} does not choose, {why}"), clusters);
        }
    }

    fn of_rollout(
        &mut self,
        view: &PlacementView<'_>,
        (strategy, closed): (&Value, &BTreeSet<String>),
        now: Timestamp,
    ) {
        let placement = view.placement;
        let gone: Vec<String> = view.gone.iter().map(|work| work.cluster().to_owned()).collect();
        if !gone.is_empty() {
            self.of(&format!("placement {placement} chooses no more, their works go"), &gone);
        }
        // What is given and not applied yet is in a wave, as the rollout counts it.
        let has = view.progress.iter().filter(|(_, it)| it.stage != Stage::ToApply);
        let has: Vec<String> = has.map(|(cluster, _)| cluster.clone()).collect();
        if !has.is_empty() {
            self.of(&format!("placement {placement}, have it already"), &has);
        }
        let waves = match view.waves(strategy, closed, now) {
            Ok(waves) => waves,
            Err(wrong) => return self.lines.say(&format!("placement {placement}: {wrong}")),
        };
        for (number, wave) in (1..).zip(&waves.waves) {
            let when = match (number, wave.after.as_secs()) {
                (1, _) => String::new(),
                (_, 0) => " when those are well".to_owned(),
                (_, after) => format!(" when those are well, {after} s after the first at least"),
            };
            self.of(&format!("placement {placement}, wave {number}{when}"), &wave.clusters);
        }
        let left = count(waves.left, "cluster");
        if waves.breached {
            let text = "too many that have it have failed, it stands";
            self.lines.say(&format!("placement {placement}: {text}: {left} without it"));
        } else if 0 < waves.left {
            self.lines.say(&format!("placement {placement}, later waves: {left}"));
        }
    }
}

#[async_trait]
impl Plugin for RolloutPlans {
    fn name(&self) -> &'static str {
        "RolloutPlans"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let stored_as = review.target.kind.storage();
        review.dry_run
            && review.notes.is_some()
            && review.asks_for_it()
            && !review.actor.is_controller()
            && [&self.placement, &self.set].contains(&stored_as)
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        let Actor::Person(person) = review.actor else { return Ok(Claims::default()) };
        if let Some(old) = review.old.filter(|old| old["spec"] == object["spec"]) {
            if let Some(line) = led_otherwise(old, object) {
                let mut lines = Lines::default();
                lines.say(&line);
                lines.end().into_iter().for_each(|line| review.warn(line));
            }
            return Ok(Claims::default());
        }
        let named = self.may(person, ["list", CLUSTER_GROUP, "managedclusters"]).await;
        // Who may do everything: the registry lets others pull with a login of its own alone.
        let modules = self.may(person, ["*", "*", "*"]).await;
        let mut plan = Plan { lines: Lines::default(), named, modules };
        let namespace = &*review.target.namespace;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let made = if *review.target.kind.storage() == self.set {
            let set = Key::new(&self.set, &ClusterName::root(), namespace, name);
            self.of_set(&set, object, &mut plan).await
        } else {
            let foreseen = self.placements.foresee((namespace, name), object).await;
            foreseen.map(|it| it.iter().for_each(|it| plan.of_choice(name, it)))
        };
        // What cannot be told is no reason to refuse what could be done.
        if let Err(error) = made {
            plan.lines.say(&format!("it cannot be told: {}", error.chain()));
        }
        plan.lines.end().into_iter().for_each(|line| review.warn(line));
        Ok(Claims::default())
    }
}
