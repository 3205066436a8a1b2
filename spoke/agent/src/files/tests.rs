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
