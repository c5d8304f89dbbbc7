//! One record for each change of the host that the kernel cannot undo by itself. A record is on disk before its change is made.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A change to be undone. Undoing is idempotent: the change may never have happened, or be undone already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Undo {
    /// This run uses sysctls of the network namespace with this cookie; their old values are in the ledger that parallel runs share.
    Forwarding {
        /// `SO_NETNS_COOKIE` of the namespace.
        netns_cookie: u64,
    },
    /// A rule in a chain that is not ours; found again by its comment.
    ForeignRule {
        /// `NFPROTO_*` of the table.
        family: u8,
        /// Table name.
        table: String,
        /// Chain name.
        chain: String,
        /// The rule's comment, `netwatch:<run id>`.
        comment: String,
    },
    /// A file of ours.
    File {
        /// Absolute path.
        path: PathBuf,
        /// What tells it from somebody else's at the same place; none where the name itself is ours alone.
        inode: Option<Inode>,
    },
    /// A directory of ours, removed only when empty.
    Directory {
        /// Absolute path.
        path: PathBuf,
    },
    /// A directory that was made a mount of its own in the host's mount namespace; it stays while there are others' mounts in it.
    Mount {
        /// Absolute path of the mount point.
        path: PathBuf,
    },
    /// The name of a network namespace, and not that of somebody who has taken the same name since: a mount on a file.
    Name {
        /// Absolute path of the mount point.
        path: PathBuf,
        /// The file below the mount.
        file: Inode,
        /// What is mounted.
        netns: Inode,
    },
    /// A cgroup of ours: what is left in it is killed, then it is removed.
    Cgroup {
        /// Absolute path in the cgroup file system.
        path: PathBuf,
    },
}

/// Identifies a file as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    device: u64,
    number: u64,
}

impl From<&Metadata> for Inode {
    fn from(data: &Metadata) -> Self {
        Self { device: data.dev(), number: data.ino() }
    }
}
