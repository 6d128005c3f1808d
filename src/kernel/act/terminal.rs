//! Calls on terminals: open, close and ioctl, and what terminals do to processes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::abi::{Errno, SigInfo, Signal};
use crate::kernel::api::effect::{Effects, Restart, refuse};
use crate::kernel::api::identity::PidId;
use crate::kernel::signal::Origin;
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::Process;
use crate::kernel::state::task::{Task, TerminalWait};
use crate::kernel::state::terminal::{Foreground, OpenFile, Terminals, place_of};
use crate::kernel::{Fault, Kernel, Rule};
use crate::rule;
use crate::syscall::{self, Ret, Syscall, TerminalPath, TerminalRequest, open};
use crate::tty::{End, Event, Pty, SetTermios, Termios};

/// Why a call of a process in the background ends.
pub(super) enum Background {
    /// It fails with EIO.
    Fails,
    /// Its group was signalled, and the call is restarted.
    Signalled,
    /// Its group was signalled, and the host or the runtime decides what the signal does: the call
    /// fails with EINTR. A restart would signal again before they have decided.
    Interrupted,
    /// An init with a default action: no signal reaches it (KILL-21), and its call is restarted
    /// until the terminal changes. The kernel spins, and the model sleeps.
    Restarts,
}

impl Kernel {
    /// The open files of terminals, each with its number and its end, in the order in which they
    /// were opened.
    pub fn terminal_files(&self) -> impl Iterator<Item = (u32, End)> + '_ {
        let files = self.terminals.iter().flat_map(|terminals| terminals.files());
        files.map(|(number, file)| (number, file.file.end()))
    }

    /// The pty with that number in /dev/pts; `None` if there is none.
    pub fn terminal(&self, number: u32) -> Option<&Pty> {
        Some(&self.terminals.as_ref()?.get(number)?.pty)
    }

    /// How many tasks sleep in reads and writes of that terminal.
    pub(crate) fn terminal_sleepers(&self, number: u32) -> usize {
        let terminal = self.terminals.as_ref().and_then(|terminals| terminals.get(number));
        terminal.map_or(0, |terminal| terminal.sleepers.len())
    }

    /// CAP_SYS_ADMIN of the machine: root of another user namespace does not have it.
    fn administers_machine(&self, task: Id<Task>) -> bool {
        self.cred(task).capable && !self.config.user_namespace
    }

    /// Carries out a call on a terminal; `None` if the caller sleeps, or the call is restarted.
    #[inline(never)]
    pub(in crate::kernel) fn perform_on_terminal(
        &mut self,
        caller: Id<Task>,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        match call {
            Syscall::Open { path, flags } => Some(self.open(caller, *path, *flags, fx)),
            Syscall::Close(file) => Some(self.close(*file, fx)),
            Syscall::Read { file, len } => self.read(caller, *file, *len, call, fx),
            Syscall::Write { file, .. } => self.write(caller, *file, call, fx),
            Syscall::Ioctl { file, request } => self.ioctl(caller, *file, request, call, fx),
            Syscall::Poll { timeout, .. } => {
                // poll(2): a negative timeout is none
                let deadline = u64::try_from(*timeout).ok();
                let deadline = deadline.map(|millis| self.now.after(millis * 1_000_000));
                self.poll_terminals(caller, deadline, call, fx)
            }
            _ => Some(Err(Errno::ENOSYS)),
        }
    }

    /// open(2) of a terminal.
    fn open(
        &mut self,
        caller: Id<Task>,
        path: TerminalPath,
        flags: u32,
        fx: &mut Effects,
    ) -> syscall::Result {
        let process = self.process_of(caller);
        let terminal = match path {
            // TTY-02: a master never becomes a controlling terminal
            TerminalPath::Ptmx => {
                fx.obey(rule!("TTY-02"));
                let terminals = self.terminals.get_or_insert_default();
                if terminals.len() >= Terminals::MAX {
                    return Err(Errno::ENOSPC); // LD-190
                }
                return Ok(Ret::Value(terminals.create(flags).into()));
            }
            TerminalPath::Pts(number) => number,
            TerminalPath::Tty => match self.controlling_terminal(process) {
                Some(number) => number,
                None => return refuse(fx, rule!("TTY-06"), Errno::ENXIO),
            },
        };
        let capable = self.administers_machine(caller);
        let own = self.terminal_mut(terminal).filter(|own| !own.pty.is_master_closed());
        // LD-186
        let own = own.ok_or(Errno::ENOENT)?;
        let file = own.pty.open_slave(capable)?;
        let open_file = OpenFile { terminal, file, flags };
        let file = self.terminals.get_or_insert_default().add_file(open_file);
        let is_free = self.controlling_terminal(process).is_none()
            && self.session_controlled_by(terminal).is_none();
        if self.processes[process].flags.session_leader && is_free {
            fx.obey(rule!("TTY-01"));
            let acquires = flags & open::NOCTTY == 0 || self.has_fault(Fault::NocttyIgnored);
            if acquires && open_file.is_readable() {
                self.acquire_terminal(process, terminal);
            }
        }
        self.follow_terminal(terminal, fx);
        Ok(Ret::Value(file.into()))
    }

    /// close(2) of the last descriptor of an open file description.
    pub(super) fn close(&mut self, file: u32, fx: &mut Effects) -> syscall::Result {
        let terminal = self.terminals.as_mut().ok_or(Errno::EBADF)?.close(file)?;
        self.follow_terminal(terminal, fx);
        if let Some(terminals) = &mut self.terminals {
            terminals.release(terminal);
        }
        Ok(Ret::Value(0))
    }

    pub(super) fn open_file(&self, file: u32) -> Result<OpenFile, Errno> {
        self.terminals.as_ref().ok_or(Errno::EBADF)?.file(file)
    }

    /// Whether the caller's group may not use its controlling terminal as it likes, because it is
    /// in the background (`__tty_check_change`). Signals the group if so.
    pub(super) fn check_background(
        &mut self,
        caller: Id<Task>,
        terminal: u32,
        signal: Signal,
        fx: &mut Effects,
    ) -> Result<(), Background> {
        let process = self.process_of(caller);
        // TTY-34: a process whose controlling terminal it is not uses it freely
        if self.controlling_terminal(process) != Some(terminal)
            && !self.has_fault(Fault::BackgroundOfOtherSessions)
        {
            fx.obey(rule!("TTY-34"));
            return Ok(());
        }
        fx.obey(rule!("TTY-15"));
        let group = self.processes[process].group;
        let own = self.pids.identity(self.groups[group].pid);
        if self.foreground(terminal).is_none_or(|foreground| foreground.pid == own) {
            return Ok(());
        }
        fx.obey(rule!("TTY-17"));
        let is_ignored = self.sighands[self.processes[process].sighand].ignored().contains(signal);
        // TTY-20: SIG_IGN, and not a default action
        let mask = self.tasks[caller].mask;
        let is_blocked = match self.has_fault(Fault::BackgroundComparesMask) {
            true => mask == signal.set(),
            false => mask.contains(signal),
        };
        if is_blocked || is_ignored {
            fx.obey(rule!("TTY-20"));
            return if signal == Signal::TTIN { Err(Background::Fails) } else { Ok(()) };
        }
        if self.is_orphaned(group, None) {
            if self.has_fault(Fault::OrphansGetTtin) {
                self.signal_group(Some(own), signal, rule!("TTY-16"), fx);
            }
            fx.obey(rule!("ORP-20"));
            return Err(Background::Fails);
        }
        let is_default = self.sighands[self.processes[process].sighand].is_default(signal);
        self.signal_group(Some(own), signal, rule!("TTY-16"), fx);
        // TG-55: the caller looks at its signals next, and takes this one
        fx.obey(rule!("TG-55"));
        let own = &self.processes[process];
        if own.flags.host_authority || is_default && own.leaves_default_to_runtime(signal) {
            return Err(Background::Interrupted);
        }
        if own.flags.unkillable && is_default && !self.tasks[caller].signal_pending {
            return Err(Background::Restarts);
        }
        self.tasks[caller].signal_pending = true;
        Err(Background::Signalled)
    }

    /// The end of a call of a process in the background: `None` if it is restarted, which a handler
    /// without SA_RESTART prevents (TTY-18, TTY-19).
    pub(super) fn end_in_background(
        &mut self,
        caller: Id<Task>,
        (terminal, refused): (u32, Background),
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        match refused {
            Background::Fails => Some(Err(Errno::EIO)),
            Background::Interrupted => Some(Err(Errno::EINTR)),
            Background::Signalled => {
                fx.obey_all(&[rule!("TTY-18"), rule!("TTY-19")]);
                self.interrupt(caller, Restart::Sys, call.clone(), fx);
                None
            }
            Background::Restarts => {
                self.sleep_in_terminal(caller, terminal, call, TerminalWait::Background);
                None
            }
        }
    }

    /// Sends a signal of the kernel to all members of a group, if the group still exists
    /// (`kill_pgrp`).
    fn signal_group(&mut self, group: Option<PidId>, signal: Signal, rule: Rule, fx: &mut Effects) {
        let Some(group) = self.group_in(group) else { return };
        let members: Vec<Id<Process>> = self.members(group).collect();
        for member in members {
            self.signal_from_terminal(member, signal, rule, fx);
        }
    }

    fn signal_from_terminal(
        &mut self,
        process: Id<Process>,
        signal: Signal,
        rule: Rule,
        fx: &mut Effects,
    ) {
        let leader = self.leader(process);
        self.generate_kernel(leader, SigInfo::kernel(signal), Origin::kernel(rule), fx);
    }

    /// Does what has to follow a call on a terminal: signals, and wake-ups of the tasks that sleep
    /// in reads and writes.
    pub(super) fn follow_terminal(&mut self, number: u32, fx: &mut Effects) {
        let Some(terminal) = self.terminal_mut(number) else { return };
        let events = terminal.pty.take_events();
        if events.is_empty() {
            return;
        }
        fx.note_terminal(number);
        for event in events {
            match event {
                Event::Signal(signal) => {
                    let foreground = self.foreground(number).map(|foreground| foreground.pid);
                    let rule = match signal {
                        Signal::WINCH => rule!("TTY-31"),
                        _ => rule!("TTY-28"),
                    };
                    // TTY-29: the pty has flushed its queues; TTY-30: each target decides itself
                    fx.obey_all(&[rule!("TTY-29"), rule!("TTY-30")]);
                    self.signal_group(foreground, signal, rule, fx);
                }
                Event::SlaveHungUp => self.hang_up_session(number, fx),
                Event::InputReady
                | Event::OutputReady
                | Event::OutputWritten
                | Event::MasterWriteReady
                | Event::MasterHungUp => {}
            }
        }
        self.wake_sleepers(number);
    }

    /// The session of a terminal that is hung up loses it, and its leader alone is signalled
    /// (`tty_signal_session_leader`).
    fn hang_up_session(&mut self, terminal: u32, fx: &mut Effects) {
        let Some(session) = self.session_controlled_by(terminal) else { return };
        let foreground = self.foreground(terminal).map(|foreground| foreground.pid);
        self.free_terminal(session);
        self.sessions[session].terminal.hung_up = foreground;
        let leader = self.pids[self.sessions[session].pid].task();
        if let Some(leader) = leader.map(|leader| self.process_of(leader)) {
            self.signal_from_terminal(leader, Signal::HUP, rule!("TTY-13"), fx);
            if !self.has_fault(Fault::HangUpWithoutCont) {
                self.signal_from_terminal(leader, Signal::CONT, rule!("TTY-13"), fx);
            }
        }
    }

    /// A session leader gives up its controlling terminal, by TIOCNOTTY or by its end
    /// (`disassociate_ctty`).
    fn disassociate(&mut self, caller: Id<Task>, is_exit: bool, fx: &mut Effects) {
        let process = self.process_of(caller);
        let session = self.session_of(process);
        let Some(terminal) = self.controlling_terminal(process) else {
            let hung_up = self.sessions[session].terminal.hung_up.take();
            if is_exit && hung_up.is_some() {
                for signal in [Signal::HUP, Signal::CONT] {
                    self.signal_group(hung_up, signal, rule!("TTY-14"), fx);
                }
            } else {
                fx.obey(rule!("TTY-12"));
            }
            return;
        };
        let foreground = self.foreground(terminal).map(|foreground| foreground.pid);
        if is_exit {
            fx.obey(rule!("TG-100"));
            if !self.has_fault(Fault::LeaderEndsAlone) {
                self.signal_group(foreground, Signal::HUP, rule!("TTY-10"), fx);
            }
        } else {
            for signal in [Signal::HUP, Signal::CONT] {
                self.signal_foreground_as_user(caller, foreground, signal, fx);
            }
        }
        self.free_terminal(session);
        self.wake_sleepers(terminal);
    }

    /// TTY-26: the signals of TIOCNOTTY are those of the caller, with the permissions of kill(2).
    fn signal_foreground_as_user(
        &mut self,
        caller: Id<Task>,
        foreground: Option<PidId>,
        signal: Signal,
        fx: &mut Effects,
    ) {
        let Some(group) = self.group_in(foreground) else { return };
        let members: Vec<Id<Process>> = self.members(group).collect();
        for member in members {
            let leader = self.leader(member);
            if self.may_kill(caller, self.cred(caller), leader, Some(signal), fx).is_err() {
                fx.obey(rule!("TTY-26"));
                continue;
            }
            let info = self.sender_info(caller, signal);
            // a signal that is not real-time is never refused
            let _ = self.generate(leader, &info, Origin::user(rule!("TTY-09")), fx);
        }
    }

    /// The last thread of a process ends: a session leader gives up its terminal.
    #[inline]
    pub(in crate::kernel) fn leave_terminal_at_exit(&mut self, task: Id<Task>, fx: &mut Effects) {
        if self.terminals.is_some() && self.processes[self.process_of(task)].flags.session_leader {
            self.disassociate(task, true, fx);
        }
    }

    /// ioctl(2) on a terminal; `None` if the call is restarted.
    fn ioctl(
        &mut self,
        caller: Id<Task>,
        file: u32,
        request: &TerminalRequest,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        let of = match self.open_file(file) {
            Ok(of) => of,
            Err(errno) => return Some(Err(errno)),
        };
        if self.terminal_mut(of.terminal)?.pty.usable(&of.file).is_err() {
            // hung_up_tty_ioctl
            let is_tiocspgrp = matches!(request, TerminalRequest::Tiocspgrp(_));
            return Some(Err(if is_tiocspgrp { Errno::ENOTTY } else { Errno::EIO }));
        }
        let is_slave = of.file.end() == End::Slave;
        // TTY-16: these requests check the terminal also through the master, whose settings they
        // do not change
        let is_change = match request {
            TerminalRequest::Tiocspgrp(_) => !self.has_fault(Fault::BackgroundSetsForeground),
            TerminalRequest::Tcsets(..) => true,
            TerminalRequest::Tcflsh(_)
            | TerminalRequest::Tcxonc(_)
            | TerminalRequest::Tcsbrk(_) => is_slave,
            _ => false,
        };
        if is_change
            && let Err(refused) = self.check_background(caller, of.terminal, Signal::TTOU, fx)
        {
            if matches!((&refused, request), (Background::Fails, TerminalRequest::Tiocspgrp(_))) {
                return Some(Err(Errno::ENOTTY));
            }
            return self.end_in_background(caller, (of.terminal, refused), call, fx);
        }
        if let TerminalRequest::Tcsets(SetTermios::Flush, new) = request {
            self.terminal_mut(of.terminal)?.pty.flush_discipline();
            let result = self.drain_and_set(caller, of, new, call);
            self.follow_terminal(of.terminal, fx);
            return result;
        }
        let result = match request {
            TerminalRequest::Tiocsctty(arg) => self.tiocsctty(caller, of, *arg, fx),
            TerminalRequest::Tiocnotty => self.tiocnotty(caller, of, fx),
            TerminalRequest::Tiocgpgrp => self.tiocgpgrp(caller, of, fx),
            TerminalRequest::Tiocspgrp(pgid) => self.tiocspgrp(caller, of, *pgid, fx),
            TerminalRequest::Tiocgsid => self.tiocgsid(caller, of, fx),
            _ => self.request_of_pty(caller, of, request),
        };
        let is_hang_up = matches!(request, TerminalRequest::Tiocvhangup) && result.is_ok();
        let waits = is_hang_up && self.terminal_sleepers(of.terminal) > 0;
        self.follow_terminal(of.terminal, fx);
        if waits {
            // the call returns when all others have left the line discipline (tty_ldisc_hangup)
            self.sleep_in_terminal(caller, of.terminal, call, TerminalWait::HangUp);
            self.enqueue_last(caller);
            return None;
        }
        Some(result)
    }

    /// TCSETSF, after the flush of the input: waits until no write to the slave is in progress
    /// (`set_termios`). `None` if the task sleeps. No signal ends the wait: the kernel tries again.
    pub(super) fn drain_and_set(
        &mut self,
        task: Id<Task>,
        of: OpenFile,
        new: &Termios,
        call: &Syscall,
    ) -> Option<syscall::Result> {
        let own = self.terminal_mut(of.terminal)?;
        let is_busy = own.writing[place_of(End::Slave)].is_some();
        if !is_busy {
            let set = own.pty.set_termios(&of.file, *new, SetTermios::Now);
            return Some(set.map(|()| Ret::Value(0)));
        }
        self.sleep_in_terminal(task, of.terminal, call, TerminalWait::Settings);
        None
    }

    /// TIOCSCTTY.
    fn tiocsctty(
        &mut self,
        caller: Id<Task>,
        of: OpenFile,
        arg: i32,
        fx: &mut Effects,
    ) -> syscall::Result {
        let process = self.process_of(caller);
        let is_leader = self.processes[process].flags.session_leader;
        let owner = self.session_controlled_by(of.terminal);
        if is_leader && owner == Some(self.session_of(process)) {
            fx.obey(rule!("TTY-03"));
            return Ok(Ret::Value(0));
        }
        if !is_leader || self.controlling_terminal(process).is_some() {
            return refuse(fx, rule!("TTY-03"), Errno::EPERM);
        }
        let capable = self.administers_machine(caller);
        if let Some(owner) = owner {
            if (arg != 1 || !capable) && !self.has_fault(Fault::TerminalNotStolen) {
                return refuse(fx, rule!("TTY-04"), Errno::EPERM);
            }
            fx.obey(rule!("TTY-04"));
            self.free_terminal(owner);
            self.wake_sleepers(of.terminal);
        }
        if !of.is_readable() && !capable {
            return refuse(fx, rule!("TTY-05"), Errno::EPERM);
        }
        self.acquire_terminal(process, of.terminal);
        Ok(Ret::Value(0))
    }

    /// Whether the file is of the slave, and the slave is the caller's controlling terminal.
    fn is_controlling(&self, caller: Id<Task>, of: OpenFile) -> bool {
        let own = self.controlling_terminal(self.process_of(caller));
        of.file.end() == End::Slave && own == Some(of.terminal)
    }

    /// TIOCNOTTY (`no_tty`).
    fn tiocnotty(&mut self, caller: Id<Task>, of: OpenFile, fx: &mut Effects) -> syscall::Result {
        fx.obey(rule!("TTY-08"));
        if !self.is_controlling(caller, of) {
            return Err(Errno::ENOTTY);
        }
        let process = self.process_of(caller);
        if self.processes[process].flags.session_leader {
            fx.obey(rule!("TTY-09"));
            self.disassociate(caller, false, fx);
        }
        self.leave_terminal(process);
        Ok(Ret::Value(0))
    }

    /// TIOCGPGRP: at the master it is the foreground group of the slave, 0 if there is none.
    fn tiocgpgrp(&self, caller: Id<Task>, of: OpenFile, fx: &mut Effects) -> syscall::Result {
        fx.obey(rule!("TTY-21"));
        if of.file.end() == End::Slave && !self.is_controlling(caller, of) {
            return Err(Errno::ENOTTY);
        }
        let foreground = self.foreground(of.terminal);
        if foreground.is_some_and(|foreground| self.group_in(Some(foreground.pid)).is_none()) {
            fx.obey(rule!("TTY-33"));
            fx.obey(rule!("PID-10"));
        }
        Ok(Ret::Stored(foreground.map_or(0, |foreground| foreground.number.0 as i32)))
    }

    /// TIOCSPGRP.
    fn tiocspgrp(
        &mut self,
        caller: Id<Task>,
        of: OpenFile,
        pgid: i32,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("TTY-22"));
        let Ok(number) = u32::try_from(pgid) else { return Err(Errno::EINVAL) };
        let process = self.process_of(caller);
        if self.controlling_terminal(process) != Some(of.terminal) {
            return Err(Errno::ENOTTY);
        }
        let Some(object) = self.pids.find(number).filter(|_| number != 0) else {
            return Err(Errno::ESRCH);
        };
        // TTY-23: the session of a group, or else of a task, with that number
        let group = self.pids[object].group().map(|group| self.groups[group].session);
        let of_task = || Some(self.session_of(self.process_of(self.pids[object].task()?)));
        if group.or_else(of_task) != Some(self.session_of(process)) {
            return Err(Errno::EPERM);
        }
        fx.obey(rule!("TTY-23"));
        fx.obey(rule!("TTY-27"));
        if of.file.end() == End::Master {
            fx.obey(rule!("TTY-24"));
        }
        let pid = self.pids.identity(object);
        self.set_foreground(of.terminal, Foreground { pid, number: self.pids[object].pgid() });
        self.wake_sleepers(of.terminal);
        Ok(Ret::Value(0))
    }

    /// TIOCGSID.
    fn tiocgsid(&self, caller: Id<Task>, of: OpenFile, fx: &mut Effects) -> syscall::Result {
        fx.obey(rule!("TTY-25"));
        let session = self.session_controlled_by(of.terminal);
        let is_known = of.file.end() == End::Master || self.is_controlling(caller, of);
        match session.filter(|_| is_known) {
            Some(session) => Ok(Ret::Stored(self.sid_of(session).0 as i32)),
            None => Err(Errno::ENOTTY),
        }
    }

    /// The requests that concern the pty alone.
    fn request_of_pty(
        &mut self,
        caller: Id<Task>,
        of: OpenFile,
        request: &TerminalRequest,
    ) -> syscall::Result {
        let capable = self.administers_machine(caller);
        let may_insert = capable || self.is_controlling(caller, of);
        let own = self.terminal_mut(of.terminal).ok_or(Errno::EBADF)?;
        let (pty, file) = (&mut own.pty, &of.file);
        match request {
            TerminalRequest::Tcgets => return Ok(Ret::Termios(Box::new(*pty.termios()))),
            TerminalRequest::Tcsets(when, termios) => pty.set_termios(file, **termios, *when)?,
            TerminalRequest::Tcflsh(queue) => pty.flush(file, *queue)?,
            TerminalRequest::Tcxonc(action) => pty.control_flow(file, *action)?,
            // LD-10
            TerminalRequest::Tcsbrk(_) => {}
            TerminalRequest::Tiocgwinsz => return Ok(Ret::Winsize(pty.winsize())),
            TerminalRequest::Tiocswinsz(winsize) => pty.set_winsize(file, *winsize)?,
            TerminalRequest::Fionread => return Ok(Ret::Stored(pty.readable(file)? as i32)),
            TerminalRequest::Tiocsti(byte) => {
                if !may_insert {
                    return Err(Errno::EPERM); // LD-167
                }
                pty.insert_input(file, *byte)?;
            }
            // TTY-32
            TerminalRequest::Tiocsig(signal) => pty.signal(file, *signal)?,
            TerminalRequest::Tiocpkt(is_on) => pty.set_packet_mode(file, *is_on)?,
            TerminalRequest::Tiocsptlck(is_locked) => pty.set_locked(file, *is_locked)?,
            TerminalRequest::Tiocgptn if file.end() == End::Slave => return Err(Errno::ENOTTY),
            TerminalRequest::Tiocgptn => return Ok(Ret::Stored(of.terminal as i32)),
            TerminalRequest::Tiocvhangup => pty.vhangup(file, capable)?,
            TerminalRequest::Tiocexcl(is_exclusive) => pty.set_exclusive(file, *is_exclusive)?,
            TerminalRequest::Tiocsctty(_)
            | TerminalRequest::Tiocnotty
            | TerminalRequest::Tiocgpgrp
            | TerminalRequest::Tiocspgrp(_)
            | TerminalRequest::Tiocgsid => return Err(Errno::ENOTTY),
        }
        Ok(Ret::Value(0))
    }
}
