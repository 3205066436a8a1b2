//! What this device has made for a pod: its address, its place in the network, its volumes.
//!
//! ```text
//! Absent ─────────▶ Up { lease, volumes: Absent ─▶ Made | Failed ─▶ Made } ─▶ Absent
//! Kept { lease } ───┘ ▲ the address that it had before the agent's restart     ▲
//!                     └▶ Stray { lease, volumes } ─────────────────────────────┘
//!                        the address is another device's by now
//! ```
//!
//! Guarantees:
//! - whoever takes a sandbox down gets its lease, once, and there are no volumes without a network
//!   (`a_sandbox_has_one_address_and_gives_it_back_once`);
//! - one that goes astray has what it had (`a_stray_sandbox_has_what_it_had_and_that_is_news_once`).

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::addresses::Lease;

/// A pod's volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volumes {
    /// To be made.
    Absent,
    /// Could not be made.
    Failed {
        /// Why, for the user.
        message: String,
        /// When it was tried.
        at: Duration,
        /// How often in a row.
        tries: u32,
    },
    /// There.
    Made,
}

/// A pod's sandbox.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Nothing was made yet, or nothing is left.
    #[default]
    Absent,
    /// The pod has kept its address, and has no network yet.
    Kept(Lease),
    /// The pod is in the network.
    Up {
        /// Its address.
        lease: Lease,
        /// Its volumes.
        volumes: Volumes,
    },
    /// So it is, with an address that is another device's by now: it is to have a new sandbox.
    Stray {
        /// The address.
        lease: Lease,
        /// Its volumes.
        volumes: Volumes,
    },
}

impl Sandbox {
    /// The pod's address, once it has one.
    #[must_use]
    pub const fn ip(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Absent => None,
            Self::Kept(lease) | Self::Up { lease, .. } | Self::Stray { lease, .. } => {
                Some(lease.ip())
            }
        }
    }

    /// Whether the pod is in the network.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. } | Self::Stray { .. })
    }

    /// Whether its address is another device's.
    #[must_use]
    pub const fn is_stray(&self) -> bool {
        matches!(self, Self::Stray { .. })
    }

    /// The pod's volumes.
    #[must_use]
    pub const fn volumes(&self) -> &Volumes {
        match self {
            Self::Absent | Self::Kept(_) => &Volumes::Absent,
            Self::Up { volumes, .. } | Self::Stray { volumes, .. } => volumes,
        }
    }

    /// Whether containers can start in it.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.volumes(), Volumes::Made)
    }

    /// The volumes are something else now. Without a network there are none.
    pub fn set_volumes(&mut self, now: Volumes) {
        match self {
            Self::Absent | Self::Kept(_) => {}
            Self::Up { volumes, .. } | Self::Stray { volumes, .. } => *volumes = now,
        }
    }

    /// The volumes were to be made, and were or not.
    pub fn volumes_tried(&mut self, outcome: Result<(), String>, at: Duration) {
        let before = match self.volumes() {
            Volumes::Failed { tries, .. } => *tries,
            Volumes::Absent | Volumes::Made => 0,
        };
        self.set_volumes(match outcome {
            Ok(()) => Volumes::Made,
            Err(message) => Volumes::Failed { message, at, tries: before.saturating_add(1) },
        });
    }

    /// Volumes that could not be made are tried at once.
    pub const fn try_volumes_at_once(&mut self) {
        if let Self::Up { volumes, .. } | Self::Stray { volumes, .. } = self
            && let Volumes::Failed { tries, .. } = volumes
        {
            *tries = 0;
        }
    }

    /// The address that it is up with is another device's, or its own again; whether it has gone astray just now.
    pub fn set_stray(&mut self, stray: bool) -> bool {
        let before = self.is_stray();
        *self = match std::mem::take(self) {
            Self::Up { lease, volumes } if stray => Self::Stray { lease, volumes },
            Self::Stray { lease, volumes } if !stray => Self::Up { lease, volumes },
            same => same,
        };
        self.is_stray() && !before
    }

    /// Puts the pod into the network, with the address that it kept or with one that is `free`. `None`: there is none.
    pub fn bring_up(&mut self, free: impl FnOnce() -> Option<Lease>) -> Option<Ipv4Addr> {
        let lease = match std::mem::take(self) {
            Self::Absent => free()?,
            Self::Kept(lease) => lease,
            up @ (Self::Up { .. } | Self::Stray { .. }) => {
                *self = up;
                return self.ip();
            }
        };
        let ip = lease.ip();
        *self = Self::Up { lease, volumes: Volumes::Absent };
        Some(ip)
    }

    /// Nothing is left: the address goes back to whom it came from.
    #[must_use]
    pub fn take_down(&mut self) -> Option<Lease> {
        match std::mem::take(self) {
            Self::Absent => None,
            Self::Kept(lease) | Self::Up { lease, .. } | Self::Stray { lease, .. } => Some(lease),
        }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;

    use super::*;
    use crate::addresses::Addresses;

    #[test]
    fn a_sandbox_has_one_address_and_gives_it_back_once() {
        let (mut all, realm) = (Addresses::default(), ClusterName::root());
        all.lease(&realm, Ipv4Addr::new(10, 64, 3, 0), 30);
        let mut one = Sandbox::default();
        one.set_volumes(Volumes::Made);
        assert_eq!(one, Sandbox::Absent, "no volumes without a network");
        let ip = one.bring_up(|| all.take(&realm));
        assert_eq!(one.bring_up(|| None), ip, "it is up already");
        one.set_volumes(Volumes::Made);
        assert!(one.is_ready());
        let mut other = Sandbox::default();
        assert_eq!(other.bring_up(|| all.take(&realm)), None, "there is one address only");
        all.release(one.take_down().unwrap());
        assert_eq!(one.take_down(), None);
        assert_eq!(other.bring_up(|| all.take(&realm)), ip);
    }
    #[test]
    fn a_stray_sandbox_has_what_it_had_and_that_is_news_once() {
        let (mut all, realm) = (Addresses::default(), ClusterName::root());
        let ip = Ipv4Addr::new(10, 64, 3, 2);
        let mut one = Sandbox::Kept(all.hold(&realm, ip).unwrap());
        assert!(!one.set_stray(true), "it is not in the network");
        one.bring_up(|| None);
        one.volumes_tried(Err("full".to_owned()), Duration::ZERO);
        one.volumes_tried(Err("full".to_owned()), Duration::from_secs(1));
        assert!(matches!(one.volumes(), Volumes::Failed { tries: 2, .. }));
        one.volumes_tried(Ok(()), Duration::from_secs(3));
        assert!(one.set_stray(true) && !one.set_stray(true));
        assert!(one.is_stray() && one.is_ready() && one.ip() == Some(ip));
        assert!(!one.set_stray(false) && !one.is_stray() && one.is_ready());
        assert!(one.set_stray(true));
        assert!(one.take_down().is_some() && one == Sandbox::Absent);
    }
}
