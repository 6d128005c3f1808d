//! Random programs for a terminal.

use alloc::vec::Vec;

use super::draw::{below, one_in};
use crate::abi::Signal;
use crate::kernel::Choose;
use crate::sim::{ModelTerminal, TerminalPrivilege, TerminalStep};
use crate::tty::termios::*;
use crate::tty::{End, FlowAction, Pty, Queue, SetTermios, Termios, Winsize};

/// A random program of at least that number of steps, each drawn from the state after the steps
/// before it. Its calls on a pty of the kernel have the results that they have on the model: what
/// depends on the timing of the kernel's workers is left out.
pub fn terminal_program(
    choose: &mut dyn Choose,
    steps: usize,
    privilege: TerminalPrivilege,
) -> Vec<TerminalStep> {
    let mut terminal = ModelTerminal::new(privilege);
    let mut program = Vec::new();
    while program.len() < steps {
        for step in draw(&terminal, choose) {
            terminal.run(&step);
            program.push(step);
        }
    }
    program
}

/// A byte that a program types or writes.
fn byte(choose: &mut dyn Choose, termios: &Termios) -> u8 {
    const COMMON: &[u8] = b"abcdefgxyzABZ019 _.-\t\n\n\r\x7f\x7f\x15\x17\x08\x1b";
    const RARE: &[u8] = b"\x00\x01\x0b\x0c\x0f\x12\x14\x19\xff\xe9\xdf\xd7\xf7\x80\x83\xa0\xc3\xe2";
    const CONTINUED: &[u8] = b"\x80\x82\xac\xa9\xbf";
    match below(choose, 16) {
        0..=9 => COMMON[below(choose, COMMON.len())],
        10 | 11 => RARE[below(choose, RARE.len())],
        12 => CONTINUED[below(choose, CONTINUED.len())],
        // a special character, most often one that edits
        _ => {
            const EDITING: [usize; 9] =
                [VERASE, VKILL, VEOF, VEOL, VREPRINT, VWERASE, VLNEXT, VEOL2, VLNEXT];
            const OTHER: [usize; 5] = [VINTR, VQUIT, VSUSP, VSTART, VSTOP];
            let entries: &[usize] = if below(choose, 3) < 2 { &EDITING } else { &OTHER };
            termios.cc[entries[below(choose, entries.len())]]
        }
    }
}

fn bytes(choose: &mut dyn Choose, termios: &Termios) -> Vec<u8> {
    const LONG: [usize; 6] = [60, 130, 250, 1000, 2100, 4200];
    // a full queue with EXTPROC is not compared (LD-205)
    if termios.lflag & EXTPROC == 0 && one_in(choose, 60) {
        // no signal characters: how much of a long echo they flush depends on timing (LD-73)
        let len = LONG[below(choose, LONG.len())];
        let letter = b"xy z"[below(choose, 4)];
        return core::iter::repeat_n(letter, len).collect();
    }
    let most = if one_in(choose, 4) { 30 } else { 8 };
    let len = 1 + below(choose, most);
    (0..len).map(|_| byte(choose, termios)).collect()
}

/// Settings that differ in some flags and special characters from `old`.
fn settings(choose: &mut dyn Choose, old: &Termios) -> Termios {
    const INPUT: [u32; 11] =
        [ISTRIP, INLCR, IGNCR, ICRNL, IUCLC, IXON, IXANY, IXOFF, PARMRK, IUTF8, 0o20000];
    const OUTPUT: [u32; 9] = [OPOST, OLCUC, ONLCR, OCRNL, ONOCR, ONLRET, XTABS, 0o4000, 0o400];
    const CONTROL: [u32; 5] = [0o20, 0o100, PARENB, 0o2000, 0o4000];
    const LOCAL: [u32; 14] = [
        ISIG, ICANON, ECHO, ECHOE, ECHOK, ECHONL, NOFLSH, ECHOCTL, ECHOPRT, ECHOKE, IEXTEN,
        EXTPROC, ICANON, ECHO,
    ];
    let mut new = match below(choose, 8) {
        0 => Termios::default(),
        1 => old.raw(),
        _ => *old,
    };
    for _ in 0..below(choose, 4) {
        match below(choose, 8) {
            0 | 1 => new.iflag ^= INPUT[below(choose, INPUT.len())],
            2 | 3 => new.oflag ^= OUTPUT[below(choose, OUTPUT.len())],
            4 if one_in(choose, 4) => new.cflag ^= CONTROL[below(choose, CONTROL.len())],
            4 if one_in(choose, 4) => speeds(choose, &mut new),
            5 => special_character(choose, &mut new),
            _ => new.lflag ^= LOCAL[below(choose, LOCAL.len())],
        }
    }
    if new.lflag & ECHOCTL == 0 {
        // LNEXT would print old contents of the kernel's ring of echoes (LD-207)
        new.lflag &= !ECHOPRT;
    }
    new
}

fn speeds(choose: &mut dyn Choose, termios: &mut Termios) {
    let code = |choose: &mut dyn Choose| {
        let speed = below(choose, 16) as u32;
        match below(choose, 4) {
            0 => speed,
            1 => speed | BOTHER,
            _ => BOTHER,
        }
    };
    termios.cflag = termios.cflag & !(CBAUD | CBAUD << 16) | code(choose) | code(choose) << 16;
    (termios.ispeed, termios.ospeed) =
        (below(choose, 1 << 20) as u32, below(choose, 1 << 20) as u32);
}

fn special_character(choose: &mut dyn Choose, termios: &mut Termios) {
    const ENTRIES: [usize; 14] = [
        VINTR, VQUIT, VERASE, VKILL, VEOF, VSTART, VSTOP, VSUSP, VEOL, VREPRINT, VWERASE, VLNEXT,
        VEOL2, VMIN,
    ];
    const VALUES: &[u8] = b"\x00\x00\x00ax;A\n\r\x03\x04\x11\x13\x7f\xff\t";
    let entry = ENTRIES[below(choose, ENTRIES.len())];
    termios.cc[entry] = match entry {
        // read(2) of the comparison does not wait, and VTIME does not pass
        VMIN => [0, 1, 2, 3, 10, 100][below(choose, 6)],
        _ => VALUES[below(choose, VALUES.len())],
    };
}

fn end(choose: &mut dyn Choose) -> End {
    if one_in(choose, 3) { End::Master } else { End::Slave }
}

/// Whether input that restarts the output and then generates a signal would be in `bytes`: the
/// echo that the restart writes is flushed only if the master has not received it, and this
/// depends on timing (LD-81).
fn depends_on_timing(pty: &Pty, bytes: &[u8]) -> bool {
    let termios = pty.termios();
    let generates = [VINTR, VQUIT, VSUSP];
    // ISTRIP and IUCLC change bytes into others
    let changes = termios.iflag & (ISTRIP | IUCLC) != 0;
    let is = |byte: &u8, entry: &usize| *byte == termios.cc[*entry];
    // a full queue receives its bytes one by one, each with its echo (LD-126)
    let is_nearly_full = pty.waiting(End::Slave) > 4000;
    let restarts =
        termios.iflag & IXON != 0 || pty.has_backlog() || pty.has_echoes() || is_nearly_full;
    let has_signal =
        bytes.iter().any(|byte| changes || generates.iter().any(|entry| is(byte, entry)));
    termios.lflag & ISIG != 0 && termios.lflag & NOFLSH == 0 && restarts && has_signal
}

/// Draws the next steps of a random program; all but the last one are parts of one write.
fn draw(terminal: &ModelTerminal, choose: &mut dyn Choose) -> Vec<TerminalStep> {
    const FULL: usize = 3000;
    let pty = terminal.pty();
    let termios = pty.termios();
    let waiting = [pty.waiting(End::Master), pty.waiting(End::Slave)];
    if waiting[0] > FULL {
        return [TerminalStep::Read(End::Master, 10_000)].into();
    }
    if waiting[1] > FULL && below(choose, 3) > 0 {
        let read = TerminalStep::Read(End::Slave, 10_000);
        let flush = TerminalStep::Flush(End::Slave, Queue::Input);
        return [if one_in(choose, 4) { flush } else { read }].into();
    }
    if terminal.open_slaves() == 0 && !one_in(choose, 4) {
        return [TerminalStep::OpenSlave].into();
    }
    let step = match below(choose, 40) {
        // the input becomes one part, whose echo depends on the sizes of the kernel's buffers
        0..=13 if pty.is_detached() && !one_in(choose, 8) => TerminalStep::OpenSlave,
        0..=13 if pty.is_detached() => {
            TerminalStep::Write(End::Master, b"ab cd\n"[..1 + below(choose, 6)].into())
        }
        0..=13 if waiting[1] < 2 * FULL => {
            let bytes = bytes(choose, termios);
            if depends_on_timing(pty, &bytes) {
                if pty.has_backlog() {
                    // parts of a write would be one part
                    return [TerminalStep::OpenSlave].into();
                }
                return bytes
                    .iter()
                    .map(|byte| TerminalStep::Write(End::Master, [*byte].into()))
                    .collect();
            }
            TerminalStep::Write(End::Master, bytes)
        }
        0..=18 => TerminalStep::Write(End::Slave, bytes(choose, termios)),
        19..=24 => {
            const LENGTHS: [usize; 8] = [0, 1, 2, 3, 5, 64, 200, 10_000];
            TerminalStep::Read(End::Slave, LENGTHS[below(choose, 8)])
        }
        25..=27 => {
            const LENGTHS: [usize; 6] = [1, 2, 3, 64, 200, 10_000];
            TerminalStep::Read(End::Master, LENGTHS[below(choose, 6)])
        }
        28..=33 => {
            let new = settings(choose, termios);
            // what waits for room may be processed with the old or with the new settings
            let flushes = one_in(choose, 6) && !pty.has_backlog();
            let how = if flushes { SetTermios::Flush } else { SetTermios::Now };
            TerminalStep::SetTermios(end(choose), new, how)
        }
        34 => {
            let queue = [Queue::Input, Queue::Output, Queue::Both][below(choose, 3)];
            TerminalStep::Flush(end(choose), queue)
        }
        35 | 36 => {
            const ACTIONS: [FlowAction; 4] = [
                FlowAction::StopOutput,
                FlowAction::StartOutput,
                FlowAction::SendStop,
                FlowAction::SendStart,
            ];
            TerminalStep::Flow(end(choose), ACTIONS[below(choose, 4)])
        }
        37 => TerminalStep::Packet(!one_in(choose, 3)),
        38 => {
            let size = Winsize { rows: below(choose, 3) as u16, cols: 80, ..Winsize::default() };
            TerminalStep::SetWinsize(end(choose), size)
        }
        _ => draw_rare(terminal, choose),
    };
    [step].into()
}

fn draw_rare(terminal: &ModelTerminal, choose: &mut dyn Choose) -> TerminalStep {
    match below(choose, 8) {
        0 => TerminalStep::Insert(end(choose), byte(choose, terminal.pty().termios())),
        1 => {
            let signals = [Signal::INT, Signal::QUIT, Signal::TSTP, Signal::TERM];
            TerminalStep::Signal(i32::from(signals[below(choose, 4)].number()))
        }
        2 if terminal.open_slaves() < 3 => TerminalStep::OpenSlave,
        2..=4 => TerminalStep::CloseSlave,
        5 => TerminalStep::Lock(one_in(choose, 3)),
        6 => TerminalStep::Exclusive(end(choose), one_in(choose, 2)),
        _ => TerminalStep::HangUp(if one_in(choose, 6) { End::Master } else { End::Slave }),
    }
}
