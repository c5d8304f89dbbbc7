//! Remainders as rows: their kind and detail.

use rusqlite::{Connection, Result};

use super::cell::{Cursor, Wrong};
use super::table::{Rows, read};
use crate::flow::{Housekeeping, Malformed, RemainderKind, Remainders, Traffic};

const MALFORMED: [Malformed; 7] = [
    Malformed::Ethernet,
    Malformed::IpVersion,
    Malformed::Ipv4HeaderLength,
    Malformed::IpLength,
    Malformed::IpTruncated,
    Malformed::ExtensionHeader,
    Malformed::TransportTruncated,
];

/// Writes all remainders.
pub(super) fn write(db: &Connection, remainders: &Remainders) -> Result<()> {
    let mut rows = Rows::of(db, "remainder");
    for (traffic, counters) in remainders.details() {
        let Some(kind) = RemainderKind::of(traffic) else { continue };
        let what = match traffic {
            Traffic::NonIp(ethertype) => ethertype.to_string(),
            Traffic::Malformed(reason) => reason.name().to_owned(),
            Traffic::Overflow(protocol) => protocol.to_string(),
            Traffic::Flow(_) | Traffic::Housekeeping(_) => String::new(),
        };
        rows.put(&[&kind.name(), &what, counters])?;
    }
    Ok(())
}

/// Reads all remainders.
pub(super) fn take(db: &Connection) -> std::result::Result<Remainders, Wrong> {
    let rows = read(db, "remainder", "rowid", |row| Ok((traffic(row)?, row.take()?)))?;
    Ok(rows.into_iter().collect())
}

fn traffic(row: &mut Cursor<'_>) -> std::result::Result<Traffic, Wrong> {
    let (kind, what): (String, String) = (row.take()?, row.take()?);
    let housekeeping = |kind| Some(Traffic::Housekeeping(kind));
    let found = match kind.as_str() {
        "non_ip" => what.parse().ok().map(Traffic::NonIp),
        "malformed" => MALFORMED.into_iter().find(|reason| reason.name() == what).map(Traffic::Malformed),
        "overflow" => what.parse().ok().map(Traffic::Overflow),
        "arp" => housekeeping(Housekeeping::Arp),
        "neighbour_discovery" => housekeeping(Housekeeping::NeighborDiscovery),
        "mld" => housekeeping(Housekeeping::Mld),
        "igmp" => housekeeping(Housekeeping::Igmp),
        _ => None,
    };
    found.ok_or_else(|| Wrong::Value(format!("there is no remainder '{kind}' '{what}'").escape_default().to_string()))
}
