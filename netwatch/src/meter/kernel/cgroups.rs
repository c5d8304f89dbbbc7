//! Attaches the classifier to cgroups: it counts what their sockets send and receive. By BPF links
//! only (Linux 5.7), which the kernel removes with this process: nothing to undo.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya_obj::generated::bpf_attach_type::{BPF_CGROUP_INET_EGRESS, BPF_CGROUP_INET_INGRESS};

use super::object::Loaded;
use super::sys;
use crate::error::{Error, Result};

/// Attaches it, from any thread.
#[derive(Debug)]
pub struct CgroupAttacher {
    egress: OwnedFd,
    ingress: OwnedFd,
}

/// A cgroup that the classifier is attached to. Dropping it detaches.
#[derive(Debug)]
pub struct AttachedCgroup {
    links: [OwnedFd; 2],
}

impl CgroupAttacher {
    pub(super) fn of(loaded: &Loaded) -> Result<Self> {
        let duplicate = |name: &str| {
            let program = loaded.program(name).try_clone();
            program.map_err(|cause| Error::os("duplicate", "a program of the classifier", cause))
        };
        Ok(Self { egress: duplicate("cgroup_egress")?, ingress: duplicate("cgroup_ingress")? })
    }

    /// Attaches to a cgroup (v2), beside the programs of others. The sockets of cgroups below
    /// belong to it. `name` is for the error.
    ///
    /// Egress first: a packet that two sockets of the cgroup exchange counts where it is sent.
    pub fn attach(&self, cgroup: BorrowedFd<'_>, name: &str) -> Result<AttachedCgroup> {
        let attach = |program: &OwnedFd, hook| {
            let attached = sys::cgroup_attach(program.as_fd(), cgroup, hook);
            attached.map_err(|cause| {
                Error::os("attach classifier to", name, cause)
                    .hint("needs CAP_BPF and CAP_NET_ADMIN, and Linux 5.7; run with sudo")
            })
        };
        let egress = attach(&self.egress, BPF_CGROUP_INET_EGRESS as u32)?;
        let ingress = attach(&self.ingress, BPF_CGROUP_INET_INGRESS as u32)?;
        Ok(AttachedCgroup { links: [egress, ingress] })
    }
}

impl Drop for AttachedCgroup {
    /// A child that was just forked may hold a duplicate of the descriptors.
    fn drop(&mut self) {
        // Fails if the cgroup was removed, which has detached the programs.
        self.links.iter().for_each(|link| drop(sys::link_detach(link.as_fd())));
    }
}
