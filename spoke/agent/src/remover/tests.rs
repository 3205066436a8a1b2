//! Trees that go, and what of them does not.

use std::time::{Duration, Instant};

use super::*;

#[track_caller]
fn rest(remover: &Remover) {
    let start = Instant::now();
    while !remover.is_idle() {
        assert!(start.elapsed() < Duration::from_secs(60), "never");
        std::thread::yield_now();
    }
}

#[test]
fn a_removed_tree_is_away_at_once_and_gone_soon() {
    let dir = tempfile::tempdir().unwrap();
    let trash = dir.path().join("trash");
    let remover = Remover::start(&trash).unwrap();
    for round in 0..3 {
        let tree = dir.path().join("pod");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(tree.join("a/b/file"), round.to_string()).unwrap();
        remover.remove(&tree).unwrap();
        assert!(!tree.exists());
    }
    remover.remove(&dir.path().join("absent")).unwrap();
    rest(&remover);
    assert_eq!(left(&trash), 0);
}

/// Entries, without the one that is always there.
fn left(trash: &Path) -> usize {
    let inside = std::fs::read_dir(trash.join(DEEP)).unwrap().count();
    std::fs::read_dir(trash).unwrap().count() - 1 + inside
}

#[test]
fn a_disk_that_takes_writes_later_is_removed_from_then() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, place) = (dir.path().join("pod"), dir.path().join("file"));
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(&place, "in the way").unwrap();
    let trash = place.join("trash");
    let remover = Remover::start(&trash).unwrap();
    remover.remove(&dir.path().join("absent")).unwrap();
    assert!(remover.remove(&tree).is_err() && tree.exists());
    std::fs::remove_file(&place).unwrap();
    remover.remove(&tree).unwrap();
    assert!(!tree.exists());
    rest(&remover);
    assert_eq!(left(&trash), 0);
}

#[test]
fn a_tree_that_a_guest_has_nested_without_end_is_removed() {
    use rustix::fs::{mkdirat, openat};
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("pod");
    std::fs::create_dir(&tree).unwrap();
    let mut at = std::fs::File::open(&tree).unwrap();
    for _ in 0..20_000 {
        mkdirat(&at, "a", Mode::RWXU).unwrap();
        at = openat(&at, "a", OFlags::DIRECTORY, Mode::empty()).unwrap().into();
    }
    let trash = dir.path().join("trash");
    let remover = Remover::start(&trash).unwrap();
    remover.remove(&tree).unwrap();
    rest(&remover);
    assert_eq!(left(&trash), 0);
}

#[test]
fn a_tree_is_removed_on_the_spot_without_a_stack() {
    use rustix::fs::{mkdirat, openat};
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("pod");
    std::fs::create_dir(&tree).unwrap();
    let mut at = std::fs::File::open(&tree).unwrap();
    for _ in 0..20_000 {
        mkdirat(&at, "a", Mode::RWXU).unwrap();
        at = openat(&at, "a", OFlags::DIRECTORY, Mode::empty()).unwrap().into();
    }
    remove_now(&tree).unwrap();
    remove_now(&tree).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_is_emptied_of_trees_without_end() {
    use rustix::fs::{mkdirat, openat};
    let dir = tempfile::tempdir().unwrap();
    for pod in ["u1", "u2"] {
        std::fs::create_dir(dir.path().join(pod)).unwrap();
        std::fs::write(dir.path().join(pod).join("log"), "").unwrap();
    }
    let mut at = std::fs::File::open(dir.path().join("u1")).unwrap();
    for _ in 0..20_000 {
        mkdirat(&at, "a", Mode::RWXU).unwrap();
        at = openat(&at, "a", OFlags::DIRECTORY, Mode::empty()).unwrap().into();
    }
    empty_now(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(empty_now(&dir.path().join("absent")).is_err());
}

#[test]
fn what_is_mounted_stays_and_all_around_it_goes() {
    let data = tempfile::tempdir().unwrap();
    let dir = std::fs::canonicalize(data.path()).unwrap();
    for made in ["pods/u1/volumes/nas/photos", "pods/u1/volumes/secret", "pods/u2/a/b"] {
        std::fs::create_dir_all(dir.join(made)).unwrap();
        std::fs::write(dir.join(made).join("file"), "").unwrap();
    }
    let mut sweep = Sweep::at(dir.clone());
    sweep.mounts = vec![dir.join("pods/u1/volumes/nas")];
    let emptied = sweep.empty(&dir).unwrap();
    assert!(emptied.removed);
    let said = emptied.foreign.to_string();
    assert!(said.ends_with("pods/u1/volumes/nas\""), "{said}");
    assert!(dir.join("pods/u1/volumes/nas/photos/file").exists());
    let left = |at: &str| std::fs::read_dir(dir.join(at)).unwrap().count();
    assert_eq!(["", "pods", "pods/u1", "pods/u1/volumes"].map(left), [1; 4]);
    // The same once more finds nothing to remove.
    let mut again = Sweep::at(dir.clone());
    again.mounts = vec![dir.join("pods/u1/volumes/nas")];
    assert!(!again.empty(&dir).unwrap().removed);
    // Another disk is told without that.
    let mut other = Sweep::at(dir.clone());
    other.disk = Some(std::fs::metadata(&dir).unwrap().dev() + 1);
    assert!(!other.empty(&dir).unwrap().foreign.is_empty());
    assert!(dir.join("pods/u1/volumes/nas/photos/file").exists());
}

#[test]
fn what_another_user_has_put_there_stays() {
    let data = tempfile::tempdir().unwrap();
    let dir = std::fs::canonicalize(data.path()).unwrap();
    std::fs::create_dir_all(dir.join("rootin/y")).unwrap();
    std::fs::write(dir.join("log"), "").unwrap();
    let mut sweep = Sweep::at(dir.clone());
    // All of it is somebody else's.
    sweep.own += 1;
    let emptied = sweep.empty(&dir).unwrap();
    let said = emptied.foreign.to_string();
    assert!(said.ends_with("rootin\" is another user's"), "{said}");
    let left = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["rootin"]);
    assert!(dir.join("rootin/y").exists());
}

#[test]
fn what_cannot_be_removed_holds_up_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut sweep = Sweep::at(dir.path().join(DEEP));
    sweep.make().unwrap();
    sweep.remove_file = |path| match path.ends_with("stuck") {
        true => Err(io::Error::other("the card is worn")),
        false => std::fs::remove_file(path),
    };
    let tree = dir.path().join("pod");
    std::fs::create_dir_all(tree.join("volumes")).unwrap();
    for file in ["a", "stuck", "z", "volumes/secret"] {
        std::fs::write(tree.join(file), "").unwrap();
    }
    assert!(sweep.tree(&tree).is_err());
    let left = std::fs::read_dir(&tree).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["stuck"]);
    assert_eq!(std::fs::read_dir(&sweep.deep).unwrap().count(), 0);
}

#[test]
fn rights_that_were_taken_away_hold_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("pod/a/b/c")).unwrap();
    for locked in ["pod/a/b/c", "pod/a/b", "pod/a"] {
        std::fs::write(dir.path().join(locked).join("file"), "").unwrap();
        let none = Permissions::from_mode(0o000);
        std::fs::set_permissions(dir.path().join(locked), none).unwrap();
    }
    empty_now(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // What stands in the place of a directory is not followed.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
    std::fs::set_permissions(elsewhere.path(), Permissions::from_mode(0o755)).unwrap();
    assert!(open_up(&link).is_err());
    let mode = std::fs::metadata(elsewhere.path()).unwrap().mode();
    assert_eq!(mode & 0o777, 0o755);
}

#[test]
fn what_cannot_be_removed_is_no_later_tree_s_fault() {
    let dir = tempfile::tempdir().unwrap();
    let mut sweep = Sweep::at(dir.path().join(DEEP));
    sweep.make().unwrap();
    sweep.remove_file = |path| match path.ends_with("stuck") {
        true => Err(io::Error::other("the card is worn")),
        false => std::fs::remove_file(path),
    };
    let tree = |name: &str, file: &str| {
        let tree = dir.path().join(name);
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(tree.join("a/b").join(file), "").unwrap();
        tree
    };
    sweep.tree(&tree("worn", "stuck")).unwrap();
    assert_eq!(sweep.stuck.len(), 1);
    for _ in 0..2 {
        let innocent = tree("innocent", "fine");
        sweep.tree(&innocent).unwrap();
        assert!(!innocent.exists());
    }
    assert_eq!(sweep.stuck.len(), 1, "it is not tried again and again");
    assert_eq!(std::fs::read_dir(&sweep.deep).unwrap().count(), 1);
}

#[test]
fn what_an_earlier_life_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("0/deep")).unwrap();
    std::fs::create_dir_all(dir.path().join(DEEP).join("7/half/way")).unwrap();
    std::fs::write(dir.path().join("1"), "a file").unwrap();
    let remover = Remover::start(dir.path()).unwrap();
    rest(&remover);
    assert_eq!(left(dir.path()), 0);
}
