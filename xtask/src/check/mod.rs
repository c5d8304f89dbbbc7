//! The architecture, enforced: who may use whom, sizes, documents, the checked-in eBPF object. Not style: that is clippy's and rustfmt's.

mod cycles;
mod documents;
mod layers;
mod modules;
mod paths;
mod shape;
mod sources;

use crate::Result;

/// Checks everything and says everything that is wrong, not only the first.
pub fn run() -> Result {
    let sources = sources::all()?;
    let mut wrong = Vec::new();
    for source in &sources {
        wrong.extend(shape::check(source));
    }
    wrong.extend(layers::check(&sources));
    wrong.extend(documents::check(&sources));
    wrong.extend(crate::check_object().err());
    if wrong.is_empty() {
        println!("{} files are as ARCHITECTURE.md says, and the eBPF object is what its sources give", sources.len());
        return Ok(());
    }
    wrong.iter().for_each(|line| eprintln!("{line}"));
    Err(format!("{} things are not as they should be", wrong.len()))
}
