//! Packet filters in classic BPF, the instruction set that libpcap compiles expressions to. They
//! are checked, interpreted, and translated into eBPF here; expressions are compiled elsewhere.

mod check;
mod ebpf;
mod interpret;
mod operation;
mod text;
mod translate;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use ebpf::EbpfInstruction;
pub use interpret::FilteredFrame;
pub use translate::{PacketAccess, translate};

use operation::Operation;

/// Maximum number of instructions, as for a filter of the kernel (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// An instruction of classic BPF (`struct bpf_insn` of libpcap, `struct sock_filter` of Linux).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassicInstruction {
    /// What it does.
    pub code: u16,
    /// Instructions to skip if a test is true.
    pub jt: u8,
    /// Instructions to skip if a test is false.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

/// A filter whose instructions were checked: it ends on every path, and refers to no memory that it
/// does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilterProgram {
    operations: Vec<Operation>,
    instructions: Vec<ClassicInstruction>,
}

impl FilterProgram {
    /// Checks the instructions. The error is the reason why they are not a filter.
    pub fn new(instructions: Vec<ClassicInstruction>) -> Result<Self, String> {
        let operations = check::operations(&instructions)?;
        Ok(Self { operations, instructions })
    }

    /// The instructions.
    pub fn instructions(&self) -> &[ClassicInstruction] {
        &self.instructions
    }
}
