//! Controllers: each observes, decides and applies, over and over, until the world is as asked.
//!
//! ```text
//! engine      informer, queue, workers, the client that controllers read and write at
//! index       who belongs to whom, found without a walk over everything
//! control     taking objects under control and letting them go
//! pod_control  making and ending the pods of a set; pods, selector, amount: what is read of them
//! history     what templates were: ControllerRevisions
//! deployment, replicaset, daemonset, statefulset    templates to pods
//! pins        what the tags of images stood for
//! module_users  who runs a build of a module
//! job         Jobs to pods that come to an end
//! cron_job    CronJobs to Jobs, at their times
//! ttl_after_finished  Jobs that are over, and how long they stay
//! endpoints   Services to EndpointSlices and Endpoints
//! scheduler   pods to nodes
//! node        accepted spokes to Nodes; Ready and Unknown, and of their pods what silence says
//! eviction    NoExecute taints to ends of pods
//! disruption  what PodDisruptionBudgets allow
//! horizontal_pod_autoscaler  how many replicas workloads are to have, by what their pods take
//! definitions  CustomResourceDefinitions to kinds of their clusters, and their end
//! policy_typing  what expressions of admission policies say of objects that cannot be said of them
//! cluster_cleanup  what a removed spoke leaves behind
//! fleet       sets of clusters, and which of them placements choose
//! resource_quota  what is used of quotas      flow_schemas  whether the levels that they name are there
//! namespace   what namespaces and clusters have from the start, and how they end
//! rights      what callers may do, as controllers ask it
//! roles       what people may do from the start; roles that are made of others
//! gc, pod_gc  what nobody owns, and pods without a node
//! signing     approved certificate requests of people to certificates, and the end of old requests
//! token_secrets  Secrets for tokens of service accounts
//! events      what happened, for `kubectl describe`
//! ```
//!
//! Every decision is a pure function of what was read at one revision, and remembers nothing: it is the same after a
//! restart. Autoscalers alone go by what was before as well, as upstream, and begin with what there is.

mod amount;
pub mod cluster_cleanup;
mod control;
pub mod cron_job;
pub mod daemonset;
pub mod definitions;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod engine;
pub mod events;
pub mod eviction;
pub mod fleet;
pub mod flow_schemas;
pub mod gc;
mod history;
pub mod horizontal_pod_autoscaler;
pub mod index;
pub mod job;
pub mod module_users;
pub mod namespace;
pub mod node;
pub mod pins;
mod pod_control;
pub mod pod_gc;
pub mod pods;
pub mod policy_typing;
pub mod replicaset;
pub mod resource_quota;
pub mod rights;
pub mod roles;
pub mod scheduler;
pub mod selector;
pub mod signing;
pub mod statefulset;
pub mod token_secrets;
pub mod ttl_after_finished;

#[cfg(test)]
mod testing;

use std::net::SocketAddr;
use std::sync::Arc;

use freewheel_hub_api::images::Images;
use freewheel_hub_metrics::Metrics;
use freewheel_hub_objects::Objects;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use engine::{Client, Controller, Error};
use events::{Recorder, Writer};
use index::Indexes;

/// What controllers have to know of their hub.
#[derive(Clone)]
pub struct Config {
    /// Where guests and site admins reach the hub's API: behind Service `default/kubernetes`.
    pub advertise: SocketAddr,
    /// `https://HOST:PORT`: where agents of add-ons reach it.
    pub api_url: String,
    /// The hub's CA, for ConfigMap `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Tells HTTP handlers from programs.
    pub handlers: Arc<dyn endpoints::Handlers>,
    /// What images stand for.
    pub images: Arc<dyn Images>,
    /// Signs people's certificates.
    pub authority: Arc<dyn signing::Authority>,
    /// Signs tokens of service accounts.
    pub tokens: Arc<dyn token_secrets::Tokens>,
    /// Knows what callers may do.
    pub rights: Arc<dyn rights::Rights>,
    /// Knows what pods take.
    pub usage: Arc<dyn horizontal_pod_autoscaler::PodSamples>,
    /// Breaks the scheduler's ties: the same seed and the same history give the same placements.
    pub seed: u64,
    /// Where the work of the controllers is shown.
    pub metrics: Metrics,
}

/// Starts every controller and the scheduler. They run until `stop` is cancelled; the caller waits
/// for the set.
///
/// # Errors
/// When the hub does not serve a kind that a controller needs.
pub fn start(
    objects: &Objects,
    config: &Config,
    stop: &CancellationToken,
) -> Result<JoinSet<()>, Error> {
    start_over(objects, &Indexes::new(objects.store(), objects.kinds())?, config, stop)
}

/// The same over indexes of one's own, whose work can be told from outside.
///
/// # Errors
/// As [`start`].
pub fn start_over(
    objects: &Objects,
    indexes: &Indexes,
    config: &Config,
    stop: &CancellationToken,
) -> Result<JoinSet<()>, Error> {
    let (recorder, said) = Recorder::channel(objects);
    let by = |name| Client::new(objects.clone(), name, recorder.clone());
    let controllers = controllers(&by, indexes, config)?;
    let scheduler = scheduler::Scheduler::new(by("kube-scheduler"), config.seed)?;
    let writer = Writer::new(objects.clone(), said)?;
    let mut tasks = JoinSet::new();
    let queues: Vec<_> = controllers.iter().map(|one| (one.name(), Arc::default())).collect();
    engine::show(&config.metrics, queues.clone());
    for (controller, (_, queue)) in controllers.into_iter().zip(queues) {
        let run = engine::run_over(objects.store().clone(), (controller, queue), stop.clone());
        tasks.spawn(run);
    }
    tasks.spawn(scheduler.run(stop.clone()));
    tasks.spawn(writer.run(stop.clone()));
    Ok(tasks)
}

fn controllers(
    by: &dyn Fn(&'static str) -> Client,
    indexes: &Indexes,
    config: &Config,
) -> Result<Vec<Arc<dyn Controller>>, Error> {
    let mut all: Vec<Arc<dyn Controller>> = vec![
        Arc::new(namespace::ClusterBootstrap::new(by("bootstrap"), config.advertise)?),
        Arc::new(namespace::BootstrapObjects::new(by("bootstrap-objects"))?),
        Arc::new(namespace::ServiceRange::new(by("service-cidr-controller"))?),
        Arc::new(namespace::ServiceAccountRootCa::new(
            by("root-ca-cert-publisher"),
            config.ca_pem.clone(),
        )?),
        Arc::new(namespace::NamespaceDeletion::new(by("namespace-controller"))?),
        Arc::new(resource_quota::ResourceQuotas::new(by("resourcequota-controller"))?),
        Arc::new(node::Nodes::new(by("node-controller"))?),
        Arc::new(node::UnmanagedNodes::new(by("node-lifecycle-controller"))?),
        Arc::new(node::SilentPods::new(by("node-lifecycle-controller"), indexes.clone())?),
        Arc::new(definitions::Definitions::new(by("customresourcedefinition-controller"))?),
        Arc::new(cluster_cleanup::ClusterCleanup::new(by("cluster-leftovers"))?),
        Arc::new(endpoints::EndpointSlices::new(
            by("endpoint-controller"),
            indexes.clone(),
            config.handlers.clone(),
        )?),
        Arc::new(endpoints::EndpointSliceMirroring::new(
            by("endpointslice-mirroring-controller"),
            indexes.clone(),
        )?),
        Arc::new(gc::GarbageCollector::new(by("generic-garbage-collector"), indexes.clone())),
        Arc::new(pod_gc::PodGarbageCollector::new(by("pod-garbage-collector"), indexes.clone())?),
        Arc::new(eviction::TaintEviction::new(by("taint-eviction-controller"), indexes.clone())?),
        Arc::new(events::Expiry::new(by("event-expiry"))?),
    ];
    all.extend(of_templates(by, indexes, config)?);
    all.extend(of_numbers(by, indexes, config)?);
    all.extend(of_requests(by, indexes)?);
    all.extend(of_batch(by, indexes, config)?);
    all.extend(of_the_fleet(by, indexes, config)?);
    all.extend(of_identities(by, config)?);
    Ok(all)
}

/// What makes pods that are to run on, and keeps what they run.
fn of_templates(
    by: &dyn Fn(&'static str) -> Client,
    indexes: &Indexes,
    config: &Config,
) -> Result<Vec<Arc<dyn Controller>>, Error> {
    let (index, images) = (|| indexes.clone(), || config.images.clone());
    Ok(vec![
        Arc::new(deployment::Deployments::new(by("deployment-controller"), index())?),
        Arc::new(replicaset::ReplicaSets::new(by("replicaset-controller"), index(), images())?),
        Arc::new(replicaset::ReplicaSets::of_replication_controllers(
            by("replication-controller"),
            index(),
            images(),
        )?),
        Arc::new(daemonset::DaemonSets::new(by("daemon-set-controller"), index(), images())?),
        Arc::new(statefulset::StatefulSets::new(by("statefulset-controller"), index(), images())?),
        Arc::new(pins::ImagePins::new(by("image-controller"), index(), images())?),
    ])
}

/// What says how many pods there may be, and are to be.
fn of_numbers(
    by: &dyn Fn(&'static str) -> Client,
    indexes: &Indexes,
    config: &Config,
) -> Result<Vec<Arc<dyn Controller>>, Error> {
    Ok(vec![
        Arc::new(disruption::Disruptions::new(by("disruption-controller"), indexes.clone())?),
        Arc::new(horizontal_pod_autoscaler::HorizontalPodAutoscalers::new(
            by("horizontal-pod-autoscaler"),
            indexes.clone(),
            config.usage.clone(),
        )?),
    ])
}

/// What says how requests are let in and admitted.
fn of_requests(
    by: &dyn Fn(&'static str) -> Client,
    indexes: &Indexes,
) -> Result<Vec<Arc<dyn Controller>>, Error> {
    Ok(vec![
        Arc::new(flow_schemas::FlowSchemas::new(by("api-priority-and-fairness"), indexes.clone())?),
        Arc::new(policy_typing::PolicyTyping::new(by(
            "validatingadmissionpolicy-status-controller",
        ))?),
    ])
}

/// What makes pods that come to an end.
fn of_batch(
    by: &dyn Fn(&'static str) -> Client,
    indexes: &Indexes,
    config: &Config,
) -> Result<Vec<Arc<dyn Controller>>, Error> {
    let images = config.images.clone();
    Ok(vec![
        Arc::new(job::Jobs::new(by("job-controller"), indexes.clone(), images)?),
        Arc::new(cron_job::CronJobs::new(by("cronjob-controller"), indexes.clone())?),
        Arc::new(ttl_after_finished::TtlAfterFinished::new(by("ttl-after-finished-controller"))?),
    ])
}

/// What is about the clusters of the fleet.
fn of_the_fleet(
    by: &dyn Fn(&'static str) -> Client,
    indexes: &Indexes,
    config: &Config,
) -> Result<Vec<Arc<dyn Controller>>, Error> {
    let hub = fleet::HubAccess {
        url: config.api_url.clone(),
        ca_pem: config.ca_pem.clone(),
        authority: config.authority.clone(),
        rights: config.rights.clone(),
    };
    Ok(vec![
        Arc::new(fleet::ClusterSets::new(by("managedclusterset-controller"), indexes.clone())?),
        Arc::new(fleet::SetBindings::new(by("managedclustersetbinding-controller"))?),
        Arc::new(fleet::ManagedNamespaces::new(
            by("managed-namespace-controller"),
            indexes.clone(),
            &config.ca_pem,
        )?),
        Arc::new(fleet::ClusterProfiles::new(by("clusterprofile-controller"), indexes.clone())?),
        Arc::new(fleet::MulticlusterDecisions::new(by("multicluster-decision-controller"))?),
        Arc::new(fleet::ClusterClaims::new(by("managedcluster-claim-controller"))?),
        Arc::new(fleet::ClusterTaints::new(by("managedcluster-taint-controller"))?),
        Arc::new(fleet::ClusterNamespaces::new(by("managedcluster-namespace-controller"))?),
        Arc::new(fleet::ClusterRoles::new(by("managedcluster-role-controller"))?),
        Arc::new(fleet::Placements::new(by("placement-controller"), indexes.clone())?),
        Arc::new(fleet::Works::new(
            by("manifestwork-controller"),
            &config.ca_pem,
            config.rights.clone(),
        )?),
        Arc::new(fleet::WorkSets::new(by("manifestworkreplicaset-controller"), indexes.clone())?),
        Arc::new(fleet::AddOns::new(by("addon-manager"), indexes.clone())?),
        Arc::new(fleet::AddOnInstances::new(by("addon-agent-controller"), indexes.clone(), hub)?),
        Arc::new(fleet::AddOnFeatures::new(by("addon-feature-controller"))?),
    ])
}

/// What is about who callers are, and what they may do.
fn of_identities(
    by: &dyn Fn(&'static str) -> Client,
    config: &Config,
) -> Result<Vec<Arc<dyn Controller>>, Error> {
    let (tokens, authority) = (&config.tokens, &config.authority);
    let (ca, tokens_by) = (&config.ca_pem, by("tokens-controller"));
    let trust = by("cluster-authentication-trust-controller");
    Ok(vec![
        Arc::new(namespace::AuthenticationTrust::new(trust, ca.clone())?),
        Arc::new(roles::BootstrapPolicy::new(by("rbac-bootstrap"))?),
        Arc::new(roles::RoleAggregation::new(by("clusterrole-aggregation-controller"))?),
        Arc::new(token_secrets::TokenSecrets::new(tokens_by, tokens.clone(), ca)?),
        Arc::new(signing::Signing::new(by("csrsigning-controller"), authority.clone())?),
        Arc::new(signing::Cleaner::new(by("csrcleaner-controller"), authority.clone())?),
    ])
}
