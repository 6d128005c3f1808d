//! A pty: two ends, connected by a line discipline (`pty.c`, `tty_io.c`).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::discipline::{Discipline, MASTER_BUFFER};
use super::fault::TerminalFault;
use super::queue::InputQueue;
use super::read::{Blocking, Read};
use super::read_turns::ReadTurns;
use super::termios::{DISABLED, Termios, VMIN, VSTART, VSTOP, VTIME, Winsize};
use super::{Event, PollFlags};
use crate::abi::{Errno, Signal, Time};

/// An end of a pty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum End {
    /// The end of the terminal emulator: a descriptor of /dev/ptmx.
    Master,
    /// The end of the programs: a descriptor of /dev/pts/N.
    Slave,
}

/// An open file description of an end. A hang-up ends the files that are open at that time and no
/// later ones (LD-194).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct File {
    pub(super) end: End,
    /// The number of hang-ups of the end before the file was opened.
    hang_ups: u32,
}

impl File {
    /// The end that was opened.
    pub fn end(&self) -> End {
        self.end
    }
}

/// Which queue tcflush(3) flushes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Queue {
    /// TCIFLUSH: what was received and not read.
    Input,
    /// TCOFLUSH: what was written and not transmitted.
    Output,
    /// TCIOFLUSH: both.
    Both,
}

/// What tcflow(3) does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum FlowAction {
    /// TCOOFF: stop the output.
    StopOutput,
    /// TCOON: restart the output that TCOOFF stopped.
    StartOutput,
    /// TCIOFF: send a STOP character.
    SendStop,
    /// TCION: send a START character.
    SendStart,
}

/// When new settings take effect, and what they do to the input: TCSANOW or TCSAFLUSH of
/// tcsetattr(3). TCSADRAIN does not wait on a pty, so that it is TCSANOW (LD-164).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum SetTermios {
    /// The input remains.
    Now,
    /// The input is flushed.
    Flush,
}

/// The state of an end that is not the line discipline's.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct EndState {
    /// The number of files that are open and were not hung up, and of those that were.
    opens: u32,
    hang_ups: u32,
    is_exclusive: bool,
    /// Reads and writes fail with EIO.
    has_error: bool,
    /// The other end was open, and is no longer.
    is_other_closed: bool,
    turns: ReadTurns,
}

/// A pty: a master, a slave, and the line discipline between them.
///
/// All methods work at once: a byte that is written at one end is in the queue of the other end
/// when the call returns (LD-19). What has to follow (signals, wake-ups) is in the list that
/// [`Pty::take_events`] returns.
///
/// ```
/// use proctable::tty::{Pty, Event};
/// use proctable::abi::Signal;
///
/// let mut pty = Pty::new();
/// pty.unlock();
/// let master = pty.master();
/// let slave = pty.open_slave(false)?;
/// pty.write(&master, b"cat\x7f\x7f\x7fls\n")?;
/// assert_eq!(pty.try_read(&slave, 100)?, b"ls\n");
/// assert_eq!(pty.try_read(&master, 100)?, b"cat\x08 \x08\x08 \x08\x08 \x08ls\r\n");
///
/// pty.write(&master, b"\x03")?;
/// assert!(pty.take_events().contains(&Event::Signal(Signal::INT)));
/// # Ok::<(), proctable::abi::Errno>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Pty {
    discipline: Discipline,
    /// Input that waits for room in the discipline.
    pending: VecDeque<u8>,
    /// The number of bytes of `pending` in which START and STOP have been obeyed.
    pending_looked_at: usize,
    pending_limit: usize,
    /// Writes of the master carry nothing: TCOOFF there (LD-158).
    master_is_stopped: bool,
    winsize: Winsize,
    is_locked: bool,
    master: EndState,
    slave: EndState,
    last_read: u64,
}

impl Default for Pty {
    fn default() -> Pty {
        Pty::new()
    }
}

impl Pty {
    /// The bytes that wait between the ends in each direction, beyond the 4095 of each end's own
    /// queue. The kernel's limit depends on the sizes of the writes (LD-130, LD-131).
    pub const DEFAULT_CAPACITY: usize = 1024;

    /// A new pty: its master is open, its slave is locked (LD-08), its settings are the defaults
    /// (LD-01).
    pub fn new() -> Pty {
        Pty::with_capacity(Pty::DEFAULT_CAPACITY)
    }

    /// A new pty with another [capacity](Pty::DEFAULT_CAPACITY) between the ends, in bytes.
    pub fn with_capacity(capacity: usize) -> Pty {
        Pty {
            discipline: Discipline::new(capacity),
            pending: VecDeque::new(),
            pending_looked_at: 0,
            pending_limit: capacity,
            master_is_stopped: false,
            winsize: Winsize::default(),
            is_locked: true,
            master: EndState { opens: 1, ..EndState::default() },
            // an end that was never opened is in error, but its other end is not closed (LD-15)
            slave: EndState { has_error: true, ..EndState::default() },
            last_read: 0,
        }
    }

    /// The pty with a rule that is broken on purpose.
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn with_fault(mut self, fault: TerminalFault) -> Pty {
        self.discipline.fault = Some(fault);
        self
    }

    pub(super) fn has_fault(&self, fault: TerminalFault) -> bool {
        self.discipline.has_fault(fault)
    }

    /// What has happened since the last call, each once, in the order of the first occurrences.
    pub fn take_events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.discipline.events)
    }

    fn event(&mut self, event: Event) {
        self.discipline.event(event);
    }

    fn end(&self, end: End) -> &EndState {
        match end {
            End::Master => &self.master,
            End::Slave => &self.slave,
        }
    }

    fn end_mut(&mut self, end: End) -> &mut EndState {
        match end {
            End::Master => &mut self.master,
            End::Slave => &mut self.slave,
        }
    }

    // Open and close

    /// The file of the master.
    pub fn master(&self) -> File {
        File { end: End::Master, hang_ups: 0 }
    }

    /// unlockpt(3): the slave can be opened.
    pub fn unlock(&mut self) {
        self.is_locked = false;
    }

    /// TIOCSPTLCK: whether the slave can be opened (LD-191).
    ///
    /// # Errors
    ///
    /// ENOTTY at the slave (LD-09); EIO if the file was hung up.
    pub fn set_locked(&mut self, file: &File, is_locked: bool) -> Result<(), Errno> {
        self.usable_master(file)?;
        self.is_locked = is_locked;
        Ok(())
    }

    /// TIOCGPTLCK: whether the slave cannot be opened.
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Opens the slave: /dev/pts/N or TIOCGPTPEER. `is_privileged` is CAP_SYS_ADMIN of the caller.
    ///
    /// # Errors
    ///
    /// EIO if the slave is locked (LD-08) or the master closed; EBUSY if TIOCEXCL is set and the
    /// caller is not privileged (LD-192).
    pub fn open_slave(&mut self, is_privileged: bool) -> Result<File, Errno> {
        if self.slave.is_exclusive && !is_privileged {
            return Err(Errno::EBUSY);
        }
        // what was sent since a hang-up comes with the next input (LD-203)
        self.discipline.is_detached = false;
        if self.is_locked || self.master.opens == 0 {
            self.slave.has_error = true; // LD-191
            return Err(Errno::EIO);
        }
        self.slave.has_error = false;
        self.master.is_other_closed = false; // LD-181
        self.slave.opens += 1;
        Ok(File { end: End::Slave, hang_ups: self.slave.hang_ups })
    }

    /// The last descriptor of the file is closed.
    pub fn close(&mut self, file: File) {
        let end = self.end_mut(file.end);
        end.opens = end.opens.saturating_sub(1);
        match file.end {
            End::Slave if self.slave.opens == 0 && !self.slave.has_error => {
                self.slave.has_error = true;
                // LD-180
                self.master.is_other_closed = !self.has_fault(TerminalFault::LastCloseIsNoHangUp);
                self.event(Event::MasterHungUp);
            }
            End::Slave => {}
            End::Master => {
                self.master.is_other_closed = true;
                self.slave.is_other_closed = true; // LD-184
                self.discipline.packet = None;
                self.hang_up(End::Slave);
            }
        }
    }

    /// Whether all files of both ends are closed.
    pub fn is_closed(&self) -> bool {
        self.master.opens == 0 && self.slave.opens == 0
    }

    /// Whether all files of the master are closed: the slave cannot be opened any more.
    pub fn is_master_closed(&self) -> bool {
        self.master.opens == 0
    }

    /// vhangup(2), and the end of a session leader: the open files of the end are of no
    /// use any more (LD-194, LD-195). The slave's settings become the defaults.
    pub fn hang_up(&mut self, end: End) {
        let state = self.end_mut(end);
        state.hang_ups += 1;
        state.turns = ReadTurns::default();
        if end == End::Slave {
            self.discipline.hang_up();
            self.event(Event::SlaveHungUp);
        } else {
            self.flush_pending();
            self.event(Event::MasterHungUp);
        }
    }

    pub(crate) fn is_hung_up(&self, file: &File) -> bool {
        file.hang_ups != self.end(file.end).hang_ups
    }

    /// Whether reads and writes of the file fail with EIO.
    pub(crate) fn has_error(&self, file: &File) -> bool {
        !self.is_hung_up(file) && self.end(file.end).has_error
    }

    /// Whether input waits for room in the queue, or for an open of a slave that was hung up.
    pub fn has_backlog(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether echoes wait for room in the output, or for its restart.
    pub fn has_echoes(&self) -> bool {
        self.discipline.has_echoes()
    }

    /// Whether the slave was hung up and not opened since: no input is processed.
    pub fn is_detached(&self) -> bool {
        self.discipline.is_detached
    }

    pub(super) fn is_other_end_closed(&self, end: End) -> bool {
        self.end(end).is_other_closed
    }

    /// TIOCEXCL and TIOCNXCL, for each end by itself (LD-193).
    ///
    /// # Errors
    ///
    /// EIO if the file was hung up.
    pub fn set_exclusive(&mut self, file: &File, is_exclusive: bool) -> Result<(), Errno> {
        self.usable(file)?;
        self.end_mut(file.end).is_exclusive = is_exclusive;
        Ok(())
    }

    /// TIOCGEXCL.
    pub fn is_exclusive(&self, end: End) -> bool {
        self.end(end).is_exclusive
    }

    /// The errno of an ioctl on a file that was hung up.
    pub(crate) fn usable(&self, file: &File) -> Result<(), Errno> {
        if self.is_hung_up(file) { Err(Errno::EIO) } else { Ok(()) } // LD-184
    }

    /// The errno of an ioctl that only the master has.
    fn usable_master(&self, file: &File) -> Result<(), Errno> {
        self.usable(file)?;
        if file.end == End::Slave { Err(Errno::ENOTTY) } else { Ok(()) } // LD-09
    }

    /// TIOCVHANGUP: [`Pty::hang_up`] by a caller with CAP_SYS_ADMIN (`is_privileged`).
    ///
    /// # Errors
    ///
    /// EPERM without the privilege; EIO if the file was hung up before.
    pub fn vhangup(&mut self, file: &File, is_privileged: bool) -> Result<(), Errno> {
        self.usable(file)?;
        if !is_privileged {
            return Err(Errno::EPERM); // LD-194
        }
        self.hang_up(file.end);
        Ok(())
    }

    /// TIOCSIG: sends a signal to the foreground group, and does nothing else (LD-89).
    ///
    /// # Errors
    ///
    /// EINVAL for other signals than SIGINT, SIGQUIT and SIGTSTP (LD-90); ENOTTY at the slave.
    pub fn signal(&mut self, file: &File, signal: i32) -> Result<(), Errno> {
        self.usable_master(file)?;
        let signals = [Signal::INT, Signal::QUIT, Signal::TSTP];
        let signal = Signal::new(signal).filter(|signal| signals.contains(signal));
        self.event(Event::Signal(signal.ok_or(Errno::EINVAL)?));
        Ok(())
    }

    // Settings

    /// The settings: TCGETS at either end (LD-05).
    pub fn termios(&self) -> &Termios {
        &self.discipline.termios
    }

    /// Changes the settings: TCSETS, TCSETSF at either end. Both act on the slave (LD-165).
    ///
    /// # Errors
    ///
    /// EIO if the file was hung up.
    pub fn set_termios(
        &mut self,
        file: &File,
        termios: Termios,
        how: SetTermios,
    ) -> Result<(), Errno> {
        self.usable(file)?;
        if how == SetTermios::Flush {
            self.flush_discipline();
        }
        self.discipline.set_termios(termios);
        Ok(())
    }

    /// The size of the window: TIOCGWINSZ.
    pub fn winsize(&self) -> Winsize {
        self.winsize
    }

    /// Changes the size of the window: TIOCSWINSZ. A change sends SIGWINCH to the foreground group
    /// (LD-199).
    ///
    /// # Errors
    ///
    /// EIO if the file was hung up.
    pub fn set_winsize(&mut self, file: &File, winsize: Winsize) -> Result<(), Errno> {
        self.usable(file)?;
        if self.winsize != winsize {
            self.winsize = winsize;
            self.event(Event::Signal(Signal::WINCH));
        }
        Ok(())
    }

    // Input

    /// Lets waiting input in as far as there is room (`flush_to_ldisc`).
    fn receive_burst(&mut self) {
        while !self.pending.is_empty() {
            let received = self.discipline.receive(self.pending.make_contiguous());
            self.pending.drain(..received);
            self.pending_looked_at = self.pending_looked_at.saturating_sub(received);
            if received == 0 || self.discipline.is_full {
                break;
            }
        }
        let rest = self.pending.iter().skip(self.pending_looked_at).copied();
        self.discipline.look_ahead(rest); // LD-159
        self.pending_looked_at = self.pending.len();
    }

    /// There may be room for input that waits (`n_tty_kick_worker`, LD-129).
    pub(super) fn receive_pending(&mut self) {
        if core::mem::take(&mut self.discipline.is_full) {
            self.receive_burst();
            self.event(Event::MasterWriteReady);
        }
    }

    fn write_master(&mut self, bytes: &[u8]) -> usize {
        if self.master_is_stopped {
            return 0; // LD-158
        }
        let received = if self.pending.is_empty() { self.discipline.receive(bytes) } else { 0 };
        let rest = &bytes[received..];
        let room = self.pending_limit.saturating_sub(self.pending.len());
        let len = rest.len().min(room);
        if len > 0 {
            self.pending.extend(&rest[..len]);
            self.receive_burst();
        }
        received + len
    }

    /// Writes as many bytes as there is room for, and returns their number (LD-130); less than
    /// `bytes.len()` is a short write, or a write that has to wait for
    /// [`Event::OutputReady`] or [`Event::MasterWriteReady`].
    ///
    /// # Errors
    ///
    /// EIO if the file was hung up, or its end has no other end any more; EAGAIN if there is no
    /// room at all, or the output is stopped (LD-150).
    pub fn write(&mut self, file: &File, bytes: &[u8]) -> Result<usize, Errno> {
        self.write_part(file, bytes, Discipline::write)
    }

    /// Continues a [write](Pty::write) that had to wait, with the rest of its bytes. In contrast to
    /// a new write, it does not print the echoes first that TCOON leaves to the next write
    /// (LD-155).
    ///
    /// # Errors
    ///
    /// As [`Pty::write`].
    pub fn continue_write(&mut self, file: &File, bytes: &[u8]) -> Result<usize, Errno> {
        self.write_part(file, bytes, Discipline::continue_write)
    }

    fn write_part(
        &mut self,
        file: &File,
        bytes: &[u8],
        write: impl FnOnce(&mut Discipline, &[u8]) -> usize,
    ) -> Result<usize, Errno> {
        if self.is_hung_up(file) || self.has_error(file) {
            return Err(Errno::EIO);
        }
        let written = match file.end {
            End::Master => self.write_master(bytes),
            End::Slave => write(&mut self.discipline, bytes),
        };
        if written == 0 && !bytes.is_empty() { Err(Errno::EAGAIN) } else { Ok(written) }
    }

    /// A read that does not wait: O_NONBLOCK.
    ///
    /// # Errors
    ///
    /// As [`Pty::poll_read`].
    pub fn try_read(&mut self, file: &File, len: usize) -> Result<Vec<u8>, Errno> {
        let mut read = self.begin_read(file, len);
        match self.poll_read(&mut read, Time(0), Blocking::No) {
            core::task::Poll::Ready(result) => result,
            core::task::Poll::Pending => Err(Errno::EAGAIN),
        }
    }

    /// TIOCSTI: the byte arrives as if it was typed (LD-166). Whether the caller may do so is not
    /// checked (LD-167, LD-168).
    ///
    /// # Errors
    ///
    /// EIO if the file was hung up.
    pub fn insert_input(&mut self, file: &File, byte: u8) -> Result<(), Errno> {
        self.usable(file)?;
        match file.end {
            End::Slave => {
                self.discipline.receive(&[byte]);
                self.receive_burst();
            }
            End::Master if self.discipline.output.bytes.len() < MASTER_BUFFER => {
                self.discipline.output.bytes.push_back(byte);
                self.event(Event::OutputWritten);
            }
            End::Master => {}
        }
        Ok(())
    }

    pub(super) fn next_read(&mut self) -> u64 {
        self.last_read += 1;
        self.last_read
    }

    pub(super) fn take_read_lock(&mut self, read: &Read) -> bool {
        self.is_hung_up(&read.file) || self.end_mut(read.file.end).turns.take(read.id)
    }

    pub(super) fn release_read_lock(&mut self, read: &Read) {
        self.end_mut(read.file.end).turns.release(read.id);
    }

    pub(super) fn input(&mut self) -> &mut InputQueue {
        &mut self.discipline.input
    }

    /// Whether a read of this end returns without waiting.
    pub(super) fn has_input(&self, end: End) -> bool {
        let discipline = &self.discipline;
        match end {
            End::Master => !discipline.output.bytes.is_empty(),
            End::Slave if discipline.termios.reads_lines() => !discipline.input.has_no_line(),
            End::Slave => discipline.input.committed() > 0,
        }
    }

    /// Takes output for a read of the master (LD-123).
    pub(super) fn take_output(&mut self, len: usize, to: &mut Vec<u8>) {
        let bytes = &mut self.discipline.output.bytes;
        let len = len.min(bytes.len()).min(MASTER_BUFFER);
        to.extend(bytes.drain(..len));
        self.event(Event::OutputReady);
    }

    // Flush and flow

    pub(crate) fn flush_discipline(&mut self) {
        if self.discipline.is_detached {
            return;
        }
        self.discipline.flush_input();
        self.receive_pending();
    }

    fn flush_pending(&mut self) {
        self.pending.clear();
        self.pending_looked_at = 0;
        self.event(Event::MasterWriteReady);
    }

    /// tcflush(3), TCFLSH (LD-161, LD-162).
    ///
    /// # Errors
    ///
    /// EIO if the file was hung up.
    pub fn flush(&mut self, file: &File, queue: Queue) -> Result<(), Errno> {
        self.usable(file)?;
        let (input, output) = (queue != Queue::Output, queue != Queue::Input);
        match file.end {
            End::Slave => {
                if input {
                    self.flush_pending();
                    self.flush_discipline();
                }
                if output {
                    self.discipline.flush_output();
                }
            }
            End::Master => {
                if input {
                    self.discipline.output.bytes.clear();
                    self.event(Event::OutputReady);
                }
                if output {
                    self.flush_pending();
                }
            }
        }
        Ok(())
    }

    /// tcflow(3), TCXONC (LD-154 to LD-158).
    ///
    /// # Errors
    ///
    /// EIO if the file was hung up.
    pub fn control_flow(&mut self, file: &File, action: FlowAction) -> Result<(), Errno> {
        self.usable(file)?;
        match (file.end, action) {
            (End::Slave, FlowAction::StopOutput) => {
                if !self.discipline.flow.by_ioctl {
                    self.discipline.flow.by_ioctl = true;
                    self.discipline.stop();
                }
            }
            (End::Slave, FlowAction::StartOutput) => {
                if core::mem::take(&mut self.discipline.flow.by_ioctl) {
                    self.discipline.start(); // LD-155
                }
            }
            (End::Slave, FlowAction::SendStop | FlowAction::SendStart) => {
                let is_stop = action == FlowAction::SendStop;
                let byte = self.termios().cc[if is_stop { VSTOP } else { VSTART }];
                if byte != DISABLED {
                    self.discipline.send_urgent(byte);
                }
            }
            (End::Master, FlowAction::StopOutput) => self.master_is_stopped = true,
            (End::Master, FlowAction::StartOutput) => {
                self.master_is_stopped = false;
                self.event(Event::MasterWriteReady);
            }
            (End::Master, FlowAction::SendStop) => self.send_master(0x13),
            (End::Master, FlowAction::SendStart) => self.send_master(0x11),
        }
        Ok(())
    }

    /// Sends a byte of flow control of the master, whose own settings have ^S and ^Q (LD-158).
    fn send_master(&mut self, byte: u8) {
        if !self.master_is_stopped {
            self.write_master(&[byte]);
        }
    }

    // Packet mode

    /// TIOCPKT: each read of the master begins with a byte that says what follows (LD-169).
    ///
    /// # Errors
    ///
    /// ENOTTY at the slave (LD-09); EIO if the file was hung up.
    pub fn set_packet_mode(&mut self, file: &File, is_on: bool) -> Result<(), Errno> {
        self.usable_master(file)?;
        match is_on {
            true => {
                self.discipline.packet.get_or_insert(0);
            }
            false => self.discipline.packet = None,
        }
        Ok(())
    }

    /// TIOCGPKT.
    pub fn has_packet_mode(&self) -> bool {
        self.discipline.packet.is_some()
    }

    pub(super) fn has_packet_status(&self) -> bool {
        self.discipline.packet.is_some_and(|status| status != 0)
    }

    pub(super) fn take_packet_status(&mut self) -> u8 {
        self.discipline.packet.replace(0).unwrap_or_default()
    }

    // Queries

    /// FIONREAD, TIOCINQ: the number of bytes that can be read (LD-99 to LD-102).
    ///
    /// # Errors
    ///
    /// EIO if the file was hung up.
    pub fn readable(&self, file: &File) -> Result<usize, Errno> {
        self.usable(file)?;
        let input = &self.discipline.input;
        Ok(match file.end {
            End::Master => self.discipline.output.bytes.len().min(MASTER_BUFFER),
            End::Slave if self.termios().reads_lines() => input.line_bytes(),
            End::Slave => input.len(),
        })
    }

    /// poll(2) (LD-103 to LD-106).
    pub fn poll(&self, file: &File) -> PollFlags {
        if self.is_hung_up(file) {
            return PollFlags::HUNG_UP; // LD-184
        }
        let mut flags = PollFlags::NONE;
        if self.is_ready(file.end) {
            flags = flags | PollFlags::IN;
        }
        if file.end == End::Master && self.has_packet_status() {
            flags = flags | PollFlags::PRI | PollFlags::IN; // LD-172
        }
        if self.is_other_end_closed(file.end) {
            flags = flags | PollFlags::HUP;
        }
        let can_write = match file.end {
            End::Slave => self.discipline.room() > 0,
            End::Master => !self.master_is_stopped && self.pending.len() < self.pending_limit,
        };
        if can_write {
            flags = flags | PollFlags::OUT;
        }
        flags
    }

    fn is_ready(&self, end: End) -> bool {
        let cc = self.termios().cc;
        match end {
            End::Slave if !self.termios().reads_lines() && cc[VTIME] == 0 => {
                self.discipline.input.committed() >= usize::from(cc[VMIN]).max(1) // LD-104
            }
            _ => self.has_input(end),
        }
    }

    /// The number of bytes that wait for the readers of that end, also those for which its queue
    /// has no room.
    pub fn waiting(&self, end: End) -> usize {
        match end {
            End::Master => self.discipline.output.bytes.len(),
            End::Slave => self.discipline.input.len() + self.pending.len(),
        }
    }
}
