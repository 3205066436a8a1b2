//! What a hub needs to reset the connections of its earlier life: the same tokens, and nothing else kept.
//!
//! A reset token is a MAC of the connection's ID under a key that follows from the hub's secret, so a hub
//! that has lost all memory can still prove to a spoke that it knows the connection no more (RFC 9000,
//! section 10.3). A reset is smaller than the packet that asked for it: it amplifies nothing and ends by
//! itself.

use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Resets are sent no closer together than this: a whole fleet's within a second, garbage's at a bound.
const RESET_INTERVAL_MIN: Duration = Duration::from_micros(50);
const PURPOSE: &[u8] = b"freewheel stateless reset 1";
const CONNECTION_ID_BYTES: usize = 8;

/// Of a hub with this secret.
pub(super) fn config(secret: &[u8]) -> EndpointConfig {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let key = hmac::sign(&secret, PURPOSE);
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())));
    config
        .min_reset_interval(RESET_INTERVAL_MIN)
        .cid_generator(|| Box::new(Ids(SystemRandom::new())));
    config
}

/// Connection IDs that are random all over. Quinn's own carry a checksum under a key that dies with the
/// process: the next life would take an earlier one's IDs for garbage and stay silent.
struct Ids(SystemRandom);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CONNECTION_ID_BYTES];
        if self.0.fill(&mut id).is_err() {
            // Without the system's randomness there is no TLS either; all that is left is not to repeat.
            fastrand::fill(&mut id);
        }
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
