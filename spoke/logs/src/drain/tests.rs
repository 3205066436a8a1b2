//! Log files on a real disk, that is full or loses its agent.

use super::*;
use crate::budget::LOG_FILE_BYTES_MAX;
use bytes::Bytes;

fn file_at(log: PathBuf) -> LogFile {
    LogFile::new(log, LogBudget::new(1 << 30).share())
}

fn texts(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

fn put(file: &mut LogFile, source: Source, text: &str) {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    file.take(Piece { stream: source as u64, source, time: SystemTime::now(), bytes });
}

#[test]
fn pieces_become_lines_of_their_stream() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut file = file_at(log.clone());
    put(&mut file, Source::Stdout, "one\ntw");
    put(&mut file, Source::Stderr, "oops\n");
    put(&mut file, Source::Stdout, "o\n\nrest");
    file.finish();
    file.flush();
    assert_eq!(
        texts(&log),
        ["stdout F one", "stderr F oops", "stdout F two", "stdout F ", "stdout F rest"]
    );
}

#[test]
fn long_lines_are_cut_into_parts() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut file = file_at(log.clone());
    put(&mut file, Source::Stdout, &format!("{}\n", "x".repeat(LINE_BYTES_MAX + 5)));
    file.flush();
    let lines = texts(&log);
    assert_eq!(lines[0].len(), "stdout P ".len() + LINE_BYTES_MAX);
    assert_eq!(lines[1], "stdout F xxxxx");
}

#[test]
fn a_full_file_is_set_aside_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut file = file_at(log.clone());
    let line = format!("{}\n", "x".repeat(LINE_BYTES_MAX));
    for _ in 0..(3 * LOG_FILE_BYTES_MAX / LINE_BYTES_MAX as u64) {
        put(&mut file, Source::Stdout, &line);
        file.flush();
    }
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert!(size(&log) <= LOG_FILE_BYTES_MAX + 2 * LINE_BYTES_MAX as u64);
    assert!(size(&log_aside(&log)) <= LOG_FILE_BYTES_MAX + 2 * LINE_BYTES_MAX as u64);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_log_that_somebody_removed_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut file = file_at(log.clone());
    put(&mut file, Source::Stdout, "gone\n");
    file.flush();
    std::fs::remove_file(&log).unwrap();
    put(&mut file, Source::Stdout, "new\n");
    file.flush();
    assert_eq!(texts(&log), ["stdout F new"]);
}

#[test]
fn a_line_that_a_killed_agent_left_in_half_stays_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    std::fs::write(&log, "2026-11-20T15:04:05.000000000Z stdout F hal").unwrap();
    let mut file = file_at(log.clone());
    put(&mut file, Source::Stdout, "whole\n");
    file.flush();
    assert_eq!(texts(&log), ["stdout F hal", "stdout F whole"]);
}

/// This test again, in a process of its own.
fn again(script: &str, test: &str) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    let script = format!("{script} exec \"$0\" --exact --nocapture \"$1\"");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap()).arg(test);
    command
}

/// Runs this test again in a process whose files may have 64 KiB, and in which writing more is an error.
fn with_small_files(test: &str) {
    let script = "trap '' XFSZ; ulimit -S -f 128;";
    let output = again(script, test).env(SMALL_FILES, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let cause = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{cause}");
}

const SMALL_FILES: &str = "FREEWHEEL_TEST_SMALL_FILES";

#[test]
fn a_full_disk_leaves_whole_lines_and_the_loss_is_said() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if std::env::var_os(SMALL_FILES).is_none() {
        return with_small_files(
            "drain::tests::a_full_disk_leaves_whole_lines_and_the_loss_is_said",
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut file = file_at(log.clone());
    let line = format!("{}\n", "x".repeat(10_000));
    for _ in 0..9 {
        put(&mut file, Source::Stdout, &line);
        file.flush();
    }
    assert!(0 < file.lost, "the limit does not hold");
    let whole = texts(&log);
    assert!(whole.iter().all(|text| text.len() == "stdout F ".len() + 10_000), "{whole:?}");
    // There is room again.
    let hard = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: hard, maximum: hard }).unwrap();
    put(&mut file, Source::Stdout, "back\n");
    file.flush();
    let after = texts(&log);
    let [note, back] = &after[whole.len()..] else { panic!("{after:?}") };
    assert!(note.starts_with("stderr F [") && note.contains("bytes of this log were lost"));
    assert_eq!(back, "stdout F back");
    assert_eq!(file.lost, 0);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_does_not_hold_up_the_guest() {
    use crate::LogSink;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    let sink = LogSink::new();
    let draining = tokio::spawn(drain(sink.clone(), log, LogBudget::new(1 << 30)));
    let mut stream = sink.stream(Source::Stdout);
    let write = async {
        for _ in 0..200 {
            stream.write_ready().await;
            let room = stream.check_write();
            stream.write(Bytes::from(vec![b'x'; room.min(4096)])).unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), write).await.unwrap();
    sink.close();
    tokio::time::timeout(std::time::Duration::from_secs(20), draining).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_container_that_writes_more_than_its_share_waits_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let sink = LogSink::new();
    let start = tokio::time::Instant::now();
    let draining = tokio::spawn(drain(sink.clone(), log.clone(), LogBudget::new(1 << 30)));
    let line = "x".repeat(16 << 10);
    for _ in 0..24 << 6 {
        sink.note(&line);
        tokio::task::yield_now().await;
        // What is taken at once is one piece of work: the bound is the guest's, and this is none.
        let stream = sink.stream(Source::Stdout);
        stream.ready().await;
    }
    assert!(std::time::Duration::from_secs(2) <= start.elapsed(), "{:?}", start.elapsed());
    sink.close();
    draining.await.unwrap();
    let told = "[this container writes more than its share of the node's logs: it waits]";
    let text = [log_aside(&log), log].map(|log| std::fs::read_to_string(log).unwrap_or_default());
    assert_eq!(text.concat().matches(told).count(), 1);
}

const WRITER: &str = "FREEWHEEL_TEST_WRITER";

/// Numbers of the lines in a log file, all of them whole but perhaps the last.
fn numbers(log: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(log).unwrap();
    let (whole, torn) = text.rsplit_once('\n').unwrap_or(("", &text));
    assert!(torn.len() < 1200, "more than a line has no end");
    let number = |line: &str| {
        let (_, rest) = line.split_once(" stdout F ").unwrap_or_else(|| panic!("{line:?}"));
        assert_eq!(rest.len(), 1000, "{line:?}");
        rest.trim_end_matches('x').parse().unwrap()
    };
    whole.lines().map(number).collect()
}

#[test]
fn an_agent_that_is_killed_between_two_files_loses_no_line() {
    if let Some(log) = std::env::var_os(WRITER) {
        let mut file = file_at(log.into());
        for number in 0_u64.. {
            put(&mut file, Source::Stdout, &format!("{number:x<1000}\n"));
            file.flush();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let test = "drain::tests::an_agent_that_is_killed_between_two_files_loses_no_line";
    let mut child =
        again("", test).env(WRITER, &log).stdout(std::process::Stdio::null()).spawn().unwrap();
    let start = std::time::Instant::now();
    while !log_aside(&log).exists() {
        let waited = start.elapsed();
        if std::time::Duration::from_secs(60) < waited {
            child.kill().unwrap();
            panic!("no file was set aside within {waited:?}");
        }
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut all = numbers(&log_aside(&log));
    if log.exists() {
        all.extend(numbers(&log));
    }
    // On a busy machine it may have set aside more than one: the oldest are gone, as they are to be.
    assert!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a line is missing or twice");
    assert!(LOG_FILE_BYTES_MAX / 1100 < all.len() as u64, "{} lines", all.len());
    // The next agent goes on where this one ended.
    let mut file = file_at(log.clone());
    put(&mut file, Source::Stdout, "next\n");
    file.flush();
    assert_eq!(texts(&log).last().unwrap(), "stdout F next");
}

#[tokio::test]
async fn lines_of_instances_that_write_at_the_same_time_stay_apart() {
    use crate::sink::LogStream;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let sink = LogSink::new();
    let draining = tokio::spawn(drain(sink.clone(), log.clone(), LogBudget::new(1 << 30)));
    let put = |stream: &mut LogStream, text: &'static str| {
        assert!(text.len() <= stream.check_write());
        stream.write(Bytes::from_static(text.as_bytes())).unwrap();
    };
    let [mut one, mut two, mut third] = [(); 3].map(|()| sink.stream(Source::Stdout));
    put(&mut one, "/r287");
    put(&mut third, "half");
    put(&mut two, "/r290");
    sink.note("freewheel: a word between");
    put(&mut one, "\n");
    put(&mut two, "\n");
    // What it leaves without an end is a line of its own, too, and once it is gone.
    drop(third);
    put(&mut one, "last\n");
    sink.close();
    draining.await.unwrap();
    let expected = [
        "stderr F freewheel: a word between",
        "stdout F /r287",
        "stdout F /r290",
        "stdout F half",
        "stdout F last",
    ];
    assert_eq!(texts(&log), expected);
}

#[tokio::test]
async fn long_lines_of_instances_that_write_at_the_same_time_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let sink = LogSink::new();
    let draining = tokio::spawn(drain(sink.clone(), log.clone(), LogBudget::new(1 << 30)));
    let mut streams = [(); 2].map(|()| sink.stream(Source::Stdout));
    let long = "a".repeat(LINE_BYTES_MAX + 10);
    for (at, text) in [(0, long.clone()), (1, "b\n".to_owned()), (0, "c\n".to_owned())] {
        let mut left = Bytes::from(text);
        while !left.is_empty() {
            streams[at].ready().await;
            let now = left.len().min(streams[at].check_write());
            streams[at].write(left.split_to(now)).unwrap();
        }
    }
    sink.close();
    draining.await.unwrap();
    let (part, rest) = long.split_at(LINE_BYTES_MAX);
    let expected = [
        format!("stdout P {part}"),
        "stdout F ".to_owned(),
        "stdout F b".to_owned(),
        format!("stdout F {rest}c"),
    ];
    assert_eq!(texts(&log), expected);
}

#[tokio::test(start_paused = true)]
async fn lines_that_come_one_after_the_other_are_written_together() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let sink = LogSink::new();
    let draining = tokio::spawn(drain(sink.clone(), log.clone(), LogBudget::new(1 << 30)));
    let mut written = sink.follow();
    sink.note("0");
    written.changed().await.unwrap();
    assert_eq!(texts(&log).len(), 1, "the first waits for nothing");
    let mut writes = 0;
    for number in 1..=100 {
        sink.note(&number.to_string());
        tokio::time::sleep(Duration::from_millis(1)).await;
        writes += usize::from(written.has_changed().unwrap());
        written.mark_unchanged();
    }
    assert!((15..=21).contains(&writes), "{writes} writes in 100 ms");
    let begin = tokio::time::Instant::now();
    sink.note(&"x".repeat(40 << 10));
    written.changed().await.unwrap();
    sink.note("last");
    sink.close();
    draining.await.unwrap();
    assert!(begin.elapsed() < GATHER_LINES_FOR, "neither much nor an end waits");
    assert!(texts(&log).last().unwrap().ends_with("last"));
}

#[test]
fn what_comes_after_the_end_was_told_makes_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("logs");
    let (sink, mut file) = (LogSink::new(), file_at(home.join("0.log")));
    file.sink = Some(sink.clone());
    put(&mut file, Source::Stdout, "first\n");
    file.flush();
    assert_eq!(texts(&home.join("0.log")), ["stdout F first"], "it comes before the agent's own");
    sink.close();
    sink.tell();
    put(&mut file, Source::Stdout, "late\n");
    file.flush();
    assert_eq!(texts(&home.join("0.log")).len(), 2, "it is there: the pod is, too");
    std::fs::remove_dir_all(&home).unwrap();
    put(&mut file, Source::Stdout, "later\n");
    file.flush();
    assert!(!home.exists());
}

#[tokio::test]
async fn a_log_that_ends_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let budget = LogBudget::new(256 << 10);
    let mut logs = Vec::new();
    for number in 0..10 {
        let log = dir.path().join(format!("{number}.log"));
        let sink = LogSink::new();
        sink.note(&"x".repeat(16 << 10));
        sink.note(&"x".repeat(16 << 10));
        sink.close();
        drain(sink, log.clone(), budget.clone()).await;
        logs.push(log);
    }
    let bytes = logs.iter().map(|log| std::fs::metadata(log).unwrap().len()).sum::<u64>();
    assert!(bytes <= 129 << 10, "{bytes}");
    assert!(texts(&logs[0])[0].contains("made room"), "{:?}", texts(&logs[0]));
    assert_eq!(texts(&logs[9]).len(), 2);
}
