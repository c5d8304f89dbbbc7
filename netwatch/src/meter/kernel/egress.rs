//! Sees the packets of given sockets where they would leave the host, and discards them. By tcx
//! links only (Linux 6.6), which the kernel removes with this process: nothing to undo.

use std::collections::HashMap;
use std::os::fd::AsFd;

use aya_obj::generated::bpf_prog_type;

use super::attach::{self, AttachMethod, Attachment};
use super::object::Loaded;
use super::sys::{self, ProgramKind};
use crate::error::{Error, Result};

/// The object, built by `cargo xtask build` and committed.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/egress.o");
const KINDS: [(&str, ProgramKind); 1] =
    [("egress_probe", ProgramKind { program: bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, attach: 0 })];
/// Values of the map, as in the program: bits.
const LEFT: u32 = 1;
const REDIRECTED: u32 = 2;

/// Where a packet of a watched socket arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressPlace {
    /// At an interface by which it would leave the host.
    Interface,
    /// At the loopback: it was redirected to a program of the host.
    Loopback,
}

/// The attached program. Dropping it detaches it.
#[derive(Debug)]
pub struct EgressWatch {
    loaded: Loaded,
    _attachments: Vec<Attachment>,
}

impl EgressWatch {
    /// Attaches to the egress of these interfaces, after the programs that are there.
    pub fn attach(interfaces: &[u32]) -> Result<Self> {
        let (loaded, rejected) = Loaded::new_partial(OBJECT, HashMap::new(), &[], &KINDS, None, &[])?;
        if let Some((_, error)) = rejected.into_iter().next() {
            return Err(error);
        }
        let program = loaded.program(KINDS[0].0).as_fd();
        let attach = |index: &u32| attach::egress(program, *index, &[AttachMethod::Tcx]);
        let _attachments = interfaces.iter().map(attach).collect::<Result<_>>()?;
        Ok(Self { loaded, _attachments })
    }

    /// Discards the packets of the socket with this `SO_COOKIE` from now on.
    pub fn add(&self, cookie: u64) -> Result<()> {
        sys::map_update(self.loaded.map("PROBES").as_fd(), &cookie.to_ne_bytes(), &0_u32.to_ne_bytes())
            .map_err(|error| Error::os("watch", "a probe", error))
    }

    /// Where packets of this socket have arrived; `None` if nowhere.
    pub fn place(&self, cookie: u64) -> Result<Option<EgressPlace>> {
        let mut value = [0; 4];
        sys::map_lookup(self.loaded.map("PROBES").as_fd(), &cookie.to_ne_bytes(), &mut value)
            .map_err(|error| Error::os("read", "a probe", error))?;
        Ok(match u32::from_ne_bytes(value) {
            seen if seen & LEFT != 0 => Some(EgressPlace::Interface),
            seen if seen & REDIRECTED != 0 => Some(EgressPlace::Loopback),
            _ => None,
        })
    }
}
