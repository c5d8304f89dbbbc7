//! Instructions of eBPF (RFC 9669), as far as a translated filter consists of them.

/// An instruction of eBPF (`struct bpf_insn`, linux/bpf.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EbpfInstruction {
    /// What it does.
    pub code: u8,
    /// Number of the register that is changed or compared.
    pub dst: u8,
    /// Number of the second register.
    pub src: u8,
    /// Offset in memory, or instructions to skip.
    pub offset: i16,
    /// The constant.
    pub constant: i32,
}

/// A register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    /// Results of calls.
    R0 = 0,
    /// The first of five arguments of calls, which do not survive one.
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
    /// The first of four registers that survive calls.
    R6 = 6,
    R7 = 7,
    R8 = 8,
    R9 = 9,
    /// The end of the stack.
    R10 = 10,
}

/// The second operand of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EbpfOperand {
    Constant(u32),
    Register(Register),
}

/// Codes of 32-bit operations without their source; the other half of the register becomes 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alu {
    Add = 0x04,
    Subtract = 0x14,
    Multiply = 0x24,
    Divide = 0x34,
    Or = 0x44,
    And = 0x54,
    ShiftLeft = 0x64,
    ShiftRight = 0x74,
    Negate = 0x84,
    Modulo = 0x94,
    Xor = 0xa4,
    Move = 0xb4,
}

/// Codes of comparisons without sign, without their source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Jump {
    Equal = 0x10,
    Greater = 0x20,
    GreaterOrEqual = 0x30,
    AnyBit = 0x40,
    NotEqual = 0x50,
    Less = 0xa0,
    LessOrEqual = 0xb0,
}

/// The class of comparisons of 64 bits, and that of 32 bits.
const JUMP_64: u8 = 0x05;
const JUMP_32: u8 = 0x06;
/// The operation of 64 bits has this class; the codes of [`Alu`] contain that of 32 bits.
const ALU_64_INSTEAD: u8 = 0x07 ^ 0x04;
/// The second operand is a register.
const FROM_REGISTER: u8 = 0x08;

const fn plain(code: u8, dst: Register, src: Register, offset: i16, constant: i32) -> EbpfInstruction {
    EbpfInstruction { code, dst: dst as u8, src: src as u8, offset, constant }
}

fn with_source(code: u8, dst: Register, source: EbpfOperand, offset: i16) -> EbpfInstruction {
    match source {
        EbpfOperand::Constant(constant) => plain(code, dst, Register::R0, offset, constant.cast_signed()),
        EbpfOperand::Register(register) => plain(code | FROM_REGISTER, dst, register, offset, 0),
    }
}

/// An operation of 32 bits.
pub(super) fn alu(operation: Alu, dst: Register, source: EbpfOperand) -> EbpfInstruction {
    with_source(operation as u8, dst, source, 0)
}

/// An operation of 64 bits. A constant is extended with its sign.
pub(super) fn alu_64(operation: Alu, dst: Register, source: EbpfOperand) -> EbpfInstruction {
    with_source(operation as u8 ^ ALU_64_INSTEAD, dst, source, 0)
}

/// Skips instructions if the test of 32 bits is true.
pub(super) fn branch(jump: Jump, dst: Register, source: EbpfOperand, skipped: i16) -> EbpfInstruction {
    with_source(jump as u8 | JUMP_32, dst, source, skipped)
}

/// Skips instructions if the test of 64 bits is true. A constant is extended with its sign.
pub(super) fn branch_64(jump: Jump, dst: Register, source: EbpfOperand, skipped: i16) -> EbpfInstruction {
    with_source(jump as u8 | JUMP_64, dst, source, skipped)
}

/// Skips instructions.
pub(super) fn skip(skipped: i16) -> EbpfInstruction {
    plain(JUMP_64, Register::R0, Register::R0, skipped, 0)
}

/// Converts the lowest bits from network order to that of the machine.
pub(super) fn from_network_order(dst: Register, bits: i32) -> EbpfInstruction {
    plain(0xdc, dst, Register::R0, 0, bits)
}

/// Loads one, two, four or eight bytes.
pub(super) fn load(bytes: u32, dst: Register, address: Register, offset: i16) -> EbpfInstruction {
    plain(0x61 | size_bits(bytes), dst, address, offset, 0)
}

/// Stores eight bytes.
pub(super) fn store_64(address: Register, offset: i16, src: Register) -> EbpfInstruction {
    plain(0x63 | size_bits(8), address, src, offset, 0)
}

/// Stores eight zeros.
pub(super) fn store_zero(address: Register, offset: i16) -> EbpfInstruction {
    plain(0x62 | size_bits(8), address, Register::R0, offset, 0)
}

fn size_bits(bytes: u32) -> u8 {
    match bytes {
        1 => 0x10,
        2 => 0x08,
        8 => 0x18,
        _ => 0,
    }
}

/// Calls a helper function of the kernel.
pub(super) fn call(helper: i32) -> EbpfInstruction {
    plain(0x85, Register::R0, Register::R0, 0, helper)
}

/// Returns R0.
pub(super) fn exit() -> EbpfInstruction {
    plain(0x95, Register::R0, Register::R0, 0, 0)
}
