//! Processes and local sockets as rows. Other tables refer to a process by its number, which stays
//! the same while a run is written.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;

use super::cell::{Count, Cursor, Sums, Wrong};
use super::table::{Rows, read, read_parts};
use crate::process::{
    Attribution, Evidence, FlowUser, LocalSocket, Process, ProcessId, ProcessLosses, ProcessNumber, Processes,
};

/// The numbers of the processes that a report lists, to write references.
#[derive(Debug, Clone, Copy)]
pub enum ProcessNumbers<'p> {
    /// A process is named by its place in this list.
    OfList(&'p [Process]),
    /// The same, but these numbers have no row.
    ListWithout(&'p [Process], &'p HashSet<ProcessNumber>),
    /// A process is named by its number.
    Identity,
}

impl ProcessNumbers<'_> {
    pub(super) fn of(self, id: ProcessId) -> Option<ProcessNumber> {
        match self {
            Self::OfList(list) => list.get(id.0 as usize).map(|process| process.number),
            Self::ListWithout(list, left_out) => Self::OfList(list).of(id).filter(|number| !left_out.contains(number)),
            Self::Identity => Some(id.0),
        }
    }
}

/// The places in the report of the processes that a recording has, to read references.
#[derive(Debug)]
pub(super) struct ProcessIds(HashMap<ProcessNumber, ProcessId>);

impl ProcessIds {
    pub fn new(list: &[Process]) -> Self {
        Self(list.iter().map(|process| process.number).zip((0..).map(ProcessId)).collect())
    }

    /// `None` if the process has no row: an incomplete recording may end before it is written.
    pub fn of(&self, number: ProcessNumber) -> Option<ProcessId> {
        self.0.get(&number).copied()
    }
}

/// Writes processes and local sockets.
pub(super) fn write(db: &Connection, processes: &Processes, numbers: ProcessNumbers<'_>) -> rusqlite::Result<()> {
    let mut rows = Rows::of(db, "process");
    let known = (0..).map(ProcessId).zip(&processes.list).filter(|(id, _)| numbers.of(*id).is_some());
    for (_, process) in known {
        write_one(&mut rows, process, process.parent.and_then(|parent| numbers.of(parent)))?;
    }
    write_local_sockets(db, &processes.local_sockets, numbers)
}

/// Writes a process, and the number of its parent.
pub(super) fn write_one(rows: &mut Rows<'_>, process: &Process, parent: Option<ProcessNumber>) -> rusqlite::Result<()> {
    let Process { number, pid, start_ns, ppid, comm, exe, cmdline, cmdline_cut, uid, .. } = process;
    rows.put(&[number, pid, start_ns, ppid, &parent, comm, exe, cmdline, cmdline_cut, uid])
}

/// Writes local sockets.
pub(super) fn write_local_sockets(
    db: &Connection,
    sockets: &[LocalSocket],
    numbers: ProcessNumbers<'_>,
) -> rusqlite::Result<()> {
    let mut rows = Rows::of(db, "unix_socket");
    for (position, socket) in (0_u64..).zip(sockets) {
        let users: Vec<ProcessNumber> = socket.processes.iter().filter_map(|process| numbers.of(*process)).collect();
        rows.put(&[&position, &socket.path, &socket.connections, &socket.failed, &users, &socket.missing])?;
    }
    Ok(())
}

/// Writes the users of a flow, the surest first.
pub(super) fn write_users(
    rows: &mut Rows<'_>,
    flow: u64,
    users: impl Iterator<Item = FlowUser>,
    numbers: ProcessNumbers<'_>,
) -> rusqlite::Result<()> {
    let known = users.filter_map(|user| Some((numbers.of(user.process)?, user)));
    (0_u64..).zip(known).try_for_each(|(position, (process, FlowUser { evidence, is_maker, .. }))| {
        rows.put(&[&flow, &position, &process, &evidence, &is_maker])
    })
}

/// The numbers of the processes that rows refer to, with their ancestors.
const USED: &str = "WITH RECURSIVE used(number) AS (
    SELECT process FROM flow_user
    UNION SELECT process FROM attempt WHERE process IS NOT NULL
    UNION SELECT value FROM unix_socket, json_each(unix_socket.processes)
    UNION SELECT parent FROM used JOIN process USING (number) WHERE parent IS NOT NULL
)";

/// The numbers of the processes that rows refer to, with their ancestors.
pub fn used(db: &Connection) -> rusqlite::Result<HashSet<ProcessNumber>> {
    let mut statement = db.prepare(&format!("{USED} SELECT number FROM used"))?;
    let rows = statement.query_map((), |row| row.get(0))?;
    rows.collect()
}

/// Removes the processes that no row refers to. Each of them is passed to `removed` first, with
/// the number of its parent.
pub(super) fn remove_unused(
    db: &Connection,
    mut removed: impl FnMut(Process, Option<ProcessNumber>),
) -> Result<(), Wrong> {
    let query = format!("{USED} SELECT * FROM process WHERE number NOT IN (SELECT number FROM used)");
    let mut statement = db.prepare(&query)?;
    let (mut rows, mut sums, mut unused) = (statement.query(())?, Sums::default(), Vec::new());
    while let Some(row) = rows.next()? {
        unused.push(take_one(&mut Cursor::new(row, &mut sums))?);
    }
    let mut remove = db.prepare("DELETE FROM process WHERE number = ?")?;
    for (process, parent) in unused {
        remove.execute([process.number])?;
        removed(process, parent);
    }
    Ok(())
}

/// Reads a process, and the number of its parent.
fn take_one(row: &mut Cursor<'_>) -> Result<(Process, Option<ProcessNumber>), Wrong> {
    let (number, pid, start_ns, ppid) = (row.take()?, row.take()?, row.take()?, row.take()?);
    let parent = row.take()?;
    let (comm, exe, cmdline) = (row.take()?, row.take()?, row.take()?);
    let (cmdline_cut, uid) = (row.take()?, row.take()?);
    Ok((Process { number, pid, start_ns, ppid, parent: None, comm, exe, cmdline, cmdline_cut, uid }, parent))
}

/// Reads processes and local sockets.
pub(super) fn take(db: &Connection, attribution: Attribution, lost: ProcessLosses) -> Result<Processes, Wrong> {
    let (mut list, parents): (Vec<Process>, Vec<_>) = read(db, "process", "number", take_one)?.into_iter().unzip();
    let ids = ProcessIds::new(&list);
    for (process, parent) in list.iter_mut().zip(parents) {
        process.parent = parent.and_then(|parent| ids.of(parent));
    }
    let local_sockets = read(db, "unix_socket", "position", |row| {
        let _position: u64 = row.take()?;
        let path = row.take()?;
        let [connections, failed] = [row.take::<Count>()?, row.take::<Count>()?].map(u64::from);
        let processes = row.take::<Vec<ProcessNumber>>()?.into_iter().filter_map(|number| ids.of(number)).collect();
        let missing = row.take::<Count>()?.into();
        Ok(LocalSocket { path, connections, failed, missing, processes })
    })?;
    Ok(Processes { attribution, list, local_sockets, lost })
}

/// Reads the users of all flows, by the numbers of the flows.
pub(super) fn take_users(db: &Connection, ids: &ProcessIds) -> Result<HashMap<u64, Vec<FlowUser>>, Wrong> {
    let rows = read(db, "flow_user", "1, 2", |row| {
        let (flow, _position): (u64, u64) = (row.take()?, row.take()?);
        let (process, evidence, is_maker): (_, Evidence, _) = (row.take()?, row.take()?, row.take()?);
        Ok((flow, ids.of(process).map(|process| FlowUser { process, evidence, is_maker })))
    })?;
    let mut users: HashMap<u64, Vec<FlowUser>> = HashMap::new();
    for (flow, user) in rows {
        users.entry(flow).or_default().extend(user);
    }
    Ok(users)
}

/// Reads the processes of all endpoints, by the numbers of the endpoints.
pub(super) fn take_of_endpoints(db: &Connection, ids: &ProcessIds) -> Result<HashMap<u64, Vec<ProcessId>>, Wrong> {
    let mut numbers = read_parts::<ProcessNumber>(db, "endpoint_process")?;
    let ids_of = |numbers: Vec<ProcessNumber>| numbers.into_iter().filter_map(|number| ids.of(number)).collect();
    Ok(numbers.drain().map(|(endpoint, numbers)| (endpoint, ids_of(numbers))).collect())
}
