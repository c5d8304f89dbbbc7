//! The tables of a dashboard: which rows each view has, and their cells.

mod cell;
mod connections;
mod endpoints;
mod failures;
mod lookups;
mod losses;
mod processes;

use std::collections::HashMap;

use super::model::{LiveEndpoint, Model, RemoteKey};

pub use cell::{Cell, Column};
pub use connections::state as state_of_connection;
use failures::FailureRow;
use processes::ProcessSums;

/// The output of the command, line by line.
const OUTPUT_COLUMNS: &[Column] = &[Column::text("OUTPUT", 0, 0)];

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Remotes by protocol and port.
    Endpoints,
    /// Connections.
    Connections,
    /// The tree of processes.
    Processes,
    /// DNS lookups.
    Dns,
    /// Failed attempts.
    Failures,
    /// Lost observations, and notes.
    Losses,
    /// The output of the command, if it has no other terminal.
    Output,
}

impl View {
    /// All views, in the order of their tabs.
    pub const ALL: [Self; 7] =
        [Self::Endpoints, Self::Connections, Self::Processes, Self::Dns, Self::Failures, Self::Losses, Self::Output];

    /// The title of the tab.
    pub fn title(self) -> &'static str {
        match self {
            Self::Endpoints => "Endpoints",
            Self::Connections => "Connections",
            Self::Processes => "Processes",
            Self::Dns => "DNS",
            Self::Failures => "Failures",
            Self::Losses => "Losses",
            Self::Output => "Output",
        }
    }

    /// Its columns.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Endpoints => endpoints::COLUMNS,
            Self::Connections => connections::COLUMNS,
            Self::Processes => processes::COLUMNS,
            Self::Dns => lookups::COLUMNS,
            Self::Failures => failures::COLUMNS,
            Self::Losses => losses::COLUMNS,
            Self::Output => OUTPUT_COLUMNS,
        }
    }

    /// The column that it is sorted by at first, and whether the largest value comes first.
    pub fn default_sort(self) -> (usize, bool) {
        match self {
            Self::Endpoints => endpoints::DEFAULT_SORT,
            Self::Connections => connections::DEFAULT_SORT,
            Self::Processes | Self::Output => (0, false),
            Self::Dns => lookups::DEFAULT_SORT,
            Self::Failures => failures::DEFAULT_SORT,
            Self::Losses => losses::DEFAULT_SORT,
        }
    }
}

/// A row of any table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowId {
    /// An endpoint.
    Endpoint(RemoteKey),
    /// A connection, by its serial number.
    Flow(u64),
    /// A process, by its number.
    Process(u32),
    /// A lookup, by its number.
    Lookup(u64),
    /// A failure, by its place in the list.
    Failure(usize),
    /// A reason of losses, by its place in the list.
    Loss(usize),
    /// A note, by its place in the list.
    Note(usize),
    /// A line of output.
    Line(usize),
}

/// The connections that are listed, where not all are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionScope {
    /// Those of an endpoint.
    Endpoint(RemoteKey),
    /// Those of a process.
    Process(u32),
}

/// The model, and what the rows of a view need beside it.
#[derive(Debug)]
pub struct RowSource<'m> {
    /// The model.
    pub model: &'m Model,
    sums: ProcessSums,
    failures: Vec<FailureRow>,
    shared: SharedNames<'m>,
    view: View,
}

impl<'m> RowSource<'m> {
    /// For the rows of one view.
    pub fn new(model: &'m Model, view: View) -> Self {
        let sums = if view == View::Processes { processes::sums(model) } else { ProcessSums::default() };
        let is_by_endpoint = matches!(view, View::Endpoints | View::Failures);
        let shared = if is_by_endpoint { SharedNames::of(model) } else { SharedNames::default() };
        let failures = if view == View::Failures { failures::failures(model, &shared) } else { Vec::new() };
        Self { model, sums, failures, shared, view }
    }

    /// The rows in the order of this column that contain `filter`, which is in lower case.
    pub fn rows(
        &self,
        scope: Option<ConnectionScope>,
        open_only: bool,
        filter: &str,
        sort: (usize, bool),
    ) -> Vec<RowId> {
        let mut rows = match self.view {
            View::Endpoints => endpoints::rows(self.model),
            View::Connections => connections::rows(self.model, scope, open_only),
            View::Processes => processes::rows(&self.sums),
            View::Dns => lookups::rows(self.model),
            View::Failures => (0..self.failures.len()).map(RowId::Failure).collect(),
            View::Losses => losses::rows(self.model),
            View::Output => (0..self.model.log.len()).map(RowId::Line).collect(),
        };
        if !filter.is_empty() {
            rows.retain(|row| self.contains(*row, filter));
        }
        // The tree and the output have an order of their own.
        if matches!(self.view, View::Processes | View::Output) && sort.0 == 0 {
            return rows;
        }
        let (column, is_descending) = sort;
        rows.sort_by_cached_key(|row| (self.cell(*row, column), *row));
        if is_descending {
            rows.reverse();
        }
        rows
    }

    /// Whether a cell of the row contains this text, which is in lower case.
    pub fn contains(&self, row: RowId, text: &str) -> bool {
        (0..self.view.columns().len()).any(|column| self.cell(row, column).text().to_lowercase().contains(text))
    }

    /// A cell. Empty for a row that is gone.
    pub fn cell(&self, row: RowId, column: usize) -> Cell {
        let cell = match row {
            RowId::Endpoint(key) => endpoints::cell(self.model, &self.shared, &key, column),
            RowId::Flow(id) => connections::cell(self.model, id, column),
            RowId::Process(number) => processes::cell(self.model, &self.sums, number, column),
            RowId::Lookup(number) => lookups::cell(self.model, number, column),
            RowId::Failure(place) => {
                self.failures.get(place).map(|failure| failures::cell(self.model, failure, column))
            }
            RowId::Loss(_) | RowId::Note(_) => losses::cell(self.model, row, column),
            RowId::Line(number) => self.model.log.line(number).map(Cell::Text),
        };
        cell.unwrap_or_default()
    }

    /// The connections that belong to a row.
    pub fn scope_of(&self, row: RowId) -> Option<ConnectionScope> {
        match row {
            RowId::Endpoint(key) => Some(ConnectionScope::Endpoint(key)),
            RowId::Process(number) => Some(ConnectionScope::Process(number)),
            RowId::Failure(place) => self.failures.get(place)?.endpoint.map(ConnectionScope::Endpoint),
            _ => None,
        }
    }

    /// Whether something failed, or was lost, in this row.
    pub fn is_bad(&self, row: RowId) -> bool {
        match row {
            RowId::Endpoint(key) => self.model.endpoints.get(&key).is_some_and(|endpoint| endpoint.failed > 0),
            RowId::Flow(id) => self.model.flows.get(&id).is_some_and(|flow| flow.facts.failed > 0),
            RowId::Lookup(number) => {
                self.model.lookups.get(&number).is_some_and(|lookup| !lookup.facts.errors.is_empty())
            }
            RowId::Failure(_) | RowId::Loss(_) => true,
            RowId::Process(_) | RowId::Note(_) | RowId::Line(_) => false,
        }
    }

    /// Whether nothing more is expected of this row.
    pub fn is_over(&self, row: RowId) -> bool {
        match row {
            RowId::Endpoint(key) => self.model.endpoints.get(&key).is_some_and(|endpoint| endpoint.live == 0),
            RowId::Flow(id) => self.model.flows.get(&id).is_some_and(|flow| flow.facts.ended.is_some()),
            _ => false,
        }
    }
}

/// How many addresses a name has at one service.
#[derive(Debug, Default)]
struct SharedNames<'m>(HashMap<(&'m str, u8, u16, bool, bool), usize>);

impl<'m> SharedNames<'m> {
    fn of(model: &'m Model) -> Self {
        let mut counts = HashMap::new();
        for (key, endpoint) in &model.endpoints {
            if let Some((name, _)) = &endpoint.name {
                *counts.entry(Self::key(name, key)).or_default() += 1;
            }
        }
        Self(counts)
    }

    fn key<'n>(name: &'n str, key: &RemoteKey) -> (&'n str, u8, u16, bool, bool) {
        (name, key.protocol, key.port, key.out, key.loopback)
    }

    /// As [`remote`], with the address before a name that another endpoint of this service has.
    fn remote(&self, endpoint: &LiveEndpoint, key: &RemoteKey) -> String {
        let name = endpoint.name.as_ref();
        match name.filter(|(name, _)| self.0.get(&Self::key(name, key)).is_some_and(|count| *count > 1)) {
            Some((name, _)) => format!("{} {name}", remote(None, key)),
            None => remote(name, key),
        }
    }
}

/// The name of a remote, else its address.
fn remote(name: Option<&(String, String)>, key: &RemoteKey) -> String {
    let shown = name.map_or_else(|| key.remote.to_string(), |(name, _)| name.clone());
    let arrow = if key.out { "" } else { "← " };
    let place = if key.loopback { "lo " } else { "" };
    format!("{place}{arrow}{shown}")
}
