//! The interfaces of a capture in progress. Each is added before its first packet is captured, so
//! that the thread of the capture finds the interface of every packet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::capture::CapturedInterface;

/// The interfaces of a capture by their numbers, for those who add them and for its thread.
#[derive(Debug, Clone, Default)]
pub struct CaptureInterfaces(Arc<Mutex<Vec<CapturedInterface>>>);

impl CaptureInterfaces {
    /// With one interface.
    pub fn one(interface: CapturedInterface) -> Self {
        Self(Arc::new(Mutex::new(vec![interface])))
    }

    /// Adds an interface and returns its number.
    pub fn add(&self, interface: CapturedInterface) -> u32 {
        let mut all = self.lock();
        all.push(interface);
        (all.len() - 1) as u32
    }

    /// Those so far.
    pub fn all(&self) -> Vec<CapturedInterface> {
        self.after(0)
    }

    /// Those from this number on.
    pub(super) fn after(&self, number: u32) -> Vec<CapturedInterface> {
        self.lock().get(number as usize..).unwrap_or_default().to_vec()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CapturedInterface>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_have_the_numbers_in_which_they_were_added() {
        let interface = |name: &str| CapturedInterface { name: Some(name.to_owned()), ..Default::default() };
        let interfaces = CaptureInterfaces::one(interface("eth0"));
        assert_eq!(interfaces.clone().add(interface("eth1")), 1);
        assert_eq!(interfaces.all().len(), 2);
        assert_eq!(interfaces.after(1)[0].name.as_deref(), Some("eth1"));
        assert!(interfaces.after(2).is_empty() && interfaces.after(3).is_empty());
    }
}
