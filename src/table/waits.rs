//! Waits from outside of the model: which are concerned by which event.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::book::ByPid;
use crate::abi::Pid;
use crate::kernel::{Kernel, Woken};
use crate::sync::Parker;

/// Which children a wait is about, its group as it was when it began (WAIT-17).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Selector {
    Any,
    Pid(u32),
    Pgid(u32),
}

/// The waits that sleep, by their parent and what they are about.
#[derive(Debug, Default)]
pub(super) struct Waits(ByPid<BTreeMap<Selector, Vec<Arc<Parker>>>>);

impl Waits {
    /// A wait is about to sleep.
    pub fn add(&mut self, kernel: &mut Kernel, parent: Pid, about: Selector, parker: Arc<Parker>) {
        kernel.watch(parent, true);
        self.0.entry(parent).or_default().entry(about).or_default().push(parker);
    }

    /// A wait does not sleep any more. Costs a scan of the waits for the same.
    pub fn remove(
        &mut self,
        kernel: &mut Kernel,
        parent: Pid,
        about: Selector,
        parker: &Arc<Parker>,
    ) {
        let Some(of_parent) = self.0.get_mut(&parent) else { return };
        if let Some(list) = of_parent.get_mut(&about) {
            list.retain(|other| !Arc::ptr_eq(other, parker));
            if list.is_empty() {
                of_parent.remove(&about);
            }
        }
        if of_parent.is_empty() {
            self.0.remove(&parent);
            kernel.watch(parent, false);
        }
    }

    /// Those whom an event of a child concerns. Costs those, and O(log selectors).
    pub fn concerned(&self, woken: &Woken) -> Vec<Arc<Parker>> {
        let Some(of_parent) = self.0.get(&woken.parent) else { return Vec::new() };
        let about = [Selector::Any, Selector::Pid(woken.child.0), Selector::Pgid(woken.pgid.0)];
        about.iter().filter_map(|about| of_parent.get(about)).flatten().cloned().collect()
    }

    /// All that wait for children of a process.
    pub fn of_parent(&self, parent: Pid) -> Vec<Arc<Parker>> {
        let Some(of_parent) = self.0.get(&parent) else { return Vec::new() };
        of_parent.values().flatten().cloned().collect()
    }
}
