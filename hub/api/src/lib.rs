//! The kinds that are built in, and what of them more than one part of the hub has to know.
//!
//! ```text
//! kinds/     one file per kind, and the layer that all logical clusters share
//! admission_names  what expressions of admission may speak of, by type
//! conditions which conditions the hub writes, whose they are, and how one is put
//! cron       when a CronJob runs
//! device_orders  what devices are to do at their next contact: wipe, take another's name
//! http_annotations  how a pod's annotations say that it serves HTTP
//! images     what an `image:` stands for, as a trait
//! maintenance_window  when a cluster may be given something new
//! pins       what it stood for when it was looked up
//! pod_security  how safe pods have to be, as labels of their namespace ask for it
//! policy_typing  what the expressions of a ValidatingAdmissionPolicy say of objects that cannot be said of them
//! quota      what an object counts for in a ResourceQuota
//! rollout_annotations  what annotations of a ManifestWorkReplicaSet say of its rollout
//! scale      how many replicas a workload is to have, wherever its kind keeps that
//! streams    how a request reaches a spoke, as a trait
//! time_zone  which time zones there are
//! ```

mod admission_names;
pub mod conditions;
pub mod cron;
pub mod device_orders;
pub mod disruption;
pub mod http_annotations;
pub mod images;
pub mod kinds;
pub mod maintenance_window;
pub mod pins;
pub mod pod_security;
pub mod policy_typing;
pub mod quota;
pub mod rollout_annotations;
pub mod scale;
pub mod streams;
pub mod time_zone;

/// The version of Kubernetes whose API this is: what the server and its nodes say, and kubectl compares.
pub const KUBERNETES_VERSION: &str = "v1.36.2";
