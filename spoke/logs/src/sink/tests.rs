//! Tests of [`super`].

use super::*;

#[test]
fn a_guest_that_does_not_ask_for_room_is_ended() {
    let sink = LogSink::new();
    let mut stream = sink.stream(Source::Stdout);
    assert!(stream.write(Bytes::from_static(b"unasked")).is_err());
    assert_eq!(stream.check_write(), WRITE_PERMIT_BYTES);
    stream.write(Bytes::from(vec![0; WRITE_PERMIT_BYTES - 1])).unwrap();
    assert!(stream.write(Bytes::from_static(b"ab")).is_err());
    stream.write(Bytes::from_static(b"a")).unwrap();
    stream.check_write();
    let taken =
        (0..=WRITES_WITHOUT_CHECK).filter(|_| stream.write(Bytes::from_static(b"a")).is_ok());
    assert_eq!(taken.count(), WRITES_WITHOUT_CHECK, "byte by byte");
}

#[test]
fn what_waits_for_the_disk_is_bounded() {
    let sink = LogSink::new();
    let mut stream = sink.stream(Source::Stdout);
    let mut written = 0;
    while let room @ 1.. = stream.check_write() {
        stream.write(Bytes::from(vec![0; room])).unwrap();
        written += room;
    }
    assert!(written <= WAITING_BYTES_MAX + WRITE_PERMIT_BYTES, "{written}");
}

#[tokio::test]
async fn what_waits_for_the_disk_is_on_the_account() {
    let account = MemoryAccount::node();
    let sink = LogSink::of(account.clone());
    let mut stream = sink.stream(Source::Stdout);
    let mut written = 0;
    while let room @ 1.. = stream.check_write() {
        stream.write(Bytes::from(vec![0; room])).unwrap();
        written += room;
    }
    assert!(written < account.used());
    let (_, waited) = std::future::poll_fn(|cx| sink.poll_take(cx)).await.unwrap();
    assert!(written < account.used(), "until it is written");
    drop(waited);
    assert_eq!(account.used(), 0);
    sink.note("more");
    assert!(0 < account.used());
    drop((stream, sink));
    assert_eq!(account.used(), 0);
}

#[test]
fn handles_of_a_stream_share_what_they_are_promised() {
    let sink = LogSink::new();
    let first = sink.stream(Source::Stdout);
    let mut streams: Vec<_> = (0..16_000).map(|_| first.again()).collect();
    let promised: Vec<_> = streams.iter_mut().map(|s| s.check_write()).collect();
    assert_eq!(promised.iter().sum::<usize>(), PROMISED_BYTES_MAX);
    for (stream, room) in streams.iter_mut().zip(promised) {
        stream.write(Bytes::from(vec![b'x'; room])).unwrap();
    }
    assert!(sink.0.state.lock().bytes <= PROMISED_BYTES_MAX + 4 * PIECE_OVERHEAD_BYTES);
    // What was written, given back or dropped may be promised again.
    assert_eq!(streams[0].check_write(), WRITE_PERMIT_BYTES);
    assert_eq!(streams[0].check_write(), WRITE_PERMIT_BYTES);
    drop(streams);
    assert_eq!(first.left(), WRITE_PERMIT_BYTES);
    assert_eq!(first.origin.promised.load(Relaxed), 0);
}

#[test]
fn a_note_is_bounded() {
    let sink = LogSink::new();
    sink.note(&"ü".repeat(1 << 20));
    assert!(sink.0.state.lock().bytes < 2 * NOTE_BYTES_MAX);
}

#[tokio::test]
async fn who_takes_all_that_is_written_gives_others_a_turn() {
    let sink = LogSink::new();
    let other = tokio::spawn(async {});
    for _ in 0..10_000 {
        sink.note("more");
        sink.taken().await.unwrap();
        if other.is_finished() {
            return;
        }
    }
    panic!("a command that never pauses keeps its reader's thread");
}
