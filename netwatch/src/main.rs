//! The `netwatch` program.
fn main() {}
