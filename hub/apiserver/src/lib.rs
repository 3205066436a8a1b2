//! The Kubernetes API over HTTPS.
//!
//! ```text
//! server     listener, TLS, HTTP/1.1 and HTTP/2, bounds, shutdown   (connection_slots, socket, stream, shutdown)
//! edge       what holds for every answer   (host, respond, request_body, body, piece, sending, send_backlog, memory_account)
//! trail, tls, context  a request's number, spans and events (audit); certificates; what all requests share
//! dispatch   caller ▸ cluster ▸ path ▸ permission ▸ objects, or what is no resource
//!   path, query, media   what the URL and the headers say
//!   tenant, authn, authz which logical cluster, as long as it is there; who calls, what they may do   (access, tokens)
//!   resource             verb ▸ permission ▸ call, which is one request for objects   (request_deadline)
//!     read, watch          get, list; watch          (encode, frame, frame_cache, splice, converted, lease)
//!     write, apply, delete create, update, patch; server-side apply; delete   (decode)
//!     scale, bind, connect subresources with a body of their own; ways in, as rules see them
//!     proxy, streaming     what a device counts; logs, and streams to pods   (device)
//!     objectless, usage, computed  without stored objects: reviews; what pods take; what the hub is   (review, samples)
//!   describe, registry   what the hub says about itself: discovery, openapi, health; the image registry's paths
//! flow       how many requests are under way, and how much of large answers   (fair_pool, large_answers, workers); what is
//!            counted of them (request_metrics, series)
//! ```
//!
//! Guarantees:
//! - a stranger reads the version and health, and else a Status that says why not
//!   (`strangers_read_the_version_and_health_and_nothing_else`);
//! - what does not exist is a Status, too (`paths_and_methods_that_do_not_exist_say_so`);
//! - answers are kube-apiserver's, but for what is listed with its reason (`answers_are_those_of_kube_apiserver`).

mod access;
mod apply;
mod audit;
pub mod authn;
pub mod authz;
mod bind;
pub mod body;
mod call;
mod computed;
mod connect;
mod connection_slots;
mod context;
mod converted;
mod decode;
mod delete;
mod describe;
mod discovery;
mod dispatch;
mod edge;
mod encode;
mod flow;
mod frame;
mod frame_cache;
pub mod health;
mod host;
mod lease;
mod media;
mod memory_account;
mod objectless;
mod openapi;
mod path;
mod piece;
mod proxy;
mod query;
mod read;
mod registry;
mod request_body;
mod request_metrics;
mod resource;
mod respond;
mod review;
mod scale;
mod send_backlog;
mod sending;
mod series;
mod server;
mod shutdown;
mod socket;
mod splice;
mod stream;
mod streaming;
mod tenant;
pub mod tls;
mod tokens;
mod trail;
mod usage;
mod watch;
mod write;

pub use access::{Access, AccessOptions, CallerRights, Fetch, Remote, WantedRight};
pub use authn::User;
pub use authz::{CLUSTER_ADMIN, CONFINED};
pub use context::{Extra, Server};
pub use flow::Bounds;
use freewheel_hub_schema::view;
pub use health::Check;
pub use piece::BodyError;
pub use registry::{LoggedIn, Permitted};
pub use request_body::RequestBody;
pub use server::{Limits, serve};
pub use streaming::ServiceDialer;
pub use tls::{Tls, TlsError};
pub use tokens::{Issuer, PodToken};
pub use usage::{ContainerUsage, PodUsage, Usage};
