//! What an instruction of classic BPF does. The machine has an accumulator (A), an index (X) and 16
//! words of memory, and reads the packet.

/// Words of memory.
pub(super) const MEMORY_WORDS: usize = 16;

/// An instruction, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// Loads A.
    Load(LoadSource),
    /// Loads X.
    LoadIndex(IndexSource),
    /// Stores A into a word of memory.
    Store(usize),
    /// Stores X into a word of memory.
    StoreIndex(usize),
    /// A becomes the result of A and the operand.
    Compute(Arithmetic, Operand),
    /// A becomes -A.
    Negate,
    /// Skips this many instructions; fewer than 0 to repeat some.
    Skip(isize),
    /// Compares A with the operand, and skips instructions if that is true, or if it is false.
    Branch { test: BranchTest, operand: Operand, if_true: usize, if_false: usize },
    /// Ends with this many bytes of the packet; 0 rejects it.
    Return(u32),
    /// Ends with A bytes.
    ReturnAccumulator,
    /// X becomes A.
    IndexFromAccumulator,
    /// A becomes X.
    AccumulatorFromIndex,
}

/// What A is loaded with. A load beyond the end of the packet rejects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoadSource {
    Constant(u32),
    /// Length of the packet.
    Length,
    Memory(usize),
    /// Bytes of the packet at an offset, in network order.
    Packet {
        size: LoadSize,
        offset: u32,
    },
    /// Bytes of the packet at the sum of X and an offset.
    PacketIndexed {
        size: LoadSize,
        offset: u32,
    },
    /// The type of the packet for a packet socket of the target: sent by it or received.
    PacketType,
}

/// What X is loaded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IndexSource {
    Constant(u32),
    Length,
    Memory(usize),
    /// The length of the IPv4 header that starts with the byte at an offset.
    HeaderLength {
        offset: u32,
    },
}

/// Number of bytes to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoadSize {
    Byte,
    Half,
    Word,
}

impl LoadSize {
    pub(super) fn bytes(self) -> u32 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
        }
    }
}

/// The second operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    Constant(u32),
    Index,
}

/// Operations of two numbers, without sign and modulo 2³².
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    /// Rejects the packet if the divisor is 0.
    Divide,
    /// As [`Self::Divide`].
    Modulo,
    Or,
    And,
    Xor,
    /// 0 if shifted by 32 bits or more, as libpcap defines it.
    ShiftLeft,
    /// As [`Self::ShiftLeft`].
    ShiftRight,
}

/// Comparisons of numbers without sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BranchTest {
    Equal,
    Greater,
    GreaterOrEqual,
    /// Some of these bits are set.
    AnyBit,
}

/// A packet that the target sent, for a packet socket (`PACKET_OUTGOING`, linux/if_packet.h).
pub(super) const OUTGOING: u32 = 4;
/// A packet that the target receives (`PACKET_HOST`).
pub(super) const INCOMING: u32 = 0;
