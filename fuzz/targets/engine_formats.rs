//! libFuzzer's entry to `firn_fuzz::engine_formats`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| firn_fuzz::engine_formats(data));
