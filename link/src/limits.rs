//! How large things may be between the API and a device's flash: one table, so that no layer takes what the
//! next one cannot carry.
//!
//! ```text
//! API body ─▶ object ─▶ record ─cut─▶ parts, each in a frame ─▶ plan ─▶ ledger entry
//!   3 MiB     1.5 MiB    8 MiB        256 KiB     1 MiB         32 MiB     64 MiB
//! ```
//!
//! And how much a link carries at a time: streams by kind, and what may wait unread in them.
//!
//! That no limit of this table is above what the layer behind it takes, the compiler checks below.
//!
//! Guarantees:
//! - whatever the API accepts becomes a record that the link carries, or a refusal that its user reads
//!   (`objects_as_large_as_the_api_takes_land_and_what_no_device_holds_is_refused_at_its_pod`,
//!   `a_record_of_any_size_that_a_hub_makes_is_carried`);
//! - what is read of somebody before anything is known of it is little, and all that may be asked fits
//!   (`what_is_read_before_anything_is_known_has_room_for_all_that_may_be_asked`);
//! - what a record counts for is never less than what it takes (`a_record_weighs_at_least_what_it_takes_on_the_wire`).

use crate::plan::{Record, RecordKey};

/// Body of a request to the API, as kube-apiserver has it.
pub const API_BODY_BYTES_MAX: usize = 3 << 20;
/// One object in the hub's store, as etcd's default request limit.
pub const API_OBJECT_BYTES_MAX: usize = 1_572_864;
/// All values of one ConfigMap or Secret.
pub const API_DATA_BYTES_MAX: usize = 1 << 20;
/// Mounts of all containers of a pod: each takes one or two of the files that a pod may have open on its device.
pub const POD_MOUNTS_MAX: usize = 128;
/// One record of a plan. Pods and configuration follow from one object; a Service's endpoints add up: 8 MiB are
/// some hundred thousand of them.
pub const RECORD_BYTES_MAX: usize = 8 << 20;
/// What one message on the link takes before it is sent: heartbeats and logs get between.
pub const PART_BYTES_MAX: usize = 256 << 10;
/// One message on the link.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// What a device asks with that nobody knows yet: its labels, a signing request and an old certificate. It is read before
/// anything else is known of it.
pub const ASK_BYTES_MAX: usize = 40 << 10;
/// What a stream begins with, at the longest a command with its words.
pub const OPENER_BYTES_MAX: usize = 40 << 10;
/// The same where a spoke opens it, at the longest a signing request. It is read before the stream has a place.
pub const SPOKE_OPENER_BYTES_MAX: usize = 8 << 10;
/// Whether what was asked for follows, and the reason why not.
pub const ANSWER_BYTES_MAX: usize = 2 << 10;
/// All records of a spoke together, and so everything that one plan puts. A device with 1 GiB holds this
/// many times over.
pub const PLAN_BYTES_MAX: usize = 32 << 20;
/// One entry of a spoke's ledger: a plan that puts all and removes as much.
pub const LEDGER_ENTRY_BYTES_MAX: usize = 64 << 20;

/// Logs that a link carries at a time, each way.
pub const LOG_STREAMS_MAX: usize = 32;
/// The most of them that are of pods of one realm: those of another find places.
pub const REALM_LOG_STREAMS_MAX: usize = 28;
/// Of those the ones that whom the cluster names leave to people of the root, and these to the hub itself.
pub const LOG_STREAMS_KEPT_FOR_FIRST: usize = 1;
/// Of the others the ones that nobody gets who reads many already: who comes later still finds some.
pub const LOG_STREAMS_KEPT_FREE: usize = 5;
/// Modules that a link carries at a time.
pub const MODULE_STREAMS_MAX: usize = 16;
/// Connections between pods that a link carries at a time, each way.
pub const TUNNELS_MAX: usize = 360;
/// The most of them that one realm has: another one finds places.
pub const REALM_TUNNELS_MAX: usize = 320;
/// Of those the ones that no spoke gets at the hub who has many already: who carries the connections of hundreds finds
/// hundreds, and others still find some.
pub const TUNNELS_KEPT_FREE: usize = 80;
/// The same of a client from outside at its node, as it may be a proxy. The hub knows only the node: what is kept from one
/// client is more there, so that all that it may have does not take up what its node may have at another one.
pub const CLIENT_TUNNELS_KEPT_FREE: usize = 120;
/// Streams to pods that a link carries at a time for clients of the API.
pub const POD_STREAMS_MAX: usize = 36;
/// The most of them that are to pods of one realm: those to another's find places.
pub const REALM_POD_STREAMS_MAX: usize = 30;
/// Of those the ones that whom the cluster names leave to people of the root, and these to the hub itself.
pub const POD_STREAMS_KEPT_FOR_FIRST: usize = 2;
/// Of the others the ones that nobody gets who has many already: who comes later still finds some.
pub const POD_STREAMS_KEPT_FREE: usize = 4;
/// Commands that a container runs at a time.
pub const CONTAINER_COMMANDS_MAX: usize = 8;
/// Of those the ones that whom the cluster names leave to people of the root, and these to probes of the device, which
/// are commands, too.
pub const CONTAINER_COMMANDS_KEPT_FOR_FIRST: usize = 1;
/// Of the others the ones that nobody gets who has many already.
pub const CONTAINER_COMMANDS_KEPT_FREE: usize = 1;
/// Certificates that are renewed over a link at a time.
pub const RENEWAL_STREAMS_MAX: usize = 1;
/// Times that a spoke tells at once what it counts.
pub const FIGURES_ANSWERS_AT_ONCE: usize = 1;
/// All that it tells then: some ten thousand containers.
pub const FIGURES_BYTES_MAX: usize = 2 << 20;
/// Pods, containers and other parts of that.
pub const FIGURES_MEMBERS_MAX: usize = 32_768;
/// Streams that a peer may have open: the session and all of the above. Quinn keeps a place for each of them,
/// and up to 448 cost no more than 256.
pub const STREAMS_MAX: usize = 448;
/// What may wait unread in one stream.
pub const STREAM_WINDOW_BYTES: usize = 128 << 10;
/// What may wait unread in all streams of a link, those of either side: none of them takes another's room, so
/// a connection that nobody reads stops nobody but itself.
pub const LINK_WINDOW_BYTES: usize = 2 * STREAMS_MAX * STREAM_WINDOW_BYTES;
/// The same for a peer that has not proven who it is: it asks one thing.
pub const STRANGER_WINDOW_BYTES: usize = 128 << 10;
/// Streams of a stranger.
pub const STRANGER_STREAMS_MAX: usize = 4;
/// Connections between spokes that one hub relays at a time. Each may make it hold two windows of unread bytes.
pub const RELAYS_MAX: usize = 4096;

/// What a record costs beside its key's text and its body: realm, kind, revision, needs and lengths.
pub const RECORD_OVERHEAD_BYTES: usize = 100;

const _: () = {
    assert!(API_DATA_BYTES_MAX < API_OBJECT_BYTES_MAX && API_OBJECT_BYTES_MAX < API_BODY_BYTES_MAX);
    // Numbers and digests beside an object's texts may make a record longer than its JSON, never twice.
    assert!(2 * API_OBJECT_BYTES_MAX <= RECORD_BYTES_MAX);
    assert!(2 * RECORD_BYTES_MAX <= PLAN_BYTES_MAX);
    assert!(2 * PART_BYTES_MAX <= FRAME_BYTES_MAX);
    assert!(2 * PLAN_BYTES_MAX <= LEDGER_ENTRY_BYTES_MAX);
    assert!(
        1 + LOG_STREAMS_MAX
            + MODULE_STREAMS_MAX
            + TUNNELS_MAX
            + POD_STREAMS_MAX
            + RENEWAL_STREAMS_MAX
            + FIGURES_ANSWERS_AT_ONCE
            <= STREAMS_MAX
    );
    assert!(REALM_TUNNELS_MAX < TUNNELS_MAX && CLIENT_TUNNELS_KEPT_FREE < REALM_TUNNELS_MAX / 2);
    // What one client has leaves its node as many at another one's link as two spokes would have to leave each other there.
    assert!(TUNNELS_KEPT_FREE / 2 <= CLIENT_TUNNELS_KEPT_FREE - TUNNELS_KEPT_FREE);
    // Whoever stands last in one realm leaves the first of another a place beyond those that are kept before them.
    assert!(2 * POD_STREAMS_KEPT_FOR_FIRST < POD_STREAMS_MAX - REALM_POD_STREAMS_MAX);
    assert!(2 * LOG_STREAMS_KEPT_FOR_FIRST < LOG_STREAMS_MAX - REALM_LOG_STREAMS_MAX);
    assert!(2 * POD_STREAMS_KEPT_FOR_FIRST + POD_STREAMS_KEPT_FREE < REALM_POD_STREAMS_MAX / 2);
    assert!(2 * LOG_STREAMS_KEPT_FOR_FIRST + LOG_STREAMS_KEPT_FREE < REALM_LOG_STREAMS_MAX / 2);
    assert!(
        2 * CONTAINER_COMMANDS_KEPT_FOR_FIRST + CONTAINER_COMMANDS_KEPT_FREE
            < CONTAINER_COMMANDS_MAX / 2
    );
    assert!(LINK_WINDOW_BYTES <= u32::MAX as usize);
    // Else who asks could say no more than waits unread, or make the hub hold more than that.
    assert!(2 * ASK_BYTES_MAX <= STRANGER_WINDOW_BYTES);
    assert!(STREAMS_MAX * SPOKE_OPENER_BYTES_MAX <= 4 << 20);
};

impl RecordKey {
    /// What it counts for in a plan: at least its bytes on the wire and in the ledger.
    #[must_use]
    pub const fn weight(&self) -> usize {
        RECORD_OVERHEAD_BYTES + self.key.len()
    }
}

impl Record {
    /// What it counts for in a plan: at least its bytes on the wire and in the ledger.
    #[must_use]
    pub const fn weight(&self) -> usize {
        self.key.weight() + self.body.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode;
    use crate::join::{Ask, JoinRequestV1, RenewRequestV1};
    use crate::message::{
        Answer, COMMAND_BYTES_MAX, COMMAND_WORDS_MAX, ExecV1, Open, RefusalV1, RenewV1,
    };
    use crate::names::ClusterName;
    use crate::plan::Kind;

    #[test]
    fn what_is_read_before_anything_is_known_has_room_for_all_that_may_be_asked() {
        let text = |bytes: usize| "t".repeat(bytes);
        let join = Ask::Join(JoinRequestV1 {
            token: text(64),
            name: text(63),
            csr: vec![1; 4096],
            labels: vec![(text(317), text(63)); 64],
            version: text(64),
        });
        assert!(join.is_bounded());
        let bytes = |frame: Vec<u8>| frame.len();
        assert!(bytes(encode(&join).unwrap()) <= ASK_BYTES_MAX);
        let renewal = RenewRequestV1 { csr: vec![1; 4096], certificate: vec![1; 4096] };
        assert!(renewal.is_bounded());
        assert!(bytes(encode(&Ask::Renew(renewal)).unwrap()) <= ASK_BYTES_MAX);
        let renewal = Open::Renew(RenewV1 { csr: vec![1; 4096] });
        assert!(bytes(encode(&renewal).unwrap()) <= SPOKE_OPENER_BYTES_MAX);
        let words = vec![text(COMMAND_BYTES_MAX / COMMAND_WORDS_MAX); COMMAND_WORDS_MAX];
        let (pod_uid, container) = (text(128), text(253));
        let exec = ExecV1 { pod_uid, container, command: words, stdin: true, tty: true };
        assert!(exec.is_bounded());
        assert!(bytes(encode(&Open::Exec(exec)).unwrap()) <= OPENER_BYTES_MAX);
        let refusal = RefusalV1::new(&text(100), text(5000));
        assert!(bytes(encode(&Answer::Refused(refusal)).unwrap()) <= ANSWER_BYTES_MAX);
    }

    #[test]
    fn a_record_weighs_at_least_what_it_takes_on_the_wire() {
        let realm = ClusterName::try_from("r".repeat(63).as_str()).unwrap();
        for (key, body) in [(1, 0), (36, 200), (253, 70_000), (600, API_OBJECT_BYTES_MAX)] {
            let key =
                RecordKey { realm: realm.clone(), kind: Kind(u16::MAX), key: "k".repeat(key) };
            let of = |bytes: Vec<u8>| bytes.len();
            assert!(of(postcard::to_stdvec(&key).unwrap()) <= key.weight());
            let record = Record { key, revision: u64::MAX, needs: u64::MAX, body: vec![1; body] };
            assert!(of(postcard::to_stdvec(&record).unwrap()) <= record.weight());
        }
    }
}
