//! A stack that holds what expressions need: the parser and the evaluator take some frames for each level of one, more than a
//! worker's stack has room for.

use std::thread;

/// Room for all that an expression may need. What is not used of it costs nothing.
pub const STACK_BYTES: usize = 128 << 20;

/// Does this work on a stack of this size.
///
/// # Errors
/// There is no thread for it, or it panicked.
pub fn on_a_stack_of<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let failed = "there is no room to look at the expression".to_owned();
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("cel".to_owned()).stack_size(bytes);
        let thread = thread.spawn_scoped(scope, work).map_err(|_| failed.clone())?;
        thread.join().map_err(|_| failed)
    })
}
