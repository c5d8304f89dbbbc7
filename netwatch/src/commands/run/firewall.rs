//! Reloads of the host's firewall during a run: the guardian puts netwatch's rules back, and the
//! report notes when the firewall dropped the command's packets, and for how long.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::guardian::GuardianClient;
use crate::host::firewall::RepairedFirewall;

/// What the control loop remembers about the host's firewall.
#[derive(Debug)]
pub(super) struct FirewallState {
    /// End of the set-up, a few milliseconds before the command starts.
    started: Instant,
    /// When the change was noticed after which the guardian now checks the rules.
    checking: Option<Instant>,
    /// The firewall has changed again during the check.
    changed_again: bool,
    /// Chains that netwatch cannot open, as notes of the report.
    blocked: Vec<String>,
    /// When the first of them was noticed.
    blocked_since: Instant,
}

impl FirewallState {
    /// After the set-up, which has reported the chains that it could not open.
    pub(super) fn new(blocked: Vec<String>) -> Self {
        let now = Instant::now();
        Self { started: now, checking: None, changed_again: false, blocked, blocked_since: now }
    }

    /// Lets the guardian check the rules.
    pub(super) fn changed(&mut self, guardian: &GuardianClient) -> Result<()> {
        if self.checking.is_some() {
            self.changed_again = true;
            return Ok(());
        }
        self.checking = Some(Instant::now());
        guardian.repair_firewall()
    }

    /// The guardian has checked the rules. Returns what the report has to note.
    pub(super) fn repaired(
        &mut self,
        repaired: Result<RepairedFirewall>,
        guardian: &GuardianClient,
    ) -> Result<Vec<String>> {
        let noticed = self.checking.take().unwrap_or_else(Instant::now);
        if std::mem::take(&mut self.changed_again) {
            self.changed(guardian)?;
        }
        Ok(self.notes(repaired?, noticed, Instant::now()))
    }

    fn notes(
        &mut self,
        RepairedFirewall { opened, blocked }: RepairedFirewall,
        noticed: Instant,
        now: Instant,
    ) -> Vec<String> {
        let started = self.started;
        let since = |time: Instant| time.saturating_duration_since(started);
        let mut notes = Vec::new();
        if !opened.is_empty() {
            notes.push(format!(
                "the host's firewall was changed {} after the start: {} dropped the command's packets for {}, until \
                 netwatch put its rules back",
                shown(since(noticed)),
                opened.join(", "),
                shown(now.saturating_duration_since(noticed))
            ));
        }
        if self.blocked == blocked {
            return notes;
        }
        let lasted = shown(now.saturating_duration_since(self.blocked_since));
        let ended = self.blocked.iter().filter(|chain| !blocked.contains(chain));
        notes.extend(ended.map(|chain| format!("ended after {lasted}: {chain}")));
        let new = blocked.iter().filter(|chain| !self.blocked.contains(chain));
        notes.extend(new.map(|chain| format!("since {} after the start: {chain}", shown(since(noticed)))));
        (self.blocked, self.blocked_since) = (blocked, noticed);
        notes
    }
}

/// A duration in seconds, with milliseconds.
fn shown(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_when_and_how_long_the_firewall_was_broken() {
        let mut state = FirewallState::new(Vec::new());
        let started = state.started;
        let at = |millis| started + Duration::from_millis(millis);
        let mut notes = |opened: &[&str], blocked: &[&str], noticed, now| {
            let list = |items: &[&str]| items.iter().map(ToString::to_string).collect();
            let repaired = RepairedFirewall { opened: list(opened), blocked: list(blocked) };
            state.notes(repaired, at(noticed), at(now))
        };
        assert_eq!(notes(&[], &[], 1, 2), <[String; 0]>::default());
        let repaired = notes(&["ip filter FORWARD"], &[], 1500, 1620);
        assert!(repaired[0].contains("1.500 s after the start: ip filter FORWARD dropped"), "{repaired:?}");
        assert!(repaired[0].contains("for 0.120 s"), "{repaired:?}");
        assert_eq!(notes(&[], &["X drops"], 2000, 2001), ["since 2.000 s after the start: X drops"]);
        assert_eq!(notes(&[], &["X drops"], 2500, 2501), <[String; 0]>::default(), "noted once");
        assert_eq!(notes(&[], &[], 3000, 3000), ["ended after 1.000 s: X drops"]);
    }
}
