//! What this device has made for a pod: its address, its place in the network, its volumes.
//!
//! ```text
//! Absent ─────────▶ Up { lease, volumes: Absent ─▶ Made | Failed ─▶ Made } ─▶ Absent
//! Kept { lease } ───┘ the address that it had before the agent's restart
//! ```
//!
//! Guarantees:
//! - whoever takes a sandbox down gets its lease, once, and there are no volumes without a network
//!   (`a_sandbox_has_one_address_and_gives_it_back_once`).

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
}

impl Sandbox {
    /// The pod's address, once it has one.
    #[must_use]
    pub const fn ip(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Absent => None,
            Self::Kept(lease) | Self::Up { lease, .. } => Some(lease.ip()),
        }
    }

    /// Whether the pod is in the network.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }

    /// The pod's volumes.
    #[must_use]
    pub const fn volumes(&self) -> &Volumes {
        match self {
            Self::Absent | Self::Kept(_) => &Volumes::Absent,
            Self::Up { volumes, .. } => volumes,
        }
    }

    /// Whether containers can start in it.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Up { volumes: Volumes::Made, .. })
    }

    /// The volumes are something else now. Without a network there are none.
    pub fn set_volumes(&mut self, now: Volumes) {
        if let Self::Up { volumes, .. } = self {
            *volumes = now;
        }
    }

    /// Puts the pod into the network, with the address that it kept or with one that is `free`. `None`: there is none.
    pub fn bring_up(&mut self, free: impl FnOnce() -> Option<Lease>) -> Option<Ipv4Addr> {
        let lease = match std::mem::take(self) {
            Self::Absent => free()?,
            Self::Kept(lease) => lease,
            up @ Self::Up { .. } => {
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
            Self::Kept(lease) | Self::Up { lease, .. } => Some(lease),
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
}
