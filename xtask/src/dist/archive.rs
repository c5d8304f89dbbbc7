//! The tarball and the Debian package, from the folder of a release.

use std::path::PathBuf;

use super::{DEBIAN_NAME, DistPlace, TARGET, version};
use crate::Result;
use crate::command::run;

/// Packs the folder. Returns the path of the tarball.
pub fn tarball(place: &DistPlace) -> Result<PathBuf> {
    let name = format!("netwatch-{}-{TARGET}", version());
    let file = place.out().join(format!("{name}.tar.gz"));
    let mut tar = place.command("tar");
    // Neither the order of the directory nor owners, times or the name in gzip's header.
    tar.args(["--create", "--sort=name", "--format=gnu", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{}", place.epoch)).arg(format!("--transform=s,^dist,{name},"));
    tar.arg("--use-compress-program=gzip --best --no-name").arg("--file").arg(&file);
    run(tar.arg("--directory").arg(place.release()).arg("dist"))?;
    Ok(file)
}

/// Builds the package that `[package.metadata.deb]` of netwatch/Cargo.toml describes. Returns its
/// path.
pub fn debian_package(place: &DistPlace) -> Result<PathBuf> {
    let file = place.out().join(format!("{DEBIAN_NAME}_{}_amd64.deb", version()));
    let mut deb = place.cargo();
    deb.args(["deb", "--locked", "--no-build", "--no-strip", "--package", "netwatch", "--target", TARGET]);
    run(deb.args(["--deb-version", version(), "--output"]).arg(&file))?;
    Ok(file)
}
