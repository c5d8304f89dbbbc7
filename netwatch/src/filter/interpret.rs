//! Runs a filter on a packet, as libpcap's `bpf_filter` does.

use super::FilterProgram;
use super::operation::{
    Arithmetic, BranchTest, INCOMING, IndexSource, LoadSize, LoadSource, MEMORY_WORDS, OUTGOING, Operand, Operation,
};

/// Minimum length of the headers that libpcap's loops (`protochain`) step over, bytes. A filter
/// that jumps back more often than the packet has such headers rejects the packet: its work is
/// bounded.
const MIN_HEADER_BYTES: usize = 8;

/// A packet, for a filter.
#[derive(Debug, Clone, Copy)]
pub struct FilteredFrame<'a> {
    /// The captured bytes, from the link-layer header on.
    pub bytes: &'a [u8],
    /// Length of the packet.
    pub length: u32,
    /// Whether the target sent it, if that is known.
    pub is_egress: Option<bool>,
}

/// The state of a running filter.
#[derive(Default)]
struct FilterMachine {
    accumulator: u32,
    index: u32,
    memory: [u32; MEMORY_WORDS],
}

/// What follows an operation.
enum FilterStep {
    Skip(isize),
    End(u32),
}

impl FilterProgram {
    /// Number of bytes of the packet that the filter accepts; 0 if it does not match.
    pub fn run(&self, frame: &FilteredFrame<'_>) -> u32 {
        let mut machine = FilterMachine::default();
        let (mut at, mut repeats) = (0_usize, 0);
        while repeats <= frame.bytes.len() / MIN_HEADER_BYTES {
            match machine.step(&self.operations[at], frame) {
                Some(FilterStep::Skip(skipped)) => {
                    repeats += usize::from(skipped < 0);
                    at = (at + 1).wrapping_add_signed(skipped);
                }
                Some(FilterStep::End(accepted)) => return accepted,
                // A load beyond the end of the packet, or a division by 0.
                None => return 0,
            }
        }
        0
    }

    /// Whether it depends on the direction of packets. Of one without a direction, it accepts
    /// nothing.
    pub fn needs_direction(&self) -> bool {
        self.operations.contains(&Operation::Load(LoadSource::PacketType))
    }

    /// Whether the packet matches.
    pub fn matches(&self, frame: &FilteredFrame<'_>) -> bool {
        self.run(frame) != 0
    }
}

impl FilterMachine {
    /// Executes an operation. `None` rejects the packet.
    fn step(&mut self, operation: &Operation, frame: &FilteredFrame<'_>) -> Option<FilterStep> {
        match *operation {
            Operation::Load(source) => self.accumulator = self.load(source, frame)?,
            Operation::LoadIndex(source) => self.index = self.load_index(source, frame)?,
            Operation::Store(word) => self.memory[word] = self.accumulator,
            Operation::StoreIndex(word) => self.memory[word] = self.index,
            Operation::Compute(arithmetic, operand) => {
                self.accumulator = compute(arithmetic, self.accumulator, self.operand(operand))?;
            }
            Operation::Negate => self.accumulator = self.accumulator.wrapping_neg(),
            Operation::Skip(skipped) => return Some(FilterStep::Skip(skipped)),
            Operation::Branch { test, operand, if_true, if_false } => {
                let is_true = compare(test, self.accumulator, self.operand(operand));
                return Some(FilterStep::Skip(if is_true { if_true } else { if_false } as isize));
            }
            Operation::Return(accepted) => return Some(FilterStep::End(accepted)),
            Operation::ReturnAccumulator => return Some(FilterStep::End(self.accumulator)),
            Operation::IndexFromAccumulator => self.index = self.accumulator,
            Operation::AccumulatorFromIndex => self.accumulator = self.index,
        }
        Some(FilterStep::Skip(0))
    }

    fn operand(&self, operand: Operand) -> u32 {
        match operand {
            Operand::Constant(k) => k,
            Operand::Index => self.index,
        }
    }

    fn load(&self, source: LoadSource, frame: &FilteredFrame<'_>) -> Option<u32> {
        match source {
            LoadSource::Constant(k) => Some(k),
            LoadSource::Length => Some(frame.length),
            LoadSource::Memory(word) => Some(self.memory[word]),
            LoadSource::Packet { size, offset } => packet(frame.bytes, offset.into(), size),
            LoadSource::PacketIndexed { size, offset } => {
                packet(frame.bytes, u64::from(offset) + u64::from(self.index), size)
            }
            LoadSource::PacketType => Some(if frame.is_egress? { OUTGOING } else { INCOMING }),
        }
    }

    fn load_index(&self, source: IndexSource, frame: &FilteredFrame<'_>) -> Option<u32> {
        match source {
            IndexSource::Constant(k) => Some(k),
            IndexSource::Length => Some(frame.length),
            IndexSource::Memory(word) => Some(self.memory[word]),
            IndexSource::HeaderLength { offset } => {
                packet(frame.bytes, offset.into(), LoadSize::Byte).map(|first| (first & 0xf) * 4)
            }
        }
    }
}

/// Bytes of the packet, if it has so many.
fn packet(bytes: &[u8], offset: u64, size: LoadSize) -> Option<u32> {
    let bytes = bytes.get(usize::try_from(offset).ok()?..)?;
    match size {
        LoadSize::Byte => bytes.first().copied().map(u32::from),
        LoadSize::Half => bytes.first_chunk().copied().map(|half| u16::from_be_bytes(half).into()),
        LoadSize::Word => bytes.first_chunk().copied().map(u32::from_be_bytes),
    }
}

fn compute(arithmetic: Arithmetic, a: u32, b: u32) -> Option<u32> {
    Some(match arithmetic {
        Arithmetic::Add => a.wrapping_add(b),
        Arithmetic::Subtract => a.wrapping_sub(b),
        Arithmetic::Multiply => a.wrapping_mul(b),
        Arithmetic::Divide => return a.checked_div(b),
        Arithmetic::Modulo => return a.checked_rem(b),
        Arithmetic::Or => a | b,
        Arithmetic::And => a & b,
        Arithmetic::Xor => a ^ b,
        Arithmetic::ShiftLeft => a.checked_shl(b).unwrap_or(0),
        Arithmetic::ShiftRight => a.checked_shr(b).unwrap_or(0),
    })
}

fn compare(test: BranchTest, a: u32, b: u32) -> bool {
    match test {
        BranchTest::Equal => a == b,
        BranchTest::Greater => a > b,
        BranchTest::GreaterOrEqual => a >= b,
        BranchTest::AnyBit => a & b != 0,
    }
}
