//! How a dashboard attaches to a run: it connects to a socket in the run directory and reads lines
//! of JSON: a greeting, then updates until one of both ends. It sends nothing. Only root and the
//! user who started the run can connect.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dashboard::VERSION;
use crate::error::{Error, Result};

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ViewerGreeting {
    /// Updates of this version follow.
    Version(u32),
    /// The run has too many dashboards already.
    Refused(String),
}

impl ViewerGreeting {
    /// The greeting of this netwatch.
    pub fn own() -> Self {
        Self::Version(VERSION)
    }

    /// Fails if updates cannot be understood, or there are none.
    pub fn accept(self) -> Result<()> {
        match self {
            Self::Version(VERSION) => Ok(()),
            Self::Version(_) => {
                let error = Error::other("attach to", "the run", "it was started by another version of netwatch");
                Err(error.hint("use that version for `netwatch top`"))
            }
            Self::Refused(why) => Err(Error::other("attach to", "the run", why)),
        }
    }
}

/// The socket in a run directory.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("top.sock")
}
