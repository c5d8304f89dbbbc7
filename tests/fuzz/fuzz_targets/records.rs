//! Entry point of libFuzzer for `targets/records.rs`.

#![no_main]

#[path = "../targets/records.rs"]
mod records;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    records::follow(input);
});
