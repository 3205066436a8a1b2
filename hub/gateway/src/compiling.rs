//! Whose pods wait for a compiler, and that they are told so.
//!
//! Guarantees:
//! - a module is compiled in the turn of those whose pods on the device wait for it, and what none of them needs in the
//!   device's own (`a_module_is_compiled_in_the_turn_of_those_whose_pods_wait_for_it`);
//! - the pods of a device that wait for a module which is being compiled get an Event with its name and size, and no
//!   other pods (`the_pods_that_wait_for_a_compiler_are_told_so`);
//! - who finds no place to wait in is told to ask again, and is in line meanwhile
//!   (`modules_that_are_being_compiled_take_no_stream_from_one_that_is_ready`);
//! - a device whose engine this hub does not know is told so (`a_device_with_an_unknown_engine_is_told_so`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::images::{Artifact, ImageProblem, Images, Tenant};
use freewheel_hub_plan::{Source as _, pod_record};
use freewheel_link::digest::Digest;
use freewheel_link::message::{COMPILING_REASON, ModuleRequestV1, RefusalV1};
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{ContainerV1, ModuleV1, PodV1};
use freewheel_link::profile::{BadProfile, Profile};
use freewheel_link::report::EventV1;
use futures::FutureExt as _;
use tokio::time::sleep;
use tracing::debug;

use crate::compile_waits::CompileWaits;
use crate::events;
use crate::inner::Inner;
use crate::object_refs::PODS;
use crate::spoke_identity::SpokeIdentity;

/// What is compiled sooner needs no word.
const UNTOLD_COMPILE_TIME: Duration = Duration::from_secs(1);

/// A spoke with this profile has come. For one that this hub does not know, it does not compile: whoever asks is told.
pub(crate) fn note_profile(images: &dyn Images, profile: &str) {
    if let Ok(profile) = profile.parse() {
        images.note_profile(profile);
    }
}

/// The artifact for a spoke. When it is not there soon, the pods that wait for it are told, and who finds no place to
/// wait in asks again: its module is compiled meanwhile.
pub(crate) async fn artifact(
    inner: &Inner,
    identity: &SpokeIdentity,
    request: &ModuleRequestV1,
    waits: &Arc<CompileWaits>,
) -> Result<Artifact, RefusalV1> {
    let ModuleRequestV1 { component, profile, .. } = request;
    let profile: Profile = profile.parse().map_err(|error: BadProfile| {
        let text = format!("this hub cannot compile for this device: {error}");
        RefusalV1::new("ErrImageCompile", text)
    })?;
    let refusal = |problem: ImageProblem| RefusalV1::new(problem.reason, problem.message);
    let tenants = || tenants(inner, &identity.cluster, component);
    let mut made = inner.images.artifact(component, profile, &tenants);
    // What is there or will never be is answered at once, and what is not is in line with this first look.
    if let Some(made) = made.as_mut().now_or_never() {
        return made.map_err(refusal);
    }
    let in_line = inner.images.compiling(component, profile).is_some();
    let _place = if in_line { Some(waits.take(&tenants).ok_or_else(later)?) } else { None };
    let reported = async {
        sleep(UNTOLD_COMPILE_TIME).await;
        if let Some(size) = inner.images.compiling(component, profile) {
            report_waiting(inner, identity, component, size).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        made = made => made.map_err(refusal),
        never = reported => never,
    }
}

/// To who finds no place to wait in.
fn later() -> RefusalV1 {
    let text =
        "the module waits for a compiler, and so many others do that this link waits for no more";
    RefusalV1::new(COMPILING_REASON, text)
}

async fn report_waiting(inner: &Inner, identity: &SpokeIdentity, component: &Digest, size: u64) {
    let spoke = &identity.cluster;
    for event in waiting(inner, spoke, component, size) {
        if !inner.events.allows(identity) {
            return;
        }
        if let Err(error) = events::about(&inner.objects, identity, PODS, &event).await {
            debug!(cluster = %spoke, pod = event.pod, %error, "cannot tell that a module is being compiled");
        }
    }
}

/// Those whose pods on this spoke are of this module; of none, it is the spoke's own wish.
fn tenants(inner: &Inner, spoke: &ClusterName, component: &Digest) -> Vec<Tenant> {
    let mut tenants = BTreeSet::new();
    each_pod(inner, spoke, |realm, pod| {
        if [&pod.init, &pod.containers].into_iter().flatten().any(|one| is(one, component)) {
            tenants.insert(if realm.is_root() {
                Tenant::Namespace(pod.namespace.clone())
            } else {
                Tenant::Cluster(realm.clone())
            });
        }
    });
    if tenants.is_empty() {
        tenants.insert(Tenant::Cluster(spoke.clone()));
    }
    tenants.into_iter().collect()
}

fn is(container: &ContainerV1, component: &Digest) -> bool {
    container.module == ModuleV1::Component(*component)
}

/// The spoke's pods, as it is told them.
fn each_pod(inner: &Inner, spoke: &ClusterName, mut with: impl FnMut(&ClusterName, &PodV1)) {
    let snapshot = inner.objects.store().snapshot();
    let source = inner.fanout.view(&*snapshot);
    for realm in [&ClusterName::root(), spoke] {
        for found in source.pods(realm, spoke.as_str()) {
            // One that cannot be planned waits for something else.
            if let Ok((_, pod)) = pod_record(realm, &found, &*inner.images) {
                with(realm, &pod);
            }
        }
    }
}

/// One event for each container of the spoke's pods that is this module.
fn waiting(inner: &Inner, spoke: &ClusterName, component: &Digest, size: u64) -> Vec<EventV1> {
    let now = u64::try_from(inner.objects.clock().unix_seconds()).unwrap_or_default() * 1000;
    let mut events = Vec::new();
    each_pod(inner, spoke, |realm, pod| {
        let lists = [("initContainers", &pod.init), ("containers", &pod.containers)];
        for (list, containers) in lists {
            let mine = containers.iter().filter(|one| is(one, component));
            events.extend(mine.map(|container| EventV1 {
                realm: realm.clone(),
                at: now,
                ..event(pod, list, container, size)
            }));
        }
    });
    events
}

fn event(pod: &PodV1, list: &str, container: &ContainerV1, size: u64) -> EventV1 {
    let size = if size < 10_000_000 {
        format!("{} kB", size.div_ceil(1000))
    } else {
        format!("{} MB", size / 1_000_000)
    };
    EventV1 {
        realm: ClusterName::root(),
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        field_path: format!("spec.{list}{{{}}}", container.name),
        warning: false,
        reason: "Compiling".to_owned(),
        message: format!(
            "Compiling module {:?} ({size}) for the engine of this device",
            container.image
        ),
        at: 0,
    }
}
