//! Attaches by netlink: creates a clsact qdisc, and one direct-action filter per hook.

use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{HookProgram, TcHook};
use crate::error::{Error, Result};

/// The filters on one interface. The socket belongs to the interface's namespace, which may differ
/// from that of the current thread.
#[derive(Debug)]
pub(in crate::meter) struct ClsactFilters {
    socket: Socket,
    ifindex: u32,
    /// Whether the qdisc is removed on detach: one that existed before stays.
    created_qdisc: bool,
    /// Filters with a known priority, which are removed one by one if the qdisc stays.
    removable: Vec<(TcHook, u16)>,
}

impl ClsactFilters {
    pub(super) fn new(entries: &[HookProgram<'_>], ifindex: u32) -> io::Result<Self> {
        let socket = connect()?;
        let created_qdisc = match request(&socket, RouteNetlinkMessage::NewQueueDiscipline(qdisc(ifindex)), CREATE) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => false,
            Err(error) => return Err(error),
        };
        let mut attachment = Self { socket, ifindex, created_qdisc, removable: Vec::new() };
        for entry in entries {
            let filter = RouteNetlinkMessage::NewTrafficFilter(filter(entry, ifindex));
            request(&attachment.socket, filter, CREATE)?;
            attachment.removable.extend(entry.priority.map(|priority| (entry.hook, priority)));
        }
        Ok(attachment)
    }

    /// Removes the qdisc and with it the filters, or only the filters if the qdisc existed before.
    /// They are already removed if the interface was deleted.
    pub(super) fn detach(self) -> Result<()> {
        let requests = match self.created_qdisc {
            true => vec![RouteNetlinkMessage::DelQueueDiscipline(qdisc(self.ifindex))],
            false => {
                let address = |&(hook, priority)| filter_address(hook, Some(priority), self.ifindex);
                self.removable.iter().map(address).map(RouteNetlinkMessage::DelTrafficFilter).collect()
            }
        };
        requests.into_iter().try_for_each(|removal| match request(&self.socket, removal, 0) {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)) => {
                Err(Error::os("detach classifier from", format!("interface {}", self.ifindex), error))
            }
            _ => Ok(()),
        })
    }
}

const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Sends one request and waits for its acknowledgment.
fn request(socket: &Socket, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (response, _) = socket.recv_from_full()?;
    let response = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&response).map_err(io::Error::other)?;
    match response.payload {
        NetlinkPayload::Error(error) => error.code.map_or(Ok(()), |_| Err(error.to_io())),
        other => Err(io::Error::other(format!("unexpected response {other:?}"))),
    }
}

fn message(ifindex: u32) -> TcMessage {
    let mut message = TcMessage::default();
    message.header = TcHeader { index: ifindex as i32, ..TcHeader::default() };
    message
}

fn qdisc(ifindex: u32) -> TcMessage {
    let mut message = message(ifindex);
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle { major: 0xffff, minor: 0 };
    message.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    message
}

/// The hook and the priority of a filter. The kernel chooses a priority of 0.
fn filter_address(hook: TcHook, priority: Option<u16>, ifindex: u32) -> TcMessage {
    let minor = match hook {
        TcHook::Ingress => TcHandle::MIN_INGRESS,
        TcHook::Egress => TcHandle::MIN_EGRESS,
    };
    let mut message = message(ifindex);
    message.header.parent = TcHandle { major: TcHandle::CLSACT.major, minor };
    message.header.info = u32::from(priority.unwrap_or(0)) << 16 | u32::from((libc::ETH_P_ALL as u16).to_be());
    message
}

fn filter(entry: &HookProgram<'_>, ifindex: u32) -> TcMessage {
    let mut message = filter_address(entry.hook, entry.priority, ifindex);
    message.attributes.push(TcAttribute::Kind("bpf".to_owned()));
    message.attributes.push(TcAttribute::Options(vec![
        TcOption::Bpf(TcFilterBpfOption::ProgFd(entry.program.as_raw_fd() as u32)),
        TcOption::Bpf(TcFilterBpfOption::ProgName("netwatch".to_owned())),
        TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
    ]));
    message
}
