//! The four counters and their sums, by direction.

use std::iter::Sum;
use std::ops::{AddAssign, Sub};

use super::Direction;

/// What was counted in one direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Socket buffers the interface passed; with GSO one of them carries several packets.
    pub skbs: u64,
    /// Packets as a wire would carry them.
    pub packets: u64,
    /// Bytes as the interface counts them (Ethernet header included, no FCS).
    pub bytes: u64,
    /// Bytes as a wire would carry them: headers repeated for every packet of a GSO buffer.
    pub wire_bytes: u64,
}

impl Counters {
    /// True when nothing was counted.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Counters {
    /// Saturates: what was counted stays far below, but a file may say anything.
    fn add_assign(&mut self, other: Self) {
        self.skbs = self.skbs.saturating_add(other.skbs);
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.wire_bytes = self.wire_bytes.saturating_add(other.wire_bytes);
    }
}

/// One value for what the target sent and one for what it received.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PerDirection<T> {
    /// Sent by the target.
    pub egress: T,
    /// Received by the target.
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

    /// Both values, changed in the same way.
    pub fn map<U>(self, change: impl Fn(T) -> U) -> PerDirection<U> {
        PerDirection { egress: change(self.egress), ingress: change(self.ingress) }
    }

    /// Both values, each joined with its counterpart.
    pub fn zip<U, V>(self, other: PerDirection<U>, join: impl Fn(T, U) -> V) -> PerDirection<V> {
        PerDirection { egress: join(self.egress, other.egress), ingress: join(self.ingress, other.ingress) }
    }
}

impl<T: AddAssign> PerDirection<T> {
    /// Both directions together.
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
    /// What is left when a part is taken away; never less than nothing.
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
    /// In debug builds, when `other` is larger: counters only grow.
    fn sub(self, other: Self) -> Self {
        Self {
            skbs: self.skbs - other.skbs,
            packets: self.packets - other.packets,
            bytes: self.bytes - other.bytes,
            wire_bytes: self.wire_bytes - other.wire_bytes,
        }
    }
}
