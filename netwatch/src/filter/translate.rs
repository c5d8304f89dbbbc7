//! Translates a filter into an eBPF function of a socket buffer and a direction, which returns the
//! number of bytes that the filter accepts. A value is in the lower half of a register or of a word
//! on the stack; the upper half is zero.

mod load;

use std::collections::BTreeSet;

use netwatch_common::flow::EGRESS;

use load::MAX_LOAD_OFFSET;
pub use load::PacketAccess;

use super::FilterProgram;
use super::ebpf::Register::{R0, R1, R2, R3, R6, R7, R8, R9, R10};
use super::ebpf::{self, Alu, EbpfInstruction, EbpfOperand, Jump, Register};
use super::operation::{
    Arithmetic, BranchTest, INCOMING, IndexSource, LoadSize, LoadSource, OUTGOING, Operand, Operation,
};

/// The socket buffer.
const SKB: Register = R6;
/// Start and end of the linear part of the packet.
const DATA: Register = R7;
const DATA_END: Register = R8;
/// The accumulator. The index and the memory are on the stack.
const ACCUMULATOR: Register = R9;

/// Offsets from the end of the stack.
const INDEX: i16 = -8;
const LOADED: i16 = -16;
const PACKET_TYPE: i16 = -24;
const MEMORY: i16 = -32;

/// Offsets in `struct __sk_buff` (linux/bpf.h).
const SKB_LENGTH: i16 = 0;
const SKB_DATA: i16 = 76;
const SKB_DATA_END: i16 = 80;

/// Translates a filter. Fails if a jump becomes longer than an instruction can express, and if it
/// has a loop, whose end the verifier would not find.
pub fn translate(program: &FilterProgram, access: PacketAccess) -> Result<Vec<EbpfInstruction>, String> {
    if program.operations.iter().any(|operation| matches!(operation, Operation::Skip(..0))) {
        return Err("it has a loop (protochain)".to_owned());
    }
    let mut translation = Translation { access, code: Vec::new(), jumps: Vec::new() };
    translation.prologue(&program.operations);
    let mut starts = vec![None; program.operations.len()];
    let mut is_reached = vec![false; program.operations.len()];
    is_reached[0] = true;
    for (at, operation) in program.operations.iter().enumerate() {
        // The verifier refuses unreachable instructions.
        if is_reached[at] {
            starts[at] = Some(translation.code.len());
            translation.add(at, operation);
            successors(at, operation).for_each(|next| is_reached[next] = true);
        }
    }
    translation.finish(&starts)
}

/// The operations that can follow.
fn successors(at: usize, operation: &Operation) -> impl Iterator<Item = usize> {
    let (first, second) = match *operation {
        Operation::Return(_) | Operation::ReturnAccumulator => (None, None),
        _ if is_beyond_packets(operation) => (None, None),
        Operation::Skip(skipped) => (Some(skipped.cast_unsigned()), None),
        Operation::Branch { if_true, if_false, .. } => (Some(if_true), Some(if_false)),
        _ => (Some(0), None),
    };
    first.into_iter().chain(second).map(move |skipped| at + 1 + skipped)
}

/// Whether an operation loads what no packet has, and therefore rejects all of them.
fn is_beyond_packets(operation: &Operation) -> bool {
    match *operation {
        Operation::Load(LoadSource::Packet { offset, .. })
        | Operation::LoadIndex(IndexSource::HeaderLength { offset }) => offset > MAX_LOAD_OFFSET,
        _ => false,
    }
}

/// The instructions so far.
struct Translation {
    access: PacketAccess,
    code: Vec<EbpfInstruction>,
    /// Jumps between operations: the instruction, and the operation that it leads to.
    jumps: Vec<(usize, usize)>,
}

impl Translation {
    fn emit(&mut self, instructions: impl IntoIterator<Item = EbpfInstruction>) {
        self.code.extend(instructions);
    }

    /// Takes the arguments, and sets everything that the filter may read before it writes.
    fn prologue(&mut self, operations: &[Operation]) {
        let zero = EbpfOperand::Constant(0);
        self.emit([ebpf::alu_64(Alu::Move, SKB, EbpfOperand::Register(R1))]);
        if operations.contains(&Operation::Load(LoadSource::PacketType)) {
            self.emit([
                ebpf::alu(Alu::Move, R3, EbpfOperand::Constant(OUTGOING)),
                ebpf::branch(Jump::Equal, R2, EbpfOperand::Constant(EGRESS.into()), 1),
                ebpf::alu(Alu::Move, R3, EbpfOperand::Constant(INCOMING)),
                ebpf::store_64(R10, PACKET_TYPE, R3),
            ]);
        }
        self.emit([
            ebpf::load(4, DATA, SKB, SKB_DATA),
            ebpf::load(4, DATA_END, SKB, SKB_DATA_END),
            ebpf::alu(Alu::Move, ACCUMULATOR, zero),
            ebpf::store_zero(R10, INDEX),
        ]);
        let words = operations.iter().filter_map(|operation| match operation {
            Operation::Load(LoadSource::Memory(word)) | Operation::LoadIndex(IndexSource::Memory(word)) => Some(*word),
            _ => None,
        });
        self.emit(words.collect::<BTreeSet<_>>().into_iter().map(|word| ebpf::store_zero(R10, memory(word))));
    }

    fn add(&mut self, at: usize, operation: &Operation) {
        match *operation {
            _ if is_beyond_packets(operation) => self.emit(returned(EbpfOperand::Constant(0))),
            Operation::Load(source) => self.load(source),
            Operation::LoadIndex(source) => {
                self.load_index(source);
                self.emit([ebpf::store_64(R10, INDEX, R1)]);
            }
            Operation::Store(word) => self.emit([ebpf::store_64(R10, memory(word), ACCUMULATOR)]),
            Operation::StoreIndex(word) => {
                self.emit([ebpf::load(8, R1, R10, INDEX), ebpf::store_64(R10, memory(word), R1)]);
            }
            Operation::Compute(arithmetic, operand) => self.compute(arithmetic, operand),
            Operation::Negate => self.emit([ebpf::alu(Alu::Negate, ACCUMULATOR, EbpfOperand::Constant(0))]),
            Operation::Skip(skipped) => self.jump((at + 1).wrapping_add_signed(skipped), ebpf::skip(0)),
            Operation::Branch { test, operand, if_true, if_false } => {
                let source = self.source(operand);
                self.branch(test, source, at + 1, [if_true, if_false]);
            }
            Operation::Return(accepted) => self.emit(returned(EbpfOperand::Constant(accepted))),
            Operation::ReturnAccumulator => self.emit(returned(EbpfOperand::Register(ACCUMULATOR))),
            Operation::IndexFromAccumulator => self.emit([ebpf::store_64(R10, INDEX, ACCUMULATOR)]),
            Operation::AccumulatorFromIndex => self.emit([ebpf::load(8, ACCUMULATOR, R10, INDEX)]),
        }
    }

    /// The operand, in R1 if it is the index.
    fn source(&mut self, operand: Operand) -> EbpfOperand {
        match operand {
            Operand::Constant(k) => EbpfOperand::Constant(k),
            Operand::Index => {
                self.emit([ebpf::load(8, R1, R10, INDEX)]);
                EbpfOperand::Register(R1)
            }
        }
    }

    fn load(&mut self, source: LoadSource) {
        match source {
            LoadSource::Constant(k) => self.emit([ebpf::alu(Alu::Move, ACCUMULATOR, EbpfOperand::Constant(k))]),
            LoadSource::Length => self.emit([ebpf::load(4, ACCUMULATOR, SKB, SKB_LENGTH)]),
            LoadSource::Memory(word) => self.emit([ebpf::load(8, ACCUMULATOR, R10, memory(word))]),
            LoadSource::Packet { size, offset } => self.load_packet(ACCUMULATOR, size, offset),
            LoadSource::PacketIndexed { size, offset } => self.load_packet_indexed(size, offset),
            LoadSource::PacketType => self.emit([ebpf::load(8, ACCUMULATOR, R10, PACKET_TYPE)]),
        }
    }

    /// Loads the new index into R1.
    fn load_index(&mut self, source: IndexSource) {
        match source {
            IndexSource::Constant(k) => self.emit([ebpf::alu(Alu::Move, R1, EbpfOperand::Constant(k))]),
            IndexSource::Length => self.emit([ebpf::load(4, R1, SKB, SKB_LENGTH)]),
            IndexSource::Memory(word) => self.emit([ebpf::load(8, R1, R10, memory(word))]),
            IndexSource::HeaderLength { offset } => {
                self.load_packet(R1, LoadSize::Byte, offset);
                self.emit([
                    ebpf::alu(Alu::And, R1, EbpfOperand::Constant(0xf)),
                    ebpf::alu(Alu::ShiftLeft, R1, EbpfOperand::Constant(2)),
                ]);
            }
        }
    }

    fn compute(&mut self, arithmetic: Arithmetic, operand: Operand) {
        let source = self.source(operand);
        let operation = alu_of(arithmetic);
        match (arithmetic, operand) {
            (Arithmetic::Divide | Arithmetic::Modulo, Operand::Index) => {
                self.emit([ebpf::branch(Jump::NotEqual, R1, EbpfOperand::Constant(0), 2)]);
                self.emit(returned(EbpfOperand::Constant(0)));
            }
            (Arithmetic::ShiftLeft | Arithmetic::ShiftRight, Operand::Constant(u32::BITS..)) => {
                return self.emit([ebpf::alu(Alu::Move, ACCUMULATOR, EbpfOperand::Constant(0))]);
            }
            (Arithmetic::ShiftLeft | Arithmetic::ShiftRight, Operand::Index) => self.emit([
                ebpf::branch(Jump::Less, R1, EbpfOperand::Constant(u32::BITS), 2),
                ebpf::alu(Alu::Move, ACCUMULATOR, EbpfOperand::Constant(0)),
                ebpf::skip(1),
            ]),
            _ => {}
        }
        self.emit([ebpf::alu(operation, ACCUMULATOR, source)]);
    }

    /// Branches over operations, counted from `next`.
    fn branch(&mut self, test: BranchTest, source: EbpfOperand, next: usize, [if_true, if_false]: [usize; 2]) {
        let (jump, inverse) = match test {
            BranchTest::Equal => (Jump::Equal, Some(Jump::NotEqual)),
            BranchTest::Greater => (Jump::Greater, Some(Jump::LessOrEqual)),
            BranchTest::GreaterOrEqual => (Jump::GreaterOrEqual, Some(Jump::Less)),
            BranchTest::AnyBit => (Jump::AnyBit, None),
        };
        match inverse {
            Some(inverse) if if_true == 0 => {
                self.jump(next + if_false, ebpf::branch(inverse, ACCUMULATOR, source, 0));
            }
            _ => {
                self.jump(next + if_true, ebpf::branch(jump, ACCUMULATOR, source, 0));
                if if_false > 0 {
                    self.jump(next + if_false, ebpf::skip(0));
                }
            }
        }
    }

    /// Adds a jump to an operation.
    fn jump(&mut self, target: usize, instruction: EbpfInstruction) {
        self.jumps.push((self.code.len(), target));
        self.emit([instruction]);
    }

    /// Sets the distances of jumps. `starts` has the first instruction of each operation.
    fn finish(mut self, starts: &[Option<usize>]) -> Result<Vec<EbpfInstruction>, String> {
        for (at, target) in self.jumps {
            let distance = starts[target].map_or(0, |start| start - (at + 1));
            self.code[at].offset = i16::try_from(distance)
                .map_err(|_| format!("a jump over {distance} instructions is longer than eBPF permits"))?;
        }
        Ok(self.code)
    }
}

/// The place of a word of memory on the stack.
fn memory(word: usize) -> i16 {
    MEMORY - 8 * word as i16
}

/// Ends the filter.
fn returned(accepted: EbpfOperand) -> [EbpfInstruction; 2] {
    [ebpf::alu(Alu::Move, R0, accepted), ebpf::exit()]
}

fn alu_of(arithmetic: Arithmetic) -> Alu {
    match arithmetic {
        Arithmetic::Add => Alu::Add,
        Arithmetic::Subtract => Alu::Subtract,
        Arithmetic::Multiply => Alu::Multiply,
        Arithmetic::Divide => Alu::Divide,
        Arithmetic::Modulo => Alu::Modulo,
        Arithmetic::Or => Alu::Or,
        Arithmetic::And => Alu::And,
        Arithmetic::Xor => Alu::Xor,
        Arithmetic::ShiftLeft => Alu::ShiftLeft,
        Arithmetic::ShiftRight => Alu::ShiftRight,
    }
}
