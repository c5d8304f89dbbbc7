//! Entry point of libFuzzer for `targets/names.rs`.

#![no_main]

#[path = "../targets/names.rs"]
mod names;

libfuzzer_sys::fuzz_target!(|input: &[u8]| names::observe(input));
