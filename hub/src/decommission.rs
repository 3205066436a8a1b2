//! `hub decommission`: devices that are never let in again and wipe what they hold, and what has become of them.
//!
//! The order comes first and the ManagedCluster goes after it, so that who is killed in between has only to say it again.
//!
//! Guarantees:
//! - a device whose ManagedCluster somebody has deleted is wiped by its key (`who_has_no_name_any_more_is_wiped_by_its_key`);
//! - who has come again under another name is not wiped by the one that it had
//!   (`who_has_another_name_by_now_is_wiped_by_that_alone`);
//! - said again it wipes nobody who has come under the name since (`who_came_later_is_wiped_by_its_key_alone`).

use freewheel_hub_api::device_orders::Wipe;
use freewheel_link::digest::Digest;

use crate::cli::DecommissionOptions;
use crate::client::Client;
use crate::devices::{self, DeviceError};

/// Decommissions every name; without any, says what became of all that were.
///
/// # Errors
/// When there is no such device, or the hub refuses.
pub async fn run(options: DecommissionOptions) -> Result<(), DeviceError> {
    let client = Client::new(options.kubeconfig.as_deref())?.at_root();
    if options.names.is_empty() {
        print(devices::wipes(&client, None).await?);
    }
    let key = options.key.as_deref();
    if key.is_some() && options.names.len() != 1 {
        return Err(DeviceError::KeyOfSeveral);
    }
    for name in &options.names {
        print(decommission(&client, name, key).await?);
    }
    Ok(())
}

async fn decommission(
    client: &Client,
    name: &str,
    meant: Option<&str>,
) -> Result<Vec<Wipe>, DeviceError> {
    let device = devices::find(client, name).await?;
    let known = devices::wipes(client, Some(name)).await?;
    let Some(device) = device else {
        return match nameless(name, &known, meant)? {
            Some(key) => {
                let key = key.to_string();
                is_nobody_else(name, &key, devices::named(client, &key).await?)?;
                Ok(vec![devices::wipe(client, name, &key).await?])
            }
            None => Ok(known),
        };
    };
    let key = device.key.as_ref().ok_or_else(|| DeviceError::Unjoined(name.to_owned()))?;
    check((name, key), &known, meant)?;
    let wipe = devices::wipe(client, name, key).await?;
    if !device.going {
        devices::delete(client, &device).await?;
    }
    Ok(vec![wipe])
}

/// The key that is to be wiped where nobody has the name: whoever deletes a ManagedCluster is told the key of its device,
/// which goes on. Nothing, where that was ordered before.
fn nameless(
    name: &str,
    known: &[Wipe],
    meant: Option<&str>,
) -> Result<Option<Digest>, DeviceError> {
    match meant {
        Some(key) if known.iter().any(|wipe| wipe.key == key) => Ok(None),
        Some(key) => Ok(Some(key.parse()?)),
        None if known.is_empty() => Err(DeviceError::Unknown(name.to_owned())),
        None => Ok(None),
    }
}

/// That the device with this key, which nobody has the name of, has no other name.
fn is_nobody_else(meant: &str, key: &str, has: Option<String>) -> Result<(), DeviceError> {
    match has {
        // It has come under this very name just now: it is the one that is meant.
        Some(name) if name != meant => {
            let (meant, key) = (meant.to_owned(), key.to_owned());
            Err(DeviceError::HasAnotherName { meant, name, key })
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether the device that has the name and this key is the one that is meant: where one of the name was decommissioned
/// before, and not this one, only its key says so.
fn check(
    (name, key): (&str, &str),
    known: &[Wipe],
    meant: Option<&str>,
) -> Result<(), DeviceError> {
    let (name, key) = (name.to_owned(), key.to_owned());
    match meant {
        Some(meant) if meant == key => Ok(()),
        Some(_) => Err(DeviceError::OtherKey { name, key }),
        None if known.iter().any(|wipe| wipe.key == key) => Ok(()),
        None => match known.iter().max_by_key(|wipe| &wipe.ordered_at) {
            Some(last) => Err(DeviceError::CameLater { name, key, before: last.standing() }),
            None => Ok(()),
        },
    }
}

fn print(mut wipes: Vec<Wipe>) {
    wipes.sort_by(|a, b| (&a.cluster, &a.ordered_at).cmp(&(&b.cluster, &b.ordered_at)));
    wipes.iter().for_each(|wipe| println!("{}", wipe.standing()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_name_any_more_is_wiped_by_its_key() {
        let key = Digest::of(b"pi-7");
        let text = key.to_string();
        assert_eq!(nameless("pi-7", &[], Some(&text)).unwrap(), Some(key));
        let wiped = Wipe { key: text.clone(), ..Wipe::default() };
        assert_eq!(nameless("pi-7", std::slice::from_ref(&wiped), Some(&text)).unwrap(), None);
        assert_eq!(nameless("pi-7", &[wiped], None).unwrap(), None);
        assert!(matches!(nameless("pi-7", &[], None), Err(DeviceError::Unknown(_))));
        let odd = nameless("pi-7", &[], Some("k1")).unwrap_err().to_string();
        assert!(odd.contains("sha256:"), "{odd}");
    }

    #[test]
    fn who_has_another_name_by_now_is_wiped_by_that_alone() {
        assert!(is_nobody_else("pi-7", "k1", None).is_ok());
        assert!(is_nobody_else("pi-7", "k1", Some("pi-7".to_owned())).is_ok());
        let refused = is_nobody_else("pi-7", "k1", Some("pi-8".to_owned())).unwrap_err();
        let text = refused.to_string();
        assert!(text.starts_with("the device with key k1 is pi-8 now, not pi-7"), "{text}");
        assert!(text.contains("`hub decommission pi-8`"), "{text}");
    }

    #[test]
    fn who_came_later_is_wiped_by_its_key_alone() {
        let wiped = |key: &str| Wipe {
            cluster: "pi-7".to_owned(),
            key: key.to_owned(),
            ordered_at: "2026-01-01T00:00:00Z".to_owned(),
            ..Wipe::default()
        };
        let pi_7 = ("pi-7", "k2");
        assert!(check(pi_7, &[], None).is_ok());
        // It broke off before this one was gone, whoever had the name before.
        assert!(check(pi_7, &[wiped("k1"), wiped("k2")], None).is_ok());
        let refused = check(pi_7, &[wiped("k1")], None).unwrap_err().to_string();
        assert!(refused.starts_with("pi-7 is decommissioned since 2026"), "{refused}");
        assert!(refused.contains("key k1 ") && refused.ends_with("--key k2"), "{refused}");
        assert!(check(pi_7, &[wiped("k1")], Some("k2")).is_ok());
        let other = check(pi_7, &[], Some("k1"));
        assert!(matches!(other, Err(DeviceError::OtherKey { key, .. }) if key == "k2"));
    }
}
