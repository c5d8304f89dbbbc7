//! The netlink socket to nf_tables. What it owns goes with it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::attributes::Attributes;
use super::batch::{encode_dump, rules_of};
use super::dump::{ChainInfo, RuleInfo, TableInfo};
use super::wire::*;
use super::{Batch, NftTable};
use crate::error::{Error, Result};

/// A dump that raced with a change is asked for again, this often.
const DUMP_ATTEMPTS: usize = 5;

/// A blocking connection to nf_tables of the network namespace that the thread was in when it was
/// opened.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    sequence: AtomicU32,
}

impl Nft {
    /// Connects.
    pub fn open() -> Result<Self> {
        let fail = |error: io::Error| {
            let missing = error.raw_os_error() == Some(libc::EPROTONOSUPPORT);
            let error = Error::os("open", "netfilter socket", error);
            if missing { error.hint("this kernel has no nfnetlink; load the module nf_tables") } else { error }
        };
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(fail)?;
        socket.bind_auto().map_err(fail)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(fail)?;
        // Without it an error repeats the whole message that failed.
        socket.set_cap_ack(true).map_err(fail)?;
        Ok(Self { socket, sequence: AtomicU32::new(1) })
    }

    /// Makes all changes of the batch, or none and says which failed first.
    pub fn commit(&self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let first = self.sequence.load(Ordering::Relaxed);
        let last = batch.last(first);
        self.sequence.store(last + 2, Ordering::Relaxed);
        self.send(&batch.encode(first))?;
        let mut failed = None;
        // The kernel works in sendmsg and has queued all its answers by now; the one to the last
        // change is always among them, unless the batch was refused as a whole.
        loop {
            for answer in parse_messages(&self.receive()?) {
                let Some(errno) = answer.errno().filter(|_| (first..=last).contains(&answer.sequence)) else {
                    continue;
                };
                if errno != 0 && failed.is_none() {
                    failed = Some((answer.sequence, errno));
                }
                if answer.sequence == last || (answer.sequence == first && self.is_drained()) {
                    return failed.map_or(Ok(()), |(sequence, errno)| Err(describe(batch, first, sequence, errno)));
                }
            }
        }
    }

    /// All tables of inet, ip and ip6.
    pub fn tables(&self) -> Result<Vec<TableInfo>> {
        self.dump(libc::NFT_MSG_GETTABLE, "list nftables tables", None, &Attributes::default(), TableInfo::parse)
    }

    /// All chains of inet, ip and ip6.
    pub fn chains(&self) -> Result<Vec<ChainInfo>> {
        self.dump(libc::NFT_MSG_GETCHAIN, "list nftables chains", None, &Attributes::default(), ChainInfo::parse)
    }

    /// The rules of one table, or of one of its chains. None if there is no such table or chain.
    pub fn rules(&self, table: NftTable<'_>, chain: Option<&str>) -> Result<Vec<RuleInfo>> {
        let selection = rules_of(table, chain);
        self.dump(libc::NFT_MSG_GETRULE, "list nftables rules", Some(table), &selection, RuleInfo::parse)
    }

    fn dump<T>(
        &self,
        kind: i32,
        operation: &str,
        table: Option<NftTable<'_>>,
        selection: &Attributes,
        parse: impl Fn(u8, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        let object = table.map(|table| table.to_string()).unwrap_or_default();
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
            self.send(&encode_dump(kind, table.map(|table| table.family), selection, sequence))?;
            match self.collect(sequence, &parse) {
                Ok(found) => return Ok(found),
                Err(libc::EINTR) => {}
                Err(libc::ENOENT) => return Ok(Vec::new()),
                Err(errno) => return Err(Error::os(operation, object, io::Error::from_raw_os_error(errno))),
            }
        }
        Err(Error::other(operation, object, "the rules changed during every attempt to read them"))
    }

    /// The parts of one dump, or the errno that ended it; EINTR when something changed meanwhile.
    fn collect<T>(&self, sequence: u32, parse: impl Fn(u8, &[u8]) -> Option<T>) -> Result<Vec<T>, i32> {
        let mut found = Vec::new();
        let mut interrupted = false;
        loop {
            let bytes = self.receive_raw().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
            for message in parse_messages(&bytes).filter(|message| message.sequence == sequence) {
                interrupted |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match message.errno() {
                    Some(0) if interrupted => return Err(libc::EINTR),
                    Some(0) => return Ok(found),
                    Some(errno) => return Err(errno),
                    None => {}
                }
                if let Some((header, attributes)) = message.body.split_at_checked(NFGEN_HEADER) {
                    found.extend(parse(header[0], attributes));
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let sent = self.socket.send(bytes, 0).map_err(|error| Error::os("send to", "nf_tables", error))?;
        if sent == bytes.len() { Ok(()) } else { Err(Error::other("send to", "nf_tables", "message cut short")) }
    }

    fn receive(&self) -> Result<Vec<u8>> {
        self.receive_raw().map_err(|error| Error::os("receive from", "nf_tables", error))
    }

    fn receive_raw(&self) -> io::Result<Vec<u8>> {
        self.socket.recv_from_full().map(|(bytes, _)| bytes)
    }

    fn is_drained(&self) -> bool {
        let mut byte = [0u8; 1];
        self.socket.recv(&mut &mut byte[..], libc::MSG_PEEK | libc::MSG_DONTWAIT).is_err()
    }
}

/// One netlink message of an answer.
struct Answer<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Answer<'_> {
    /// The errno of an error or of the end of a dump, 0 for success; `None` for data.
    fn errno(&self) -> Option<i32> {
        let ends = [libc::NLMSG_ERROR as u16, libc::NLMSG_DONE as u16].contains(&self.kind);
        let code = self.body.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        ends.then_some(-code)
    }
}

fn parse_messages(mut bytes: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<NETLINK_HEADER>()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let answer = Answer {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            body: bytes.get(NETLINK_HEADER..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(answer)
    })
}

fn describe(batch: &Batch, first: u32, sequence: u32, errno: i32) -> Error {
    let cause = io::Error::from_raw_os_error(errno);
    let creates = batch.message(first, sequence).is_some_and(|message| !message.operation.starts_with("delete"));
    let error = match batch.message(first, sequence) {
        Some(message) => Error::os(message.operation, message.object.clone(), cause),
        None => Error::os("commit nftables changes", "", cause),
    };
    match errno {
        libc::EPERM => error.hint("needs CAP_NET_ADMIN, or the table belongs to another program"),
        libc::ENOENT | libc::EOPNOTSUPP if creates => {
            error.hint("the kernel lacks a part of nf_tables (nft_chain_nat, nft_ct, nft_fib, nft_masq, nft_redir)")
        }
        _ => error,
    }
}

impl AsFd for Nft {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket owns this descriptor and outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}
