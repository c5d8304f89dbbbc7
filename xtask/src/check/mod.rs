//! The rules of the code base that neither clippy nor rustfmt checks: dependencies between modules,
//! sizes, comments and documents, help texts, type names, and the checked-in eBPF objects.

mod comments;
mod cycles;
mod documents;
mod help;
mod layers;
mod links;
mod modules;
mod paths;
mod prose;
mod ratchet;
mod scripts;
mod shape;
mod sources;
mod types;
mod words;

use clap::Args;

use crate::Result;

/// What `cargo xtask check` takes.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// List every finding, also those that are still permitted
    #[arg(long)]
    list: bool,
}

/// Checks everything, and prints everything that is wrong, not only the first.
pub fn run(arguments: &CheckArguments) -> Result {
    let sources = sources::all()?;
    let documents = prose::documents()?;
    let mut wrong: Vec<String> = sources.iter().flat_map(shape::check).collect();
    wrong.extend(layers::check(&sources));
    wrong.extend(scripts::long_comments()?);
    wrong.extend(documents::check(&sources));
    wrong.extend(documents::check_rust_version());
    wrong.extend(documents::check_environment(&sources));
    wrong.extend(links::broken_links(&documents));
    wrong.extend(ratchet::check(&sources, &documents, arguments.list));
    wrong.extend(crate::build::check_objects().err());
    if wrong.is_empty() {
        println!("{} files pass every check, and the eBPF objects match their sources", sources.len());
        return Ok(());
    }
    wrong.iter().for_each(|line| eprintln!("{line}"));
    Err(format!("{} problems", wrong.len()))
}
