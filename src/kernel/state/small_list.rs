//! A list that is nearly always empty.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

/// A list in one word: no memory while it is empty.
// a Vec takes three words in every process, and a boxed slice two
#[allow(clippy::box_collection)]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SmallList<T>(Option<Box<Vec<T>>>);

impl<T> SmallList<T> {
    pub const fn new() -> SmallList<T> {
        SmallList(None)
    }

    pub fn push(&mut self, element: T) {
        self.0.get_or_insert_default().push(element);
    }

    pub fn pop(&mut self) -> Option<T> {
        let list = self.0.as_mut()?;
        let last = list.pop();
        if list.is_empty() {
            self.0 = None;
        }
        last
    }

    pub fn clear(&mut self) {
        self.0 = None;
    }

    #[cfg(feature = "table")]
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        let Some(list) = &mut self.0 else { return };
        list.retain(keep);
        if list.is_empty() {
            self.0 = None;
        }
    }
}

impl<T> Default for SmallList<T> {
    fn default() -> SmallList<T> {
        SmallList::new()
    }
}

impl<T> Deref for SmallList<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_ref().map_or(&[], |list| list)
    }
}

impl<T> DerefMut for SmallList<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.as_mut().map_or(&mut [], |list| list)
    }
}
