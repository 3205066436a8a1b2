//! What the hub's owner has ordered of a device, which hears it at its next contact, however late that is: a ConfigMap in
//! kube-system for each key, named by that, so that an order is found by who comes and by nothing else.
//!
//! ```text
//! hub decommission NAME ─▶ Wipe of NAME's key ─▶ NAME's ManagedCluster is deleted
//! hub replace OLD NEW   ─▶ Rename of NEW's key to OLD ─▶ Wipe of OLD's key ─▶ OLD belongs to NEW's key (one write: the switch)
//!                       ─▶ takenAt ─▶ NEW's ManagedCluster is deleted
//!
//! a key that is to be wiped   comes ─▶ Decommissioned(id), toldAt ─▶ wipes ─▶ receipt signed with that key, wipedAt
//! a key that is to be renamed comes ─▶ Renamed(OLD) ─▶ a certificate of OLD's ManagedCluster for it
//! ```
//!
//! A Wipe bars its key from everything for as long as the object is there, whatever token it comes with: it is the revocation
//! and, when it is carried out, the receipt. A Rename counts only while the name belongs to its key, so what stays behind of
//! it opens nothing; whoever lost the name to another board takes it back while it says no `takenAt`. Every step leaves what the commands find again when they are run a second time; what is done is not
//! done twice. Whoever may write ConfigMaps in kube-system can give and take orders, as they can make join tokens there.
//!
//! Guarantees:
//! - what is written is read as it was (`an_order_reads_as_it_was_written`);
//! - what somebody else has put there is no order (`what_is_not_whole_is_no_order`).

use serde_json::{Value, json};

/// Where they are.
pub const NAMESPACE: &str = "kube-system";
/// Label of every order: `wipe` or `rename`.
pub const ORDER_LABEL: &str = "freewheel.dev/device-order";
/// Label of every order: the name that the device had when it was given.
pub const DEVICE_LABEL: &str = "freewheel.dev/device";

/// An order to the device with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// It is decommissioned.
    Wipe(Wipe),
    /// It takes the place of another device.
    Rename(Rename),
}

/// A device is to wipe all that it holds, and is never let in again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wipe {
    /// The name that it had.
    pub cluster: String,
    /// The key by which it is known, as the annotation of its ManagedCluster had it.
    pub key: String,
    /// Told to it, and signed by it when it is done.
    pub id: String,
    /// When the order was given, RFC 3339.
    pub ordered_at: String,
    /// When the device heard it first.
    pub told_at: Option<String>,
    /// When it said that it is done.
    pub wiped_at: Option<String>,
    /// What it said stays there, as it is not the agent's.
    pub left: Option<String>,
}

/// A device has another name from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rename {
    /// The name that it had.
    pub cluster: String,
    /// The key by which it is known.
    pub key: String,
    /// The name that it has.
    pub to: String,
    /// When that came to be its key's.
    pub taken_at: Option<String>,
}

/// The name of the order to the device with this key.
#[must_use]
pub fn name(key: &str) -> String {
    format!("device-{}", key.strip_prefix("sha256:").unwrap_or(key))
}

impl Order {
    /// What a ConfigMap says; `None` when that is no order to the key of its name.
    #[must_use]
    pub fn read(object: &Value) -> Option<Self> {
        let text = |key: &str| {
            let text = object["data"][key].as_str().filter(|text| !text.is_empty())?;
            Some(text.to_owned())
        };
        let (cluster, key) = (text("cluster")?, text("key")?);
        if object["metadata"]["name"] != name(&key) {
            return None;
        }
        match object["metadata"]["labels"][ORDER_LABEL].as_str()? {
            "wipe" => Some(Self::Wipe(Wipe {
                cluster,
                key,
                id: text("id")?,
                ordered_at: text("orderedAt").unwrap_or_default(),
                told_at: text("toldAt"),
                wiped_at: text("wipedAt"),
                left: text("left"),
            })),
            "rename" => {
                let (to, taken_at) = (text("to")?, text("takenAt"));
                Some(Self::Rename(Rename { cluster, key, to, taken_at }))
            }
            _ => None,
        }
    }

    /// The ConfigMap that says it.
    #[must_use]
    pub fn to_object(&self) -> Value {
        let (order, cluster, key) = match self {
            Self::Wipe(wipe) => ("wipe", &wipe.cluster, &wipe.key),
            Self::Rename(rename) => ("rename", &rename.cluster, &rename.key),
        };
        let mut object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": name(key), "namespace": NAMESPACE,
                "labels": {ORDER_LABEL: order, DEVICE_LABEL: cluster},
            },
            "data": {"cluster": cluster, "key": key},
        });
        let data = &mut object["data"];
        match self {
            Self::Wipe(wipe) => {
                data["id"] = json!(wipe.id);
                data["orderedAt"] = json!(wipe.ordered_at);
                let said =
                    [("toldAt", &wipe.told_at), ("wipedAt", &wipe.wiped_at), ("left", &wipe.left)];
                for (name, text) in said {
                    if let Some(text) = text {
                        data[name] = json!(text);
                    }
                }
            }
            Self::Rename(rename) => {
                data["to"] = json!(rename.to);
                if let Some(at) = &rename.taken_at {
                    data["takenAt"] = json!(at);
                }
            }
        }
        object
    }
}

impl Wipe {
    /// The device has heard it, the first time at this.
    #[must_use]
    pub fn told(mut self, now: &str) -> Self {
        self.told_at.get_or_insert_with(|| now.to_owned());
        self
    }

    /// The device says that it is done, but for what is left. Its first receipt counts.
    #[must_use]
    pub fn wiped(self, now: &str, left: &str) -> Self {
        let mut told = self.told(now);
        if told.wiped_at.is_none() {
            told.wiped_at = Some(now.to_owned());
            // People read it in a terminal.
            let words = left.chars().map(|c| if c.is_control() { ' ' } else { c });
            told.left = Some(words.collect()).filter(|left: &String| !left.is_empty());
        }
        told
    }

    /// How far it has come, for people.
    #[must_use]
    pub fn standing(&self) -> String {
        let Self { cluster, key, ordered_at, told_at, wiped_at, left, .. } = self;
        match (told_at, wiped_at) {
            (_, Some(at)) => {
                let left = left.as_deref().unwrap_or_default();
                let but = if left.is_empty() { "" } else { "; what is not its own stays: " };
                format!(
                    "{cluster} is decommissioned: wiped at {at}, by the receipt of key {key}{but}{left}"
                )
            }
            (Some(at), None) => format!(
                "{cluster} is decommissioned: it heard so at {at} and wipes; no receipt of key {key} yet"
            ),
            (None, None) => format!(
                "{cluster} is decommissioned since {ordered_at}: key {key} is let in no more, and the device wipes all that \
                 it holds at its next contact, however late that is"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wipe() -> Wipe {
        Wipe {
            cluster: "pi-7".to_owned(),
            key: "sha256:ab".to_owned(),
            id: "n1".to_owned(),
            ordered_at: "2026-01-01T00:00:00Z".to_owned(),
            ..Wipe::default()
        }
    }

    #[test]
    fn an_order_reads_as_it_was_written() {
        let rename = Rename {
            cluster: "new".into(),
            key: "sha256:cd".into(),
            to: "pi-7".into(),
            ..Rename::default()
        };
        let taken = Rename { taken_at: Some("2026-02-01T00:00:00Z".to_owned()), ..rename.clone() };
        let done = wipe().wiped("2026-03-01T00:00:00Z", "/data/nas");
        let wipes = [wipe(), done].map(Order::Wipe);
        for order in wipes.into_iter().chain([rename, taken].map(Order::Rename)) {
            let object = order.to_object();
            assert_eq!(Order::read(&object), Some(order), "{object}");
        }
        let object = Order::Wipe(wipe()).to_object();
        assert_eq!(object["metadata"]["name"], "device-ab");
    }

    #[test]
    fn what_is_not_whole_is_no_order() {
        let whole = Order::Wipe(wipe()).to_object();
        for path in ["/data/cluster", "/data/key", "/data/id", "/metadata/labels"] {
            let mut odd = whole.clone();
            *odd.pointer_mut(path).unwrap() = json!("");
            assert_eq!(Order::read(&odd), None, "{path}");
        }
        let mut of_another = whole;
        of_another["data"]["key"] = json!("sha256:cd");
        assert_eq!(Order::read(&of_another), None, "it is found by another key");
    }

    #[test]
    fn the_first_word_counts_and_people_read_how_far_it_is() {
        let told = wipe().told("one").told("two");
        assert_eq!(told.told_at.as_deref(), Some("one"));
        let wiped = told.clone().wiped("three", "").wiped("four", "more");
        let at = (wiped.told_at.as_deref(), wiped.wiped_at.as_deref());
        assert_eq!(at, (Some("one"), Some("three")));
        assert!(wipe().standing().contains("at its next contact"));
        assert!(told.standing().contains("no receipt"));
        assert!(wiped.standing().ends_with("wiped at three, by the receipt of key sha256:ab"));
        let but = told.wiped("three", "a disk\u{1b}[2J").standing();
        assert!(but.ends_with("key sha256:ab; what is not its own stays: a disk [2J"), "{but}");
    }
}
