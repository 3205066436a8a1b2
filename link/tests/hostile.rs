//! Bytes that nobody well-meaning sends: every message type, against noise, mutations, cuts and lies.
//!
//! The same property as in `fuzz/`, made repeatable for every change: no panic, a typed error or a message that
//! encodes to what was read, and memory that grows with the input only.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use freewheel_link::frame::{self, Decoder, FRAME_BODY_BYTES_MAX, FrameError, FrameReader};
use freewheel_link::join::{JoinAnswer, JoinRequestV1};
use freewheel_link::message::{Answer, HubToSpoke, ModuleHeaderV1, Open, SpokeToHub};
use freewheel_link::plan::{ConfigV1, NodeV1, PodCidrV1, PodV1, Record, ServiceV1};
use serde::Serialize;
use serde::de::DeserializeOwned;

const ROUNDS: u64 = 30_000;

/// Whatever can be read must survive being written and read again.
fn read_as<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = frame::decode::<T>(bytes) {
        let again = postcard::to_stdvec(&message).unwrap();
        assert_eq!(frame::decode::<T>(&again).unwrap(), message);
        assert!(again.len() <= bytes.len(), "a longer form than was read: {message:?}");
    }
}

fn read_as_anything(bytes: &[u8]) {
    read_as::<SpokeToHub>(bytes);
    read_as::<HubToSpoke>(bytes);
    read_as::<Open>(bytes);
    read_as::<Answer>(bytes);
    read_as::<ModuleHeaderV1>(bytes);
    read_as::<JoinRequestV1>(bytes);
    read_as::<JoinAnswer>(bytes);
    read_as::<Record>(bytes);
    read_as::<PodV1>(bytes);
    read_as::<ServiceV1>(bytes);
    read_as::<ConfigV1>(bytes);
    read_as::<PodCidrV1>(bytes);
    read_as::<NodeV1>(bytes);
}

#[test]
fn noise_is_refused_or_read_faithfully() {
    let mut rng = fastrand::Rng::with_seed(0x000f_ee17);
    let mut bytes = Vec::new();
    for _ in 0..ROUNDS {
        bytes.resize(rng.usize(0..96), 0);
        rng.fill(&mut bytes);
        // Small numbers reach deeper: they are valid variants and lengths.
        for byte in &mut bytes {
            if rng.bool() {
                *byte %= 4;
            }
        }
        read_as_anything(&bytes);
    }
}

#[test]
fn a_mutated_or_cut_message_is_refused_or_read_faithfully() {
    let mut rng = fastrand::Rng::with_seed(7);
    let key = "000201020374657374040506070809";
    let seeds = [
        include_bytes!("frozen.rs")[..200].to_vec(),
        (0..255).collect::<Vec<u8>>(),
        key.as_bytes().to_vec(),
        postcard::to_stdvec(&HubToSpoke::Goodbye(freewheel_link::message::Reason::Violation(
            "x".repeat(40),
        )))
        .unwrap(),
    ];
    for _ in 0..ROUNDS / 4 {
        for seed in &seeds {
            let mut bytes = seed[..rng.usize(0..=seed.len())].to_vec();
            for _ in 0..rng.usize(0..4) {
                if let Some(at) = (!bytes.is_empty()).then(|| rng.usize(0..bytes.len())) {
                    bytes[at] = rng.u8(..);
                }
            }
            read_as_anything(&bytes);
        }
    }
}

#[test]
fn a_message_that_declares_more_than_it_has_is_refused_at_once() {
    // SpokeToHub::Hello with a name of 2^63 bytes, HubToSpoke::Plan with 2^60 records.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let hello: Vec<u8> = [&[0, 1][..], &huge].concat();
    assert!(matches!(frame::decode::<SpokeToHub>(&hello), Err(FrameError::Body(_))));
    let plan: Vec<u8> = [&[1, 0, 0, 0, 0, 0, 0][..], &huge].concat();
    assert!(matches!(frame::decode::<HubToSpoke>(&plan), Err(FrameError::Body(_))));
}

#[test]
fn unknown_variants_are_refused_by_name_of_the_problem() {
    for unknown in [&[6_u8][..], &[200, 1], &[4, 40]] {
        assert!(matches!(frame::decode::<SpokeToHub>(unknown), Err(FrameError::Body(_))));
    }
    assert!(matches!(frame::decode::<Open>(&[40]), Err(FrameError::Body(_))));
    let error = frame::decode::<Open>(&[40]).unwrap_err();
    assert_eq!(error.to_string(), "the frame holds no message known here");
}

#[tokio::test]
async fn a_stream_of_noise_ends_with_an_error_and_bounded_memory() {
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..2000 {
        let mut bytes = vec![0; rng.usize(1..4096)];
        rng.fill(&mut bytes);
        let mut decoder = Decoder::default();
        for chunk in bytes.chunks(64) {
            decoder.push(chunk);
            while let Ok(Some(body)) = decoder.next_body() {
                assert!(body.len() <= FRAME_BODY_BYTES_MAX);
            }
        }
        assert!(decoder.pending() <= bytes.len());
        let mut reader = FrameReader::new(&bytes[..]);
        while let Ok(Some(message)) = reader.next::<SpokeToHub>().await {
            drop(message);
        }
    }
}
