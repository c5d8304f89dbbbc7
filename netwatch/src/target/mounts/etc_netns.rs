//! /etc/netns/NAME: files that the user keeps for a named namespace. Each lies over its namesake in /etc, as `ip netns exec` does it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::bind::bind;
use crate::error::{Error, Result};

pub(super) fn dir(name: &str) -> PathBuf {
    Path::new("/etc/netns").join(name)
}

/// Binds them all but resolv.conf, which has a way of its own. Returns those that have no namesake to lie over.
pub(super) fn bind_files(name: &str) -> Result<Vec<Error>> {
    let dir = dir(name);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::os("read", dir.display().to_string(), error)),
    };
    let names = entries.flatten().map(|entry| entry.file_name()).filter(|name| *name != "resolv.conf");
    let bound = names.map(|name| {
        let (source, target) = (dir.join(&name), Path::new("/etc").join(&name));
        bind(&source, &target).map_err(|errno| {
            Error::os("use", source.display().to_string(), errno).hint(format!("create {}", target.display()))
        })
    });
    Ok(bound.filter_map(Result::err).collect())
}
