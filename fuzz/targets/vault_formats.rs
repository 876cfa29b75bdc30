//! libFuzzer's entry to `firn_fuzz::vault_formats`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| firn_fuzz::vault_formats(data));
