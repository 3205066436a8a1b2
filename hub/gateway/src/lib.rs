//! The hub's side of the link: who may connect, what they are told, what is made of what they say.
//!
//! ```text
//! spoke_identity  what a spoke's certificate says, and whether that is let in
//! renew      a new certificate for a known key     duplicates  two devices with one identity     token_bucket  its rate
//! gateway    takes connections and gives each to whom its protocol is for     inner  what all of them share
//! links      connections in force     joins  how many devices join at a time     fair_eviction  who makes room for whom
//! tokens     what devices join with     deleted_clusters  what is remembered of a cluster goes with it
//! enrol, joining, register, issue  a token and a key become a certificate, after two yeses     own_api  where its API is served
//! epochs     which of a spoke's sessions is the newest     session_ends  whose end is not written yet
//! handshakes, pending_sessions, opening  from a first packet to a session in force
//! session, live_session  one connected spoke, and what its parts share     session_end  why it is over
//! session_writer  what is sent to it, and whether it reads that     plan_sync  when and how it is told what it should hold
//! change_fanout  which spokes look again after a change, and at what     sync_signal  what waits for one of them
//! view       what a plan reads     bound_pods  which pods are where     pod_tokens, token_renewal  their tokens, in time
//! pod_cidr_leases  which spoke has which pod addresses      leasing  one that lacks some gets them
//! services, config_records  translated once for all spokes     config_readers  whose pods name what     datagrams  UDP
//! reports, events, node  what spokes say, as objects     device, device_labels  the newest that one says of itself
//! object_refs  where objects are, and of which a spoke may speak     observed  which generations of pods it has seen
//! refusals   what cannot be planned, where its user looks     device_orders, receipts  decommissioned, and when
//! compiling, compile_waits  whose pods wait for a compiler, in how many streams     reported  which reports are durable
//! incarnation  which life of the store this is     plan_metrics, session_metrics  what is counted, and where it is shown
//! session_records  sessions, leases of pod ranges in the store     stale_sessions  those of this hub's earlier life
//! streams    modules, logs, figures, tunnels     relays  how many each spoke may have     host_memory  how much there is
//! writes     what a session writes, whatever the disk says     pending_reports, write_room  what waits     answers
//! ```
//!
//! Guarantees:
//! - nobody has a session whose key the handshake has not proven, or whom the hub's owner does not let in
//!   (`over_quic_a_device_joins_once_the_pinned_ca_is_right`, `a_certificate_speaks_for_its_own_cluster_only`);
//! - strangers keep no device out with handshakes (`handshakes_that_never_end_keep_no_device_out`), and with joins none
//!   that has a good token for longer than a moment (`strangers_keep_nobody_with_a_good_token_out`).

mod answers;
mod bound_pods;
mod change_fanout;
mod compile_waits;
mod compiling;
mod config_readers;
mod config_records;
mod datagrams;
mod deleted_clusters;
mod device;
mod device_labels;
mod device_orders;
pub mod duplicates;
mod enrol;
mod epochs;
mod events;
mod fair_eviction;
mod gateway;
mod handshakes;
pub mod host_memory;
mod incarnation;
mod inner;
mod issue;
mod joining;
mod joins;
mod leasing;
mod links;
mod live_session;
mod node;
mod object_refs;
mod observed;
mod opening;
mod own_api;
mod pending_reports;
mod pending_sessions;
mod plan_metrics;
mod plan_sync;
mod pod_cidr_leases;
mod pod_tokens;
mod receipts;
mod refusals;
mod register;
mod relays;
mod renew;
mod reported;
mod reports;
mod services;
mod session;
mod session_end;
mod session_ends;
mod session_metrics;
mod session_records;
mod session_writer;
pub mod spoke_identity;
mod stale_sessions;
mod streams;
mod sync_signal;
mod token_bucket;
mod token_renewal;
mod tokens;
mod view;
mod write_room;
mod writes;

pub use freewheel_hub_plan::TokensAsked;
pub use gateway::{Gateway, Identity, SetupError};
pub use pod_tokens::PodTokens;
