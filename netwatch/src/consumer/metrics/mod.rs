//! Metrics for Prometheus: a consumer that adds up the events, and an HTTP server that answers with
//! the sums. A scraper that is slow or stuck delays neither the consumer nor the run.

mod families;
mod label;
mod model;
mod request;
mod series;
mod server;
mod sums;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use label::MetricLabel;

use self::model::MetricsModel;
use self::server::MetricsServer;
use super::{Consumer, StreamEnd};
use crate::error::{Error, Result};
use crate::session::{Event, EventKinds};

/// The model, which the consumer changes and the server reads. Both hold it briefly.
type SharedModel = Arc<Mutex<MetricsModel>>;

/// An address that accepts scrapers, before the run starts.
#[derive(Debug)]
pub struct MetricsListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsListener {
    /// Listens on `address`. Port 0 chooses a free port.
    pub fn bind(address: SocketAddr) -> Result<Self> {
        let failed = |error| Error::os("serve metrics on", address.to_string(), error);
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The address, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves metrics while it exists.
#[derive(Debug)]
pub struct Metrics {
    model: SharedModel,
    listener: Option<MetricsListener>,
    server: Option<MetricsServer>,
}

impl Metrics {
    /// Metrics with these labels. The server starts in the thread of the consumer.
    pub fn new(listener: MetricsListener, labels: Vec<MetricLabel>) -> Self {
        let model = Arc::new(Mutex::new(MetricsModel::new(labels)));
        Self { model, listener: Some(listener), server: None }
    }
}

impl Consumer for Metrics {
    fn name(&self) -> &'static str {
        "metrics"
    }

    fn wants(&self) -> EventKinds {
        EventKinds::SESSION
            .with(EventKinds::FLOW_OPENED)
            .with(EventKinds::FLOW_GREW)
            .with(EventKinds::FLOW_ENDED)
            .with(EventKinds::USED_BY)
            .with(EventKinds::INTERVAL)
            .with(EventKinds::STATUS)
    }

    fn start(&mut self) -> Result<()> {
        let Some(MetricsListener { listener, .. }) = self.listener.take() else { return Ok(()) };
        self.server = Some(MetricsServer::start(listener, self.model.clone())?);
        Ok(())
    }

    fn consume(&mut self, events: Vec<Event>) -> Result<()> {
        let mut model = lock(&self.model);
        events.into_iter().for_each(|event| model.apply(event));
        Ok(())
    }

    fn finish(&mut self, _end: &StreamEnd) -> Result<()> {
        Ok(())
    }
}

fn lock(model: &Mutex<MetricsModel>) -> MutexGuard<'_, MetricsModel> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}
