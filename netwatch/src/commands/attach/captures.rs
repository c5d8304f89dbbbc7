//! The captures of the interfaces that are metered: that of `-w` and `--packets`, and those of
//! tails. They follow the interfaces as the classifier does.

use std::collections::BTreeMap;

use super::follow::{SharedTargets, lock};
use super::links::LinkKey;
use crate::commands::run::capture::{CaptureHost, OWN_SLOT, StartedCapture, captured};
use crate::commands::run::thread::in_thread;
use crate::error::{Error, Result};
use crate::flow::PerDirection;
use crate::guardian::StartCapture;
use crate::meter::{LinkSide, LinkTap, TapConfig, TappedLink};
use crate::packets::CaptureInterfaces;

/// An interface to capture.
pub(super) struct LinkToTap<'a> {
    pub key: LinkKey,
    pub name: &'a str,
    /// What it is, for people.
    pub shown: &'a str,
    pub side: LinkSide,
}

/// The captures by slot.
#[derive(Default)]
pub(super) struct LinkCaptures(BTreeMap<u16, LinkCapture>);

/// A capture of all interfaces.
struct LinkCapture {
    tap: LinkTap,
    interfaces: NumberedInterfaces,
    snaplen: u32,
    expression: Option<String>,
    attached: BTreeMap<LinkKey, TappedLink>,
}

/// The interfaces of a capture. One that is attached to again keeps its number: a target can cause
/// any number of attempts.
#[derive(Default)]
struct NumberedInterfaces {
    all: CaptureInterfaces,
    /// By key and name: an interface can be renamed.
    numbers: BTreeMap<(LinkKey, String), u32>,
}

impl NumberedInterfaces {
    /// The number of an interface, which is added if it is new.
    fn number(&mut self, link: &LinkToTap<'_>, snaplen: u32, expression: Option<&str>) -> u32 {
        let description = if link.shown == link.name { "an interface that was attached to" } else { link.shown };
        let described = || captured(link.name, description, snaplen, expression.map(str::to_owned));
        let number = self.numbers.entry((link.key, link.name.to_owned()));
        *number.or_insert_with(|| self.all.add(described()))
    }
}

impl LinkCapture {
    /// Attaches to an interface of the calling thread's network namespace. A loopback is not
    /// captured.
    fn attach(&mut self, link: &LinkToTap<'_>) -> Result<()> {
        if link.side == LinkSide::Loopback {
            return Ok(());
        }
        // Before its first packet.
        let number = self.interfaces.number(link, self.snaplen, self.expression.as_deref());
        let (_, ifindex) = link.key;
        self.attached.insert(link.key, self.tap.attach(ifindex, link.side, number)?);
        Ok(())
    }
}

impl LinkCaptures {
    /// Loads the programs of a capture, which [`LinkCaptures::attach_one`] attaches.
    pub(super) fn add(&mut self, capture: StartCapture, expression: Option<String>) -> Result<()> {
        let StartCapture { slot, snaplen, ring_bytes, egress, ingress, filter } = capture;
        let config = TapConfig { snaplen, ring_bytes, directions: PerDirection { egress, ingress }, slot };
        let tap = LinkTap::load(&config, filter.as_ref())?;
        let (interfaces, attached) = (NumberedInterfaces::default(), BTreeMap::new());
        self.0.insert(slot, LinkCapture { tap, interfaces, snaplen, expression, attached });
        Ok(())
    }

    /// Attaches one capture to an interface of the calling thread's network namespace.
    pub(super) fn attach_one(&mut self, slot: u16, link: &LinkToTap<'_>) -> Result<()> {
        self.0.get_mut(&slot).map_or(Ok(()), |capture| capture.attach(link))
    }

    /// Attaches all captures to an interface of the calling thread's network namespace. Returns the
    /// errors of those that fail: they lack its packets.
    pub(super) fn attach(&mut self, link: &LinkToTap<'_>) -> Vec<Error> {
        let attach = |(&slot, capture): (&u16, &mut LinkCapture)| {
            capture.attach(link).err().map(|error| not_captured(slot, link.shown, &error))
        };
        self.0.iter_mut().filter_map(attach).collect()
    }

    /// What the reader of a capture needs.
    pub(super) fn started(&self, slot: u16) -> Result<StartedCapture> {
        let capture = self.0.get(&slot).ok_or_else(|| Error::other("start", "the capture", "it was ended"))?;
        let filter_error = capture.tap.filter_error().map(str::to_owned);
        Ok(StartedCapture { maps: capture.tap.maps()?, filter_error, interfaces: capture.interfaces.all.clone() })
    }

    /// Detaches all captures from an interface.
    pub(super) fn detach(&mut self, key: LinkKey) {
        self.0.values_mut().for_each(|capture| _ = capture.attached.remove(&key));
    }

    /// Ends a capture.
    pub(super) fn remove(&mut self, slot: u16) {
        self.0.remove(&slot);
    }
}

/// Why the capture in a slot lacks the packets of an interface.
fn not_captured(slot: u16, shown: &str, error: &Error) -> Error {
    let tail = if slot == OWN_SLOT { "" } else { " for a tail" };
    Error::other("capture", format!("packets of {shown}{tail}"), error.to_string())
}

/// The targets, for the control loop.
pub(super) struct CapturedTargets(pub SharedTargets);

impl CaptureHost for CapturedTargets {
    async fn start_capture(&mut self, capture: StartCapture, expression: Option<String>) -> Result<StartedCapture> {
        let targets = self.0.clone();
        in_thread("capture", move || lock(&targets).start_capture(capture, expression)).await?
    }

    async fn stop_capture(&mut self, slot: u16) -> Result<()> {
        let targets = self.0.clone();
        in_thread("capture", move || lock(&targets).stop_capture(slot)).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::targets::LinkPlace;
    use super::*;

    #[test]
    fn an_interface_that_is_attached_to_again_keeps_its_number() {
        let mut interfaces = NumberedInterfaces::default();
        let mut number = |index, name| {
            let link = LinkToTap { key: (LinkPlace::Own, index), name, shown: name, side: LinkSide::Own };
            interfaces.number(&link, 96, Some("tcp"))
        };
        let numbers = [number(7, "eth0"), number(8, "eth1"), number(7, "eth0"), number(7, "renamed")];
        assert_eq!(numbers, [0, 1, 0, 2]);
        assert_eq!(interfaces.all.all().len(), 3);
    }

    #[test]
    fn a_tail_without_the_packets_of_an_interface_is_distinguished_from_the_capture() {
        let error = |slot| not_captured(slot, "eth0", &Error::other("attach to", "eth0", "no")).to_string();
        assert_eq!(error(OWN_SLOT), "cannot capture packets of eth0: cannot attach to eth0: no");
        assert!(error(1).starts_with("cannot capture packets of eth0 for a tail: "));
    }
}
