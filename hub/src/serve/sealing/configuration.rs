//! The file of `--encryption-provider-config`: an EncryptionConfiguration of apiserver.config.k8s.io/v1, as kube-apiserver
//! has it.
//!
//! Of the providers there are `aesgcm` and `identity`. `aesgcm` stands for this hub's own form of it, in which each value
//! has a key of its own, so that its keys need not be changed after so many writes as upstream's.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use freewheel_hub_pki::SealingKey;
use serde::Deserialize;
use serde::de::IgnoredAny;

const GROUP_VERSION: &str = "apiserver.config.k8s.io/v1";

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigurationError(String);

/// Which resources are sealed with which keys.
#[derive(Default)]
pub struct EncryptionConfiguration(Vec<Entry>);

struct Entry {
    resources: Vec<String>,
    providers: Vec<Provider>,
}

/// How values are kept.
enum Provider {
    /// Sealed with the first of these keys.
    Sealed(Vec<SealingKey>),
    /// Open.
    Identity,
}

/// What is to become of values of one resource.
#[derive(Clone, Copy)]
pub struct Wanted<'a>(&'a Entry);

impl<'a> Wanted<'a> {
    /// The key that seals them; `None` where they lie open.
    pub fn first(self) -> Option<&'a SealingKey> {
        match self.0.providers.first() {
            Some(Provider::Sealed(keys)) => keys.first(),
            Some(Provider::Identity) | None => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<FileEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    resources: Vec<String>,
    providers: Vec<FileProvider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileProvider {
    aesgcm: Option<FileKeys>,
    identity: Option<IgnoredAny>,
    aescbc: Option<IgnoredAny>,
    secretbox: Option<IgnoredAny>,
    kms: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKeys {
    keys: Vec<FileKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    name: String,
    secret: String,
}

impl EncryptionConfiguration {
    /// Reads its text, YAML or JSON.
    ///
    /// # Errors
    /// When it is none, or asks for what is not done here.
    pub fn read(text: &str) -> Result<Self, ConfigurationError> {
        // What the parser says of a text may show a piece of it, and there are keys in this one.
        let file = serde_saphyr::from_str::<File>(text).map_err(|error| {
            let line = error.location().map(|place| format!(", line {}", place.line()));
            let line = line.unwrap_or_default();
            wrong(format!("it cannot be read as an EncryptionConfiguration{line}"))
        })?;
        let File { api_version, kind, resources } = file;
        if (&*api_version, &*kind) != (GROUP_VERSION, "EncryptionConfiguration") {
            return Err(wrong(format!(
                "it is {kind} of {api_version}, and not EncryptionConfiguration of {GROUP_VERSION}"
            )));
        }
        resources.into_iter().map(Entry::read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What it says of a resource, by the first entry that names it.
    pub fn provider(&self, resource: &str) -> Option<Wanted<'_>> {
        self.0.iter().find(|entry| entry.names(resource)).map(Wanted)
    }

    /// All its keys.
    pub fn keys(&self) -> impl Iterator<Item = &SealingKey> {
        self.0.iter().flat_map(|entry| &entry.providers).flat_map(|provider| match provider {
            Provider::Sealed(keys) => keys.as_slice(),
            Provider::Identity => &[],
        })
    }
}

impl Entry {
    fn read(entry: FileEntry) -> Result<Self, ConfigurationError> {
        let FileEntry { resources, providers } = entry;
        if resources.is_empty() || providers.is_empty() {
            return Err(wrong("an entry needs resources and providers".to_owned()));
        }
        if let Some(bad) = resources.iter().find(|name| name.is_empty() || *name == "*") {
            return Err(wrong(format!(
                "{bad:?} is no resource: there are RESOURCE, RESOURCE.GROUP, *.GROUP, *. for the core group and *.*"
            )));
        }
        let providers = providers.into_iter().map(Provider::read).collect::<Result<_, _>>()?;
        Ok(Self { resources, providers })
    }

    fn names(&self, resource: &str) -> bool {
        let group = resource.split_once('.').map_or("", |(_, group)| group);
        self.resources.iter().any(|named| match named.strip_prefix("*.") {
            Some("*") => true,
            Some(of) => of == group,
            None => named == resource,
        })
    }
}

impl Provider {
    fn read(provider: FileProvider) -> Result<Self, ConfigurationError> {
        let FileProvider { aesgcm, identity, aescbc, secretbox, kms } = provider;
        for (there, name) in [(aescbc, "aescbc"), (secretbox, "secretbox"), (kms, "kms")] {
            if there.is_some() {
                return Err(wrong(format!(
                    "the provider {name} is not there: this hub has aesgcm and identity"
                )));
            }
        }
        match (aesgcm, identity) {
            (Some(FileKeys { keys }), None) if !keys.is_empty() => {
                keys.into_iter().map(key).collect::<Result<_, _>>().map(Self::Sealed)
            }
            (Some(_), None) => Err(wrong("aesgcm needs keys".to_owned())),
            (None, Some(_)) => Ok(Self::Identity),
            (None, None) | (Some(_), Some(_)) => {
                Err(wrong("each provider is one of aesgcm and identity".to_owned()))
            }
        }
    }
}

fn key(FileKey { name, secret }: FileKey) -> Result<SealingKey, ConfigurationError> {
    let decoded = BASE64_STANDARD.decode(&secret);
    let decoded =
        decoded.map_err(|_| wrong(format!("the secret of the key {name:?} is no base64")))?;
    if !matches!(decoded.len(), 16 | 24 | 32) {
        let length = decoded.len();
        return Err(wrong(format!(
            "the secret of the key {name:?} has {length} bytes, and needs 16, 24 or 32"
        )));
    }
    Ok(SealingKey::of(&decoded))
}

fn wrong(why: String) -> ConfigurationError {
    ConfigurationError(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(entries: &str) -> String {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: [{entries}]"
        )
    }

    const KEY: &str = "{name: a, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}";

    #[test]
    fn a_configuration_is_obeyed_or_refused() {
        let sealed = format!(
            "{{resources: [secrets, '*.apps'], providers: [{{aesgcm: {{keys: [{KEY}]}}}}, {{identity: {{}}}}]}}, \
             {{resources: ['*.'], providers: [{{identity: {{}}}}]}}"
        );
        let read = EncryptionConfiguration::read(&file(&sealed)).unwrap();
        assert_eq!(read.keys().count(), 1);
        for (resource, is) in [
            ("secrets", Some(true)),
            ("deployments.apps", Some(true)),
            ("secrets.example.com", None),
            ("configmaps", Some(false)),
            ("tokensigners.internal", None),
        ] {
            let wanted = read.provider(resource).map(|wanted| wanted.first().is_some());
            assert_eq!(wanted, is, "{resource}");
        }
        let all = "{resources: ['*.*'], providers: [{identity: {}}]}";
        let all = EncryptionConfiguration::read(&file(all)).unwrap();
        assert!(all.provider("x.example.com").is_some_and(|wanted| wanted.first().is_none()));
    }

    #[test]
    fn what_is_not_done_is_refused_and_no_key_is_shown() {
        for (entry, why) in [
            ("{resources: [], providers: [{identity: {}}]}", "needs resources"),
            ("{resources: [a], providers: []}", "and providers"),
            ("{resources: ['*'], providers: [{identity: {}}]}", "is no resource"),
            ("{resources: [a], providers: [{aescbc: {keys: []}}]}", "aescbc is not there"),
            ("{resources: [a], providers: [{secretbox: {keys: []}}]}", "secretbox is not there"),
            ("{resources: [a], providers: [{kms: {name: x}}]}", "kms is not there"),
            ("{resources: [a], providers: [{aesgcm: {keys: []}}]}", "needs keys"),
            ("{resources: [a], providers: [{}]}", "one of aesgcm and identity"),
            (
                "{resources: [a], providers: [{aesgcm: {keys: [{name: k, secret: 'TOPSECRET!'}]}}]}",
                "\"k\" is no base64",
            ),
            (
                "{resources: [a], providers: [{aesgcm: {keys: [{name: k, secret: VE9QU0VDUkVU}]}}]}",
                "has 9 bytes",
            ),
            ("{resources: [a], providers: [{aesgcm: TOPSECRET}]}", "cannot be read"),
            ("{resources: [a], provider: TOPSECRET}", "cannot be read"),
        ] {
            let said = EncryptionConfiguration::read(&file(entry)).err().unwrap().to_string();
            assert!(said.contains(why), "{why}: {said}");
            assert!(!said.contains("TOPSECRET") && !said.contains("VE9Q"), "{said}");
        }
        assert!(EncryptionConfiguration::read("kind: Pod\napiVersion: v1").is_err());
    }
}
