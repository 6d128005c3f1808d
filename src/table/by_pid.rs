//! A map by process number.

use alloc::vec::Vec;

use crate::abi::Pid;

const PAGE: usize = 32;

/// A map by number: look-ups are O(1), and only pages with a value take memory.
#[derive(Debug)]
pub(super) struct ByPid<T> {
    pages: Vec<Page<T>>,
    /// The page of the latest insertion. It stays allocated when it is empty, because the next
    /// number is in it.
    newest: usize,
}

#[derive(Debug)]
struct Page<T> {
    used: usize,
    /// The first page is as long as its highest number needs, the other pages have full length.
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

/// The page of a number and the slot in the page. The first number is 1.
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

    /// The slot for the value of a number that has no value. The caller constructs the value in
    /// place.
    #[inline]
    pub fn vacant(&mut self, pid: Pid) -> &mut Option<T> {
        let (page, slot) = place(pid);
        let has_room = self.pages.get(page).is_some_and(|page| slot < page.slots.len());
        if page != self.newest || !has_room {
            self.make_room(page, slot);
        }
        let page = &mut self.pages[page];
        page.used += 1;
        &mut page.slots[slot]
    }

    #[cold]
    fn make_room(&mut self, page: usize, slot: usize) {
        if self.pages.len() <= page {
            if self.pages.is_empty() {
                // most tables need no more pages
                self.pages.reserve_exact(page + 1);
            }
            self.pages.resize_with(page + 1, || Page::EMPTY);
        }
        let before = core::mem::replace(&mut self.newest, page);
        if before != page {
            self.release(before);
        }
        // a small table has one page, which grows; in a larger table the rest of the page is used
        // soon
        let len = if page == 0 { slot + 1 } else { PAGE };
        let slots = &mut self.pages[page].slots;
        if slots.len() < len {
            if slots.is_empty() {
                slots.reserve_exact(len);
            }
            slots.resize_with(len, || None);
        }
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

    /// Releases the memory of an empty page.
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
