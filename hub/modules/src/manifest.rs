//! A manifest as it is pushed: which blobs it stands on, which of them is the module, and what it says something of.

use freewheel_link::digest::Digest;
use serde::Deserialize;

/// Largest manifest in bytes (the distribution spec asks for 4 MiB at least).
pub(crate) const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// Most layers: a module has one, and each is looked for on the disk.
const MAX_LAYERS: usize = 1000;

/// Media types of a layer that is a module (CNCF Wasm layout, and what `oras` users write).
const MODULE_TYPES: [&str; 2] = ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];

/// What matters here of an OCI image manifest.
#[derive(Debug, Deserialize)]
pub(crate) struct ImageManifest {
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    /// Only an index of several manifests has it.
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    /// The manifest that it says something of.
    #[serde(default)]
    subject: Option<Descriptor>,
    /// What it is, where its configuration does not say so.
    #[serde(default, rename = "artifactType")]
    artifact_type: Option<String>,
    #[serde(default)]
    pub(crate) annotations: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    #[serde(default, rename = "mediaType")]
    media_type: String,
    #[serde(default)]
    digest: String,
    /// A layer that says where else it is need not be here.
    #[serde(default)]
    urls: Vec<String>,
}

/// Why a manifest is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadManifest {
    #[error("it is no image manifest: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "it is an index of several manifests, and a module is the same for every platform: push the one manifest by itself, \
         without a list of platforms"
    )]
    Index,
    #[error("a manifest has {MAX_LAYERS} layers at most")]
    TooManyLayers,
    #[error(
        "it has no layer that is a module (its layers: {0}); give the file its type when you push it, as in \
         `oras push HOST/NAME:TAG FILE.wasm:application/wasm`, or use `hub push FILE.wasm NAME:TAG`"
    )]
    NoModule(String),
    #[error(
        "{0} of its layers are modules, and a pod's image has one: push each under a name of its own, as in \
         `oras push HOST/NAME:TAG FILE.wasm:application/wasm`"
    )]
    Modules(usize),
    #[error(transparent)]
    Digest(#[from] freewheel_link::digest::NotADigest),
}

impl ImageManifest {
    /// Reads it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BadManifest> {
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.manifests.is_some() {
            return Err(BadManifest::Index);
        }
        if MAX_LAYERS < manifest.layers.len() {
            return Err(BadManifest::TooManyLayers);
        }
        Ok(manifest)
    }

    /// Digest of the manifest that it says something of. It need not be here, or not yet.
    pub(crate) fn subject(&self) -> Result<Option<Digest>, BadManifest> {
        Ok(self.subject.as_ref().map(|subject| subject.digest.parse()).transpose()?)
    }

    /// What it is (`artifactType` of its descriptor in a list).
    pub(crate) fn kind(&self) -> &str {
        let own = self.artifact_type.as_deref().filter(|own| !own.is_empty());
        own.or(self.config.as_ref().map(|config| &*config.media_type)).unwrap_or_default()
    }

    /// The one layer that is a module.
    pub(crate) fn component(&self) -> Result<Digest, BadManifest> {
        let modules: Vec<&Descriptor> = self
            .layers
            .iter()
            .filter(|layer| MODULE_TYPES.contains(&layer.media_type.as_str()))
            .collect();
        match modules.as_slice() {
            [module] => Ok(module.digest.parse()?),
            [] => Err(BadManifest::NoModule(self.types())),
            several => Err(BadManifest::Modules(several.len())),
        }
    }

    /// What the layers say that they are: a few of them, in few words.
    fn types(&self) -> String {
        let cut = |layer: &Descriptor| layer.media_type.chars().take(100).collect::<String>();
        let mut types: Vec<String> = self.layers.iter().take(3).map(cut).collect();
        types.dedup();
        if types.is_empty() { "none".to_owned() } else { types.join(", ") }
    }

    /// The blobs that must be here, once each.
    pub(crate) fn blobs(&self) -> Result<Vec<Digest>, BadManifest> {
        let here = self.config.iter().chain(&self.layers).filter(|blob| blob.urls.is_empty());
        let mut all = here.map(|blob| blob.digest.parse()).collect::<Result<Vec<Digest>, _>>()?;
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }
}

/// Whether a tag is one by which cosign, before it knew subjects, says what a manifest belongs to:
/// `sha256-<hex>.sig`.
pub(crate) fn is_tag_of_another(tag: &str) -> bool {
    let of = tag.strip_prefix("sha256-").and_then(|rest| rest.split_once('.'));
    of.is_some_and(|(hex, what)| {
        format!("sha256:{hex}").parse::<Digest>().is_ok() && ["sig", "att", "sbom"].contains(&what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_says_what_it_is_and_of_what() {
        let subject = Digest::of(b"app");
        let read = |text: &str| ImageManifest::parse(text.as_bytes()).unwrap();
        let signature = read(&format!(
            r#"{{"artifactType":"a/sig","config":{{"mediaType":"b"}},"subject":{{"digest":"{subject}"}},
                "annotations":{{"by":"me"}}}}"#
        ));
        assert_eq!((signature.subject().unwrap(), signature.kind()), (Some(subject), "a/sig"));
        assert_eq!(signature.annotations.as_ref().unwrap()["by"], "me");
        for unnamed in
            [r#"{"artifactType":"","config":{"mediaType":"b"}}"#, r#"{"config":{"mediaType":"b"}}"#]
        {
            assert_eq!((read(unnamed).subject().unwrap(), read(unnamed).kind()), (None, "b"));
        }
        assert!(read(r#"{"subject":{"digest":"sha512:00"}}"#).subject().is_err());
        let tag = format!("sha256-{}", subject.hex());
        for (end, of_another) in
            [(".sig", true), (".att", true), (".sbom", true), ("", false), (".v1", false)]
        {
            assert_eq!(is_tag_of_another(&format!("{tag}{end}")), of_another, "{end}");
        }
        assert!(!is_tag_of_another("sha256-00.sig") && !is_tag_of_another("v1.sig"));
    }

    #[test]
    fn a_manifest_names_its_blobs_and_its_module() {
        let (config, layer) = (Digest::of(b"config"), Digest::of(b"layer"));
        let text = format!(
            r#"{{"config":{{"mediaType":"x","digest":"{config}"}},"layers":[
                {{"mediaType":"application/wasm","digest":"{layer}"}},
                {{"mediaType":"text/plain","digest":"{config}"}},
                {{"mediaType":"text/plain","digest":"sha512:elsewhere","urls":["https://example.com"]}}]}}"#
        );
        let manifest = ImageManifest::parse(text.as_bytes()).unwrap();
        assert_eq!(manifest.component().unwrap(), layer);
        let mut both = vec![config, layer];
        both.sort_unstable();
        assert_eq!(manifest.blobs().unwrap(), both);
    }

    #[test]
    fn what_is_no_module_is_refused() {
        let two = r#"{"mediaType":"application/wasm","digest":"x"}"#;
        let cases = [
            ("7", "no image manifest"),
            ("{}", "(its layers: none)"),
            (r#"{"schemaVersion":2,"manifests":[]}"#, "an index of several manifests"),
            (
                r#"{"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"x"}]}"#,
                "(its layers: application/vnd.oci.image.layer.v1.tar); give the file its type when you push it, \
                 as in `oras push HOST/NAME:TAG FILE.wasm:application/wasm`",
            ),
            (&format!(r#"{{"layers":[{two},{two}]}}"#), "2 of its layers are modules"),
            (&format!(r#"{{"layers":[{two}]}}"#), "not a digest"),
        ];
        for (text, part) in cases {
            let refused = ImageManifest::parse(text.as_bytes())
                .and_then(|manifest| manifest.component())
                .unwrap_err();
            assert!(refused.to_string().contains(part), "{text}: {refused}");
        }
        let many = vec![two; MAX_LAYERS + 1].join(",");
        let refused = ImageManifest::parse(format!(r#"{{"layers":[{many}]}}"#).as_bytes());
        assert!(matches!(refused, Err(BadManifest::TooManyLayers)));
    }
}
