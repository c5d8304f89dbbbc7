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
    /// The change after which the guardian now checks the rules.
    checking: Option<FirewallChange>,
    /// When the firewall has changed again during the check, at the earliest.
    changed_again: Option<Instant>,
    /// Chains that netwatch cannot open, as notes of the report.
    blocked: Vec<String>,
    /// When the first of them was noticed.
    blocked_since: Instant,
}

/// A change of the host's firewall.
#[derive(Debug, Clone, Copy)]
struct FirewallChange {
    /// When it happened, at the earliest.
    since: Instant,
    noticed: Instant,
}

impl FirewallState {
    /// After the set-up, which has reported the chains that it could not open.
    pub(super) fn new(blocked: Vec<String>) -> Self {
        let now = Instant::now();
        Self { started: now, checking: None, changed_again: None, blocked, blocked_since: now }
    }

    /// Lets the guardian check the rules. They were right at `since` for the last time.
    pub(super) fn changed(&mut self, since: Instant, guardian: &GuardianClient) -> Result<()> {
        if self.checking.is_some() {
            self.changed_again = self.changed_again.or(Some(since));
            return Ok(());
        }
        self.checking = Some(FirewallChange { since, noticed: Instant::now() });
        guardian.repair_firewall()
    }

    /// The guardian has checked the rules. Returns what the report has to note.
    pub(super) fn repaired(
        &mut self,
        repaired: Result<RepairedFirewall>,
        guardian: &GuardianClient,
    ) -> Result<Vec<String>> {
        let now = Instant::now();
        let change = self.checking.take().unwrap_or(FirewallChange { since: now, noticed: now });
        if let Some(since) = self.changed_again.take() {
            self.changed(since, guardian)?;
        }
        Ok(self.notes(repaired?, change, now))
    }

    fn notes(
        &mut self,
        RepairedFirewall { opened, blocked }: RepairedFirewall,
        FirewallChange { since: changed, noticed }: FirewallChange,
        now: Instant,
    ) -> Vec<String> {
        let started = self.started;
        let since = |time: Instant| time.saturating_duration_since(started);
        let mut notes = Vec::new();
        if !opened.is_empty() {
            notes.push(format!(
                "the host's firewall had changed {} after the start: {} dropped the command's packets for at most {}, \
                 until netwatch put its rules back",
                shown(since(noticed)),
                opened.join(", "),
                shown(now.saturating_duration_since(changed))
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
        let mut notes = |opened: &[&str], blocked: &[&str], (since, noticed), now| {
            let list = |items: &[&str]| items.iter().map(ToString::to_string).collect();
            let repaired = RepairedFirewall { opened: list(opened), blocked: list(blocked) };
            state.notes(repaired, FirewallChange { since: at(since), noticed: at(noticed) }, at(now))
        };
        assert_eq!(notes(&[], &[], (1, 1), 2), <[String; 0]>::default());
        let repaired = notes(&["ip filter FORWARD"], &[], (1000, 1500), 1620);
        assert!(repaired[0].contains("1.500 s after the start: ip filter FORWARD dropped"), "{repaired:?}");
        assert!(repaired[0].contains("for at most 0.620 s"), "{repaired:?}");
        assert_eq!(notes(&[], &["X drops"], (1900, 2000), 2001), ["since 2.000 s after the start: X drops"]);
        assert_eq!(notes(&[], &["X drops"], (2400, 2500), 2501), <[String; 0]>::default(), "noted once");
        assert_eq!(notes(&[], &[], (3000, 3000), 3000), ["ended after 1.000 s: X drops"]);
    }
}
