//! `hub replace`: a new board takes the place of a device.
//!
//! What a device is to the hub (labels, annotations, taints and set of its ManagedCluster, the works and add-ons in its
//! namespace, its logical cluster with claims of volumes, the pods that are bound to it) is kept under its name and the UID of
//! its ManagedCluster. So nothing of that is moved: the name is given to the key of the new board.
//!
//! ```text
//! NEW's key may become OLD ─▶ OLD's key is to be wiped ─▶ OLD belongs to NEW's key ─▶ NEW's ManagedCluster is deleted
//!                                                          └ one write, before which nothing has become another's
//! ```
//!
//! Of two that take one place at once, one has it, and the other takes back what its board was to become.
//!
//! Guarantees:
//! - said again, it goes on where it was, from wherever it broke off (`what_is_left_to_be_done_is_seen_in_what_is_there`),
//!   and wipes no place for a board that has come under the new one's name since
//!   (`who_came_later_takes_the_place_by_its_key_alone`);
//! - nobody takes the place of a device that runs, unless it is asked for (`nobody_takes_the_place_of_who_runs`), nor one
//!   that is about to be gone: nobody would have it, and the old board would be wiped for it
//!   (`nobody_takes_a_place_that_goes`).

use freewheel_hub_api::device_orders::{Order, Rename};

use crate::cli::ReplaceOptions;
use crate::client::Client;
use crate::devices::{self, Device, DeviceError};

/// What is left to be done.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// All of it: the name is given from this key, if it is anybody's, to that one.
    Switch { from: Option<String>, to: String },
    /// The new board's own ManagedCluster is left.
    Tidy,
    /// Nothing.
    Nothing,
}

/// Gives the place of one device to another.
///
/// # Errors
/// When one of them is not there or not fit, or the hub refuses.
pub async fn run(options: ReplaceOptions) -> Result<(), DeviceError> {
    let ReplaceOptions { old, new, force, key, kubeconfig } = options;
    let client = Client::new(kubeconfig.as_deref())?.at_root();
    let unknown = |name: &String| DeviceError::Unknown(name.clone());
    let place = devices::find(&client, &old).await?.ok_or_else(|| unknown(&old))?;
    let board = devices::find(&client, &new).await?;
    let order = match &place.key {
        Some(key) => devices::order(&client, key).await?,
        None => None,
    };
    let runs = !force && devices::is_connected(&client, &old).await?;
    let meant = (&*new, key.as_deref());
    match (decide(&place, board.as_ref(), order.as_ref(), runs, meant)?, &board) {
        (Step::Nothing, _) => {}
        (Step::Tidy, Some(board)) => {
            if let Some(key) = &place.key {
                devices::note_taken(&client, &becomes(&new, key, &old)).await?;
            }
            devices::delete(&client, board).await?;
        }
        (Step::Switch { from, to }, Some(board)) => {
            let becomes = becomes(&new, &to, &old);
            let given = devices::give(&client, &to, &Order::Rename(becomes.clone())).await?;
            if matches!(given, Order::Wipe(_)) {
                return Err(DeviceError::Decommissioned(new));
            }
            if let Some(from) = from {
                devices::wipe(&client, &old, &from).await?;
            }
            switch(&client, &place, &becomes).await?;
            devices::delete(&client, board).await?;
        }
        (Step::Tidy | Step::Switch { .. }, None) => return Err(unknown(&new)),
    }
    println!("the board {new} is {old} from now on; it hears so at its next contact");
    if !place.accepted {
        println!("{old} is not accepted: run `hub accept {old}` to let it in");
    }
    println!("`hub decommission` says what becomes of the one that was {old}");
    Ok(())
}

/// What the board `new` with this key is told.
fn becomes(new: &str, key: &str, old: &str) -> Rename {
    let [cluster, key, to] = [new, key, old].map(str::to_owned);
    Rename { cluster, key, to, taken_at: None }
}

/// The place belongs to the board from here on. Where another board was faster this one's order is taken back.
async fn switch(client: &Client, place: &Device, becomes: &Rename) -> Result<(), DeviceError> {
    match devices::hand_over(client, place, &becomes.key).await {
        Ok(()) => devices::note_taken(client, becomes).await.map_err(DeviceError::from),
        Err(lost @ (DeviceError::Changed(_) | DeviceError::Going(_))) => {
            devices::take_back(client, becomes).await?;
            Err(lost)
        }
        Err(error) => Err(error),
    }
}

/// By what is there, for the board of this name, and of this key where one is said; `order` is the one to the key that the
/// place belongs to.
fn decide(
    place: &Device,
    board: Option<&Device>,
    order: Option<&Order>,
    runs: bool,
    (new, meant): (&str, Option<&str>),
) -> Result<Step, DeviceError> {
    if place.name == new {
        return Err(DeviceError::Same(new.to_owned()));
    }
    if place.going {
        return Err(DeviceError::Going(place.name.clone()));
    }
    let came_of_it =
        matches!(order, Some(Order::Rename(it)) if it.cluster == new && it.to == place.name);
    let Some(board) = board else {
        let unknown = || DeviceError::Unknown(new.to_owned());
        return if came_of_it { Ok(Step::Nothing) } else { Err(unknown()) };
    };
    let own = board.key.as_ref().ok_or_else(|| DeviceError::Unjoined(new.to_owned()))?;
    let (name, key) = (new.to_owned(), own.clone());
    if meant.is_some_and(|meant| meant != own) {
        return Err(DeviceError::OtherKey { name, key });
    }
    if place.key.as_ref() == Some(own) {
        return Ok(if board.going { Step::Nothing } else { Step::Tidy });
    }
    if came_of_it && meant.is_none() {
        let before = format!("the board {new} is {} already", place.name);
        return Err(DeviceError::CameLater { name, key, before });
    }
    if !board.accepted || board.going {
        return Err(DeviceError::NotAccepted(new.to_owned()));
    }
    if runs {
        return Err(DeviceError::Connected(place.name.clone()));
    }
    Ok(Step::Switch { from: place.key.clone(), to: own.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, key: &str) -> Device {
        let (name, key) = (name.to_owned(), Some(key.to_owned()));
        Device { name, key, uid: "u".to_owned(), accepted: true, ..Device::default() }
    }

    fn renamed() -> Order {
        Order::Rename(becomes("new", "k2", "pi-7"))
    }

    #[test]
    fn what_is_left_to_be_done_is_seen_in_what_is_there() {
        let (place, board) = (device("pi-7", "k1"), device("new", "k2"));
        let all = Step::Switch { from: Some("k1".into()), to: "k2".into() };
        assert_eq!(decide(&place, Some(&board), None, false, ("new", None)).unwrap(), all);
        let taken = device("pi-7", "k2");
        let left = |board| decide(&taken, board, Some(&renamed()), true, ("new", None)).unwrap();
        assert_eq!(left(Some(&board)), Step::Tidy, "the new one runs, which is no hindrance");
        let going = Device { going: true, ..board.clone() };
        assert_eq!((left(Some(&going)), left(None)), (Step::Nothing, Step::Nothing));
        let nobodys = Device { key: None, ..place };
        let all = Step::Switch { from: None, to: "k2".into() };
        assert_eq!(decide(&nobodys, Some(&board), None, false, ("new", None)).unwrap(), all);
    }

    #[test]
    fn nobody_takes_the_place_of_who_runs() {
        let (place, board) = (device("pi-7", "k1"), device("new", "k2"));
        let runs = decide(&place, Some(&board), None, true, ("new", None));
        assert!(matches!(runs, Err(DeviceError::Connected(name)) if name == "pi-7"));
    }

    #[test]
    fn who_came_later_takes_the_place_by_its_key_alone() {
        let (taken, later) = (device("pi-7", "k2"), device("new", "k3"));
        let decided = |meant: Option<&str>| {
            decide(&taken, Some(&later), Some(&renamed()), false, ("new", meant))
        };
        let refused = decided(None).unwrap_err().to_string();
        assert!(refused.starts_with("the board new is pi-7 already"), "{refused}");
        assert!(refused.ends_with("--key k3"), "{refused}");
        let all = Step::Switch { from: Some("k2".into()), to: "k3".into() };
        assert_eq!(decided(Some("k3")).unwrap(), all);
        assert!(matches!(decided(Some("k2")), Err(DeviceError::OtherKey { .. })));
    }

    #[test]
    fn nobody_takes_a_place_that_goes() {
        let (place, board) = (device("pi-7", "k1"), device("new", "k2"));
        for key in ["k1", "k2"] {
            let place = Device { going: true, key: Some(key.to_owned()), ..place.clone() };
            let goes = decide(&place, Some(&board), None, false, ("new", None));
            assert!(matches!(goes, Err(DeviceError::Going(name)) if name == "pi-7"));
        }
    }

    #[test]
    fn a_board_has_joined_and_is_accepted_before_it_takes_a_place() {
        let (place, board) = (device("pi-7", "k1"), device("new", "k2"));
        let decided =
            |board: Option<&Device>, new: &str| decide(&place, board, None, false, (new, None));
        assert!(matches!(decided(None, "new"), Err(DeviceError::Unknown(_))));
        assert!(matches!(decided(Some(&place), "pi-7"), Err(DeviceError::Same(_))));
        let unjoined = Device { key: None, ..board.clone() };
        assert!(matches!(decided(Some(&unjoined), "new"), Err(DeviceError::Unjoined(_))));
        let waits = Device { accepted: false, ..board };
        assert!(matches!(decided(Some(&waits), "new"), Err(DeviceError::NotAccepted(_))));
    }
}
