//! The static program: one file that runs on every distribution.

use std::path::{Path, PathBuf};

use super::libpcap::BuiltLibPcap;
use super::{DistPlace, TARGET};
use crate::Result;
use crate::build::{cargo_home, sysroot};
use crate::command::run;

/// Builds the program for release. Returns its path.
pub fn build(place: &DistPlace, libpcap: &BuiltLibPcap) -> Result<PathBuf> {
    let mut build = place.cargo();
    build.args(["build", "--release", "--locked", "--package", "netwatch", "--bin", "netwatch", "--target", TARGET]);
    build.args(["--features", "static-libpcap"]);
    let names = fixed_names(place)?;
    let flags = |option: &str, separator: &str| {
        let flags = names.iter().map(|(path, name)| format!("{option}={}={name}", path.display()));
        flags.collect::<Vec<_>>().join(separator)
    };
    let library = format!("-Lnative={}", libpcap.folder.display());
    let rust_flags = [library, flags("--remap-path-prefix", "\u{1f}")].join("\u{1f}");
    build.env("CARGO_ENCODED_RUSTFLAGS", rust_flags).env_remove("RUSTFLAGS");
    // SQLite, zstd and the assembler of ring.
    build.env(format!("CFLAGS_{}", TARGET.replace('-', "_")), flags("-ffile-prefix-map", " "));
    run(&mut build)?;
    Ok(place.release().join("netwatch"))
}

/// The folders whose names the compilers write into programs, and what they write instead. Of two
/// that match, the compiler takes the last.
fn fixed_names(place: &DistPlace) -> Result<Vec<(PathBuf, &'static str)>> {
    let resolve = |path: &Path| {
        std::fs::canonicalize(path).map_err(|error| format!("cannot resolve {}: {error}", path.display()))
    };
    std::fs::create_dir_all(&place.target)
        .map_err(|error| format!("cannot create {}: {error}", place.target.display()))?;
    Ok(vec![
        (cargo_home()?, "cargo"),
        (sysroot()?, "rust"),
        (resolve(&place.source)?, "netwatch"),
        (resolve(&place.target)?, "target"),
    ])
}
