//! Finds the process that listens on a port, for the error that the port is in use. Best effort:
//! reads `/proc`.

use std::fs;

use super::PublishProtocol;

/// `TCP_LISTEN`, and `TCP_CLOSE` as the state of a UDP socket that is bound and not connected.
const LISTENS: [&str; 2] = ["0A", "07"];

/// `nginx (pid 812)`, or a description if the process cannot be found.
pub fn holder(protocol: PublishProtocol, port: u16) -> Option<String> {
    // /proc/net belongs to the process; the thread may be in another namespace.
    let inode = ["", "6"].into_iter().find_map(|suffix| {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{protocol}{suffix}")).ok()?;
        listening_inode(&table, port)
    })?;
    Some(process_with(inode).unwrap_or_else(|| "a process in another pid namespace".into()))
}

/// The inode of the first socket in the table that accepts new peers on this port.
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (local.ends_with(&suffix) && LISTENS.contains(state)).then(|| inode.parse().ok())?
    })
}

fn process_with(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        open.any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())).then(|| {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            format!("{} (pid {pid})", name.trim_end())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0 100
   2: 00000000:0050 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 13 2 0 0
";

    #[test]
    fn finds_only_sockets_that_accept_new_peers() {
        assert_eq!(listening_inode(TABLE, 8080), Some(12));
        assert_eq!(listening_inode(TABLE, 80), Some(13));
        assert_eq!(listening_inode(TABLE, 40000), None);
        assert_eq!(listening_inode("", 80), None);
    }

    #[test]
    fn names_the_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = holder(PublishProtocol::Tcp, listener.local_addr().unwrap().port()).unwrap();
        assert!(found.ends_with(&format!("(pid {})", std::process::id())), "{found}");
    }
}
