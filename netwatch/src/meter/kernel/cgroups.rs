//! Attaches the classifier to cgroups: it counts what their sockets send and receive. By BPF links
//! only, which the kernel removes with this process: nothing to undo.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya_obj::generated::bpf_attach_type::{
    BPF_CGROUP_INET_EGRESS, BPF_CGROUP_INET_INGRESS, BPF_CGROUP_INET_SOCK_CREATE,
};

use super::object::Loaded;
use super::sys;
use crate::error::{self, Error, Result};

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
                    .hint(error::needs("CAP_BPF and CAP_NET_ADMIN, and Linux 6.1"))
            })
        };
        let egress = attach(&self.egress, BPF_CGROUP_INET_EGRESS as u32)?;
        let ingress = attach(&self.ingress, BPF_CGROUP_INET_INGRESS as u32)?;
        Ok(AttachedCgroup { links: [egress, ingress] })
    }
}

/// The processes whose sockets are counted: these, those that they create, and the sockets that
/// they have already. Dropping it detaches its programs.
#[derive(Debug)]
pub struct ProcessSelection {
    links: Vec<OwnedFd>,
    created: OwnedFd,
    processes: OwnedFd,
    sockets: OwnedFd,
}

impl ProcessSelection {
    /// From now on, processes that selected ones create are selected, too.
    pub(super) fn of(loaded: &Loaded) -> Result<Self> {
        let failed = |cause| Error::os("attach", "programs that follow processes", cause);
        let attach = |name: &CStr| {
            let program = loaded.program(name.to_str().unwrap_or_default()).as_fd();
            sys::tracepoint_attach(program, name).map_err(failed)
        };
        let duplicate = |fd: &OwnedFd| fd.try_clone().map_err(failed);
        Ok(Self {
            links: vec![attach(c"sched_process_fork")?, attach(c"sched_process_exit")?],
            created: duplicate(loaded.program("socket_created"))?,
            processes: duplicate(loaded.map("METERED_PROCESSES"))?,
            sockets: duplicate(loaded.map("FOUND_SOCKETS"))?,
        })
    }

    /// Observes which process creates a socket in a cgroup. To be called before the classifier is
    /// attached to it.
    pub fn attach(&mut self, cgroup: BorrowedFd<'_>, name: &str) -> Result<()> {
        let attached = sys::cgroup_attach(self.created.as_fd(), cgroup, BPF_CGROUP_INET_SOCK_CREATE as u32);
        self.links.push(attached.map_err(|cause| Error::os("attach programs to", name, cause))?);
        Ok(())
    }

    /// Selects a process, by its number in the initial PID namespace.
    pub fn add_process(&self, pid: u32) -> Result<()> {
        add(&self.processes, &pid.to_ne_bytes()).map_err(|cause| Error::os("select process", pid.to_string(), cause))
    }

    /// Takes back the selection of a process. It may have ended, which takes it back, too.
    pub fn remove_process(&self, pid: u32) -> Result<()> {
        match sys::map_delete(self.processes.as_fd(), &pid.to_ne_bytes()) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(Error::os("deselect process", pid.to_string(), cause))
            }
            _ => Ok(()),
        }
    }

    /// Selects a socket by its cookie.
    pub fn add_socket(&self, cookie: u64) -> Result<()> {
        add(&self.sockets, &cookie.to_ne_bytes()).map_err(|cause| Error::os("select", "a socket", cause))
    }
}

fn add(map: &OwnedFd, key: &[u8]) -> io::Result<()> {
    sys::map_update(map.as_fd(), key, &1_u32.to_ne_bytes())
}

impl Drop for AttachedCgroup {
    /// A child that was just forked may hold a duplicate of the descriptors.
    fn drop(&mut self) {
        // Fails if the cgroup was removed, which has detached the programs.
        self.links.iter().for_each(|link| drop(sys::link_detach(link.as_fd())));
    }
}
