//! Decodes and checks a filter, as libpcap's `bpf_validate` and the kernel's `bpf_check_classic`
//! do.

use super::operation::{Arithmetic, BranchTest, IndexSource, LoadSize, LoadSource, MEMORY_WORDS, Operand, Operation};
use super::{ClassicInstruction, MAX_INSTRUCTIONS};

/// Classes of instructions: the lowest three bits (linux/bpf_common.h).
mod class {
    pub const LD: u16 = 0;
    pub const LDX: u16 = 1;
    pub const ST: u16 = 2;
    pub const STX: u16 = 3;
    pub const ALU: u16 = 4;
    pub const JMP: u16 = 5;
    pub const RET: u16 = 6;
    pub const MISC: u16 = 7;
}

const OUTSIDE: &str = "jumps to an instruction that does not exist";

/// Where the kernel has facts about a packet that are not in its bytes (`SKF_AD_OFF`).
const FACTS: u32 = 0xffff_f000;
/// Offsets of facts from there (linux/filter.h).
mod fact {
    pub const PACKET_TYPE: u32 = 4;
    pub const VLAN_TAG: u32 = 44;
    pub const VLAN_TAG_PRESENT: u32 = 48;
    /// The first offset without one (`SKF_AD_MAX`). Loads there are beyond the end of the packet.
    pub const COUNT: u32 = 64;
}

/// The operations of a filter, or why it is none.
pub(super) fn operations(instructions: &[ClassicInstruction]) -> Result<Vec<Operation>, String> {
    if instructions.is_empty() {
        return Err("it has no instructions".to_owned());
    }
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(format!("it has {} instructions, and the maximum is {MAX_INSTRUCTIONS}", instructions.len()));
    }
    let operations = instructions.iter().enumerate().map(|(at, instruction)| {
        let following = instructions.len() - at - 1;
        decode(instruction, at, following).map_err(|cause| format!("instruction {at} {cause}"))
    });
    let operations = operations.collect::<Result<Vec<_>, _>>()?;
    match operations.last() {
        Some(Operation::Return(_) | Operation::ReturnAccumulator) => Ok(operations),
        _ => Err("its last instruction does not return".to_owned()),
    }
}

/// Decodes instruction number `at`, which `following` others follow.
fn decode(instruction: &ClassicInstruction, at: usize, following: usize) -> Result<Operation, String> {
    let ClassicInstruction { code, k, .. } = *instruction;
    match code & 7 {
        class::LD => load(code, k).map(Operation::Load),
        class::LDX => load_index(code, k).map(Operation::LoadIndex),
        class::ST if code == class::ST => word(k).map(Operation::Store),
        class::STX if code == class::STX => word(k).map(Operation::StoreIndex),
        class::ALU => compute(code, k),
        class::JMP if code & !0xf == 0 => skip(code, k, at, following),
        class::JMP => branch(instruction, following),
        class::RET if code & !0x8 == class::RET => Ok(Operation::Return(k)),
        class::RET if code == class::RET | 0x10 => Ok(Operation::ReturnAccumulator),
        class::MISC if code == class::MISC => Ok(Operation::IndexFromAccumulator),
        class::MISC if code == class::MISC | 0x80 => Ok(Operation::AccumulatorFromIndex),
        _ => Err(unknown(code)),
    }
}

fn unknown(code: u16) -> String {
    format!("has the unknown code {code:#x}")
}

fn word(k: u32) -> Result<usize, String> {
    let word = k as usize;
    if word < MEMORY_WORDS { Ok(word) } else { Err(format!("uses word {k} of {MEMORY_WORDS} words of memory")) }
}

fn load(code: u16, k: u32) -> Result<LoadSource, String> {
    let size = match code & 0x18 {
        0x00 => LoadSize::Word,
        0x08 => LoadSize::Half,
        0x10 => LoadSize::Byte,
        _ => return Err(unknown(code)),
    };
    match (code & 0xe0, size) {
        (0x00, LoadSize::Word) => Ok(LoadSource::Constant(k)),
        (0x20, _) if (FACTS..FACTS + fact::COUNT).contains(&k) => load_fact(k - FACTS),
        (0x20, _) => Ok(LoadSource::Packet { size, offset: k }),
        (0x40, _) => Ok(LoadSource::PacketIndexed { size, offset: k }),
        (0x60, LoadSize::Word) => word(k).map(LoadSource::Memory),
        (0x80, LoadSize::Word) => Ok(LoadSource::Length),
        _ => Err(unknown(code)),
    }
}

/// A VLAN tag outside the frame is put into it before a filter sees the frame.
fn load_fact(fact: u32) -> Result<LoadSource, String> {
    match fact {
        fact::PACKET_TYPE => Ok(LoadSource::PacketType),
        fact::VLAN_TAG | fact::VLAN_TAG_PRESENT => Ok(LoadSource::Constant(0)),
        _ => Err(format!("loads a fact of the kernel (number {fact}) that netwatch does not have")),
    }
}

fn load_index(code: u16, k: u32) -> Result<IndexSource, String> {
    match code & !7 {
        0x00 => Ok(IndexSource::Constant(k)),
        0x60 => word(k).map(IndexSource::Memory),
        0x80 => Ok(IndexSource::Length),
        0xb0 => Ok(IndexSource::HeaderLength { offset: k }),
        _ => Err(unknown(code)),
    }
}

fn operand(code: u16, k: u32) -> Operand {
    if code & 0x8 == 0 { Operand::Constant(k) } else { Operand::Index }
}

fn compute(code: u16, k: u32) -> Result<Operation, String> {
    let arithmetic = match code & !0xf {
        0x00 => Arithmetic::Add,
        0x10 => Arithmetic::Subtract,
        0x20 => Arithmetic::Multiply,
        0x30 => Arithmetic::Divide,
        0x40 => Arithmetic::Or,
        0x50 => Arithmetic::And,
        0x60 => Arithmetic::ShiftLeft,
        0x70 => Arithmetic::ShiftRight,
        0x80 => return Ok(Operation::Negate),
        0x90 => Arithmetic::Modulo,
        0xa0 => Arithmetic::Xor,
        _ => return Err(unknown(code)),
    };
    match (arithmetic, operand(code, k)) {
        (Arithmetic::Divide | Arithmetic::Modulo, Operand::Constant(0)) => Err("divides by 0".to_owned()),
        (arithmetic, operand) => Ok(Operation::Compute(arithmetic, operand)),
    }
}

/// An unconditional jump. Only libpcap's loops (`protochain`) jump back.
fn skip(code: u16, k: u32, at: usize, following: usize) -> Result<Operation, String> {
    let skipped = k.cast_signed() as isize;
    let is_inside = skipped < following as isize && at as isize + 1 + skipped >= 0;
    match (code & 0x8, is_inside) {
        (0, true) => Ok(Operation::Skip(skipped)),
        (0, false) => Err(OUTSIDE.to_owned()),
        _ => Err(unknown(code)),
    }
}

fn branch(instruction: &ClassicInstruction, following: usize) -> Result<Operation, String> {
    let ClassicInstruction { code, jt, jf, k } = *instruction;
    let test = match code & !0xf {
        0x10 => BranchTest::Equal,
        0x20 => BranchTest::Greater,
        0x30 => BranchTest::GreaterOrEqual,
        0x40 => BranchTest::AnyBit,
        _ => return Err(unknown(code)),
    };
    if usize::from(jt.max(jf)) >= following {
        return Err(OUTSIDE.to_owned());
    }
    Ok(Operation::Branch { test, operand: operand(code, k), if_true: jt.into(), if_false: jf.into() })
}
