//! What a run sends to other programs: metrics, flow records, a log file of events. Everything is
//! opened before the run starts; the consumers are attached when the command has started.

use std::os::fd::{AsRawFd, RawFd};

use super::metering::{Metering, OnFailure};
use crate::consumer::events::EventLines;
use crate::consumer::ipfix::{Ipfix, IpfixDestination};
use crate::consumer::metrics::{Metrics, MetricsListener};
use crate::consumer::otlp::{Otlp, OtlpReceiver, OtlpTarget};
use crate::error::{Error, Result};
use crate::settings::{EventFile, EventStyle, MetricsOptions, SessionSettings};
use crate::target::user::Identity;
use crate::terminal::{RotatedFile, print_message};

/// What was opened.
#[derive(Debug, Default)]
pub(in crate::commands) struct Exports {
    metrics: Option<Metrics>,
    ipfix: Vec<IpfixDestination>,
    otlp: Vec<OtlpReceiver>,
    events: Option<(RotatedFile, EventFile)>,
}

impl Exports {
    /// Listens for scrapers, finds collectors, and creates files with the rights of their owner.
    pub(in crate::commands) fn open(settings: &SessionSettings, owner: &Identity) -> Result<Self> {
        let metrics = settings.metrics.as_ref().map(|options| metrics(options, settings)).transpose()?;
        let owner = (owner.uid, owner.gid);
        let open = |target| IpfixDestination::open(target, owner);
        let ipfix = settings.ipfix.iter().map(open).collect::<Result<_>>()?;
        require_once(&settings.otlp)?;
        let find = |target| OtlpReceiver::find(target, &settings.otlp_options, owner);
        let otlp = settings.otlp.iter().map(find).collect::<Result<_>>()?;
        let open = |file: &EventFile| Ok((RotatedFile::open(&file.path, owner, file.rotation)?, file.clone()));
        let events = settings.event_file.as_ref().map(open).transpose()?;
        Ok(Self { metrics, ipfix, otlp, events })
    }

    /// Descriptors of files that are locked against other runs.
    pub(in crate::commands) fn locked(&self) -> Vec<RawFd> {
        let spools = self.otlp.iter().filter_map(OtlpReceiver::locked);
        self.events.iter().map(|(file, _)| file.as_raw_fd()).chain(spools).collect()
    }

    /// Attaches the consumers.
    pub(in crate::commands) fn attach(self, metering: &mut Metering, run_id: &str) {
        if let Some(metrics) = self.metrics {
            metering.attach(metrics, OnFailure::Print);
        }
        // The id is a number of 32 bits in hexadecimal digits.
        let domain = u32::from_str_radix(run_id, 16).unwrap_or_default();
        for destination in self.ipfix {
            metering.attach(Ipfix::new(destination, domain), OnFailure::Print);
        }
        for receiver in self.otlp {
            metering.attach(Otlp::new(receiver), OnFailure::Print);
        }
        if let Some((out, file)) = self.events {
            let lines = EventLines::new(out, file.style == EventStyle::Json).to(&file.path);
            metering.attach(lines, OnFailure::Print);
        }
    }
}

/// Refuses a receiver that is named twice: each would get every record twice, and both would need
/// the same spool.
fn require_once(targets: &[OtlpTarget]) -> Result<()> {
    let repeated = targets.iter().enumerate().find(|(at, target)| targets[..*at].contains(target));
    repeated.map_or(Ok(()), |(_, target)| {
        let error = Error::other("export connections to", target.to_string(), "it is named twice");
        Err(error.hint("name each receiver once with --otlp"))
    })
}

/// Listens for scrapers. Prints the address if it was chosen here, unless standard error is a
/// document.
fn metrics(options: &MetricsOptions, settings: &SessionSettings) -> Result<Metrics> {
    let listener = MetricsListener::bind(options.address)?;
    if !settings.is_document() && (settings.verbose || options.address.port() == 0) {
        print_message(&format!("metrics at http://{}/metrics", listener.address()));
    }
    Ok(Metrics::new(listener, options.labels.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_named_once() {
        let targets = ["http://a", "http://b", "http://a:4318/"].map(|url| OtlpTarget::parse(url).expect("a URL"));
        assert!(require_once(&targets[..2]).is_ok());
        let error = require_once(&targets).expect_err("twice").to_string();
        assert!(error.contains("http://a:4318: it is named twice"), "{error}");
    }
}
