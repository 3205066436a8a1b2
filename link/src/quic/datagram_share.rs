//! How much of a link that is full pods' datagrams may take: three quarters of what gets through.
//!
//! QUIC leaves it to the sender what goes into a packet (RFC 9221, section 5.1), and quinn writes datagrams before
//! streams. A pod that sends more than a narrow link carries would leave plans, reports and logs nothing but the
//! ends of packets. The congestion controller alone is told whether the link is full: each acknowledgement says how
//! much got through, and whether the sender had run out of things to send. While it had, datagrams go as they come;
//! while the link is full, each acknowledged byte lets three quarters of a byte of datagrams follow.
//!
//! Guarantees:
//! - streams have a quarter of a link that pods' datagrams would fill
//!   (`pods_datagrams_leave_a_narrow_link_to_plans`);
//! - nothing is held back for streams that have nothing to send (`what_the_link_has_free_is_for_datagrams`).

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

/// Datagrams of a full link: this part of what gets through, in quarters.
const SHARE_QUARTERS: u64 = 3;
/// What datagrams may have saved up at most: as much as waits to be sent.
const ALLOWANCE_BYTES_MAX: u64 = 16 << 10;
/// A link that is not full.
const UNLIMITED: u64 = u64::MAX;
/// What a DATAGRAM frame has beside its payload at most: its type and its length.
const FRAME_BYTES: u64 = 5;

/// Bytes of datagrams that a path takes before the next acknowledgement.
#[derive(Debug)]
pub(super) struct Allowance(AtomicU64);

impl Default for Allowance {
    fn default() -> Self {
        Self(AtomicU64::new(UNLIMITED))
    }
}

impl Allowance {
    /// Of the path that the connection uses now: one that moves to another address begins anew.
    pub(super) fn of(connection: &quinn::Connection) -> Option<Arc<Self>> {
        let state = connection.congestion_state().into_any().downcast::<Shared>().ok()?;
        Some(state.allowance)
    }

    /// Takes what a datagram of so many bytes needs; whether there was as much.
    pub(super) fn take(&self, length: usize) -> bool {
        let bytes = length as u64 + FRAME_BYTES;
        let rest = |left: u64| match left {
            UNLIMITED => Some(UNLIMITED),
            left => left.checked_sub(bytes),
        };
        self.0.fetch_update(Relaxed, Relaxed, rest).is_ok()
    }

    /// So many bytes have got through; `app_limited` while there was nothing else to send.
    fn acknowledged(&self, bytes: u64, app_limited: bool) {
        let share = bytes * SHARE_QUARTERS / 4;
        let with = |left: u64| match (app_limited, left) {
            (true, _) => UNLIMITED,
            (false, UNLIMITED) => share,
            (false, left) => (left + share).min(ALLOWANCE_BYTES_MAX),
        };
        // It always has a next value.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |left| Some(with(left)));
    }
}

/// Makes [`Shared`] around CUBIC, which is quinn's default.
#[derive(Debug, Default)]
pub(super) struct SharedFactory(Arc<CubicConfig>);

impl ControllerFactory for SharedFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = self.0.clone().build(now, current_mtu);
        Box::new(Shared { inner, allowance: Arc::default() })
    }
}

/// A congestion controller that lets others see what it is told of.
struct Shared {
    inner: Box<dyn Controller>,
    allowance: Arc<Allowance>,
}

impl Controller for Shared {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.allowance.acknowledged(bytes, app_limited);
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), allowance: self.allowance.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_link_has_free_is_for_datagrams() {
        let allowance = Allowance::default();
        assert!((0..100).all(|_| allowance.take(1200)), "nobody has said that it is full");
        allowance.acknowledged(1200, false);
        assert!(allowance.take(895) && !allowance.take(0), "three quarters of what got through");
        allowance.acknowledged(1200, true);
        assert!((0..100).all(|_| allowance.take(1200)), "nothing else is to be sent");
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let allowance = Allowance::default();
        for _ in 0..100 {
            allowance.acknowledged(1200, false);
        }
        let taken = (0..100).take_while(|_| allowance.take(1200)).count();
        assert_eq!(taken, 13);
    }
}
