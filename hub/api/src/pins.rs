//! What the tags of images stood for when they were looked up: once for all pods of one template, once for a pod that
//! has none, kept in an annotation.
//!
//! A template is a ReplicaSet's, a ReplicationController's or a Job's; those that a StatefulSet or a DaemonSet has had are
//! its ControllerRevisions'.
//!
//! The annotation is the hub's own, as a UID is: what somebody copies was looked up for another object, maybe in another
//! hub, and what somebody leaves out must not make two builds of one.
//!
//! Guarantees:
//! - who writes an object changes nothing of what its images stand for, and a template says nothing of it
//!   (`what_images_stand_for_is_the_hubs_own`);
//! - nothing is kept of what is no image of the object any more (`only_images_of_the_object_are_kept`);
//! - an image that was looked up stays what it was then, whatever its tag stands for since
//!   (`what_was_looked_up_is_not_looked_up_again`);
//! - an image with a digest is not looked up: it says itself what it is (`a_digest_needs_no_pin`);
//! - an annotation that cannot be read pins nothing (`what_cannot_be_read_pins_nothing`).

use std::collections::{BTreeMap, BTreeSet};

use freewheel_hub_schema::kind::Kind;
use freewheel_link::digest::Digest;
use serde_json::{Value, json};

use crate::images::Images;

/// On what keeps a template, and on pods: JSON from an image, as it is written, to the digest of the manifest that it
/// stands for here.
pub const RESOLVED: &str = "freewheel.dev/resolved-images";

/// Whether objects of this kind keep what their images stand for.
#[must_use]
pub fn has_pins(kind: &Kind) -> bool {
    kind.hubs_annotation == Some(RESOLVED)
}

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
        // An image by digest says itself what it is.
        let named = |(image, _): &(String, Digest)| !image.contains('@');
        Self(raw.into_iter().filter_map(pin).filter(named).collect())
    }

    /// Writes the annotation as far as it is about images of the object; without any there is none.
    pub fn write(&self, object: &mut Value) {
        let mut own = self.clone();
        own.keep_only(&images_of(spec_of(object)));
        if own.0.is_empty() {
            take_off(object);
            return;
        }
        let annotations = &mut object["metadata"]["annotations"];
        if !annotations.is_object() {
            *annotations = json!({});
        }
        annotations[RESOLVED] = json!(own.text());
    }

    /// Drops what is about other images than these.
    pub fn keep_only(&mut self, images: &BTreeSet<String>) {
        self.0.retain(|image, _| images.contains(image));
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

    /// Whether an object that is stored so may say what one of these images stands for that is not looked up. Of many
    /// that say nothing of it none is read.
    #[must_use]
    pub fn may_learn(&self, images: &BTreeSet<String>, body: &[u8]) -> bool {
        let Ok(body) = std::str::from_utf8(body) else { return false };
        let mut lacking = images.iter().filter(|image| self.lacks(image));
        lacking.any(|image| {
            // The annotation's text within the object's.
            let said = json!(format!("{}:", json!(image))).to_string();
            body.contains(said.trim_matches('"'))
        })
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

    /// Whether this image stands for this manifest.
    #[must_use]
    pub fn stands_for(&self, image: &str, manifest: &Digest) -> bool {
        match image.rsplit_once('@') {
            Some((_, digest)) => digest.parse() == Ok(*manifest),
            None => self.0.get(image) == Some(manifest),
        }
    }

    /// Every image that was looked up, with what it stood for.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Digest)> {
        self.0.iter().map(|(image, digest)| (image.as_str(), digest))
    }
}

/// What others than the hub write of it in a new object, or in the place of an old one: nothing. Whether they wrote
/// anything.
pub fn settle(new: &mut Value, old: Option<&Value>) -> bool {
    let text = |object: &Value| object["metadata"]["annotations"].get(RESOLVED).cloned();
    let (said, before) = (text(new), old.and_then(text));
    match old {
        Some(old) => Pins::of(old).write(new),
        None => drop(take_off(new)),
    }
    said.is_some() && said != before
}

/// Takes the annotation off an object or a template; whether there was one.
pub fn take_off(object: &mut Value) -> bool {
    let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return false;
    };
    let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) else {
        return false;
    };
    let was = annotations.remove(RESOLVED).is_some();
    if was && annotations.is_empty() {
        meta.remove("annotations");
    }
    was
}

/// The pod's spec that an object's pins are about: its template's, that of the template which a revision keeps, or its
/// own.
fn spec_of(object: &Value) -> &Value {
    let of_templates = ["/spec/template/spec", "/data/spec/template/spec"];
    let found = of_templates.into_iter().find_map(|path| object.pointer(path));
    found.unwrap_or(&object["spec"])
}

/// The images that an object's pins are about.
#[must_use]
pub fn images_in(object: &Value) -> BTreeSet<String> {
    images_of(spec_of(object))
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
    let tagged = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let name = tagged.map_or(name, |(name, _)| name);
    format!("{name}@{manifest}")
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use freewheel_link::profile::Profile;
    use tokio::sync::watch;

    use super::*;
    use crate::images::{Artifact, ImageProblem, Resolved, Tenants};

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

        async fn artifact(
            &self,
            _: &Digest,
            _: Profile,
            _: Tenants<'_>,
        ) -> Result<Artifact, ImageProblem> {
            Err(ImageProblem { reason: "ErrImagePull", message: String::new() })
        }

        fn compiling(&self, _: &Digest, _: Profile) -> Option<u64> {
            None
        }

        fn note_profile(&self, _: Profile) {}
    }

    /// A pod of these images.
    fn with(images: &[&str]) -> Value {
        let containers: Vec<Value> = images.iter().map(|image| json!({"image": image})).collect();
        json!({"metadata": {}, "spec": {"containers": containers}})
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
        let mut pod = with(&["app:v1", "hub:6443/team/side"]);
        pins.write(&mut pod);
        assert_eq!(Pins::of(&pod), pins);
        let mut other = Pins::default();
        assert!(other.take_over(&images(&["app:v1", "gone"]), &pins));
        assert_eq!(other.iter().map(|(image, _)| image).collect::<Vec<_>>(), ["app:v1"]);
    }

    #[test]
    fn who_knows_an_image_is_found_unread() {
        let all = images(&["app:v1", "hub:6443/team/side", "gone"]);
        let mut pod = with(&["app:v1", "hub:6443/team/side", "gone"]);
        let body = |pod: &Value| serde_json::to_vec(pod).unwrap();
        let none = Pins::default();
        assert!(!none.may_learn(&all, &body(&pod)), "it names them, and knows none");
        let mut pins = Pins::default();
        pins.look_up(&images(&["app:v1", "hub:6443/team/side"]), &At("then"));
        pins.write(&mut pod);
        for image in ["app:v1", "hub:6443/team/side"] {
            assert!(none.may_learn(&images(&[image]), &body(&pod)), "{image}");
        }
        assert!(!none.may_learn(&images(&["gone"]), &body(&pod)));
        assert!(!pins.may_learn(&all, &body(&pod)), "nothing new");
        assert!(!none.may_learn(&all, b"\xff"));
    }

    #[test]
    fn a_digest_needs_no_pin() {
        let image = format!("app@{}", Digest::of(b"app"));
        let all = images(&[&image]);
        let mut pins = Pins::default();
        assert!(!pins.lack(&all) && !pins.look_up(&all, &At("now")));
        assert_eq!(pins.apply(&image), image);
        let mut pod = with(&[&image]);
        pins.write(&mut pod);
        assert_eq!(pod, with(&[&image]), "nothing to say");
        let other = Digest::of(b"other");
        let said = Pins::read(&json!({ &*image: other.to_string() }).to_string());
        assert_eq!(said.apply(&image), image, "whatever somebody says of it");
        assert!(said.stands_for(&image, &Digest::of(b"app")) && !said.stands_for(&image, &other));
    }

    #[test]
    fn only_images_of_the_object_are_kept() {
        let all = images(&["app:v1", "side"]);
        let mut pins = Pins::default();
        pins.look_up(&all, &At("then"));
        let mut pod = with(&["app:v1"]);
        pins.write(&mut pod);
        assert_eq!(Pins::of(&pod).iter().map(|(image, _)| image).collect::<Vec<_>>(), ["app:v1"]);
        let manifest = At("then").resolve("app:v1").unwrap().manifest;
        assert!(pins.stands_for("app:v1", &manifest) && !pins.stands_for("side", &manifest));
        let mut set = json!({"metadata": {}, "spec": {"template": with(&["side"])}});
        pins.write(&mut set);
        assert_eq!(Pins::of(&set).iter().map(|(image, _)| image).collect::<Vec<_>>(), ["side"]);
        set["spec"]["template"] = with(&["other"]);
        Pins::of(&set.clone()).write(&mut set);
        assert_eq!(set["metadata"], json!({}), "nothing is left to say");
        let template = json!({"template": with(&["app:v1"])});
        let mut revision = json!({"metadata": {}, "data": {"spec": template}});
        pins.write(&mut revision);
        let kept = Pins::of(&revision);
        assert_eq!(kept.iter().map(|(image, _)| image).collect::<Vec<_>>(), ["app:v1"]);
        assert_eq!(images_in(&revision), images(&["app:v1"]), "the template that a revision keeps");
    }

    #[test]
    fn what_images_stand_for_is_the_hubs_own() {
        let mut pins = Pins::default();
        pins.look_up(&images(&["app:v1", "side"]), &At("then"));
        let mut old = with(&["app:v1", "side"]);
        pins.write(&mut old);
        let mut same = old.clone();
        assert!(!settle(&mut same, Some(&old)), "who sends it back says nothing new");
        assert_eq!(same, old);
        let mut new = with(&["app:v1", "other"]);
        assert!(!settle(&mut new, Some(&old)), "who leaves it out neither");
        assert_eq!(Pins::of(&new).iter().map(|(image, _)| image).collect::<Vec<_>>(), ["app:v1"]);
        new["metadata"]["annotations"] = json!({RESOLVED: "{}", "a": "b"});
        assert!(settle(&mut new, Some(&old)));
        assert!(Pins::of(&new).lacks("other") && !Pins::of(&new).lacks("app:v1"));
        let mut copy = old.clone();
        assert!(settle(&mut copy, None));
        assert_eq!(copy, with(&["app:v1", "side"]));
        assert!(!settle(&mut copy, None));
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
