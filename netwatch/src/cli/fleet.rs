//! Flags of `netwatch run` about what it sends to other programs.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum, ValueHint};

use crate::consumer::ipfix::IpfixTarget;
use crate::consumer::metrics::MetricLabel;
use crate::consumer::otlp::{OtlpOptions, OtlpTarget, SpoolOptions};
use crate::settings::MetricsOptions;
use crate::settings::value::{parse_metrics_address, parse_spool_size};

const FLEET: &str = "Metrics and flow records";

#[derive(Debug, Args)]
pub(super) struct FleetArgs {
    /// Serve metrics for Prometheus on a port of the loopback, or on ADDR
    ///
    /// At http://ADDR:PORT/metrics while the command runs, without authentication: on another
    /// address than the loopback, everyone who reaches it can read them. Port 0 chooses a free port
    /// and prints it. `netwatch help metrics` lists the metrics.
    #[arg(
        long,
        value_name = "[ADDR:]PORT",
        value_parser = parse_metrics_address,
        env = "NETWATCH_METRICS",
        help_heading = FLEET
    )]
    metrics: Option<SocketAddr>,

    /// Labels of the metrics about traffic
    ///
    /// name, address and port make as many series as the command has remotes: the 100 with most
    /// bytes have their own, all others are one.
    #[arg(
        long,
        value_name = "LABEL,...",
        value_delimiter = ',',
        default_value = "process,service,protocol",
        env = "NETWATCH_METRICS_LABELS",
        help_heading = FLEET
    )]
    metrics_labels: Vec<LabelArg>,

    /// Export a record of each finished flow: [udp:|tcp:]HOST[:PORT] or file:PATH
    ///
    /// In IPFIX, to a collector, port 4739 by default, or to a new file;
    /// repeatable. A collector that is slow or dead never delays the run: dropped records are
    /// counted in the report. `netwatch help ipfix` describes the records.
    #[arg(
        long,
        value_name = "TARGET",
        value_delimiter = ',',
        value_parser = IpfixTarget::parse,
        env = "NETWATCH_IPFIX",
        help_heading = FLEET
    )]
    pub(super) ipfix: Vec<IpfixTarget>,

    /// Export finished connections and sums to a receiver of OpenTelemetry
    ///
    /// By OTLP over HTTP, port 4318 by default: a log record for each connection, and metrics;
    /// repeatable. A receiver that is slow or dead delays the start and the end of the run by
    /// seconds, never the traffic: dropped records are counted in the report. `netwatch help otlp`
    /// describes the records.
    #[arg(
        long,
        value_name = "http[s]://HOST[:PORT]",
        value_delimiter = ',',
        value_parser = OtlpTarget::parse,
        env = "NETWATCH_OTLP",
        help_heading = FLEET
    )]
    pub(super) otlp: Vec<OtlpTarget>,

    /// Accept receivers of --otlp with certificates of the authorities in FILE (PEM)
    ///
    /// Instead of those of the system, which SSL_CERT_FILE names if it is set.
    #[arg(
        long,
        value_name = "FILE",
        env = "NETWATCH_OTLP_CA",
        value_hint = ValueHint::FilePath,
        help_heading = FLEET
    )]
    otlp_ca: Option<PathBuf>,

    /// Compress what --otlp sends with gzip
    #[arg(long, env = "NETWATCH_OTLP_GZIP", value_parser = FalseyValueParser::new(), help_heading = FLEET)]
    otlp_gzip: bool,

    /// Keep in a folder on disk what receivers of --otlp have not accepted
    ///
    /// Until they do, also in later runs with the same folder, one at a time. What does not fit is
    /// dropped, the oldest first, and counted.
    #[arg(
        long,
        value_name = "DIR",
        env = "NETWATCH_OTLP_SPOOL",
        value_hint = ValueHint::DirPath,
        help_heading = FLEET
    )]
    otlp_spool: Option<PathBuf>,

    /// Maximum size of what waits on disk for one receiver, at least 1M
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "256M",
        value_parser = parse_spool_size,
        env = "NETWATCH_OTLP_SPOOL_SIZE",
        help_heading = FLEET
    )]
    otlp_spool_size: u64,
}

/// A label of the metrics about traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LabelArg {
    /// The program
    Process,
    /// The application protocol, or the service registered for the port
    Service,
    /// tcp, udp and others
    Protocol,
    /// The name of the remote, or its address
    Name,
    /// The address of the remote
    Address,
    /// The port of the server
    Port,
}

impl LabelArg {
    fn label(self) -> MetricLabel {
        match self {
            Self::Process => MetricLabel::Process,
            Self::Service => MetricLabel::Service,
            Self::Protocol => MetricLabel::Protocol,
            Self::Name => MetricLabel::Name,
            Self::Address => MetricLabel::Address,
            Self::Port => MetricLabel::Port,
        }
    }
}

impl FleetArgs {
    /// How receivers of OpenTelemetry are reached.
    pub(super) fn otlp_options(&self) -> OtlpOptions {
        let max_bytes = self.otlp_spool_size;
        let spool = self.otlp_spool.clone().map(|folder| SpoolOptions { folder, max_bytes });
        OtlpOptions { authorities: self.otlp_ca.clone(), compresses: self.otlp_gzip, spool }
    }

    /// The settings of the metrics, if they are wanted.
    pub(super) fn metrics(&self) -> Option<MetricsOptions> {
        let address = self.metrics?;
        let mut labels: Vec<MetricLabel> = Vec::new();
        for label in self.metrics_labels.iter().map(|label| label.label()) {
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        Some(MetricsOptions { address, labels })
    }
}
