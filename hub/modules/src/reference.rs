//! What an `image:` says: `[host/]repository[:tag][@digest]` (OCI distribution spec, grammar of names).

use freewheel_link::digest::Digest;

/// A parsed image reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The registry; `None` is the hub's own.
    pub host: Option<String>,
    /// The repository within it.
    pub repository: String,
    /// The tag, `latest` when neither tag nor digest is given.
    pub tag: String,
    /// The digest, which wins over the tag.
    pub digest: Option<Digest>,
}

/// Why a string is no [`Reference`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {why}")]
pub struct BadReference {
    text: String,
    why: &'static str,
}

/// Longest repository name, host included.
const NAME_BYTES_MAX: usize = 255;

impl std::str::FromStr for Reference {
    type Err = BadReference;

    fn from_str(raw: &str) -> Result<Self, BadReference> {
        let bad = |why| BadReference { text: raw.chars().take(NAME_BYTES_MAX).collect(), why };
        let (rest, digest) = match raw.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| bad("after '@' stands no sha256 digest"))?))
            }
            None => (raw, None),
        };
        // A colon after the last slash starts the tag; before it, a port.
        let tagged = rest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
        let (name, tag) = tagged.unwrap_or((rest, "latest"));
        let names_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
        let hosted = name.split_once('/').filter(|(first, _)| names_host(first));
        let (host, repository) = hosted.map_or((None, name), |(host, path)| (Some(host), path));
        if !host.is_none_or(is_host) {
            return Err(bad("before the first / stands no host"));
        }
        if NAME_BYTES_MAX < name.len() || !is_repository(repository) {
            return Err(bad(
                "a repository is of lower-case letters, digits and single . _ - between them, with / between its parts",
            ));
        }
        if !is_tag(tag) {
            return Err(bad(
                "a tag is of letters, digits, . _ -, does not start with . or -, and has at most 128 characters",
            ));
        }
        Ok(Self {
            host: host.map(str::to_owned),
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            digest,
        })
    }
}

fn is_host(host: &str) -> bool {
    host.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:".contains(&b))
}

/// Whether this is a repository name of the distribution spec.
#[must_use]
pub fn is_repository(name: &str) -> bool {
    let part = |part: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = part.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(b))
    };
    name.len() <= NAME_BYTES_MAX && name.split('/').all(part)
}

/// Whether this is a tag of the distribution spec.
#[must_use]
pub fn is_tag(tag: &str) -> bool {
    let first = tag.bytes().next();
    first.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag.len() <= 128
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, host: Option<&str>, repository: &str, tag: &str) {
        let reference: Reference = raw.parse().unwrap();
        assert_eq!(reference.host.as_deref(), host, "{raw}");
        assert_eq!(reference.repository, repository, "{raw}");
        assert_eq!(reference.tag, tag, "{raw}");
    }

    #[test]
    fn references() {
        check("hello", None, "hello", "latest");
        check("hello:v1", None, "hello", "v1");
        check("team/hello:v1", None, "team/hello", "v1");
        check("ghcr.io/team/hello:v1", Some("ghcr.io"), "team/hello", "v1");
        check("localhost:5000/hello", Some("localhost:5000"), "hello", "latest");
        let digest = Digest::of(b"x");
        let pinned: Reference = format!("hello@{digest}").parse().unwrap();
        assert_eq!(pinned.digest, Some(digest));
    }

    #[test]
    fn what_is_no_reference() {
        for raw in [
            "",
            "Hello",
            "hello:",
            "hello:-x",
            "a//b",
            "../up",
            "hello@sha256:12",
            &"a".repeat(300),
        ] {
            assert!(raw.parse::<Reference>().is_err(), "{raw}");
        }
    }
}
