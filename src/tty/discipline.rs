//! The line discipline: what a terminal does with each byte of its input (`n_tty`).

use alloc::vec::Vec;

use super::Event;
use super::echo::EchoRing;
use super::fault::TerminalFault;
use super::latin1;
use super::output::Output;
use super::queue::{self, InputQueue};
use super::termios::{
    DISABLED, ECHO, ECHOCTL, ECHOE, ECHOK, ECHOKE, ECHONL, ECHOPRT, EXTPROC, ICANON, ICRNL, IEXTEN,
    IGNCR, INLCR, ISIG, ISTRIP, IUCLC, IUTF8, IXANY, IXON, NOFLSH, OPOST, PARMRK, Termios, VEOF,
    VEOL, VEOL2, VERASE, VINTR, VKILL, VLNEXT, VQUIT, VREPRINT, VSTART, VSTOP, VSUSP, VWERASE,
};
use crate::abi::Signal;

/// Packet mode: the queue of input was flushed.
pub const TIOCPKT_FLUSHREAD: u8 = 0x01;
/// Packet mode: the output was flushed.
pub const TIOCPKT_FLUSHWRITE: u8 = 0x02;
/// Packet mode: output stopped.
pub const TIOCPKT_STOP: u8 = 0x04;
/// Packet mode: output restarted.
pub const TIOCPKT_START: u8 = 0x08;
/// Packet mode: START and STOP no longer have their usual meaning.
pub const TIOCPKT_NOSTOP: u8 = 0x10;
/// Packet mode: START and STOP have their usual meaning.
pub const TIOCPKT_DOSTOP: u8 = 0x20;
/// Packet mode: settings changed, with EXTPROC.
pub const TIOCPKT_IOCTL: u8 = 0x40;

/// The number of bytes that the master's discipline holds for its reader (LD-123).
pub(super) const MASTER_BUFFER: usize = queue::SIZE - 1;

/// A set of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct ByteSet([u64; 4]);

impl ByteSet {
    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn contains(self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & 1 << (byte & 63) != 0
    }
}

/// Why the output is stopped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Flow {
    /// Nothing is written.
    pub is_stopped: bool,
    /// TCOOFF stopped the output: only TCOON restarts it (LD-154).
    pub by_ioctl: bool,
}

/// The characters that KILL, ERASE and WERASE remove.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Erase {
    Character,
    Word,
    Line,
}

/// The slave end of a pty: its settings, its input, its output up to the master's reader.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Discipline {
    pub termios: Termios,
    pub input: InputQueue,
    pub output: Output,
    echo: EchoRing,
    pub flow: Flow,
    /// The bytes that have a meaning in the present settings (`char_map`).
    special: ByteSet,
    /// No byte has a meaning, and there is no echo.
    is_raw: bool,
    /// The next byte is quoted (LD-47).
    is_quoting: bool,
    /// The echo of an erasure with [`ECHOPRT`] is open (LD-68).
    is_erasing: bool,
    /// The number of bytes of the coming input in which START and STOP have been obeyed (LD-159).
    looked_ahead: usize,
    /// The queue of input was full when input came.
    pub is_full: bool,
    /// The slave was hung up and has not been opened since: input waits.
    pub is_detached: bool,
    /// The pending status of packet mode; `None` without packet mode.
    pub packet: Option<u8>,
    /// The most bytes of output that wait for the master.
    output_limit: usize,
    /// How many bytes of output there were before the present burst of input: what a burst writes
    /// reaches the master's discipline after it.
    before_burst: Option<usize>,
    pub events: Vec<Event>,
    /// A rule that is broken on purpose.
    #[cfg(feature = "faults")]
    pub fault: Option<TerminalFault>,
}

impl Discipline {
    pub fn new(output_limit: usize) -> Discipline {
        let mut new = Discipline {
            termios: Termios::default(),
            input: InputQueue::default(),
            output: Output::default(),
            echo: EchoRing::default(),
            flow: Flow::default(),
            special: ByteSet::default(),
            is_raw: false,
            is_quoting: false,
            is_erasing: false,
            looked_ahead: 0,
            is_full: false,
            is_detached: false,
            packet: None,
            output_limit: MASTER_BUFFER + output_limit,
            before_burst: None,
            events: Vec::new(),
            #[cfg(feature = "faults")]
            fault: None,
        };
        new.note_special();
        new
    }

    /// Records an event, unless it is in the list: the list of a runtime that takes no events does
    /// not grow.
    pub fn event(&mut self, event: Event) {
        if !self.events.contains(&event) {
            self.events.push(event);
        }
    }

    #[inline]
    pub fn has_fault(&self, fault: TerminalFault) -> bool {
        #[cfg(feature = "faults")]
        return self.fault == Some(fault);
        #[cfg(not(feature = "faults"))]
        {
            let _ = fault;
            false
        }
    }

    fn local(&self, flag: u32) -> bool {
        self.termios.local(flag)
    }

    fn input_flag(&self, flag: u32) -> bool {
        self.termios.input(flag)
    }

    fn is(&self, byte: u8, entry: usize) -> bool {
        self.termios.cc[entry] == byte
    }

    // Settings

    /// Changes the settings (`pty_set_termios`, `n_tty_set_termios`).
    pub fn set_termios(&mut self, new: Termios) {
        let old = core::mem::replace(&mut self.termios, new.enforced());
        self.note_packet_settings(&old);
        if self.is_detached {
            return self.note_special();
        }
        if (old.lflag ^ new.lflag) & (ICANON | EXTPROC) != 0 {
            if self.has_fault(TerminalFault::ModeChangeDropsLine) && old.local(ICANON) {
                self.input.truncate_unfinished(0);
            }
            self.input.set_mode(new.local(ICANON));
            self.is_erasing = false;
            self.is_quoting = false; // LD-49
        }
        self.note_special();
        if old.input(IXON) && !new.input(IXON) && !self.flow.by_ioctl {
            self.start(); // LD-153
            self.process_echoes();
        }
        self.event(Event::InputReady);
        self.event(Event::OutputReady);
    }

    fn note_packet_settings(&mut self, old: &Termios) {
        let is_external = old.local(EXTPROC) || self.local(EXTPROC);
        let flow = self.termios.has_standard_flow_control();
        if flow != old.has_standard_flow_control() {
            let status = if flow { TIOCPKT_DOSTOP } else { TIOCPKT_NOSTOP };
            self.note_packet(TIOCPKT_DOSTOP | TIOCPKT_NOSTOP, status); // LD-176
        }
        if is_external {
            self.note_packet(0, TIOCPKT_IOCTL); // LD-177
        }
    }

    fn note_packet(&mut self, clear: u8, set: u8) {
        if let Some(status) = &mut self.packet {
            *status = *status & !clear | set;
            self.event(Event::OutputWritten);
        }
    }

    /// The bytes that are not only stored and echoed.
    fn note_special(&mut self) {
        let termios = &self.termios;
        let mut special = ByteSet::default();
        if termios.input(IGNCR | ICRNL) {
            special.insert(b'\r');
        }
        if termios.input(INLCR) || termios.local(ICANON) {
            special.insert(b'\n');
        }
        let mut insert = |entries: &[usize]| {
            entries.iter().for_each(|entry| special.insert(termios.cc[*entry]));
        };
        if termios.local(ICANON) {
            insert(&[VERASE, VKILL, VEOF, VEOL]);
            if termios.local(IEXTEN) {
                insert(&[VWERASE, VLNEXT, VEOL2]);
                if termios.local(ECHO) {
                    insert(&[VREPRINT]); // LD-45
                }
            }
        }
        if termios.input(IXON) {
            insert(&[VSTART, VSTOP]);
        }
        if termios.local(ISIG) {
            insert(&[VINTR, VQUIT, VSUSP]);
        }
        special.0[0] &= !1; // LD-03
        self.special = special;
        let processes = ISTRIP | IUCLC | IGNCR | ICRNL | INLCR | IXON | PARMRK;
        self.is_raw = !termios.input(processes) && !termios.local(ICANON | ISIG | ECHO);
    }

    /// The discipline begins anew, with the default settings (LD-194, `tty_ldisc_hangup`).
    pub fn hang_up(&mut self) {
        self.flush_output();
        let output_limit = self.output_limit - MASTER_BUFFER;
        let new = Discipline::new(output_limit);
        let old = core::mem::replace(self, new);
        self.output.bytes = old.output.bytes;
        self.flow = old.flow;
        self.is_detached = true;
        self.packet = old.packet.map(|_| 0);
        self.events = old.events;
        #[cfg(feature = "faults")]
        {
            self.fault = old.fault;
        }
    }

    // Flow control

    /// Stops the output (`__stop_tty`).
    pub fn stop(&mut self) {
        if !self.flow.is_stopped {
            self.flow.is_stopped = true;
            self.note_packet(TIOCPKT_START, TIOCPKT_STOP); // LD-175
        }
    }

    /// Restarts the output unless TCOOFF has stopped it (`__start_tty`).
    pub fn start(&mut self) {
        if self.flow.is_stopped && !self.flow.by_ioctl {
            self.flow.is_stopped = false;
            self.note_packet(TIOCPKT_STOP, TIOCPKT_START); // LD-175
            self.event(Event::OutputReady);
        }
    }

    fn limit(&self) -> usize {
        if self.flow.is_stopped { 0 } else { self.output_limit }
    }

    /// The number of bytes that may be written now.
    pub fn room(&self) -> usize {
        self.limit().saturating_sub(self.output.bytes.len())
    }

    fn has_flow_control(&self, byte: u8) -> bool {
        self.is(byte, VSTART) || self.is(byte, VSTOP)
    }

    /// Obeys START and STOP; returns whether the byte is one of them.
    fn receive_flow_control(&mut self, byte: u8, is_done: bool) -> bool {
        if !self.has_flow_control(byte) {
            return false;
        }
        if is_done {
            // obeyed when the byte was looked at
        } else if self.is(byte, VSTART) {
            self.start(); // LD-54
            self.process_echoes();
        } else {
            self.stop(); // LD-149
        }
        true
    }

    /// Obeys START and STOP in input for which there is no room yet (LD-159).
    pub fn look_ahead(&mut self, bytes: impl Iterator<Item = u8>) {
        if self.is_detached {
            return;
        }
        for byte in bytes {
            self.looked_ahead = self.looked_ahead.wrapping_add(1);
            if self.input_flag(IXON) {
                self.receive_flow_control(byte, false);
            }
        }
    }

    // Output

    /// Writes as a program does, and returns the number of bytes for which there was room
    /// (`n_tty_write`).
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        self.process_echoes(); // LD-74
        self.continue_write(bytes)
    }

    /// Continues a write that had to wait. Echoes stay where they are (LD-155).
    pub fn continue_write(&mut self, bytes: &[u8]) -> usize {
        self.output.reserve(bytes.len(), self.output_limit);
        let before = self.output.bytes.len();
        let mut written = 0;
        if self.termios.output(OPOST) {
            while written < bytes.len() {
                let rest = &bytes[written..bytes.len().min(written + self.room())];
                written += self.output.put_unchanged(rest, &self.termios);
                let column = self.output.column;
                let room = self.room();
                let Some(&byte) = bytes.get(written) else { break };
                if !self.output.put_processed(byte, &self.termios, room) {
                    break;
                }
                if byte == b'\n' && self.has_fault(TerminalFault::ColumnIgnoresNewline) {
                    self.output.column = column;
                }
                written += 1;
            }
        } else {
            written = bytes.len().min(self.room());
            self.output.bytes.extend(&bytes[..written]);
        }
        self.note_written(before);
        written
    }

    /// Writes a byte without processing, ahead of everything that waits (LD-156).
    pub fn send_urgent(&mut self, byte: u8) {
        let was_stopped = self.flow.is_stopped;
        self.start();
        if self.room() > 0 {
            self.output.put(byte);
            self.event(Event::OutputWritten);
        }
        if was_stopped {
            self.stop();
        }
    }

    fn note_written(&mut self, before: usize) {
        if self.output.bytes.len() != before {
            self.event(Event::OutputWritten);
        }
    }

    /// Removes the output that the master's discipline does not hold (LD-81).
    pub fn flush_output(&mut self) {
        let carried = self.before_burst.unwrap_or(MASTER_BUFFER).min(MASTER_BUFFER);
        self.output.bytes.truncate(carried);
        self.note_packet(0, TIOCPKT_FLUSHWRITE); // LD-173
        self.event(Event::OutputReady);
    }

    /// Removes the input (`n_tty_flush_buffer`).
    pub fn flush_input(&mut self) {
        self.reset_input();
        self.note_packet(0, TIOCPKT_FLUSHREAD); // LD-173
    }

    /// `reset_buffer_flags`.
    fn reset_input(&mut self) {
        self.input.clear();
        self.is_erasing = false;
        self.looked_ahead = 0;
    }

    // Echo

    fn write_echoes(&mut self) {
        let before = self.output.bytes.len();
        let limit = self.limit();
        self.output.reserve(self.echo.len(), self.output_limit);
        self.output.put_echoes(&mut self.echo, &self.termios, limit);
        self.note_written(before);
    }

    /// Whether echoes wait for room in the output.
    pub fn has_echoes(&self) -> bool {
        !self.echo.is_empty()
    }

    fn process_echoes(&mut self) {
        if self.echo.commit_marked() {
            self.write_echoes();
        }
    }

    fn mark_echoes(&mut self) {
        if self.echo.mark() {
            self.write_echoes();
        }
    }

    fn flush_echoes(&mut self) {
        if self.local(ECHO | ECHONL) && self.echo.commit_all() {
            self.write_echoes();
        }
    }

    fn echo_char(&mut self, byte: u8) {
        if self.local(ECHOCTL) && latin1::is_control(byte) && byte != b'\t' {
            let shift = u8::from(self.has_fault(TerminalFault::EchoctlOffByOne));
            self.echo.control(byte ^ shift); // LD-56
        } else {
            self.echo.raw(byte);
        }
    }

    fn finish_erasing(&mut self) {
        if self.is_erasing {
            self.echo.raw(b'/'); // LD-68
            self.is_erasing = false;
        }
    }

    /// Echoes an ordinary byte of input.
    fn echo_input(&mut self, byte: u8) {
        if self.input.is_at_line_start() {
            self.echo.set_canonical_column(); // LD-64
        }
        self.echo_char(byte);
    }

    // Input

    /// Receives as many bytes as there is room for, and returns their number
    /// (`n_tty_receive_buf_common`). Only `bytes` of one burst come in one call.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        if self.is_detached {
            return 0;
        }
        let mut received = 0;
        loop {
            let mut room = queue::SIZE as isize - self.input.len() as isize;
            if self.input_flag(PARMRK) {
                room = (room + 2).div_euclid(3); // LD-128
            }
            room -= 1;
            self.is_full = false;
            if room <= 0 {
                let overflows = self.local(ICANON) && self.input.has_no_line();
                if overflows && room < 0 {
                    self.input.remove_last(); // LD-125
                }
                room = isize::from(overflows); // LD-126
                self.is_full = !overflows; // LD-127
            }
            let rest = &bytes[received..];
            let len = rest.len().min(room as usize);
            if len == 0 {
                return received;
            }
            self.receive_burst(&rest[..len]);
            received += len;
        }
    }

    fn receive_burst(&mut self, bytes: &[u8]) {
        let looked = self.looked_ahead.min(bytes.len());
        let preprocesses = self.input_flag(ISTRIP) || self.input_flag(IUCLC) && self.local(IEXTEN);
        if self.is_raw || self.local(EXTPROC) && !preprocesses {
            self.input.extend(bytes);
        } else {
            self.before_burst = Some(self.output.bytes.len());
            for (nth, byte) in bytes.iter().enumerate() {
                self.receive_byte(*byte, nth < looked);
            }
            self.flush_echoes(); // LD-73
            self.before_burst = None;
        }
        // a flush has set the number to 0, and then it wraps: START and STOP are ignored from now
        // on, until the next flush (LD-206)
        self.looked_ahead = self.looked_ahead.wrapping_sub(looked);
        if self.termios.reads_lines() {
            return;
        }
        self.input.commit();
        if self.input.len() > 0 {
            self.event(Event::InputReady);
        }
    }

    fn receive_byte(&mut self, byte: u8, is_looked_at: bool) {
        let mut byte = byte;
        if self.input_flag(ISTRIP) {
            byte &= 0x7f; // LD-23
        }
        if self.input_flag(IUCLC) && self.local(IEXTEN) {
            byte = latin1::to_lower(byte); // LD-28
        }
        if core::mem::take(&mut self.is_quoting) {
            self.receive_ordinary(byte); // LD-47
        } else if self.local(EXTPROC) {
            self.input.push(byte); // LD-88
        } else if self.special.contains(byte) {
            self.receive_special(byte, is_looked_at);
        } else {
            self.receive_ordinary(byte);
        }
    }

    /// LD-151
    fn restart_by_any(&mut self) {
        if self.flow.is_stopped
            && !self.has_fault(TerminalFault::IxanyIgnored)
            && !self.flow.by_ioctl
            && self.input_flag(IXON)
            && self.input_flag(IXANY)
        {
            self.start();
            self.process_echoes();
        }
    }

    fn store(&mut self, byte: u8) {
        if byte == 0xff && self.input_flag(PARMRK) {
            self.input.push(byte); // LD-30
        }
        self.input.push(byte);
    }

    fn receive_ordinary(&mut self, byte: u8) {
        self.restart_by_any();
        if self.local(ECHO) {
            self.finish_erasing();
            self.echo_input(byte); // LD-58
            self.mark_echoes();
        }
        self.store(byte);
    }

    fn receive_special(&mut self, byte: u8, is_looked_at: bool) {
        if self.input_flag(IXON) && self.receive_flow_control(byte, is_looked_at) {
            if self.has_fault(TerminalFault::FlowIsEchoed) && self.local(ECHO) {
                self.echo_char(byte);
                self.mark_echoes();
            }
            return; // LD-72
        }
        let needs_canonical = self.has_fault(TerminalFault::SignalsNeedCanonical);
        if self.local(ISIG) && (self.local(ICANON) || !needs_canonical) {
            for (entry, signal) in
                [(VINTR, Signal::INT), (VQUIT, Signal::QUIT), (VSUSP, Signal::TSTP)]
            {
                let is_ignored = entry == VSUSP && self.has_fault(TerminalFault::NoSuspend);
                if self.is(byte, entry) && !is_ignored {
                    return self.receive_signal(byte, signal);
                }
            }
        }
        self.restart_by_any();
        let mut byte = byte;
        if byte == b'\r' {
            if self.input_flag(IGNCR) {
                return; // LD-26
            }
            if self.input_flag(ICRNL) {
                byte = b'\n'; // LD-24
            }
        } else if byte == b'\n' && self.input_flag(INLCR) {
            byte = b'\r'; // LD-25
        }
        if self.local(ICANON) && self.receive_canonical(byte) {
            return;
        }
        if self.local(ECHO) {
            self.finish_erasing();
            match byte {
                b'\n' => self.echo.raw(byte), // LD-58
                _ => self.echo_input(byte),
            }
            self.mark_echoes();
        }
        self.store(byte);
    }

    /// INTR, QUIT and SUSP (`n_tty_receive_signal_char`).
    fn receive_signal(&mut self, byte: u8, signal: Signal) {
        self.event(Event::Signal(signal)); // LD-79
        if !self.local(NOFLSH) || self.has_fault(TerminalFault::NoflshIgnored) {
            if !self.has_fault(TerminalFault::FlushKeepsOutput) {
                self.echo.clear(); // LD-80
                self.flush_output();
            }
            self.flush_input();
        }
        if self.input_flag(IXON) && !self.has_fault(TerminalFault::SignalDoesNotRestart) {
            self.start(); // LD-86
        }
        if self.has_fault(TerminalFault::SignalIsStored) {
            self.store(byte);
        }
        if self.local(ECHO) {
            self.echo_char(byte); // LD-71
            self.mark_echoes();
        } else {
            self.process_echoes();
        }
    }

    /// Edits the line, or ends it; returns false if the byte is to be stored
    /// (`n_tty_receive_char_canon`).
    fn receive_canonical(&mut self, byte: u8) -> bool {
        let is_extended = self.local(IEXTEN);
        if self.is(byte, VERASE) || self.is(byte, VKILL) || self.is(byte, VWERASE) && is_extended {
            self.erase(byte);
            self.mark_echoes();
        } else if self.is(byte, VLNEXT) && is_extended {
            self.is_quoting = true;
            if self.local(ECHO) {
                self.finish_erasing();
                if self.local(ECHOCTL) {
                    self.echo.raw(b'^'); // LD-48
                    self.echo.raw(0x08);
                    self.mark_echoes();
                }
            }
        } else if self.is(byte, VREPRINT) && self.local(ECHO) && is_extended {
            self.reprint(byte);
        } else if byte == b'\n' {
            if self.local(ECHO | ECHONL) {
                self.echo.raw(byte); // LD-59
                self.mark_echoes();
            }
            self.end_line(byte);
        } else if self.is(byte, VEOF) {
            if self.has_fault(TerminalFault::EofIsAlwaysAnEnd) && !self.input.is_at_line_start() {
                self.end_line(DISABLED);
            }
            self.end_line(DISABLED); // LD-38
        } else if self.is(byte, VEOL) || self.is(byte, VEOL2) && is_extended {
            if self.local(ECHO) {
                self.echo_input(byte);
                self.mark_echoes();
            }
            if byte == 0xff && self.input_flag(PARMRK) {
                self.input.push(byte); // LD-31
            }
            self.end_line(byte);
        } else {
            return false;
        }
        true
    }

    fn end_line(&mut self, delimiter: u8) {
        self.input.push_delimiter(delimiter);
        self.event(Event::InputReady);
    }

    fn reprint(&mut self, byte: u8) {
        self.finish_erasing();
        self.echo_char(byte); // LD-45
        self.echo.raw(b'\n');
        for nth in 0..self.input.unfinished_len() {
            self.echo_char(self.input.unfinished(nth));
        }
        self.mark_echoes();
    }

    // Erasing

    fn is_continuation(&self, byte: u8) -> bool {
        self.input_flag(IUTF8)
            && latin1::is_continuation(byte)
            && !self.has_fault(TerminalFault::EraseByBytes)
    }

    /// The position of the last character of the unfinished line, which ends at `end`; `None` if
    /// there is none that begins in the line (LD-40).
    fn last_character(&self, end: usize) -> Option<usize> {
        (0..end).rev().find(|nth| !self.is_continuation(self.input.unfinished(*nth)))
    }

    /// ERASE, WERASE and KILL (`eraser`).
    fn erase(&mut self, byte: u8) {
        let mut end = self.input.unfinished_len();
        if end == 0 {
            return; // LD-39
        }
        let erase = if self.is(byte, VERASE) {
            Erase::Character
        } else if self.is(byte, VWERASE) {
            Erase::Word // LD-53
        } else if !self.local(ECHO) {
            return self.input.truncate_unfinished(0); // LD-67
        } else if !self.local(ECHOK) || !self.local(ECHOKE) || !self.local(ECHOE) {
            return self.kill_invisibly(); // LD-66
        } else {
            Erase::Line
        };
        let mut is_in_word = false;
        while let Some(start) = self.last_character(end) {
            let first = self.input.unfinished(start);
            if erase == Erase::Word {
                let is_word = latin1::is_alphanumeric(first)
                    || first == b'_' && !self.has_fault(TerminalFault::UnderscoreEndsWord);
                if is_in_word && !is_word {
                    break; // LD-42
                }
                is_in_word |= is_word;
            }
            if self.local(ECHO) {
                self.echo_erasure(erase, start, end);
            }
            self.input.truncate_unfinished(start);
            end = start;
            if erase == Erase::Character {
                break;
            }
        }
        if self.input.unfinished_len() == 0 && self.local(ECHO) {
            self.finish_erasing();
        }
    }

    fn kill_invisibly(&mut self) {
        self.input.truncate_unfinished(0);
        self.finish_erasing();
        self.echo_char(self.termios.cc[VKILL]);
        if self.local(ECHOK) && !self.has_fault(TerminalFault::EchokIgnored) {
            self.echo.raw(b'\n');
        }
    }

    /// Echoes the erasure of the character from `start` to `end`.
    fn echo_erasure(&mut self, erase: Erase, start: usize, end: usize) {
        let first = self.input.unfinished(start);
        if self.local(ECHOPRT) {
            if !self.is_erasing {
                self.echo.raw(b'\\');
                self.is_erasing = true;
            }
            self.echo_char(first);
            for nth in start + 1..end {
                self.echo.raw(self.input.unfinished(nth)); // LD-69
                self.echo.move_back_column();
            }
        } else if erase == Erase::Character && !self.local(ECHOE) {
            self.echo_char(self.termios.cc[VERASE]); // LD-65
        } else if first == b'\t' && !self.has_fault(TerminalFault::TabIsOneColumn) {
            let (columns, is_after_tab) = self.columns_before(start);
            self.echo.erase_tab(columns, is_after_tab);
        } else {
            let is_control = latin1::is_control(first);
            let is_pair = is_control && self.local(ECHOCTL);
            // LD-60, LD-61
            for _ in 0..usize::from(is_pair) + usize::from(is_pair || !is_control) {
                b"\x08 \x08".iter().for_each(|byte| self.echo.raw(*byte));
            }
        }
    }

    /// The columns of the characters before `end`, back to a tab or to the start of the line; and
    /// whether there is a tab (LD-63).
    fn columns_before(&self, end: usize) -> (usize, bool) {
        let mut columns = 0;
        for nth in (0..end).rev() {
            let byte = self.input.unfinished(nth);
            if byte == b'\t' {
                return (columns, true);
            }
            if latin1::is_control(byte) {
                columns += if self.local(ECHOCTL) { 2 } else { 0 };
            } else if !self.is_continuation(byte) {
                columns += 1;
            }
        }
        (columns, false)
    }
}
