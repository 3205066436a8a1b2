//! Trees as guests make them.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::walk::STEPS_PER_ROUND_MIN;
use super::*;

fn size(dir: &Path) -> Size {
    Measurer::default().measure(&[dir.to_owned()], 0)[0]
}

/// Directories in each other, and the innermost.
fn nest(dir: &Path, name: &str, depth: usize) -> OwnedFd {
    let mut at = openat(CWD, dir, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
        at = openat(&at, name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    at
}

fn remove(dir: tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let remover = crate::remover::Remover::start(&home.path().join("removed")).unwrap();
    remover.remove(dir.path()).unwrap();
    while !remover.is_idle() {
        std::thread::yield_now();
    }
    let _ = dir.keep();
}

#[test]
fn what_is_on_the_disk_counts_once_and_nothing_else() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("big"), vec![1; 4 << 20]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let empty = size(dir.path());
    assert!(empty.bytes < 64 << 10 && empty.inodes == 0 && empty.whole, "{empty:?}");
    assert_eq!(size(&dir.path().join("absent")), Size { whole: true, ..Size::default() });
    let deep = dir.path().join("a/b");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::create_dir_all(dir.path().join("c/d")).unwrap();
    std::fs::write(deep.join("file"), vec![1; 1 << 20]).unwrap();
    std::fs::hard_link(deep.join("file"), dir.path().join("again")).unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
    std::fs::File::create(dir.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
    let used = size(dir.path());
    assert!((1 << 20..(1 << 20) + (256 << 10)).contains(&used.bytes), "{used:?}");
    assert_eq!((used.inodes, used.whole), (7, true), "two times two directories, file, link, hole");
}

#[test]
fn a_tree_deeper_than_any_path_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let at = nest(dir.path(), &"d".repeat(200), 30);
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let file = openat(&at, "file", flags, Mode::RUSR | Mode::WUSR).unwrap();
    let mut file = std::fs::File::from(file);
    std::io::Write::write_all(&mut file, &vec![1; 1 << 20]).unwrap();
    assert!(1 << 20 <= size(dir.path()).bytes);
}

#[test]
fn a_tree_costs_as_many_steps_as_it_has_entries() {
    let dir = tempfile::tempdir().unwrap();
    nest(dir.path(), "a", 10_000);
    let mut walk = Walk::start(dir.path()).unwrap().unwrap();
    while !walk.step().unwrap() {}
    // Of each directory: `.`, `..`, what is in it, their end, down and up.
    assert!(walk.steps <= 10_001 * 6, "{}", walk.steps);
    assert!(!walk.missed);
    remove(dir);
}

#[test]
fn what_takes_more_than_a_round_is_a_floor_until_all_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..3 * STEPS_PER_ROUND_MIN {
        std::fs::write(dir.path().join(number.to_string()), [1]).unwrap();
    }
    let expected = size(dir.path());
    assert!(expected.whole && 0 < expected.bytes);
    let (mut measurer, dirs) = (Measurer::default(), [dir.path().to_owned()]);
    let mut last = Size::default();
    for round in 0.. {
        // There is no time at all.
        let next = measurer.within(&dirs, 0, Instant::now())[0];
        assert!(last.bytes < next.bytes, "every round goes on");
        last = next;
        if last.whole {
            assert!(2 <= round, "{round}");
            break;
        }
    }
    assert_eq!(last, expected);
    assert!(measurer.unfinished.is_empty());
    measurer.within(&dirs, 0, Instant::now());
    drop(dir);
    assert_eq!(
        measurer.within(&dirs, 0, Instant::now())[0],
        Size { whole: true, ..Size::default() }
    );
    assert!(measurer.unfinished.is_empty(), "nothing is held of what is gone");
}

#[test]
fn a_directory_that_is_moved_leads_nowhere_else() {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("volume");
    std::fs::create_dir_all(dir.join("a/b/c")).unwrap();
    std::fs::write(outside.path().join("secret"), vec![1; 4 << 20]).unwrap();
    let mut walk = Walk::start(&dir).unwrap().unwrap();
    while walk.way.len() < 4 {
        walk.step().unwrap();
    }
    // Now the way up from there is shorter than the way down was.
    std::fs::rename(dir.join("a/b/c"), dir.join("c")).unwrap();
    while !walk.step().unwrap() {}
    assert!(walk.missed && walk.sum.bytes < 1 << 20, "{:?}", walk.sum);
}

/// Which of the directories `p` and `q` in `dir` this is on its way through.
fn passed(walk: &Walk, dir: &Path) -> &'static str {
    use std::os::linux::fs::MetadataExt;
    let is_on_the_way = |name: &&&str| {
        let number = std::fs::metadata(dir.join(name)).unwrap().st_ino();
        walk.way.iter().any(|level| level.id.1 == number)
    };
    ["p", "q"].iter().find(is_on_the_way).unwrap()
}

#[test]
fn a_directory_that_is_moved_hides_nothing_of_the_rest() {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("volume");
    for place in ["p/p", "p/q", "q/p", "q/q"] {
        std::fs::create_dir_all(dir.join(place)).unwrap();
        std::fs::write(dir.join(place).join("file"), vec![1; 1 << 20]).unwrap();
    }
    let mut walk = Walk::start(&dir).unwrap().unwrap();
    while walk.way.len() < 3 {
        assert!(!walk.step().unwrap());
    }
    // It is in the first of four, whatever the order of names.
    let above = dir.join(passed(&walk, &dir));
    std::fs::rename(above.join(passed(&walk, &above)), outside.path().join("away")).unwrap();
    while !walk.step().unwrap() {}
    assert!((4 << 20..5 << 20).contains(&walk.sum.bytes), "{:?}", walk.sum);
    assert_eq!(walk.held, 0);
}

#[test]
fn what_was_moved_above_is_lost_and_the_rest_is_not() {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("volume");
    for place in ["p/u/v", "q/u/v"] {
        std::fs::create_dir_all(dir.join(place)).unwrap();
        std::fs::write(dir.join(place).join("file"), vec![1; 1 << 20]).unwrap();
    }
    std::fs::write(outside.path().join("secret"), vec![1; 4 << 20]).unwrap();
    let mut walk = Walk::start(&dir).unwrap().unwrap();
    while walk.way.len() < 4 {
        assert!(!walk.step().unwrap());
    }
    let above = dir.join(passed(&walk, &dir));
    std::fs::rename(above.join("u"), outside.path().join("u")).unwrap();
    std::fs::create_dir_all(above.join("u/v")).unwrap();
    std::fs::rename(outside.path().join("u/v"), outside.path().join("v")).unwrap();
    while !walk.step().unwrap() {}
    assert!((2 << 20..3 << 20).contains(&walk.sum.bytes), "{:?}", walk.sum);
    assert!(walk.missed);
    assert_eq!(walk.held, 0);
}

/// A directory with so many files in it.
fn fill(dir: &Path, files: usize) {
    std::fs::create_dir_all(dir).unwrap();
    for number in 0..files {
        std::fs::write(dir.join(number.to_string()), [1]).unwrap();
    }
}

#[test]
fn trees_that_take_many_rounds_are_all_known_in_one() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = [dir.path().join("a"), dir.path().join("b")];
    fill(&dirs[0], 3 * STEPS_PER_ROUND_MIN);
    fill(&dirs[1], 5 * STEPS_PER_ROUND_MIN);
    let mut measurer = Measurer::default();
    let round = |_| measurer.within(&dirs, 1, Instant::now());
    let known = (0..6).map(round).find(|sizes| sizes.iter().all(|size| size.whole)).unwrap();
    assert_eq!(known, dirs.each_ref().map(|dir| size(dir)));
}

#[test]
fn what_was_known_in_another_shortage_is_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 5 * STEPS_PER_ROUND_MIN);
    let (mut measurer, dirs) = (Measurer::default(), [dir.path().to_owned()]);
    let mut round = |shortage| measurer.within(&dirs, shortage, Instant::now())[0].whole;
    while !round(1) {}
    assert!(round(1), "the next walk has begun");
    assert!(!round(2) && !round(0));
    while !round(0) {}
    assert!(!round(0), "without a shortage there is no hurry");
}

#[test]
fn a_walk_that_starts_anew_takes_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 3 * STEPS_PER_ROUND_MIN);
    let (mut measurer, dirs) = (Measurer::default(), [dir.path().to_owned()]);
    let mut round = || measurer.within(&dirs, 0, Instant::now())[0];
    let whole = loop {
        let next = round();
        if next.whole {
            break next;
        }
    };
    assert_eq!(round(), Size { whole: false, ..whole });
    // When it has seen all there is nothing to hold on to.
    std::fs::remove_dir_all(dir.path()).unwrap();
    fill(dir.path(), STEPS_PER_ROUND_MIN / 2);
    let last = (0..4).map(|_| round()).last().unwrap();
    assert!(last.whole && last.bytes < whole.bytes, "{last:?} {whole:?}");
}

#[test]
fn a_directory_that_is_renamed_takes_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["a", "c"].map(|name| dir.path().join(name));
    std::fs::create_dir(&names[0]).unwrap();
    std::fs::write(names[0].join("large"), vec![1; 1 << 20]).unwrap();
    let (mut measurer, dirs) = (Measurer::default(), [dir.path().to_owned()]);
    let whole = measurer.measure(&dirs, 0)[0];
    assert!(whole.whole && 1 << 20 <= whole.bytes, "{whole:?}");
    for round in 0..4 {
        let mut walk = Walk::start(dir.path()).unwrap().unwrap();
        // All names are read; then the directory is called otherwise.
        while walk.way[0].inside.is_empty() {
            assert!(!walk.step().unwrap());
        }
        std::fs::rename(&names[round % 2], &names[(round + 1) % 2]).unwrap();
        measurer.unfinished.insert(dir.path().to_owned(), walk);
        let led_astray = measurer.measure(&dirs, 0)[0];
        assert!(!led_astray.whole && whole.bytes <= led_astray.bytes, "{led_astray:?}");
    }
    std::fs::remove_file(names[0].join("large")).unwrap();
    let less = measurer.measure(&dirs, 0)[0];
    assert!(less.whole && less.bytes < 1 << 20, "{less:?}");
}

#[test]
fn files_without_a_name_count_while_they_are_open() {
    use std::io::Write as _;
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().join("x");
    let mut file = std::fs::File::create(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(&vec![1; 1 << 20]).unwrap();
    file.sync_all().unwrap();
    let twice = file.try_clone().unwrap();
    let dirs = [dir.path().to_owned(), other.path().to_owned()];
    let mut measurer = Measurer::default();
    let sizes = measurer.measure(&dirs, 0);
    assert!((1 << 20..2 << 20).contains(&sizes[0].bytes), "{sizes:?}");
    assert!(sizes[1].bytes < 1 << 20, "{sizes:?}");
    drop((file, twice));
    assert!(measurer.measure(&dirs, 0)[0].bytes < 1 << 20);
}

#[test]
fn files_without_a_name_count_however_deep_they_lay() {
    use std::io::Write as _;
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let deep = nest(dir.path(), &"d".repeat(200), 30);
    let (flags, mode) = (OFlags::RDWR | OFlags::CREATE, Mode::RUSR | Mode::WUSR);
    let make = |name: String| {
        let mut file = std::fs::File::from(openat(&deep, &*name, flags, mode).unwrap());
        rustix::fs::unlinkat(&deep, &*name, rustix::fs::AtFlags::empty()).unwrap();
        file.write_all(&[1; 16 << 10]).unwrap();
        file.sync_all().unwrap();
        file
    };
    // More than are looked at in one go.
    let files: Vec<_> = (0..100).map(|number| make(format!("f{number}"))).collect();
    let dirs = [dir.path().to_owned(), other.path().to_owned()];
    let sizes = Measurer::default().measure(&dirs, 0);
    assert!((100 * (16 << 10)..4 << 20).contains(&sizes[0].bytes), "{sizes:?}");
    assert!((130..150).contains(&sizes[0].inodes), "{sizes:?}");
    assert!(sizes[1].bytes < 1 << 20, "{sizes:?}");
    drop(files);
    assert!(size(dir.path()).bytes < 100 * (16 << 10));
    remove(dir);
}

#[test]
fn what_is_remembered_of_all_trees_has_one_bound() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = ["a", "b", "c", "d"].map(|name| dir.path().join(name));
    for dir in &dirs {
        std::fs::create_dir(dir).unwrap();
        for number in 0..2 * STEPS_PER_ROUND_MIN {
            std::fs::create_dir(dir.join(format!("{number:0200}"))).unwrap();
        }
    }
    let mut measurer = Measurer { budget: 256 << 10, ..Measurer::default() };
    for _ in 0..3 {
        let sizes = measurer.within(&dirs, 0, Instant::now());
        assert!(sizes.iter().all(|size| 0 < size.bytes), "each gets something: {sizes:?}");
        let names = measurer.unfinished.values().flat_map(|walk| &walk.way);
        let names: usize =
            names.flat_map(|level| &level.inside).map(|name| name.count_bytes()).sum();
        assert!(0 < names && names <= measurer.held(), "{names}");
        // The budget, and what each gets of right.
        assert!(measurer.held() <= (256 << 10) + 3 * TREE_MEMORY_BYTES_MIN, "{}", measurer.held());
    }
}

#[test]
fn what_is_shown_counts_once_its_name_in_the_volume_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let (volume, shown) = (data.path().join("v"), data.path().join("s"));
    std::fs::create_dir(&volume).unwrap();
    for name in ["f", "g"] {
        std::fs::write(volume.join(name), vec![7; 1 << 20]).unwrap();
        for at in ["one/0", "one/1", "two/0"] {
            std::fs::create_dir_all(shown.join(at)).unwrap();
            std::fs::hard_link(volume.join(name), shown.join(at).join(name)).unwrap();
        }
    }
    let trees = [Tree::Shown(shown), Tree::Filled(volume.clone()), Tree::Shown("/nowhere".into())];
    let mut measurer = Measurer::default();
    let mut mib = || {
        let sizes = measurer.measure_all(&trees, 0);
        sizes.iter().map(|size| (size.bytes + (1 << 19)) >> 20).collect::<Vec<_>>()
    };
    assert_eq!(mib(), [0, 2, 0]);
    std::fs::remove_file(volume.join("f")).unwrap();
    assert_eq!(mib(), [1, 1, 0]);
    std::fs::remove_file(volume.join("g")).unwrap();
    assert_eq!(mib(), [2, 0, 0]);
}
