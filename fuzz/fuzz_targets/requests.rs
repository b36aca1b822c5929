//! Requests, as services write them: what is read is written in a form that reads as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_core::record;
use tidings_core::record::request::read;

fuzz_target!(|input: &[u8]| {
    if let Ok(request) = read(input) {
        let written = record::encode(&request).expect("a request is JSON");
        assert_eq!(read(&written).expect("it reads back"), request);
    }
});
