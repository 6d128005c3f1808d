//! The tree on the screen.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

use console::Term;
use proctable::drivers::linux::{Member, ProcessTree};

/// What was drawn last.
pub(super) struct View {
    screen: Term,
    /// The processes that were shown last: the tree is shown again when they have changed.
    seen: Vec<(i32, char, String)>,
}

impl View {
    pub fn new() -> View {
        View { screen: Term::stderr(), seen: Vec::new() }
    }

    /// Shows the tree below what is on the screen, if it has changed. Nothing is erased: the
    /// command writes to the same terminal, and what it wrote is not ours.
    pub fn draw(&mut self, tree: &ProcessTree) -> io::Result<()> {
        let members = tree.members()?;
        let seen = members
            .iter()
            .map(|member| (member.pid, member.state, member.command.clone()))
            .collect();
        if self.seen == seen {
            return Ok(());
        }
        self.seen = seen;
        let mut lines = rows(&members);
        lines.insert(0, HEADER.into());
        if self.screen.is_term() {
            let (height, width) = self.screen.size();
            let room = usize::from(height).saturating_sub(2).max(2);
            let more = lines.len().saturating_sub(room);
            lines.truncate(room);
            if more > 0 {
                lines.push(format!("and {more} more"));
            }
            for line in &mut lines {
                *line = console::truncate_str(line, width.into(), "…").into_owned();
            }
        }
        let text = format!("{}\n\n", lines.join("\n"));
        self.screen.write_str(&String::from_utf8_lossy(&crate::cli::for_screen(text.as_bytes())))
    }
}

const HEADER: &str = "     PID S      CPU COMMAND";

/// A row for each, below its parent and to the right of it.
fn rows(members: &[Member]) -> Vec<String> {
    let mut children: BTreeMap<i32, Vec<&Member>> = BTreeMap::new();
    let is_member = |pid: i32| members.iter().any(|member| member.pid == pid);
    for member in members {
        // whose parent is outside of the tree begins at the left
        let parent = if is_member(member.ppid) { member.ppid } else { 0 };
        children.entry(parent).or_default().push(member);
    }
    for siblings in children.values_mut() {
        // the newest is on top of the stack below
        siblings.sort_by_key(|member| core::cmp::Reverse((member.started, member.pid)));
    }
    let mut rows = Vec::new();
    let mut stack: Vec<(&Member, usize)> = Vec::new();
    let mut push = |stack: &mut Vec<_>, parent: i32, depth: usize| {
        stack.extend(children.remove(&parent).unwrap_or_default().into_iter().map(|m| (m, depth)));
    };
    push(&mut stack, 0, 0);
    while let Some((member, depth)) = stack.pop() {
        rows.push(row(member, depth));
        push(&mut stack, member.pid, depth + 1);
    }
    rows
}

fn row(member: &Member, depth: usize) -> String {
    let seconds = member.cpu_time().as_secs_f64();
    let mut row = format!("{:>8} {} {seconds:>8.2} ", member.pid, member.state);
    // writing into a String does not fail
    let _ = write!(row, "{:indent$}{}", "", member.command, indent = 2 * depth);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(pid: i32, ppid: i32, command: &str) -> Member {
        Member { pid, ppid, command: command.into(), state: 'S', started: pid as u64, ticks: 150 }
    }

    #[test]
    fn each_stands_below_its_parent() {
        let members =
            [member(12, 10, "b"), member(10, 1, "a"), member(13, 12, "c"), member(14, 10, "d")];
        let shown = rows(&members);
        let ends: Vec<&str> = shown.iter().map(|row| &row[20..]).collect();
        assert_eq!(ends, ["a", "  b", "    c", "  d"]);
    }
}
