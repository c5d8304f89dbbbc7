//! ProcessAction threads were about to do when they were last heard of.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::flow::Protocol;
use crate::process::SocketOperation;

/// Threads of one generation.
const MAX: usize = 8192;

/// The last step of a thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    pub step: SocketOperation,
    pub cookie: u64,
    pub address: Option<SocketAddr>,
    pub protocol: Option<Protocol>,
}

/// By thread, those heard of lately: nobody says when a thread ends, and what it did is of interest only until its call is over.
#[derive(Debug, Default)]
pub(super) struct LastSteps {
    now: HashMap<u32, Last>,
    before: HashMap<u32, Last>,
}

impl LastSteps {
    pub(super) fn note(&mut self, tid: u32, last: Last) {
        if self.now.len() >= MAX && !self.now.contains_key(&tid) {
            self.before = std::mem::take(&mut self.now);
        }
        self.now.insert(tid, last);
    }

    pub(super) fn of(&self, tid: u32) -> Option<Last> {
        self.now.get(&tid).or_else(|| self.before.get(&tid)).copied()
    }
}
