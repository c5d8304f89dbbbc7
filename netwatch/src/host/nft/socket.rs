//! The netlink socket to nf_tables. The kernel removes the tables that it owns when it is closed.

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
use crate::host::netlink::{MessageHeader, messages};

/// Maximum number of attempts to get a dump that no change interrupted.
const DUMP_ATTEMPTS: usize = 5;

/// A blocking connection to nf_tables, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    sequence: AtomicU32,
}

impl Nft {
    /// Opens the connection.
    pub fn open() -> Result<Self> {
        let fail = |error: io::Error| {
            let missing = error.raw_os_error() == Some(libc::EPROTONOSUPPORT);
            let error = Error::os("open", "netfilter socket", error);
            if missing { error.hint("this kernel has no nfnetlink; load the module nf_tables") } else { error }
        };
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(fail)?;
        socket.bind_auto().map_err(fail)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(fail)?;
        // Without this, an error contains the whole message that failed.
        socket.set_cap_ack(true).map_err(fail)?;
        Ok(Self { socket, sequence: AtomicU32::new(1) })
    }

    /// Commits all changes of the batch, or none; the error names the first that failed.
    pub fn commit(&self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let first = self.sequence.load(Ordering::Relaxed);
        let last = batch.last(first);
        self.sequence.store(last + 2, Ordering::Relaxed);
        self.send(&batch.encode(first))?;
        let mut failed = None;
        // The kernel processes the batch in sendmsg and has queued all replies by now; the one to
        // the last change is always among them, unless the batch was refused as a whole.
        loop {
            for (header, body) in messages(&self.receive()?) {
                let sequence = header.sequence;
                let Some(errno) = errno(header, body).filter(|_| (first..=last).contains(&sequence)) else {
                    continue;
                };
                if errno != 0 && failed.is_none() {
                    failed = Some((sequence, errno));
                }
                if sequence == last || (sequence == first && self.is_drained()) {
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

    /// The rules of one table, or of one of its chains. Empty if there is no such table or chain.
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

    /// The objects of one dump, or the errno that ended it; EINTR when a change interrupted it.
    fn collect<T>(&self, sequence: u32, parse: impl Fn(u8, &[u8]) -> Option<T>) -> Result<Vec<T>, i32> {
        let mut found = Vec::new();
        let mut interrupted = false;
        loop {
            let bytes = self.receive_raw().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
            for (header, body) in messages(&bytes).filter(|(header, _)| header.sequence == sequence) {
                interrupted |= header.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match errno(header, body) {
                    Some(0) if interrupted => return Err(libc::EINTR),
                    Some(0) => return Ok(found),
                    Some(errno) => return Err(errno),
                    None => {}
                }
                if let Some((header, attributes)) = body.split_at_checked(NFGEN_HEADER) {
                    found.extend(parse(header[0], attributes));
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let sent = self.socket.send(bytes, 0).map_err(|error| Error::os("send to", "nf_tables", error))?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(Error::other("send to", "nf_tables", "the message was truncated"))
        }
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

/// The errno of an error or of the end of a dump, 0 for success; `None` for data.
fn errno(header: MessageHeader, body: &[u8]) -> Option<i32> {
    let is_end = [libc::NLMSG_ERROR as u16, libc::NLMSG_DONE as u16].contains(&header.kind);
    let code = body.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    is_end.then_some(-code)
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
