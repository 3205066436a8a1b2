//! Files out of volumes, on a real disk.

use super::*;

fn file(path: &str, bytes: &str) -> File {
    File { path: path.to_owned(), bytes: bytes.as_bytes().to_vec(), mode: 0o644 }
}

#[test]
fn nothing_leaves_its_volume() {
    for path in ["../x", "/etc/passwd", "a/../../x", "", "..data/x", "..", "a\0"] {
        assert!(!stays_inside(path), "{path:?}");
        let dir = tempfile::tempdir().unwrap();
        assert!(DiskFiles::default().write_set(dir.path(), &[file(path, "")]).is_err());
        assert!(DiskFiles::default().enter(dir.path(), path, true).is_err());
    }
}

#[test]
fn a_link_that_a_guest_made_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("v");
    std::fs::create_dir(&volume).unwrap();
    std::os::unix::fs::symlink("..", volume.join("out")).unwrap();
    assert!(DiskFiles::default().enter(&volume, "out", false).is_err());
    assert!(DiskFiles::default().enter(&volume, "out/other", false).is_err());
    assert!(DiskFiles::default().enter(&volume, "out", true).is_err());
}

#[test]
fn what_is_in_a_directory_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("web")).unwrap();
    std::fs::write(dir.path().join("0.log"), "hello").unwrap();
    let files = DiskFiles::default();
    assert_eq!(files.dirs_in(dir.path()).unwrap(), ["web"]);
    assert_eq!(files.files_in(dir.path()).unwrap(), [("0.log".to_owned(), 5)]);
    let gone = dir.path().join("gone");
    assert_eq!((files.dirs_in(&gone).unwrap(), files.files_in(&gone).unwrap()), (vec![], vec![]));
}

#[test]
fn a_name_that_a_file_has_already_is_not_given_again() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("shown"));
    std::fs::write(&from, "1").unwrap();
    std::fs::create_dir(&to).unwrap();
    let link = || {
        let file = std::fs::File::open(&from).unwrap();
        DiskFiles::default().link(&file, &to.join("name")).unwrap();
        let changed = std::fs::metadata(&to).unwrap();
        (changed.ctime(), changed.ctime_nsec())
    };
    let first = link();
    assert_eq!(link(), first, "on a disk that takes no writes it could not be");
    std::fs::remove_file(&from).unwrap();
    std::fs::write(&from, "2").unwrap();
    link();
    assert_eq!(std::fs::read_to_string(to.join("name")).unwrap(), "2");
}
