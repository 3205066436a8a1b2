//! What is read is what was written, or it is told what to do.

use super::*;

fn manifest(name: &str) -> Manifest {
    Manifest {
        digest: Digest::of(name.as_bytes()).to_string(),
        media_type: "x".into(),
        module: Some(Module { component: Digest::of(b"c").to_string(), handler: false }),
        subject: None,
    }
}

fn attached(name: &str, to: &Manifest) -> Manifest {
    Manifest { module: None, subject: Some(to.digest.clone()), ..manifest(name) }
}

#[test]
fn tags_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = manifest("m");
    let tags = Tags::open(dir.path(), true).unwrap();
    tags.put("team/hello", "v1", &manifest).unwrap();
    let again = Tags::open(dir.path(), true).unwrap();
    assert_eq!(again.get("team/hello", "v1"), Some(manifest.clone()));
    assert_eq!(again.get("team/hello", &manifest.digest), Some(manifest));
    assert_eq!(again.list("team/hello"), Some(vec!["v1".to_owned()]));
    assert_eq!(again.book().tagged(), BTreeSet::from([Digest::of(b"c")]));
    assert!(again.remove("team/hello", "v1").unwrap());
    assert_eq!(again.get("team/hello", "v1"), None);
}

#[test]
fn a_file_of_another_build_is_told_from_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tags.json");
    let newer = r#"{"version":5,"tags":[]}"#;
    // The last is what the first builds wrote.
    for (version, text) in [(5, newer), (1, r#"{"version":1,"repositories":{}}"#)] {
        std::fs::write(&path, text).unwrap();
        let refused = Tags::open(dir.path(), true).err().unwrap().to_string();
        let file = path.display();
        let told = format!(
            "{file} cannot be used (another build of the hub wrote it: it has version {version}, this one reads 4): \
             start that build, or make {} an empty folder and push the modules again; those that run are not touched",
            dir.path().display()
        );
        assert_eq!(refused, told);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_file_that_was_cut_or_flipped_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tags.json");
    Tags::open(dir.path(), true).unwrap().put("app", "v1", &manifest("m")).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let text = Tags::open(dir.path(), true).err().map(|error| error.to_string());
        assert!(text.as_ref().is_none_or(|text| text.contains("tags.json cannot be used")));
        text.is_some()
    };
    for length in 0..whole.len() {
        assert!(refused(&whole[..length]), "{length} bytes");
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(&flipped), "bit {bit}");
    }
    assert!(!refused(&whole));
}

#[test]
fn a_file_that_is_lost_is_told_and_not_made_anew() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("modules");
    let lost = || {
        let text = Tags::open(&dir, false).err().unwrap().to_string();
        let told = format!(
            "{0}/tags.json is missing though the hub holds data: put it back from a copy of the data folder, or make \
             {0} an empty folder and push the modules again; those that run are not touched",
            dir.display()
        );
        assert_eq!(text, told);
    };
    lost();
    assert!(!dir.exists(), "nothing is made in its place");
    // As the first start makes it, before anything is pushed.
    Tags::open(&dir, true).unwrap();
    assert!(Tags::is_there(&dir));
    Tags::open(&dir, false).unwrap();
    std::fs::create_dir(dir.join("blobs")).unwrap();
    std::fs::remove_file(dir.join("tags.json")).unwrap();
    lost();
    assert!(!Tags::is_there(&dir));
    // What it says to do helps, also when a start in between was killed.
    std::fs::remove_dir(dir.join("blobs")).unwrap();
    std::fs::write(dir.join("tags.new"), "cut").unwrap();
    assert!(Tags::open(&dir, false).unwrap().repositories().is_empty());
}

#[test]
fn a_tag_goes_alone_and_a_manifest_takes_its_tags_along() {
    let dir = tempfile::tempdir().unwrap();
    let tags = Tags::open(dir.path(), true).unwrap();
    let (one, two) = (manifest("one"), manifest("two"));
    for (name, manifest) in [("v1", &one), ("stable", &one), ("v2", &two)] {
        tags.put("app", name, manifest).unwrap();
    }
    tags.put("other", "v1", &one).unwrap();
    assert!(tags.remove("app", "stable").unwrap());
    assert!(!tags.remove("app", "stable").unwrap());
    assert_eq!(tags.get("app", &one.digest), Some(one.clone()), "the manifest stays");
    assert!(tags.remove("app", &one.digest).unwrap());
    assert_eq!(tags.list("app"), Some(vec!["v2".to_owned()]));
    assert_eq!(tags.list("other"), Some(vec!["v1".to_owned()]), "another repository");
    assert!(tags.remove("app", &two.digest).unwrap());
    assert_eq!(tags.list("app"), None, "nothing is left of it");
    assert_eq!(Tags::open(dir.path(), true).unwrap().list("app"), None);
}

#[test]
fn what_says_something_of_a_manifest_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let tags = Tags::open(dir.path(), true).unwrap();
    let (app, other) = (manifest("app"), manifest("other"));
    let signature = attached("signature", &app);
    let countersigned = attached("countersigned", &signature);
    // A build that names the one before is a build all the same.
    let next = Manifest { subject: Some(app.digest.clone()), ..manifest("next") };
    let of_other = attached("of other", &other);
    for one in [&app, &other, &signature, &countersigned, &next, &of_other] {
        tags.put("app", &one.digest, one).unwrap();
    }
    tags.put("elsewhere", &signature.digest, &signature).unwrap();
    let found = |of: &Manifest, after: Option<&str>| {
        let all = tags.attached("app", &of.digest.parse().unwrap(), after);
        all.into_iter().map(|one| one.digest).collect::<Vec<_>>()
    };
    let mut both = vec![signature.digest.clone(), next.digest.clone()];
    both.sort();
    assert_eq!(found(&app, None), both);
    assert_eq!(found(&app, Some(&both[0])), both[1..]);
    assert_eq!(found(&next, None), [""; 0]);
    assert!(tags.remove("app", &app.digest).unwrap());
    for gone in [&app, &signature, &countersigned] {
        assert_eq!(tags.get("app", &gone.digest), None);
    }
    for stays in [&other, &next, &of_other] {
        assert_eq!(tags.get("app", &stays.digest).as_ref(), Some(stays));
    }
    assert!(tags.get("elsewhere", &signature.digest).is_some(), "another repository");
}

#[test]
fn what_does_not_reach_the_disk_is_not_so() {
    let dir = tempfile::tempdir().unwrap();
    let tags = Tags::open(dir.path(), true).unwrap();
    tags.put("app", "v1", &manifest("one")).unwrap();
    for _ in 0..2 {
        std::os::unix::fs::symlink("/dev/full", dir.path().join("tags.new")).unwrap();
        assert!(matches!(tags.put("app", "v2", &manifest("two")), Err(TagError::Disk(_))));
    }
    std::os::unix::fs::symlink("/dev/full", dir.path().join("tags.new")).unwrap();
    assert!(matches!(tags.remove("app", "v1"), Err(TagError::Disk(_))));
    assert_eq!(tags.list("app"), Some(vec!["v1".to_owned()]));
}
