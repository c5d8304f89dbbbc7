//! Counters of interfaces that could not be read at the moment at which the classifier was attached
//! or detached: what passed meanwhile leaves a range.

use super::{Amount, InterfaceCounters, LinkCounters, PerDirection};

/// What interfaces counted while the classifier was attached: at least and at most so much.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CounterBounds {
    /// Every packet in it passed while the classifier was attached.
    pub least: InterfaceCounters,
    /// No packet outside of it passed while the classifier was attached.
    pub most: InterfaceCounters,
}

impl CounterBounds {
    /// Counters that are known exactly.
    pub fn exact(counters: InterfaceCounters) -> Self {
        Self { least: counters, most: counters }
    }

    /// The counters within the bounds that are nearest to what was counted.
    pub fn nearest(&self, counted: PerDirection<Amount>) -> InterfaceCounters {
        let Self { least, most } = *self;
        InterfaceCounters {
            rx: nearest(least.rx, most.rx, counted.egress),
            tx: nearest(least.tx, most.tx, counted.ingress),
        }
    }

    /// Number of socket buffers of which it is unknown whether they passed before the classifier
    /// was attached, after it was detached, or in between.
    pub fn uncertain_skbs(&self) -> u64 {
        let difference = |least: LinkCounters, most: LinkCounters| most.packets.saturating_sub(least.packets);
        difference(self.least.rx, self.most.rx) + difference(self.least.tx, self.most.tx)
    }

    /// Adds the counters of another interface.
    pub fn add(&mut self, other: &Self) {
        self.least.add(other.least);
        self.most.add(other.most);
    }
}

fn nearest(least: LinkCounters, most: LinkCounters, counted: Amount) -> LinkCounters {
    let within = |least: u64, most: u64, counted: u64| counted.clamp(least, most.max(least));
    LinkCounters {
        packets: within(least.packets, most.packets, counted.skbs),
        bytes: within(least.bytes, most.bytes, counted.bytes),
        dropped: least.dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(rx: (u64, u64), tx: (u64, u64)) -> InterfaceCounters {
        let link = |(packets, bytes)| LinkCounters { packets, bytes, dropped: 0 };
        InterfaceCounters { rx: link(rx), tx: link(tx) }
    }

    fn amounts(egress: (u64, u64), ingress: (u64, u64)) -> PerDirection<Amount> {
        let amount = |(skbs, bytes)| Amount { skbs, bytes };
        PerDirection { egress: amount(egress), ingress: amount(ingress) }
    }

    #[test]
    fn a_count_within_the_bounds_is_what_the_interface_counted() {
        let bounds = CounterBounds { least: counters((3, 300), (5, 500)), most: counters((4, 400), (5, 500)) };
        assert_eq!(bounds.nearest(amounts((4, 350), (5, 500))), counters((4, 350), (5, 500)));
        assert_eq!(bounds.uncertain_skbs(), 1);
    }

    #[test]
    fn a_count_outside_the_bounds_differs() {
        let bounds = CounterBounds { least: counters((3, 300), (5, 500)), most: counters((4, 400), (5, 500)) };
        assert_eq!(bounds.nearest(amounts((2, 200), (6, 600))), counters((3, 300), (5, 500)));
        let mut both = bounds;
        both.add(&CounterBounds::exact(counters((1, 60), (0, 0))));
        assert_eq!(both.nearest(amounts((9, 900), (0, 0))), counters((5, 460), (5, 500)));
        assert_eq!(both.uncertain_skbs(), 1);
    }
}
