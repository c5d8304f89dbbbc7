//! netwatch tasks.
fn main() {}
