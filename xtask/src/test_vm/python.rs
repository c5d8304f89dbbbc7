//! As much of this machine's Python as the tests of processes need: the interpreter, and the
//! modules that were loaded when it had what they import.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::command::output;

/// Says where the interpreter and its library are, and the file of each module. `-I -S`: nothing of
/// this user's or of installed packages. `getaddrinfo` loads `encodings.idna` only when it is
/// called.
const LOADED: &str = "import ctypes, encodings.idna, os, resource, socket, sys, sysconfig, threading, time
print(os.path.realpath(sys.executable))
print(sysconfig.get_path('stdlib'))
files = {getattr(module, '__file__', None) for module in list(sys.modules.values())}
print(*sorted(file for file in files if file), sep='\\n')";

/// An interpreter that finds its modules where they are on this machine.
#[derive(Debug)]
pub struct Python {
    pub interpreter: PathBuf,
    pub modules: Vec<PathBuf>,
}

impl Python {
    pub fn find() -> Result<Self> {
        let said = output(Command::new("python3").args(["-I", "-S", "-c", LOADED]))?;
        let mut paths = said.lines().map(PathBuf::from);
        let (Some(interpreter), Some(library)) = (paths.next(), paths.next()) else {
            return Err("python3 does not say where it is".to_owned());
        };
        // `site` is loaded at every start without `-S`.
        let more = ["site.py", "_sitebuiltins.py"].map(|name| library.join(name));
        Ok(Self { interpreter, modules: paths.chain(more).collect() })
    }

    /// What the dynamic loader loads by itself: the modules that are libraries.
    pub fn libraries(&self) -> impl Iterator<Item = &PathBuf> {
        self.modules.iter().filter(|path| is_library(path))
    }
}

fn is_library(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "so")
}
