//! What `spoke doctor` says of a device without a certificate: the cause and the next step.
//!
//! Guarantees:
//! - only who waits for the hub's owner is told of `hub accept`; whom the hub has refused is told why, and who had no answer
//!   that there was none (`each_is_told_what_came_of_asking`).

use freewheel_link::join::{JoinAnswer, JoinRefusal};

/// A line that a device can join with.
const NEW_TOKEN: &str = "`hub token create` on the hub, and run the line that it prints here";

/// Of one that has asked no hub for anything.
pub(crate) fn never_asked() -> (String, String) {
    let step = format!("if it has, mount its data directory; else {NEW_TOKEN}");
    ("this device has not joined a hub".to_owned(), step)
}

/// Of one that has asked the hub at this address, which answered this last; `was_in` when it was let in once.
pub(crate) fn asked(hub: &str, answer: Option<&JoinAnswer>, was_in: bool) -> (String, String) {
    match answer {
        Some(JoinAnswer::Pending(why)) => (
            format!("the hub at {hub} said last: {why}"),
            "on the hub, `hub accept NAME` (`kubectl get managedclusters` tells who waits)"
                .to_owned(),
        ),
        Some(JoinAnswer::Refused(refused)) => (
            format!("the hub at {hub} refused this device last: {}", refused.message),
            after(refused.cause).to_owned(),
        ),
        Some(JoinAnswer::TurnedAway(reason)) => (
            format!("the hub at {hub} turned this device away last: {reason}"),
            "see what `spoke run` says".to_owned(),
        ),
        Some(JoinAnswer::Accepted(_) | JoinAnswer::Taken) | None if was_in => (
            format!("the certificate of this device, which the hub at {hub} has let in, is gone"),
            format!("{NEW_TOKEN}: it joins again with the key that the hub knows"),
        ),
        Some(JoinAnswer::Accepted(_) | JoinAnswer::Taken) | None => (
            format!("this device has asked the hub at {hub} to join, and has had no answer yet"),
            "see dns and udp below, and start `spoke run` where it has ended".to_owned(),
        ),
    }
}

const fn after(cause: JoinRefusal) -> &'static str {
    match cause {
        JoinRefusal::Token | JoinRefusal::Unknown => NEW_TOKEN,
        JoinRefusal::Name | JoinRefusal::NameTaken => {
            "do what it says, or run `spoke run` with another --name"
        }
        JoinRefusal::Labels => "run `spoke run` without these --labels",
        JoinRefusal::Denied => {
            "ask the hub's owner; on the hub, `kubectl get csr` tells what was denied"
        }
        JoinRefusal::Busy | JoinRefusal::Internal => {
            "let `spoke run` go on: it asks again; if this stays, see the hub's log"
        }
        JoinRefusal::Request => "start `spoke run` again; if this stays, see the hub's log",
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::join::RefusedV1;

    use super::*;

    #[track_caller]
    fn check(answer: Option<&JoinAnswer>, was_in: bool, cause: &str, step: &str) {
        let (why, next) = asked("hub:6444", answer, was_in);
        assert!(why.contains("hub:6444") && why.contains(cause), "{why}");
        assert!(next.contains(step), "{next}");
        let waits = matches!(answer, Some(JoinAnswer::Pending(_)));
        assert_eq!(next.contains("hub accept"), waits, "{next}");
    }

    #[test]
    fn each_is_told_what_came_of_asking() {
        let refused = |cause, message: &str| {
            Some(JoinAnswer::Refused(RefusedV1 { cause, message: message.to_owned() }))
        };
        let waits = Some(JoinAnswer::Pending("waiting to be accepted".to_owned()));
        check(waits.as_ref(), false, "waiting to be accepted", "hub accept");
        let spent = refused(JoinRefusal::Token, "the token is used by another device");
        check(spent.as_ref(), false, "used by another device", "hub token create");
        let taken = refused(JoinRefusal::NameTaken, "another device is pi-7");
        check(taken.as_ref(), true, "another device is pi-7", "--name");
        check(None, false, "no answer yet", "udp below");
        check(None, true, "is gone", "hub token create");
        let (why, next) = never_asked();
        assert!(why.contains("not joined") && next.contains("hub token create"), "{why} {next}");
    }
}
