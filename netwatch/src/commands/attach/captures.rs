//! The captures of the interfaces that are metered: that of `-w` and `--packets`, and those of
//! tails. They follow the interfaces as the classifier does.

use std::collections::BTreeMap;

use super::follow::{SharedTargets, lock};
use super::links::LinkKey;
use crate::commands::run::capture::{CaptureHost, StartedCapture, captured};
use crate::commands::run::thread::{PendingWork, in_thread};
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
    interfaces: CaptureInterfaces,
    snaplen: u32,
    expression: Option<String>,
    attached: BTreeMap<LinkKey, TappedLink>,
}

impl LinkCapture {
    /// Attaches to an interface of the calling thread's network namespace. A loopback is not
    /// captured.
    fn attach(&mut self, link: &LinkToTap<'_>) -> Result<()> {
        if link.side == LinkSide::Loopback {
            return Ok(());
        }
        let description = if link.shown == link.name { "an interface that was attached to" } else { link.shown };
        let interface = captured(link.name, description, self.snaplen, self.expression.clone());
        // Before its first packet.
        let number = self.interfaces.add(interface);
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
        let (interfaces, attached) = (CaptureInterfaces::default(), BTreeMap::new());
        self.0.insert(slot, LinkCapture { tap, interfaces, snaplen, expression, attached });
        Ok(())
    }

    /// Attaches one capture to an interface of the calling thread's network namespace.
    pub(super) fn attach_one(&mut self, slot: u16, link: &LinkToTap<'_>) -> Result<()> {
        self.0.get_mut(&slot).map_or(Ok(()), |capture| capture.attach(link))
    }

    /// Attaches all captures to an interface of the calling thread's network namespace.
    pub(super) fn attach(&mut self, link: &LinkToTap<'_>) -> Result<()> {
        self.0.values_mut().try_for_each(|capture| capture.attach(link))
    }

    /// What the reader of a capture needs.
    pub(super) fn started(&self, slot: u16) -> Result<StartedCapture> {
        let capture = self.0.get(&slot).ok_or_else(|| Error::other("start", "the capture", "it was ended"))?;
        let filter_error = capture.tap.filter_error().map(str::to_owned);
        Ok(StartedCapture { maps: capture.tap.maps()?, filter_error, interfaces: capture.interfaces.clone() })
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

/// The targets, for the control loop.
pub(super) struct CapturedTargets(pub SharedTargets);

impl CaptureHost for CapturedTargets {
    async fn start_capture(&mut self, capture: StartCapture, expression: Option<String>) -> Result<StartedCapture> {
        let targets = self.0.clone();
        in_thread("capture", move || lock(&targets).start_capture(capture, expression)).await?
    }

    fn stop_capture(&mut self, slot: u16) -> Result<()> {
        let targets = self.0.clone();
        PendingWork::start("capture", move || lock(&targets).stop_capture(slot)).map(drop)
    }
}
