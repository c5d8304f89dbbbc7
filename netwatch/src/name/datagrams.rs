//! Reads the datagrams of one flow.

use super::event::{HttpRequest, NameEvent};
use super::facts::RequestLine;
use super::sample::NameSample;
use crate::flow::Direction;
use crate::wire::http1::{self, Begins};
use crate::wire::identify::{self, Rtp};
use crate::wire::tls::dtls;
use crate::wire::{Application, Name, quic, text};

/// Maximum number of datagrams of a flow that are read.
const MAX_DATAGRAMS: u32 = 64;

/// State of one flow.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    seen: u32,
    is_done: bool,
    quic: Option<Box<quic::QuicHandshake>>,
    dtls: Option<Box<dtls::DtlsHandshake>>,
    /// One for egress, one for ingress.
    rtp: [Rtp; 2],
}

impl Datagrams {
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    pub fn held(&self) -> usize {
        self.quic.as_ref().map_or(0, |quic| quic.held()) + self.dtls.as_ref().map_or(0, |dtls| dtls.held())
    }

    pub fn observe(&mut self, sample: &NameSample<'_>, out: &mut Vec<NameEvent>) {
        let ports = sample.ports();
        self.seen += 1;
        self.is_done = self.seen >= MAX_DATAGRAMS;
        if self.read_quic(sample.payload, out) || self.read_dtls(sample.payload, out) {
            return;
        }
        if let Some(application) = identify::datagram(sample.payload, ports) {
            out.push(NameEvent::Proven(application, "first_bytes"));
            if application == Application::Ssdp {
                out.extend(request(sample.payload));
            }
            // STUN prepares a path for other protocols.
            self.is_done |= application != Application::Stun;
        } else if self.rtp[usize::from(sample.direction == Direction::Ingress)].observe(sample.payload) {
            out.push(NameEvent::Proven(Application::Rtp, "sequence"));
            self.is_done = true;
        }
    }

    fn read_quic(&mut self, payload: &[u8], out: &mut Vec<NameEvent>) -> bool {
        if self.quic.is_none() && quic::looks_like(payload).is_none() {
            return false;
        }
        let Some(observed) = self.quic.get_or_insert_default().observe(payload) else { return true };
        out.push(NameEvent::Proven(Application::Quic, "header"));
        out.push(NameEvent::Quic(observed.version));
        self.is_done |= observed.chlo_name.is_some() || observed.hello.as_ref().is_some_and(|hello| hello.whole);
        out.extend(observed.hello.map(NameEvent::ClientHello));
        out.extend(observed.chlo_name.map(NameEvent::ChloName));
        true
    }

    fn read_dtls(&mut self, payload: &[u8], out: &mut Vec<NameEvent>) -> bool {
        if !dtls::looks_like(payload) {
            return false;
        }
        out.push(NameEvent::Proven(Application::Dtls, "record"));
        if let Some(hello) = self.dtls.get_or_insert_default().observe(payload) {
            self.is_done |= hello.whole;
            out.push(NameEvent::ClientHello(Box::new(hello)));
        }
        true
    }
}

/// A request in a datagram. SSDP sends it to a multicast group, whose address is in `Host`.
fn request(payload: &[u8]) -> Option<NameEvent> {
    let Begins::Yes(head) = http1::request(payload) else { return None };
    Some(NameEvent::Request(HttpRequest {
        line: RequestLine {
            method: text::escape(head.method, RequestLine::MAX_TARGET),
            target: text::escape(head.target, RequestLine::MAX_TARGET),
        },
        host: head.authority().and_then(Name::new),
        is_proxied: false,
    }))
}
