//! Waits from outside of the model: which are concerned by which event.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

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

impl Selector {
    const LAST: Selector = Selector::Pgid(u32::MAX);
}

/// The waits that sleep, by their parent and what they are about.
#[derive(Debug, Default)]
pub(super) struct Waits(BTreeMap<(Pid, Selector), Vec<Arc<Parker>>>);

impl Waits {
    /// A wait is about to sleep.
    pub fn add(&mut self, kernel: &mut Kernel, parent: Pid, about: Selector, parker: Arc<Parker>) {
        kernel.watch(parent, true);
        self.0.entry((parent, about)).or_default().push(parker);
    }

    /// A wait does not sleep any more. Costs a scan of the waits for the same.
    pub fn remove(
        &mut self,
        kernel: &mut Kernel,
        parent: Pid,
        about: Selector,
        parker: &Arc<Parker>,
    ) {
        let Some(list) = self.0.get_mut(&(parent, about)) else { return };
        list.retain(|other| !Arc::ptr_eq(other, parker));
        if list.is_empty() {
            self.0.remove(&(parent, about));
            if self.of_parent(parent).next().is_none() {
                kernel.watch(parent, false);
            }
        }
    }

    /// Those whom an event of a child concerns. Costs those, and O(log waits).
    pub fn concerned(&self, woken: &Woken) -> impl Iterator<Item = &Arc<Parker>> {
        let about = [Selector::Any, Selector::Pid(woken.child.0), Selector::Pgid(woken.pgid.0)];
        let parent = woken.parent;
        about.into_iter().filter_map(move |about| self.0.get(&(parent, about))).flatten()
    }

    /// All that wait for children of a process.
    pub fn of_parent(&self, parent: Pid) -> impl Iterator<Item = &Arc<Parker>> {
        let range = (parent, Selector::Any)..=(parent, Selector::LAST);
        self.0.range(range).flat_map(|(_, list)| list)
    }
}
