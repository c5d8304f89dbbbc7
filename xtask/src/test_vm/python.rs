//! The part of Python that the tests of processes need: the interpreter, and the modules that are
//! loaded after their imports.

use std::path::{Path, PathBuf};

use super::userland::Userland;
use crate::Result;
use crate::command::output;

/// Prints the paths of the interpreter, of its library, and of each module. `-I -S` leaves out the
/// packages of the user and of the system. `getaddrinfo` loads `encodings.idna` only when it is
/// called.
const LOADED: &str = "import ctypes, encodings.idna, os, resource, socket, sys, sysconfig, threading, time
print(os.path.realpath(sys.executable))
print(sysconfig.get_path('stdlib'))
files = {getattr(module, '__file__', None) for module in list(sys.modules.values())}
print(*sorted(file for file in files if file), sep='\\n')";

/// An interpreter and its modules, with their paths on this machine.
#[derive(Debug)]
pub struct Python {
    pub interpreter: PathBuf,
    pub modules: Vec<PathBuf>,
}

impl Python {
    pub fn find(userland: &Userland) -> Result<Self> {
        let python = userland.find("python3")?;
        let printed = output(userland.command(&python).args(["-I", "-S", "-c", LOADED]))?;
        let mut paths = printed.lines().map(PathBuf::from);
        let (Some(interpreter), Some(library)) = (paths.next(), paths.next()) else {
            return Err("python3 did not print its path".to_owned());
        };
        // `site` is loaded at every start without `-S`.
        let more = ["site.py", "_sitebuiltins.py"].map(|name| library.join(name));
        Ok(Self { interpreter, modules: paths.chain(more).collect() })
    }

    /// The modules that are shared libraries.
    pub fn libraries(&self) -> impl Iterator<Item = &PathBuf> {
        self.modules.iter().filter(|path| is_library(path))
    }
}

fn is_library(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "so")
}
