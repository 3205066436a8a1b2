//! Keys and values on disk, frozen as versions 1 and 2.
//!
//! ```text
//! key    resource 00 cluster 00 namespace 00 name
//! value  01  sum (8)  postcard(HeaderV1)  body
//!        02  sum (8)  what a sealer makes of the same
//! ```
//!
//! The sum is the head of a SHA-256 over the key and everything after the sum.
//!
//! Guarantees:
//! - keys sort on disk as they sort in memory (`keys_sort_on_disk_as_in_memory`);
//! - a value of an unknown version is refused (`what_cannot_be_read_is_refused`);
//! - and so is one whose bytes, or whose key's, are not those that were written
//!   (`a_bit_that_flips_in_a_value_or_its_key_is_noticed`).

use bytes::Bytes;
use freewheel_hub_schema::object::{Header, Key, Object, Owner, Resource};
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use serde::{Deserialize, Serialize};

use crate::{Revision, SealError, Sealer, Stored};

const VALUE_VERSION: u8 = 1;
const SEALED_VERSION: u8 = 2;
/// Where the sum ends and what it is about begins.
const SUM_PREFIX_BYTES: usize = 1 + size_of::<u64>();

/// What of an object is not its body. Frozen: another field is another version.
#[derive(Serialize, Deserialize)]
struct HeaderV1<'a> {
    created: Revision,
    revision: Revision,
    uid: &'a str,
    generation: i64,
    #[serde(borrow)]
    labels: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    owners: Vec<OwnerV1<'a>>,
    #[serde(borrow)]
    finalizers: Vec<&'a str>,
    deleting: bool,
    #[serde(borrow)]
    fields: Vec<(&'a str, &'a str)>,
}

#[derive(Serialize, Deserialize)]
struct OwnerV1<'a> {
    api_version: &'a str,
    kind: &'a str,
    name: &'a str,
    uid: &'a str,
    controller: bool,
    block_deletion: bool,
}

/// What on disk cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A key that is not four parts of text.
    #[error("a key is malformed: {0:?}")]
    Key(Vec<u8>),
    /// A value of a version that this build does not know.
    #[error("a value has version {0}, this build knows {VALUE_VERSION} and {SEALED_VERSION}")]
    Version(u8),
    /// A value that ends early or holds what it may not.
    #[error("a value is malformed")]
    Value,
    /// A value or its key is not what was written.
    #[error("the value of {0} is not what was written")]
    Sum(String),
    /// A value that is sealed.
    #[error(transparent)]
    Sealed(#[from] SealError),
}

/// What cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritable {
    #[error(transparent)]
    Encoding(#[from] postcard::Error),
    #[error(transparent)]
    Sealed(#[from] SealError),
}

/// What the bytes of a key and of its value's rest add up to.
fn sum(key: &[u8], rest: &[u8]) -> u64 {
    // The length keeps a byte that moves from one to the other from going unnoticed.
    let length = (key.len() as u64).to_le_bytes();
    let digest = Digest::of(&[&length, key, rest].concat());
    let mut head = [0; size_of::<u64>()];
    head.copy_from_slice(&digest.0[..size_of::<u64>()]);
    u64::from_le_bytes(head)
}

/// The sum of numbers that belong together, such as those of the store itself.
pub(super) fn sum_of(numbers: &[u64]) -> u64 {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    sum(&[], &bytes)
}

/// The sum that a value says of itself.
pub(super) fn sum_in(value: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(value.get(1..SUM_PREFIX_BYTES)?.try_into().ok()?))
}

/// The resource that a key is of.
fn resource_of(key: &[u8]) -> &str {
    let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
    std::str::from_utf8(&key[..end]).unwrap_or_default()
}

/// Whether a value lies under its key as it would be written now.
pub(super) fn is_current(key: &[u8], value: &[u8], sealer: &dyn Sealer) -> bool {
    let rest = value.get(SUM_PREFIX_BYTES..).unwrap_or_default();
    let sealed = value.first().is_some_and(|version| *version == SEALED_VERSION);
    sealer.is_current(resource_of(key), sealed.then_some(rest))
}

/// Bytes of a key.
pub(super) fn encode_key(key: &Key, out: &mut Vec<u8>) {
    out.clear();
    for part in [key.resource.as_str(), key.cluster.as_str(), &key.namespace] {
        out.extend_from_slice(part.as_bytes());
        out.push(0);
    }
    out.extend_from_slice(key.name.as_bytes());
}

/// The key behind the bytes. `last` is the one before, to share its strings.
pub(super) fn decode_key(bytes: &[u8], last: Option<&Key>) -> Result<Key, Unreadable> {
    let malformed = || Unreadable::Key(bytes.to_vec());
    let text = std::str::from_utf8(bytes).map_err(|_| malformed())?;
    let mut parts = text.splitn(4, '\0');
    let mut next = || parts.next().ok_or_else(malformed);
    let (resource, cluster, namespace, name) = (next()?, next()?, next()?, next()?);
    let resource = match last.filter(|last| last.resource.as_str() == resource) {
        Some(last) => last.resource.clone(),
        None => match resource.split_once('.') {
            Some((plural, group)) => Resource::new(group, plural),
            None => Resource::new("", resource),
        },
    };
    let namespace = match last.filter(|last| &*last.namespace == namespace) {
        Some(last) => last.namespace.clone(),
        None => namespace.into(),
    };
    let cluster = ClusterName::try_from(cluster).map_err(|_| malformed())?;
    Ok(Key { resource, cluster, namespace, name: name.into() })
}

/// Bytes of what is stored under a key, whose bytes are `key`; answers their sum.
pub(super) fn encode_value(
    key: &[u8],
    stored: &Stored,
    sealer: &dyn Sealer,
    out: &mut Vec<u8>,
) -> Result<u64, Unwritable> {
    let header = &stored.object.header;
    let frozen = HeaderV1 {
        created: stored.created,
        revision: stored.revision,
        uid: &header.uid,
        generation: header.generation,
        labels: header.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        owners: header.owners.iter().map(OwnerV1::from).collect(),
        finalizers: header.finalizers.iter().map(String::as_str).collect(),
        deleting: header.deleting,
        fields: header.fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
    };
    out.clear();
    out.push(VALUE_VERSION);
    out.extend_from_slice(&[0; size_of::<u64>()]);
    let mut written = postcard::to_extend(&frozen, std::mem::take(out))?;
    written.extend_from_slice(&stored.object.body);
    let resource = resource_of(key);
    if sealer.seals(resource) {
        let plain = written.split_off(SUM_PREFIX_BYTES);
        written[0] = SEALED_VERSION;
        sealer.seal(resource, key, &plain, &mut written)?;
    }
    let sum = sum(key, &written[SUM_PREFIX_BYTES..]);
    written[1..SUM_PREFIX_BYTES].copy_from_slice(&sum.to_le_bytes());
    *out = written;
    Ok(sum)
}

/// What is stored under a key, whose bytes are `key_bytes`, from its bytes.
pub(super) fn decode_value(
    key: Key,
    key_bytes: &[u8],
    bytes: &[u8],
    sealer: &dyn Sealer,
) -> Result<Stored, Unreadable> {
    let version = *bytes.first().ok_or(Unreadable::Value)?;
    if !matches!(version, VALUE_VERSION | SEALED_VERSION) {
        return Err(Unreadable::Version(version));
    }
    let stored = sum_in(bytes).ok_or(Unreadable::Value)?;
    let rest = &bytes[SUM_PREFIX_BYTES..];
    if stored != sum(key_bytes, rest) {
        return Err(Unreadable::Sum(String::from_utf8_lossy(key_bytes).replace('\0', "/")));
    }
    if version == SEALED_VERSION {
        return decode_plain(key, &sealer.open(key_bytes, rest)?);
    }
    decode_plain(key, rest)
}

fn decode_plain(key: Key, plain: &[u8]) -> Result<Stored, Unreadable> {
    let (frozen, body): (HeaderV1<'_>, &[u8]) =
        postcard::take_from_bytes(plain).map_err(|_| Unreadable::Value)?;
    let owned = |pairs: Vec<(&str, &str)>| {
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    };
    let header = Header {
        uid: frozen.uid.into(),
        generation: frozen.generation,
        labels: owned(frozen.labels),
        owners: frozen.owners.iter().map(Owner::from).collect(),
        finalizers: frozen.finalizers.into_iter().map(str::to_owned).collect(),
        deleting: frozen.deleting,
        fields: owned(frozen.fields),
    };
    let object = Object { header, body: Bytes::copy_from_slice(body) };
    Ok(Stored { key, object, revision: frozen.revision, created: frozen.created })
}

impl<'a> From<&'a Owner> for OwnerV1<'a> {
    fn from(owner: &'a Owner) -> Self {
        Self {
            api_version: &owner.api_version,
            kind: &owner.kind,
            name: &owner.name,
            uid: &owner.uid,
            controller: owner.controller,
            block_deletion: owner.block_deletion,
        }
    }
}

impl From<&OwnerV1<'_>> for Owner {
    fn from(owner: &OwnerV1<'_>) -> Self {
        Self {
            api_version: owner.api_version.to_owned(),
            kind: owner.kind.to_owned(),
            name: owner.name.to_owned(),
            uid: owner.uid.into(),
            controller: owner.controller,
            block_deletion: owner.block_deletion,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Unsealed;

    /// Turns every bit round, of pods.
    struct Turns;

    impl Sealer for Turns {
        fn seals(&self, resource: &str) -> bool {
            resource == "pods"
        }

        fn seal(
            &self,
            _: &str,
            _: &[u8],
            plain: &[u8],
            out: &mut Vec<u8>,
        ) -> Result<(), SealError> {
            out.extend(plain.iter().map(|byte| !byte));
            Ok(())
        }

        fn open(&self, _: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
            Ok(sealed.iter().map(|byte| !byte).collect())
        }

        fn is_current(&self, resource: &str, sealed: Option<&[u8]>) -> bool {
            self.seals(resource) == sealed.is_some()
        }
    }

    #[test]
    fn a_sealed_value_is_the_sealed_form_of_a_plain_one() {
        let (mut plain, mut sealed, key) = (Vec::new(), Vec::new(), bytes(&stored().key));
        encode_value(&key, &stored(), &Unsealed, &mut plain).unwrap();
        let sum = encode_value(&key, &stored(), &Turns, &mut sealed).unwrap();
        assert_eq!((sealed[0], sum_in(&sealed)), (2, Some(sum)));
        let turned = sealed[SUM_PREFIX_BYTES..].iter().map(|byte| !byte);
        assert!(turned.eq(plain[SUM_PREFIX_BYTES..].iter().copied()));
        assert_eq!(decode_value(stored().key, &key, &sealed, &Turns).unwrap(), stored());
        let refused = decode_value(stored().key, &key, &sealed, &Unsealed).unwrap_err();
        assert!(matches!(refused, Unreadable::Sealed(SealError::NoKey(_))), "{refused}");
        for (value, under_turns, under_none) in [(&plain, false, true), (&sealed, true, false)] {
            assert_eq!(is_current(&key, value, &Turns), under_turns);
            assert_eq!(is_current(&key, value, &Unsealed), under_none);
        }
    }

    fn key(resource: (&str, &str), cluster: &str, namespace: &str, name: &str) -> Key {
        let cluster = ClusterName::try_from(cluster).unwrap();
        Key::new(&Resource::new(resource.0, resource.1), &cluster, namespace, name)
    }

    fn bytes(key: &Key) -> Vec<u8> {
        let mut out = Vec::new();
        encode_key(key, &mut out);
        out
    }

    #[test]
    fn key_bytes_are_frozen() {
        let pod = key(("", "pods"), "root", "default", "web");
        assert_eq!(bytes(&pod), b"pods\0root\0default\0web");
        let role = key(("rbac.authorization.k8s.io", "clusterroles"), "pi-7", "", "system:admin");
        assert_eq!(bytes(&role), b"clusterroles.rbac.authorization.k8s.io\0pi-7\0\0system:admin");
        for key in [pod, role] {
            assert_eq!(decode_key(&bytes(&key), None).unwrap(), key);
        }
    }

    #[test]
    fn keys_sort_on_disk_as_in_memory() {
        let mut keys = Vec::new();
        for resource in [("", "pods"), ("apps", "pods"), ("", "pod"), ("", "podtemplates")] {
            for cluster in ["a", "a-b", "a1", "root"] {
                for namespace in ["", "a", "a-b", "a.b", "ab"] {
                    keys.extend(
                        ["", "a", "a-1", "a.1", "aa"]
                            .map(|name| key(resource, cluster, namespace, name)),
                    );
                }
            }
        }
        keys.sort();
        let encoded: Vec<_> = keys.iter().map(bytes).collect();
        assert!(encoded.is_sorted());
    }

    /// Head of the SHA-256 of the key's length, the key and the rest below.
    const SUM: [u8; 8] = [0x9c, 0xc6, 0xd9, 0x28, 0x44, 0x2a, 0x10, 0x0f];

    fn stored() -> Stored {
        let owner = Owner {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: "r".into(),
            uid: "o".into(),
            controller: true,
            block_deletion: false,
        };
        let header = Header {
            uid: "u".into(),
            generation: 2,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            owners: vec![owner],
            finalizers: vec!["f".into()],
            deleting: true,
            fields: [("spec.nodeName".to_owned(), "n".to_owned())].into(),
        };
        let object = Object { header, body: Bytes::from_static(b"{}") };
        Stored { key: key(("", "pods"), "root", "d", "p"), object, revision: 300, created: 3 }
    }

    #[test]
    fn value_bytes_are_frozen() {
        let (mut out, key) = (Vec::new(), bytes(&stored().key));
        let sum = encode_value(&key, &stored(), &Unsealed, &mut out).unwrap();
        assert_eq!(sum_in(&out), Some(sum));
        let expected = [
            &[1][..],
            &SUM,
            &[3, 0xac, 2],
            b"\x01u\x04",
            b"\x01\x01a\x01b",
            b"\x01\x07apps/v1\x0aReplicaSet\x01r\x01o\x01\x00",
            b"\x01\x01f",
            b"\x01",
            b"\x01\x0dspec.nodeName\x01n",
            b"{}",
        ]
        .concat();
        assert_eq!(out, expected);
        assert_eq!(decode_value(stored().key, &key, &out, &Unsealed).unwrap(), stored());
    }

    #[test]
    fn a_bit_that_flips_in_a_value_or_its_key_is_noticed() {
        let (mut out, key) = (Vec::new(), bytes(&stored().key));
        encode_value(&key, &stored(), &Unsealed, &mut out).unwrap();
        for bit in 0..out.len() * 8 {
            let mut flipped = out.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_value(stored().key, &key, &flipped, &Unsealed).is_err(), "bit {bit}");
        }
        for bit in 0..key.len() * 8 {
            let mut flipped = key.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                decode_value(stored().key, &flipped, &out, &Unsealed).is_err(),
                "bit {bit} of the key"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(
            decode_key(b"pods\0root\0x", None),
            Err(Unreadable::Key(b"pods\0root\0x".into()))
        );
        assert!(decode_key(b"pods\0Root\0x\0y", None).is_err());
        let decoded = |bytes: &[u8]| decode_value(stored().key, &[], bytes, &Unsealed);
        assert_eq!(decoded(&[]), Err(Unreadable::Value));
        assert_eq!(decoded(&[9, 1]), Err(Unreadable::Version(9)));
        assert_eq!(decoded(&[1, 3, 0xac]), Err(Unreadable::Value));
    }
}
