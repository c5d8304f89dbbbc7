//! netwatch's own tasks.

mod build;

use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or_else(|| io::Error::other("no workspace"))?;
    match std::env::args().nth(1).as_deref() {
        Some("build") => build::run(root),
        Some("check-object") => build::check(root),
        _ => Err(io::Error::other("tasks: build, check-object")),
    }
}
