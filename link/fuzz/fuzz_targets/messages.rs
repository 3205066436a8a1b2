//! Any bytes as any message: refused, or read to something that encodes to no more than was read and
//! reads back the same.
#![no_main]

use freewheel_link::frame::decode;
use freewheel_link::join::{JoinAnswer, JoinRequestV1};
use freewheel_link::message::{Answer, HubToSpoke, ModuleHeaderV1, Open, SpokeToHub};
use freewheel_link::plan::{ConfigV1, PodV1, Record, ServiceV1};
use libfuzzer_sys::fuzz_target;

macro_rules! faithful {
    ($bytes:expr, $($kind:ty),+) => {$(
        if let Ok(message) = decode::<$kind>($bytes) {
            let again = postcard::to_stdvec(&message).unwrap();
            assert!(again.len() <= $bytes.len());
            assert_eq!(decode::<$kind>(&again).unwrap(), message);
        }
    )+};
}

fuzz_target!(|bytes: &[u8]| {
    faithful!(bytes, SpokeToHub, HubToSpoke, Open, Answer, ModuleHeaderV1);
    faithful!(bytes, JoinRequestV1, JoinAnswer, Record, PodV1, ServiceV1, ConfigV1);
});
