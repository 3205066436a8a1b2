//! What the hub answered last to a device that asks to join, kept for `spoke doctor`.
//!
//! ```text
//! DIR/identity/answer    JoinAnswer: it waits, it was refused, or the hub has something else to say to its key
//! ```
//!
//! Guarantees:
//! - it is of the hub that is asked now (`the_last_answer_is_of_the_hub_that_is_asked`);
//! - a hub that has let a device wait is not said to have refused it when it only sends it round once more
//!   (`who_waits_goes_on_waiting_through_what_passes`);
//! - what is no answer of the hub, as silence and other hubs, is not kept as one (`silence_is_no_answer`).

use std::fs;
use std::io;
use std::path::Path;

use freewheel_link::join::{JoinAnswer, JoinError};
use freewheel_spoke_agent::uplink::join::NoIdentity;

use crate::data::write_whole;

const NAME: &str = "answer";

/// The last one.
pub(super) fn last(dir: &Path) -> Option<JoinAnswer> {
    postcard::from_bytes(&fs::read(dir.join(NAME)).ok()?).ok()
}

/// Keeps one; the same again is not written again.
pub(super) fn note(dir: &Path, answer: &JoinAnswer) -> io::Result<()> {
    let held = last(dir);
    let passes = matches!(answer, JoinAnswer::Refused(refused) if refused.cause.may_pass());
    let still_waits = passes && matches!(held, Some(JoinAnswer::Pending(_)));
    if still_waits || held.as_ref() == Some(answer) {
        return Ok(());
    }
    let bytes = postcard::to_stdvec(answer).map_err(io::Error::other)?;
    write_whole(&dir.join(NAME), &bytes)
}

/// Another hub is asked, or it is over.
pub(super) fn forget(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What the hub said, where joining ended with that.
pub(super) fn of(end: &NoIdentity) -> Option<JoinAnswer> {
    match end {
        NoIdentity::Join(JoinError::Refused(refused)) => Some(JoinAnswer::Refused(refused.clone())),
        NoIdentity::Join(JoinError::TurnedAway(reason)) => {
            Some(JoinAnswer::TurnedAway(reason.clone()))
        }
        NoIdentity::Join(
            JoinError::Odd | JoinError::Closed(_) | JoinError::Frame(_) | JoinError::Silent,
        )
        | NoIdentity::Odd(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::join::{JoinRefusal, RefusedV1};
    use freewheel_link::message::Reason;
    use freewheel_link::transport::Closed;

    use super::*;

    fn refused(cause: JoinRefusal) -> NoIdentity {
        NoIdentity::Join(JoinError::Refused(RefusedV1 { cause, message: "no".to_owned() }))
    }

    #[test]
    fn who_waits_goes_on_waiting_through_what_passes() {
        let dir = tempfile::tempdir().unwrap();
        let busy = of(&refused(JoinRefusal::Busy)).unwrap();
        note(dir.path(), &busy).unwrap();
        assert_eq!(last(dir.path()), Some(busy.clone()), "it is all that is known");
        let waits = JoinAnswer::Pending("hub accept pi-7".to_owned());
        for answer in [&waits, &busy, &waits] {
            note(dir.path(), answer).unwrap();
            assert_eq!(last(dir.path()).as_ref(), Some(&waits));
        }
        let taken = of(&refused(JoinRefusal::NameTaken)).unwrap();
        note(dir.path(), &taken).unwrap();
        assert_eq!(last(dir.path()), Some(taken));
        forget(dir.path()).unwrap();
        forget(dir.path()).unwrap();
        assert_eq!(last(dir.path()), None);
    }

    #[test]
    fn silence_is_no_answer() {
        for end in [JoinError::Silent, JoinError::Odd, JoinError::Closed(Closed::TimedOut)] {
            assert_eq!(of(&NoIdentity::Join(end)), None);
        }
        assert_eq!(of(&NoIdentity::Odd("its CA is another".to_owned())), None);
        let away = NoIdentity::Join(JoinError::TurnedAway(Reason::Stopping));
        assert_eq!(of(&away), Some(JoinAnswer::TurnedAway(Reason::Stopping)));
    }
}
