//! Hostile guests beside a good neighbour, in a process of their own: it is their host's memory that is measured.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::time::{Duration, Instant};

use support::{guest, node};

/// Bytes that this process has in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// They start again as soon as all have ended, which no agent would allow.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_guests_neither_hurt_a_neighbour_nor_fill_the_host() {
    let node = std::sync::Arc::new(node());
    let good = node.start(node.container("good", &guest("web")));
    node.started(&good).await;
    assert_eq!(node.get("good", 8080, "/hello").await.0, 200);
    // What compiling the others takes is not theirs.
    let _ = guest("greedy");
    let before = resident();
    let until = Instant::now() + Duration::from_secs(6);
    let hostile: [&[&str]; 6] = [
        &["fields", "16000"],
        &["clones", "16000"],
        &["bodies", "16000"],
        &["datagrams", "1000"],
        &["files", "/v"],
        &["streams", "16000"],
    ];
    let rounds = {
        let node = node.clone();
        tokio::spawn(async move {
            for attempt in 0.. {
                let starts = hostile.map(|words| {
                    let mut start = node.greedy(words[0], words);
                    start.0.id.attempt = attempt;
                    node.start(start)
                });
                for id in starts {
                    node.exited(&id).await;
                }
            }
        })
    };
    let (mut answered, mut most) = (0, 0);
    while Instant::now() < until {
        let (status, text) = node.get("good", 8080, "/hello").await;
        assert_eq!((status, text.as_str()), (200, "Hello, world!\n"));
        answered += 1;
        most = most.max(resident().saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!rounds.is_finished(), "the hostile guests still come");
    assert!(10 < answered, "{answered} answers in six seconds");
    // Six pods of 32 MiB, and what a tick of the clock lets them have beyond.
    assert!(most < 512 << 20, "{} MiB more than before", most >> 20);
}
