//! Entry point of libFuzzer for `targets/wire.rs`.

#![no_main]

#[path = "../targets/wire.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|input: &[u8]| wire::read(input));
