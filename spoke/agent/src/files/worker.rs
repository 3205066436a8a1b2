//! One thread that does what waits for the disk, one thing after another, beside whoever wants it done.
//!
//! Guarantees:
//! - what is given to it is done in that order, also what it has no room for
//!   (`everything_is_done_in_the_order_in_which_it_came`).

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};

/// One thing to do.
pub type Work = Box<dyn FnOnce() + Send>;

/// What may wait. The agent gives it less at a time.
const WAITING_MAX: usize = 64;

/// The thread, and the way to it. It ends with this, when it has done what it was given.
#[derive(Debug)]
pub struct Worker(SyncSender<Work>);

impl Worker {
    /// Starts it.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start() -> io::Result<Self> {
        let (queue, all) = sync_channel::<Work>(WAITING_MAX);
        let work = move || all.into_iter().for_each(|one| one());
        std::thread::Builder::new().name("files".to_owned()).spawn(work)?;
        Ok(Self(queue))
    }

    /// Has this done. Who gives it more than may wait, waits.
    pub fn add(&self, work: Work) {
        // The thread is there as long as this is.
        let _ = self.0.send(work);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn everything_is_done_in_the_order_in_which_it_came() {
        let worker = Worker::start().unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        worker.add(Box::new(move || wait.recv().unwrap()));
        let adds = std::thread::spawn(move || {
            for number in 0..3 * WAITING_MAX {
                let tell = tell.clone();
                worker.add(Box::new(move || tell.send(number).unwrap()));
            }
        });
        assert!(told.try_recv().is_err(), "it does one thing at a time");
        go.send(()).unwrap();
        adds.join().unwrap();
        assert!(told.iter().eq(0..3 * WAITING_MAX));
    }
}
