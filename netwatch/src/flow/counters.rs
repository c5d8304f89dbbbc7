//! The four counters of a flow or remainder, and values by direction.

use std::iter::Sum;
use std::ops::{AddAssign, Sub};

use super::Direction;

/// Counts of one direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Socket buffers that passed the interface. With GSO, one of them carries several packets.
    pub skbs: u64,
    /// Packets as a wire would carry them.
    pub packets: u64,
    /// Bytes as the interface counts them: with the Ethernet header, without the FCS.
    pub bytes: u64,
    /// Bytes as a wire would carry them: headers repeated for every packet of a GSO buffer.
    pub wire_bytes: u64,
}

impl Counters {
    /// True if all counters are 0.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Counters {
    /// Saturates. Counts of packets stay far below the maximum, but a recording may contain any
    /// number.
    fn add_assign(&mut self, other: Self) {
        self.skbs = self.skbs.saturating_add(other.skbs);
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.wire_bytes = self.wire_bytes.saturating_add(other.wire_bytes);
    }
}

/// One value for each direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PerDirection<T> {
    /// The value for packets sent by the target.
    pub egress: T,
    /// The value for packets received by the target.
    pub ingress: T,
}

impl<T> PerDirection<T> {
    /// The value for one direction.
    pub fn of(&self, direction: Direction) -> &T {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }

    /// Applies a function to both values.
    pub fn map<U>(self, change: impl Fn(T) -> U) -> PerDirection<U> {
        PerDirection { egress: change(self.egress), ingress: change(self.ingress) }
    }

    /// Combines both values with those of `other`, by direction.
    pub fn zip<U, V>(self, other: PerDirection<U>, join: impl Fn(T, U) -> V) -> PerDirection<V> {
        PerDirection { egress: join(self.egress, other.egress), ingress: join(self.ingress, other.ingress) }
    }
}

impl<T: AddAssign> PerDirection<T> {
    /// The sum of both directions.
    pub fn both(self) -> T {
        let mut sum = self.egress;
        sum += self.ingress;
        sum
    }
}

impl<T: AddAssign + Default> Sum for PerDirection<T> {
    fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
        values.fold(Self::default(), |mut sum, value| {
            sum += value;
            sum
        })
    }
}

impl<T: AddAssign> AddAssign for PerDirection<T> {
    fn add_assign(&mut self, other: Self) {
        self.egress += other.egress;
        self.ingress += other.ingress;
    }
}

impl Counters {
    /// Subtracts a part; each counter is at least 0.
    pub fn saturating_sub(self, part: Self) -> Self {
        Self {
            skbs: self.skbs.saturating_sub(part.skbs),
            packets: self.packets.saturating_sub(part.packets),
            bytes: self.bytes.saturating_sub(part.bytes),
            wire_bytes: self.wire_bytes.saturating_sub(part.wire_bytes),
        }
    }
}

impl Sub for Counters {
    type Output = Self;
    /// # Panics
    /// In debug builds, if `other` is larger: counters only grow.
    fn sub(self, other: Self) -> Self {
        Self {
            skbs: self.skbs - other.skbs,
            packets: self.packets - other.packets,
            bytes: self.bytes - other.bytes,
            wire_bytes: self.wire_bytes - other.wire_bytes,
        }
    }
}
