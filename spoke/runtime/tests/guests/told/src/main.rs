//! Learns of its stop from the SDK: waits for it, or looks for it between two pieces of work.

use std::time::Duration;

use freewheel_guest::{Exit, stop};

#[freewheel_guest::main]
async fn main() -> Exit {
    assert_eq!(stop::grace_left(), None);
    println!("ready, nobody asked");
    if std::env::args().any(|word| word == "wait") {
        stop::asked().await;
    }
    loop {
        match stop::grace_left() {
            Some(left) if left.is_zero() => return Exit::FAILURE,
            Some(_) => break,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    println!("told, with time left");
    Exit::from(7)
}
