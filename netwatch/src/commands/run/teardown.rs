//! The end of a run: the guardian undoes what the run changed on the host, while the host thread
//! closes what netwatch holds.

use std::pin::pin;
use std::time::Duration;

use super::network::ClosingNetwork;
use super::signals::SignalStream;
use super::thread::in_thread;
use crate::commands::undo_steps;
use crate::error::{Error, Result};
use crate::guardian::GuardianClient;
use crate::terminal::print_message;
use crate::undo::{Exclusive, RunDir, UndoCause};

/// A signal ends the wait for the undo only after this time. Usually the undo takes a few
/// milliseconds; it takes longer when another run holds the lock.
const INTERRUPT_DELAY: Duration = Duration::from_millis(250);

/// Undoes the run and waits for the guardian to exit. A signal ends the wait; then the guardian
/// undoes the run in the background.
pub(super) async fn tear_down(
    mut guardian: GuardianClient,
    mut network: Option<ClosingNetwork>,
    run_dir: &RunDir,
    signals: &SignalStream<'_>,
) -> Result<()> {
    let undo = async {
        if let Some(network) = &mut network {
            network.forwarding_released().await;
        }
        // The outer error: the guardian was killed.
        let undone = match guardian.undo().await {
            Ok(undone) => undone,
            Err(_) => undo_without_guardian(run_dir).await,
        };
        if let Some(network) = &mut network {
            network.wait().await;
        }
        undone
    };
    let mut interrupted = pin!(signals.interrupted_after(INTERRUPT_DELAY));
    let undone = tokio::select! {
        undone = undo => undone,
        () = &mut interrupted => return leave_to_guardian(&guardian, network.as_ref()),
    };
    let finished = tokio::select! {
        finished = guardian.finish() => finished,
        () = interrupted => Err(Error::other("wait for", "the guardian", "interrupted by a signal")),
    };
    undone.and(finished)
}

async fn undo_without_guardian(run_dir: &RunDir) -> Result<()> {
    let path = run_dir.path().to_owned();
    let undo = move || undo_steps().undo_run(&path, UndoCause::Ended, &Exclusive::take()?);
    in_thread("undo", undo).await.flatten()
}

/// The guardian receives the nftables table, because forwarding must be switched back before the
/// table is removed.
fn leave_to_guardian(guardian: &GuardianClient, network: Option<&ClosingNetwork>) -> Result<()> {
    let handed_over = match network.and_then(ClosingNetwork::table) {
        Some(table) => guardian.hold_table(table.socket()),
        None => Ok(()),
    };
    // Last, because standard error may be a pipe that is not read.
    print_message("another run of netwatch holds the lock; the changes of the host are undone in the background");
    handed_over
}
