//! What the tags of images stood for when they were looked up: once for all pods of a ReplicaSet, once for a pod that
//! has none, kept in an annotation.
//!
//! Guarantees:
//! - an image that was looked up stays what it was then, whatever its tag stands for since
//!   (`what_was_looked_up_is_not_looked_up_again`);
//! - an image with a digest is not looked up: it says itself what it is (`a_digest_needs_no_pin`);
//! - an annotation that cannot be read pins nothing (`what_cannot_be_read_pins_nothing`).

use std::collections::{BTreeMap, BTreeSet};

use freewheel_link::digest::Digest;
use serde_json::{Value, json};

use crate::images::Images;

/// On ReplicaSets and pods: JSON from an image, as it is written, to the digest of the manifest that it stands for
/// here.
pub const RESOLVED: &str = "freewheel.dev/resolved-images";

/// An image as it is written → the digest of its manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins(BTreeMap<String, Digest>);

impl Pins {
    /// What an object's annotation says.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        let text = object["metadata"]["annotations"][RESOLVED].as_str();
        text.map(Self::read).unwrap_or_default()
    }

    /// Reads an annotation.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let raw: BTreeMap<String, String> = serde_json::from_str(text).unwrap_or_default();
        let pin = |(image, digest): (String, String)| Some((image, digest.parse().ok()?));
        Self(raw.into_iter().filter_map(pin).collect())
    }

    /// Writes the annotation, unless there is nothing to say.
    pub fn write(&self, object: &mut Value) {
        if self.0.is_empty() {
            return;
        }
        let annotations = &mut object["metadata"]["annotations"];
        if !annotations.is_object() {
            *annotations = json!({});
        }
        annotations[RESOLVED] = json!(self.text());
    }

    fn text(&self) -> String {
        let map: BTreeMap<&str, String> =
            self.0.iter().map(|(image, digest)| (image.as_str(), digest.to_string())).collect();
        json!(map).to_string()
    }

    /// Whether one of these images is not looked up.
    #[must_use]
    pub fn lack(&self, images: &BTreeSet<String>) -> bool {
        images.iter().any(|image| self.lacks(image))
    }

    fn lacks(&self, image: &str) -> bool {
        !image.contains('@') && !self.0.contains_key(image)
    }

    /// Looks up those of these images that are not looked up; whether one was found.
    pub fn look_up(&mut self, images: &BTreeSet<String>, registry: &dyn Images) -> bool {
        self.add(images, |image| registry.resolve(image).ok().map(|found| found.manifest))
    }

    /// Takes over what another one knows of these images; whether there was anything.
    pub fn take_over(&mut self, images: &BTreeSet<String>, other: &Self) -> bool {
        self.add(images, |image| other.0.get(image).copied())
    }

    fn add(&mut self, images: &BTreeSet<String>, find: impl Fn(&str) -> Option<Digest>) -> bool {
        let before = self.0.len();
        for image in images {
            if self.lacks(image)
                && let Some(found) = find(image)
            {
                self.0.insert(image.clone(), found);
            }
        }
        before < self.0.len()
    }

    /// The image as it is to be asked for: by digest, as far as it was looked up.
    #[must_use]
    pub fn apply(&self, image: &str) -> String {
        self.0.get(image).map_or_else(|| image.to_owned(), |digest| pinned(image, digest))
    }

    /// Every image that was looked up, with what it stood for.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Digest)> {
        self.0.iter().map(|(image, digest)| (image.as_str(), digest))
    }
}

/// The images of a pod's spec.
#[must_use]
pub fn images_of(spec: &Value) -> BTreeSet<String> {
    let lists = ["initContainers", "containers"];
    let containers = lists.iter().filter_map(|list| spec[list].as_array()).flatten();
    containers.filter_map(|container| Some(container["image"].as_str()?.to_owned())).collect()
}

/// An image by this digest, whatever tag it was written with: `app:v1` is `app@sha256:…`.
#[must_use]
pub fn pinned(image: &str, manifest: &Digest) -> String {
    let name = image.split('@').next().unwrap_or_default();
    // A colon before the last slash is a port's.
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    format!("{name}@{manifest}")
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::sync::watch;

    use super::*;
    use crate::images::{Artifact, ImageProblem, Resolved};

    /// Knows every image but `gone`, and looks at a moment.
    struct At(&'static str);

    #[async_trait]
    impl Images for At {
        fn resolve(&self, reference: &str) -> Result<Resolved, ImageProblem> {
            let problem = || ImageProblem { reason: "ErrImagePull", message: String::new() };
            let of = |what: &str| Digest::of(format!("{what} {reference} {}", self.0).as_bytes());
            let found = Resolved { manifest: of("manifest"), component: of("component") };
            if reference == "gone" { Err(problem()) } else { Ok(found) }
        }

        fn manifest_of(&self, _: &str, _: &Digest) -> Option<Digest> {
            None
        }

        fn changed(&self) -> watch::Receiver<u64> {
            watch::channel(0).1
        }

        async fn artifact(&self, _: &Digest, _: &str) -> Result<Artifact, ImageProblem> {
            Err(ImageProblem { reason: "ErrImagePull", message: String::new() })
        }

        fn compiling(&self, _: &Digest, _: &str) -> Option<u64> {
            None
        }

        fn note_profile(&self, _: &str) {}
    }

    fn images(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|&image| image.to_owned()).collect()
    }

    #[test]
    fn what_was_looked_up_is_not_looked_up_again() {
        let all = images(&["app:v1", "hub:6443/team/side", "gone"]);
        let mut pins = Pins::default();
        assert!(pins.look_up(&all, &At("then")));
        let then = pins.clone();
        assert!(!pins.look_up(&all, &At("now")), "only what was found stays");
        assert_eq!(pins, then);
        assert!(pins.lack(&all) && !pins.lack(&images(&["app:v1"])));
        let found = At("then").resolve("hub:6443/team/side").unwrap().manifest;
        assert_eq!(pins.apply("hub:6443/team/side"), format!("hub:6443/team/side@{found}"));
        assert_eq!(pins.apply("gone"), "gone");
        let mut pod = json!({"metadata": {}});
        pins.write(&mut pod);
        assert_eq!(Pins::of(&pod), pins);
        let mut other = Pins::default();
        assert!(other.take_over(&images(&["app:v1", "gone"]), &pins));
        assert_eq!(other.iter().map(|(image, _)| image).collect::<Vec<_>>(), ["app:v1"]);
    }

    #[test]
    fn a_digest_needs_no_pin() {
        let image = format!("app@{}", Digest::of(b"app"));
        let all = images(&[&image]);
        let mut pins = Pins::default();
        assert!(!pins.lack(&all) && !pins.look_up(&all, &At("now")));
        assert_eq!(pins.apply(&image), image);
        let mut pod = json!({"metadata": {}});
        pins.write(&mut pod);
        assert_eq!(pod, json!({"metadata": {}}), "nothing to say");
    }

    #[test]
    fn what_cannot_be_read_pins_nothing() {
        for text in ["", "7", "[]", r#"{"app:v1": "latest"}"#, r#"{"app:v1": {}}"#] {
            assert_eq!(Pins::read(text), Pins::default(), "{text}");
        }
        assert_eq!(Pins::of(&json!({"metadata": {"annotations": 7}})), Pins::default());
    }

    #[test]
    fn names_by_digest() {
        let digest = Digest::of(b"x");
        for (image, name) in [
            ("app", "app"),
            ("app:v1", "app"),
            ("team/app:v1@sha256:00", "team/app"),
            ("hub:6443/app", "hub:6443/app"),
            ("hub:6443/app:v1", "hub:6443/app"),
        ] {
            assert_eq!(pinned(image, &digest), format!("{name}@{digest}"), "{image}");
        }
        let spec = json!({"containers": [{"image": "b"}, {"image": "a"}, {}],
            "initContainers": [{"image": "c"}]});
        assert_eq!(images_of(&spec), images(&["a", "b", "c"]));
    }
}
