//! The requirements for the HTML page: as rows, and in every format.

use super::rows::{Row, rows};
use super::{Requirements, RuleFormat, RuleOptions, header, text};
use crate::format::html::{PagePort, PagePorts, PortsText};
use crate::report::Report;

/// The requirements of one run, which `run` names on a command line.
pub fn page_ports(report: &Report, run: String, options: &RuleOptions) -> PagePorts {
    let requirements = Requirements::of(&[report], options);
    let written =
        |format: RuleFormat| PortsText { format: format.name().to_owned(), text: text(format, &requirements, options) };
    let rows = rows(&requirements, options);
    let (required, attempted): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.is_required);
    PagePorts {
        title: header::table_title(&requirements),
        required: required.into_iter().map(port).collect(),
        attempted: attempted.into_iter().map(port).collect(),
        texts: RuleFormat::ALL.map(written).into(),
        run,
    }
}

fn port(row: &Row) -> PagePort {
    let service = |protocol: &str| match row.port.as_str() {
        "" => protocol.to_owned(),
        port => format!("{protocol}/{port}"),
    };
    PagePort {
        name: row.name.clone(),
        service: row.protocol.split(", ").map(service).collect::<Vec<_>>().join(", "),
        purpose: row.purpose.to_string(),
        direction: row.direction().to_owned(),
        failures: row.failures.clone(),
        programs: row.programs(),
        addresses: row.addresses.iter().map(|one| format!("{}{}", one.address, row.mark(one))).collect(),
    }
}
