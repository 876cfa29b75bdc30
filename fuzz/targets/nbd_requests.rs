//! libFuzzer's entry to `firn_fuzz::nbd_requests`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| firn_fuzz::nbd_requests(data));
