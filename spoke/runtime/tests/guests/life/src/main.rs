//! Waits for its stop and ends with a code of its own.

wit_bindgen::generate!({ path: "../../../wit/lifecycle", world: "guest", generate_all });

use freewheel::lifecycle::lifecycle;

fn main() {
    let stop = lifecycle::on_terminate();
    println!("ready {:?}", lifecycle::terminating());
    stop.block();
    println!("stopping within {} ms", lifecycle::terminating().is_some_and(|left| left <= 30_000));
    lifecycle::exit(42);
}
