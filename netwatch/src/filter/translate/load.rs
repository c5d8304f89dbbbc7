//! Loads from the packet. A load tries direct packet access first, which costs a comparison with
//! the end of the packet's linear part, and then `bpf_skb_load_bytes`, which reads all parts.
//!
//! The verifier first follows the branch that is not taken. That is the one with the helper
//! function: afterwards fewer bounds are known than after direct access, so the state after that is
//! a special case, and the rest of the filter is not verified again.

use super::super::ebpf::Register::{R0, R1, R2, R3, R4, R10};
use super::super::ebpf::{self, Alu, EbpfInstruction, EbpfOperand, Jump, Register};
use super::super::operation::LoadSize;
use super::{ACCUMULATOR, DATA, DATA_END, INDEX, LOADED, SKB, Translation, returned};

/// The number of `bpf_skb_load_bytes` (linux/bpf.h). It takes offsets up to `i32::MAX`.
const LOAD_BYTES: i32 = 26;
pub(super) const MAX_LOAD_OFFSET: u32 = i32::MAX.cast_unsigned();
/// Largest offset of direct access that is certain to be within the verifier's bounds
/// (`MAX_PACKET_OFF`).
const MAX_DIRECT_OFFSET: u32 = 0x7fff;

/// How the translation reads the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketAccess {
    /// Directly, and by the helper function beyond the linear part.
    Direct,
    /// By the helper function only. For tests of this part.
    Helper,
}

impl Translation {
    /// Loads bytes of the packet at a constant offset, which is not beyond all packets.
    pub(super) fn load_packet(&mut self, dst: Register, size: LoadSize, offset: u32) {
        let bytes = size.bytes();
        let mut otherwise = vec![ebpf::alu(Alu::Move, R2, EbpfOperand::Constant(offset))];
        otherwise.extend(by_helper(dst, bytes));
        if self.access == PacketAccess::Direct && offset <= MAX_DIRECT_OFFSET {
            self.emit([
                ebpf::alu_64(Alu::Move, R1, EbpfOperand::Register(DATA)),
                ebpf::alu_64(Alu::Add, R1, EbpfOperand::Constant(offset + bytes)),
            ]);
            let direct = ebpf::load(bytes, dst, R1, -(bytes as i16));
            self.direct_or(R1, direct, otherwise);
        } else {
            self.emit(otherwise);
        }
        self.emit(in_order(dst, size));
    }

    /// Loads A with bytes of the packet at the sum of the index and an offset.
    pub(super) fn load_packet_indexed(&mut self, size: LoadSize, offset: u32) {
        let bytes = size.bytes();
        // The sum has more than 32 bits: it does not wrap around.
        self.emit([
            ebpf::load(8, R2, R10, INDEX),
            ebpf::alu(Alu::Move, R3, EbpfOperand::Constant(offset)),
            ebpf::alu_64(Alu::Add, R2, EbpfOperand::Register(R3)),
        ]);
        let mut otherwise = vec![ebpf::branch_64(Jump::LessOrEqual, R2, EbpfOperand::Constant(MAX_LOAD_OFFSET), 2)];
        otherwise.extend(returned(EbpfOperand::Constant(0)));
        otherwise.extend(by_helper(ACCUMULATOR, bytes));
        if self.access == PacketAccess::Direct {
            self.emit([
                ebpf::branch_64(Jump::Greater, R2, EbpfOperand::Constant(MAX_DIRECT_OFFSET), 5),
                ebpf::alu_64(Alu::Move, R1, EbpfOperand::Register(DATA)),
                ebpf::alu_64(Alu::Add, R1, EbpfOperand::Register(R2)),
                ebpf::alu_64(Alu::Move, R3, EbpfOperand::Register(R1)),
                ebpf::alu_64(Alu::Add, R3, EbpfOperand::Constant(bytes)),
            ]);
            self.direct_or(R3, ebpf::load(bytes, ACCUMULATOR, R1, 0), otherwise);
        } else {
            self.emit(otherwise);
        }
        self.emit(in_order(ACCUMULATOR, size));
    }

    /// Executes `direct` if the address in `end` is within the linear part of the packet.
    fn direct_or(&mut self, end: Register, direct: EbpfInstruction, otherwise: Vec<EbpfInstruction>) {
        let skipped = otherwise.len() as i16 + 1;
        self.emit([ebpf::branch_64(Jump::LessOrEqual, end, EbpfOperand::Register(DATA_END), skipped)]);
        self.emit(otherwise);
        self.emit([ebpf::skip(1), direct]);
    }
}

/// Loads bytes at the offset in R2 by the helper function. Rejects the packet if it is shorter.
fn by_helper(dst: Register, bytes: u32) -> impl Iterator<Item = EbpfInstruction> {
    let before = [
        ebpf::alu_64(Alu::Move, R1, EbpfOperand::Register(SKB)),
        ebpf::alu_64(Alu::Move, R3, EbpfOperand::Register(R10)),
        ebpf::alu_64(Alu::Add, R3, EbpfOperand::Constant(i32::from(LOADED).cast_unsigned())),
        ebpf::alu(Alu::Move, R4, EbpfOperand::Constant(bytes)),
        ebpf::call(LOAD_BYTES),
        ebpf::branch_64(Jump::Equal, R0, EbpfOperand::Constant(0), 2),
    ];
    let after = [ebpf::load(bytes, dst, R10, LOADED)];
    before.into_iter().chain(returned(EbpfOperand::Constant(0))).chain(after)
}

/// Converts a loaded value from network order.
fn in_order(dst: Register, size: LoadSize) -> Option<EbpfInstruction> {
    match size {
        LoadSize::Byte => None,
        LoadSize::Half => Some(ebpf::from_network_order(dst, 16)),
        LoadSize::Word => Some(ebpf::from_network_order(dst, 32)),
    }
}
