//! What is kept by number.

use alloc::vec::Vec;

use crate::abi::Pid;

const PAGE: usize = 32;

/// Values by number: look-ups are O(1), and only pages with a value take memory.
#[derive(Debug)]
pub(super) struct ByPid<T> {
    pages: Vec<Page<T>>,
    /// The page that was entered last stays when it is empty: the next number is in it.
    newest: usize,
}

#[derive(Debug)]
struct Page<T> {
    used: usize,
    /// As long as the highest number needs it. Those behind the first page have room for all.
    slots: Vec<Option<T>>,
}

impl<T> Page<T> {
    const EMPTY: Page<T> = Page { used: 0, slots: Vec::new() };
}

impl<T> Default for ByPid<T> {
    fn default() -> ByPid<T> {
        ByPid { pages: Vec::new(), newest: 0 }
    }
}

/// The page and the slot in it: 1 is the first number.
#[inline]
fn place(pid: Pid) -> (usize, usize) {
    let nth = pid.0.wrapping_sub(1) as usize;
    (nth / PAGE, nth % PAGE)
}

impl<T> ByPid<T> {
    #[inline]
    pub fn get(&self, pid: Pid) -> Option<&T> {
        let (page, slot) = place(pid);
        self.pages.get(page)?.slots.get(slot)?.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, pid: Pid) -> Option<&mut T> {
        let (page, slot) = place(pid);
        self.pages.get_mut(page)?.slots.get_mut(slot)?.as_mut()
    }

    /// Where the value of a number goes that has none: it is to be written there, not moved.
    pub fn vacant(&mut self, pid: Pid) -> &mut Option<T> {
        let (page, slot) = place(pid);
        if self.pages.len() <= page {
            if self.pages.is_empty() {
                // most tables need no more
                self.pages.reserve_exact(page + 1);
            }
            self.pages.resize_with(page + 1, || Page::EMPTY);
        }
        let before = core::mem::replace(&mut self.newest, page);
        if before != page {
            self.release(before);
        }
        let is_first = page == 0;
        let page = &mut self.pages[page];
        if page.slots.len() <= slot {
            if page.slots.is_empty() {
                // a small table has one page, which grows; in others the rest follows soon
                page.slots.reserve_exact(if is_first { slot + 1 } else { PAGE });
            }
            page.slots.resize_with(slot + 1, || None);
        }
        page.used += 1;
        &mut page.slots[slot]
    }

    pub fn remove(&mut self, pid: Pid) -> Option<T> {
        let (nth, slot) = place(pid);
        let page = self.pages.get_mut(nth)?;
        let value = page.slots.get_mut(slot)?.take()?;
        page.used -= 1;
        if nth != self.newest {
            self.release(nth);
        }
        Some(value)
    }

    /// Gives the memory of an empty page back.
    fn release(&mut self, page: usize) {
        if self.pages[page].used == 0 {
            self.pages[page] = Page::EMPTY;
        }
    }

    /// The numbers that have a value, ascending.
    pub fn pids(&self) -> impl Iterator<Item = Pid> + '_ {
        let slots = self.pages.iter().enumerate().flat_map(|(nth, page)| {
            page.slots.iter().enumerate().map(move |(slot, value)| (nth * PAGE + slot + 1, value))
        });
        slots.filter(|(_, value)| value.is_some()).map(|(number, _)| Pid(number as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_with_a_value_and_the_newest_take_memory() {
        let mut values = ByPid::default();
        for number in 1..1000 {
            *values.vacant(Pid(number)) = Some(number);
            if number % 100 != 0 {
                assert_eq!(values.remove(Pid(number)), Some(number));
                assert_eq!(values.remove(Pid(number)), None);
            }
        }
        assert_eq!(
            values.pids().map(|pid| pid.0).collect::<Vec<_>>(),
            [100, 200, 300, 400, 500, 600, 700, 800, 900]
        );
        assert_eq!(values.get(Pid(300)), Some(&300));
        assert_eq!(values.get_mut(Pid(301)), None);
        let pages = values.pages.iter().filter(|page| page.slots.capacity() > 0);
        assert_eq!(pages.count(), 10);
    }
}
