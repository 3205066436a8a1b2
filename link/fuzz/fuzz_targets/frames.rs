//! Any bytes in any pieces: frames come out whole and bounded, or an error does.
#![no_main]

use freewheel_link::frame::{Decoder, FRAME_BODY_BYTES_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let mut decoder = Decoder::default();
    let mut fed = 0;
    for piece in &pieces {
        decoder.push(piece);
        fed += piece.len();
        loop {
            match decoder.next_body() {
                Ok(Some(body)) => assert!(body.len() <= FRAME_BODY_BYTES_MAX),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(decoder.pending() <= fed);
    }
});
