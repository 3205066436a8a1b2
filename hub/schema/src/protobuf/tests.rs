//! Proven against Go: `fixtures/*.pb` is what k8s.io/api writes, `*.json` what it makes of the JSON.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{decode, encode, watch_frame};
use crate::gvk::split_api_version;
use crate::types::canonicalise;

fn fixtures(ending: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protobuf/fixtures");
    let mut out: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    out.sort();
    assert!(!out.is_empty(), "no fixture ends with {ending}");
    out
}

/// The JSON beside a fixture, canonical as ours is: without what Go writes as null.
fn beside(path: &Path, ending: &str) -> Value {
    let json = path.to_str().unwrap().replace(ending, ".json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    canonical(&mut value);
    value
}

fn canonical(value: &mut Value) {
    let api_version = value["apiVersion"].as_str().unwrap().to_owned();
    let kind = value["kind"].as_str().unwrap().to_owned();
    let (group, version) = split_api_version(&api_version);
    let unknown = canonicalise(value, (group, version, &*kind)).unwrap();
    assert_eq!(unknown.unknown, Vec::<String>::new(), "{kind}");
}

#[test]
fn what_go_wrote_is_read_as_go_reads_it() {
    for (path, bytes) in fixtures(".pb") {
        let value = decode(&bytes).unwrap();
        assert_eq!(value, beside(&path, ".pb"), "{}", path.display());
    }
}

#[test]
fn what_is_written_is_what_go_writes() {
    for (path, bytes) in fixtures(".pb") {
        let written = encode(&beside(&path, ".pb")).unwrap();
        // Free-form JSON keeps the caller's order of keys in Go and is sorted here.
        let again = decode(&written).unwrap();
        assert_eq!(again, decode(&bytes).unwrap(), "{}", path.display());
        if !path.to_str().unwrap().contains("filled") {
            assert_eq!(written, bytes, "{}", path.display());
        } else {
            assert_eq!(written.len(), bytes.len(), "{}", path.display());
        }
    }
}

#[test]
fn a_watch_frame_is_what_go_writes() {
    for (path, bytes) in fixtures(".watch") {
        let frame = watch_frame("ADDED", &beside(&path, ".watch")).unwrap();
        assert_eq!(frame, bytes, "{}", path.display());
    }
}

/// As the .proto of k8s.io/metrics has it, and as Go writes what it holds by value.
#[test]
fn metrics_are_written_by_their_numbers() {
    let window: [u8; 8] = [0x1a, 6, 8, 0x80, 0x8d, 0xb3, 0x88, 0x38];
    for kind in ["NodeMetrics", "PodMetrics"] {
        let mut value = json!({
            "apiVersion": "metrics.k8s.io/v1beta1", "kind": kind, "metadata": {"name": "a"},
            "timestamp": "2026-01-01T00:00:00Z", "window": "15.05s",
        });
        let usage = json!({"cpu": "5n", "memory": "1Ki"});
        let (field, what) = match kind {
            "NodeMetrics" => ("usage", usage),
            _ => ("containers", json!([{"name": "c", "usage": usage}])),
        };
        value[field] = what;
        canonical(&mut value);
        let written = encode(&value).unwrap();
        assert_eq!(decode(&written).unwrap(), value);
        assert!(written.windows(window.len()).any(|bytes| bytes == window), "{written:02x?}");
        // Map entries: key and Quantity, in field 4 of a node and in field 2 of a container.
        let number = if kind == "NodeMetrics" { 4 } else { 2 };
        let entry =
            [&[number << 3 | 2, 11, 0x0a, 3][..], b"cpu", &[0x12, 4, 0x0a, 2], b"5n"].concat();
        assert!(written.windows(entry.len()).any(|bytes| bytes == entry), "{written:02x?}");
    }
}

#[test]
fn all_of_the_year_9999_is_told() {
    let mut value = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "a", "creationTimestamp": "9999-12-31T23:59:59Z"},
        "spec": {"renewTime": "9999-12-31T23:59:59.999999Z", "acquireTime": "0001-01-01T00:00:01.500000Z"},
    });
    canonical(&mut value);
    assert_eq!(decode(&encode(&value).unwrap()).unwrap(), value);
}

#[test]
fn json_in_is_what_go_makes_of_it() {
    for (path, bytes) in fixtures(".in.json") {
        let mut value: Value = serde_json::from_slice(&bytes).unwrap();
        canonical(&mut value);
        assert_eq!(value, beside(&path, ".in.json"), "{}", path.display());
        let mut again = value.clone();
        canonical(&mut again);
        assert_eq!(again, value, "canonicalising twice: {}", path.display());
    }
}

/// Controllers read objects through k8s-openapi: what is canonical must fit its types.
#[test]
fn the_canonical_form_fits_the_types_of_k8s_openapi() {
    use k8s_openapi::api::{apps, certificates, coordination, core, discovery};
    fn fits<T: serde::de::DeserializeOwned>(mut value: Value) {
        canonical(&mut value);
        let kind = value["kind"].clone();
        if let Err(error) = serde_json::from_value::<T>(value) {
            panic!("{kind}: {error}");
        }
    }
    let empty = |api_version: &str, kind: &str| json!({"apiVersion": api_version, "kind": kind});
    fits::<core::v1::Pod>(empty("v1", "Pod"));
    fits::<core::v1::Node>(empty("v1", "Node"));
    fits::<core::v1::Service>(empty("v1", "Service"));
    fits::<core::v1::Namespace>(empty("v1", "Namespace"));
    fits::<core::v1::Endpoints>(empty("v1", "Endpoints"));
    fits::<core::v1::Event>(empty("v1", "Event"));
    fits::<core::v1::Secret>(empty("v1", "Secret"));
    fits::<coordination::v1::Lease>(empty("coordination.k8s.io/v1", "Lease"));
    fits::<discovery::v1::EndpointSlice>(empty("discovery.k8s.io/v1", "EndpointSlice"));
    fits::<apps::v1::Deployment>(empty("apps/v1", "Deployment"));
    fits::<apps::v1::ReplicaSet>(empty("apps/v1", "ReplicaSet"));
    let csr = empty("certificates.k8s.io/v1", "CertificateSigningRequest");
    fits::<certificates::v1::CertificateSigningRequest>(csr);
    for (path, bytes) in fixtures(".pb") {
        let value = decode(&bytes).unwrap();
        match value["kind"].as_str().unwrap() {
            "Pod" => fits::<core::v1::Pod>(value),
            "Node" => fits::<core::v1::Node>(value),
            "Service" => fits::<core::v1::Service>(value),
            "Deployment" => fits::<apps::v1::Deployment>(value),
            "EndpointSlice" => fits::<discovery::v1::EndpointSlice>(value),
            _ => assert!(value.is_object(), "{}", path.display()),
        }
    }
}

#[test]
fn hostile_bytes_are_refused_without_a_panic() {
    let (_, bytes) = fixtures("filled.core.v1.Pod.pb").remove(0);
    for (round, seed) in fixed_random().take(3000).enumerate() {
        let mut broken = bytes.clone();
        let place = usize::try_from(seed).unwrap() % broken.len();
        match round % 4 {
            0 => broken.truncate(place),
            1 => broken[place] ^= 0xff,
            2 => broken[place] = 0xff,
            _ => {
                broken.splice(place..place, [0xff; 9]);
            }
        }
        let _ = decode(&broken);
    }
    assert_eq!(decode(b"").unwrap_err().code, 400);
    assert_eq!(decode(b"k8s\0").unwrap_err().code, 415);
    assert_eq!(decode(b"k8s\0\x0a\xff\xff\xff\xff\x0f").unwrap_err().code, 400);
}

/// A fixed sequence, so that a failure is found again.
fn fixed_random() -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 16
    })
}

#[test]
fn a_message_of_empty_structs_does_not_eat_the_memory() {
    // Two bytes on the wire for each container.
    let spec: Vec<u8> = [0x12, 0x00].repeat(1_000_000);
    let mut raw = Vec::new();
    super::wire::put_bytes(&mut raw, 2, &spec);
    let mut meta = Vec::new();
    super::wire::put_bytes(&mut meta, 1, b"v1");
    super::wire::put_bytes(&mut meta, 2, b"Pod");
    let mut body = super::MAGIC.to_vec();
    super::wire::put_bytes(&mut body, 1, &meta);
    super::wire::put_bytes(&mut body, 2, &raw);
    let error = decode(&body).unwrap_err();
    assert_eq!(error.code, 400);
    assert!(error.message.contains("more values"), "{error}");
}

#[test]
fn a_schema_of_schemas_is_bounded_in_depth() {
    let put = super::wire::put_bytes;
    let nested = |number, inner: Vec<u8>| {
        let mut out = Vec::new();
        put(&mut out, number, &inner);
        out
    };
    let definition = |levels: usize| {
        // Each is what the one around it is not.
        let schema = (0..levels).fold(Vec::new(), |inner, _| nested(28, inner));
        let versions = nested(7, nested(4, nested(1, schema)));
        let mut body = super::MAGIC.to_vec();
        let mut meta = Vec::new();
        put(&mut meta, 1, b"apiextensions.k8s.io/v1");
        put(&mut meta, 2, b"CustomResourceDefinition");
        put(&mut body, 1, &meta);
        put(&mut body, 2, &nested(2, versions));
        body
    };
    assert!(decode(&definition(30)).is_ok());
    let error = decode(&definition(20_000)).unwrap_err();
    assert_eq!(error.code, 400);
    assert!(error.message.contains("nested deeper"), "{error}");
}

#[test]
fn kinds_without_protobuf_say_so() {
    let cluster =
        json!({"apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster"});
    assert_eq!(encode(&cluster).unwrap_err().code, 406);
    let table = json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table"});
    assert_eq!(encode(&table).unwrap_err().code, 406);
}
