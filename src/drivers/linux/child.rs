//! A child of the operating system, from clone to exec.
//!
//! The child shares this process's memory and has its creator sleep (CLONE_VM, CLONE_VFORK): it
//! costs nothing to copy, however large the owner is. Until exec it may do nothing but make system
//! calls: no allocation, no lock, no panic.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::cgroup::CgroupJoin;
use super::command::{Prepared, above};
use super::orphans::Creation;
use super::pidfd;
use super::spawn_error::Step;

/// Bytes of stack for what the child does before exec.
const STACK: usize = 64 * 1024;
/// How many signals there are.
const SIGNALS: i32 = 64;
/// How often a program is tried again that a process has open for writing (ETXTBSY).
const BUSY_RETRIES: u32 = 7;
/// What runs a script that does not name its interpreter.
const SHELL: &CStr = c"/bin/sh";
/// clone3(2)'s.
#[cfg(target_arch = "x86_64")]
const CLONE_INTO_CGROUP: u64 = 1 << 33;
/// The child has the default action of each signal that is not ignored (Linux 5.5).
#[cfg(target_arch = "x86_64")]
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
/// The child leaves no zombie; its descriptor has its status (Linux 7.1).
#[cfg(target_arch = "x86_64")]
const CLONE_AUTOREAP: u64 = 1 << 34;
/// The child is killed when the descriptor from clone3 is closed everywhere (Linux 7.1).
#[cfg(target_arch = "x86_64")]
const CLONE_PIDFD_AUTOKILL: u64 = 1 << 36;

/// What went wrong in a child, and where.
#[derive(Clone, Copy, Debug)]
struct Failed {
    step: Step,
    errno: i32,
}

impl Failed {
    fn to_bytes(self) -> [u8; 5] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.step as u8, a, b, c, d]
    }

    /// The report of a copy of this very process.
    fn from_bytes(bytes: &[u8]) -> Option<Failed> {
        let (step, errno) = bytes.split_first()?;
        let errno = i32::from_ne_bytes(errno.try_into().ok()?);
        // SAFETY: it was a step in the child, which is of the same program
        let step = unsafe { core::mem::transmute::<u8, Step>(*step) };
        Some(Failed { step, errno })
    }
}

/// What the child works from.
struct Plan<'a> {
    prepared: &'a Prepared,
    args: Vec<*const libc::c_char>,
    /// The arguments of the shell that runs a file which the kernel does not take for a program;
    /// the place of the file's name is filled in then.
    shell_args: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    /// The entry of the environment that has the child's number.
    listen_pid: [u8; 24],
    owner: libc::pid_t,
    /// The cgroup that it is to be created in.
    target_cgroup: Option<&'a CgroupJoin>,
    /// The kernel has reset the child's handlers.
    are_handlers_reset: bool,
    failed: Option<Failed>,
    /// It has come as far as exec.
    executes: bool,
}

/// A child that has executed its program.
#[derive(Debug)]
pub(super) struct SpawnedChild {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// Pointers to strings, with the null at the end that exec wants.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([core::ptr::null()]).collect()
}

/// The arguments for the shell with which execvp(3) runs a script that does not name one.
fn shell_args(args: &[CString]) -> Vec<*const libc::c_char> {
    let name = [SHELL.as_ptr(), core::ptr::null()];
    name.into_iter().chain(pointers(args.get(1..).unwrap_or_default())).collect()
}

/// Creates a child that executes a program. It has done so when this returns.
///
/// # Errors
///
/// The step that failed, and its error.
pub(super) fn spawn(prepared: &Prepared) -> Result<SpawnedChild, (Step, io::Error)> {
    let is_busy = |(step, error): &(Step, io::Error)| {
        *step == Step::Exec && error.raw_os_error() == Some(libc::ETXTBSY)
    };
    // As execvp(3) of BSD does. A thread that has just written the program may have closed it,
    // while a child of another thread has a copy of the descriptor until its own exec. Each try is
    // a new child: one that was created before the file was closed has such a copy itself
    for retry in 0..BUSY_RETRIES {
        match spawn_once(prepared) {
            Err(failed) if is_busy(&failed) => {
                std::thread::sleep(Duration::from_millis(1 << retry));
            }
            result => return result,
        }
    }
    spawn_once(prepared)
}

fn spawn_once(prepared: &Prepared) -> Result<SpawnedChild, (Step, io::Error)> {
    let target_cgroup = prepared.cgroup.as_deref().filter(|cgroup| cgroup.can_clone_into());
    match (attempt(prepared, target_cgroup), target_cgroup) {
        (Err((Step::Killed, _)), Some(cgroup)) if cgroup.is_clone_refused() => {
            attempt(prepared, None)
        }
        (result, _) => result,
    }
}

impl<'a> Plan<'a> {
    fn new(prepared: &'a Prepared, target_cgroup: Option<&'a CgroupJoin>) -> Plan<'a> {
        Plan {
            prepared,
            args: pointers(&prepared.args),
            shell_args: shell_args(&prepared.args),
            env: pointers(&prepared.env),
            listen_pid: [0; 24],
            // SAFETY: no arguments
            owner: unsafe { libc::getpid() },
            target_cgroup,
            are_handlers_reset: false,
            failed: None,
            executes: false,
        }
    }

    /// Creates the child. It has executed its program, or ended, when this returns.
    fn carry_out(&mut self) -> io::Result<SpawnedChild> {
        // no handler of the owner may run in the child, which shares its memory: everything is
        // blocked until the child has reset its handlers
        let before = set_mask(libc::SIG_SETMASK, &full_set());
        // a child that ends before its descriptor is here is no orphan of another tree
        let _creation = Creation::begin();
        let spawned = clone(self);
        set_mask(libc::SIG_SETMASK, &before);
        spawned
    }
}

/// A child that was created to see what can be had, and is reaped.
#[derive(Debug)]
pub(super) struct Trial {
    pub pidfd: OwnedFd,
    /// Whether it was created in the cgroup.
    pub spawned: bool,
    /// Where it did not come as far as exec, what failed, and how; nothing if it was killed.
    pub failed: Option<Option<(Step, io::Error)>>,
}

/// Creates a child whose program is none, and reaps it.
pub(super) fn try_child(
    prepared: &Prepared,
    target_cgroup: Option<&CgroupJoin>,
) -> io::Result<Trial> {
    let mut plan = Plan::new(prepared, target_cgroup);
    let spawned = plan.carry_out()?;
    match pidfd::reap(spawned.pid, &spawned.pidfd, 0) {
        // the owner ignores SIGCHLD
        Err(error) if error.raw_os_error() != Some(libc::ECHILD) => return Err(error),
        _ => {}
    }
    let told =
        plan.failed.map(|Failed { step, errno }| (step, io::Error::from_raw_os_error(errno)));
    let failed = if plan.executes { None } else { Some(told) };
    Ok(Trial { pidfd: spawned.pidfd, spawned: plan.target_cgroup.is_some(), failed })
}

/// Whether the kernel kills a child when its descriptor is closed.
///
/// # Errors
///
/// What stands in the way.
pub(super) fn try_autokill() -> io::Result<()> {
    let prepared = super::command::Command::new("/").env_clear().autokill().prepare();
    let (prepared, _) = prepared.map_err(|(_, error)| error)?;
    let trial = try_child(&prepared, None)?;
    // the descriptor has to report its end, as there is no zombie
    pidfd::await_exit_status(&trial.pidfd).map(drop).ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, "no PIDFD_INFO_EXIT (Linux 6.15)")
    })
}

fn attempt(
    prepared: &Prepared,
    target_cgroup: Option<&CgroupJoin>,
) -> Result<SpawnedChild, (Step, io::Error)> {
    let mut plan = Plan::new(prepared, target_cgroup);
    let spawned = plan.carry_out().map_err(|error| (Step::Clone, error))?;
    let (step, error) = match plan.failed {
        None if plan.executes => return Ok(spawned),
        None => (Step::Killed, io::Error::from(io::ErrorKind::Interrupted)),
        Some(Failed { step, errno }) => (step, io::Error::from_raw_os_error(errno)),
    };
    match pidfd::reap(spawned.pid, &spawned.pidfd, 0) {
        // ECHILD: the owner ignores SIGCHLD, so the kernel has reaped it
        Err(error) if error.raw_os_error() != Some(libc::ECHILD) => Err((Step::Reap, error)),
        _ => Err((step, error)),
    }
}

/// Changes the mask of this thread; what it was.
fn set_mask(how: i32, set: &libc::sigset_t) -> libc::sigset_t {
    // SAFETY: both sets are ours; zeroes are a valid, empty one
    unsafe {
        let mut before = core::mem::zeroed();
        libc::pthread_sigmask(how, set, &mut before);
        before
    }
}

fn empty_set() -> libc::sigset_t {
    // SAFETY: zeroes are the empty set
    unsafe { core::mem::zeroed() }
}

/// The mask of this thread.
pub(super) fn mask() -> libc::sigset_t {
    set_mask(libc::SIG_BLOCK, &empty_set())
}

/// Runs a function with SIGTTOU blocked: otherwise SIGTTOU stops a process that changes the
/// foreground group of a terminal from the background, and a process that only handles it tries for
/// ever.
pub(super) fn without_ttou<T>(act: impl FnOnce() -> T) -> T {
    let mut ttou = empty_set();
    // SAFETY: the set is ours
    unsafe { libc::sigaddset(&mut ttou, libc::SIGTTOU) };
    let before = set_mask(libc::SIG_BLOCK, &ttou);
    let result = act();
    set_mask(libc::SIG_SETMASK, &before);
    result
}

/// Makes a group the foreground group of a terminal.
pub(super) fn set_foreground(terminal: RawFd, group: i32) -> io::Result<()> {
    // SAFETY: plain call on a descriptor
    let result = without_ttou(|| unsafe { libc::tcsetpgrp(terminal, group) });
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn full_set() -> libc::sigset_t {
    // SAFETY: the set is filled before it is read
    unsafe {
        let mut set = core::mem::zeroed();
        libc::sigfillset(&mut set);
        set
    }
}

/// Creates the child, in its cgroup where the kernel can do that: to move an existing process makes
/// all forks of the machine wait, and takes milliseconds if no process was moved lately.
fn clone(plan: &mut Plan) -> io::Result<SpawnedChild> {
    // not filled with zeroes: the child writes before it reads
    let mut stack = Vec::<u8>::with_capacity(STACK);
    let stack = stack.spare_capacity_mut().as_mut_ptr_range();
    // the psABI wants 16
    let top = stack.end.map_addr(|address| address & !15).cast::<libc::c_void>();
    #[cfg(target_arch = "x86_64")]
    if plan.target_cgroup.is_some() || plan.prepared.autokill {
        let size = top.addr() - stack.start.addr();
        match clone_into(plan, stack.start.cast(), size) {
            Err(error) if !is_final(&error) => {}
            result => return result,
        }
        if plan.prepared.autokill && plan.target_cgroup.take().is_some() {
            // it moves into its cgroup
            return clone_into(plan, stack.start.cast(), size);
        }
    }
    plan.target_cgroup = None;
    if plan.prepared.autokill {
        let why = "no CLONE_PIDFD_AUTOKILL (Linux 7.1)";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    match clone_sharing(plan, top) {
        Err(error) if !is_final(&error) => fork(plan),
        result => result,
    }
}

/// clone(2). The child shares this memory, and moves itself into its cgroup.
fn clone_sharing(plan: &mut Plan, top: *mut libc::c_void) -> io::Result<SpawnedChild> {
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let argument: *mut Plan = plan;
    // SAFETY: the child runs on a stack of its own, which lives until this call returns, as it
    // does only once the child has left this memory; `pidfd` is where the kernel stores it
    let pid = unsafe { libc::clone(run, top, flags, argument.cast(), &mut pidfd as *mut RawFd) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pidfd < 0 {
        end_by_number(pid);
        return Err(io::Error::new(io::ErrorKind::Unsupported, "no CLONE_PIDFD (Linux 5.2)"));
    }
    // SAFETY: the kernel has just opened it for us
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(SpawnedChild { pid, pidfd })
}

/// Ends a child of which there is no descriptor: it is not reaped, so the number is its own.
fn end_by_number(pid: libc::pid_t) {
    // SAFETY: plain calls; no status is wanted
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, core::ptr::null_mut(), 0);
    }
}

/// Whether no other way must be tried: a resource is exhausted, or a limit of the cgroup is
/// reached, which a process that moves in later would escape. Any other error comes from an old
/// kernel, from a filter that forbids this call, or from the cgroup; then the child reports the
/// error.
fn is_final(error: &io::Error) -> bool {
    let errno = error.raw_os_error().unwrap_or_default();
    [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE].contains(&errno)
}

/// clone3(2), which the C library does not offer. The child is created in the cgroup, if it is to
/// be.
#[cfg(target_arch = "x86_64")]
fn clone_into(plan: &mut Plan, stack: *mut libc::c_void, size: usize) -> io::Result<SpawnedChild> {
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;
    // SAFETY: zeroes are a valid request
    let mut args: libc::clone_args = unsafe { core::mem::zeroed() };
    // instead of two system calls for each signal: every kernel with CLONE_INTO_CGROUP has it
    args.flags = flags as u64 | CLONE_CLEAR_SIGHAND;
    plan.are_handlers_reset = true;
    args.pidfd = (&raw mut pidfd).addr() as u64;
    if plan.prepared.autokill {
        // such a child has no signal for its end
        args.flags |= CLONE_AUTOREAP | CLONE_PIDFD_AUTOKILL;
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = plan.target_cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.directory.as_raw_fd() as u64;
    }
    args.stack = stack.addr() as u64;
    args.stack_size = size as u64;
    let argument: *mut Plan = plan;
    let result: isize;
    // SAFETY: the child has nothing of this frame but two registers, and calls `run` on a stack of
    // its own, from which it does not return. The creator continues only once the child has left
    // this memory, with all registers as they were but those that a system call changes
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {argument}",
            "call {run}",
            "ud2",
            "2:",
            run = in(reg) run as extern "C" fn(*mut libc::c_void) -> libc::c_int,
            argument = in(reg) argument,
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") &raw const args,
            in("rsi") size_of::<libc::clone_args>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    if result < 0 {
        plan.are_handlers_reset = false;
        return Err(io::Error::from_raw_os_error(-result as i32));
    }
    // SAFETY: the kernel has just opened it for us
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(SpawnedChild { pid: result as i32, pidfd })
}

/// fork(2), where the kernel or a filter has no better: the child has a copy of this memory, and
/// tells through a pipe what it did.
fn fork(plan: &mut Plan) -> io::Result<SpawnedChild> {
    let (mut reader, writer) = io::pipe()?;
    // out of the way of the child's descriptors
    let writer = above(writer.into(), plan.prepared.fds.first_free)?;
    // SAFETY: the child makes nothing but system calls, as one that shares this memory does
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        run_forked(plan, writer.as_raw_fd());
    }
    drop(writer);
    // until it executes its program, or ends
    let mut told = Vec::new();
    let read = reader.read_to_end(&mut told);
    // it is not reaped: this is its number
    let pidfd = pidfd::open(pid).inspect_err(|_| end_by_number(pid))?;
    read?;
    plan.executes = told.first() == Some(&EXECUTES);
    plan.failed = Failed::from_bytes(told.get(1..).unwrap_or_default());
    Ok(SpawnedChild { pid, pidfd })
}

/// What the child of a fork says before its exec.
const EXECUTES: u8 = 1;

/// That child. What it says is whether it came as far as exec, and then what failed.
fn run_forked(plan: &mut Plan, told: RawFd) -> ! {
    let prepared = prepare(plan, told);
    // SAFETY: reads memory that is alive; if there is no reader, the owner is gone and SIGPIPE is
    // due
    let tell = |bytes: &[u8]| unsafe { libc::write(told, bytes.as_ptr().cast(), bytes.len()) };
    tell(&[if prepared.is_ok() { EXECUTES } else { 0 }]);
    let failed = prepared.err().unwrap_or_else(|| execute(plan));
    tell(&failed.to_bytes());
    // SAFETY: does not return, and runs nothing of the owner's
    unsafe { libc::_exit(127) }
}

/// The child. It ends by exec, or notes what failed and exits.
extern "C" fn run(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the creator passed it, and sleeps until this process has left its memory
    let plan = unsafe { &mut *argument.cast::<Plan>() };
    if let Err(failed) = prepare(plan, -1) {
        plan.failed = Some(failed);
    } else {
        plan.executes = true;
        plan.failed = Some(execute(plan));
    }
    // SAFETY: does not return, and runs nothing of the owner's
    unsafe { libc::_exit(127) }
}

/// The result of a system call, at that step.
fn check(step: Step, result: libc::c_long) -> Result<(), Failed> {
    if result >= 0 { Ok(()) } else { Err(Failed { step, errno: errno() }) }
}

fn errno() -> i32 {
    // SAFETY: the address of this thread's errno, which the sleeping creator does not use
    unsafe { *libc::__errno_location() }
}

/// Everything between clone and exec, in an order in which each step still may what it does. `kept`
/// is a descriptor that has to stay open until then.
fn prepare(plan: &Plan, kept: RawFd) -> Result<(), Failed> {
    let prepared = plan.prepared;
    if let Some(cgroup) = prepared.cgroup.as_ref().filter(|_| plan.target_cgroup.is_none()) {
        let cgroup = cgroup.directory.as_raw_fd();
        let flags = libc::O_WRONLY | libc::O_CLOEXEC;
        // SAFETY: a string that ends in zero
        let procs = unsafe { libc::openat(cgroup, c"cgroup.procs".as_ptr(), flags) };
        check(Step::Cgroup, procs.into())?;
        enter(procs)?;
    }
    for procs in &prepared.cgroups {
        enter(procs.as_raw_fd())?;
    }
    reset_handlers(prepared.default_signals, plan.are_handlers_reset);
    place(prepared)?;
    for (number, fd) in prepared.stdio.iter().enumerate() {
        if let Some(fd) = fd {
            // SAFETY: plain call; the copy is inherited
            check(Step::Stdio, unsafe { libc::dup2(*fd, number as i32) }.into())?;
        }
    }
    for (number, closed) in prepared.closed.iter().enumerate() {
        if *closed {
            // SAFETY: plain call; EBADF if it is closed already
            unsafe { libc::close(number as i32) };
        }
    }
    redirect(prepared)?;
    if let Some(terminal) = prepared.terminal {
        // SAFETY: plain call on a descriptor, which is open until exec
        check(Step::Terminal, unsafe { libc::ioctl(terminal, libc::TIOCSCTTY, 0) }.into())?;
    }
    if prepared.foreground {
        // every signal is blocked, SIGTTOU among them
        // SAFETY: plain calls on standard input
        let taken = unsafe { libc::tcsetpgrp(0, libc::getpgrp()) };
        check(Step::Terminal, taken.into())?;
    }
    if prepared.close_others {
        close_others(&prepared.fds.fds, kept)?;
    }
    for (resource, limit) in &prepared.limits {
        // SAFETY: the limit is only read
        let set = unsafe {
            libc::syscall(libc::SYS_prlimit64, 0, *resource, limit, core::ptr::null_mut::<u8>())
        };
        check(Step::Limit, set)?;
    }
    if let Some(directory) = &prepared.cwd {
        // SAFETY: a string that ends in zero
        check(Step::Cwd, unsafe { libc::chdir(directory.as_ptr()) }.into())?;
    }
    become_user(prepared)?;
    arm_parent_death(plan)?;
    if let Some(mask) = prepared.umask {
        // SAFETY: plain call, which does not fail
        unsafe { libc::umask(mask) };
    }
    let mask = prepared.mask.unwrap_or_else(empty_set);
    // SAFETY: a valid set
    let set = unsafe { libc::sigprocmask(libc::SIG_SETMASK, &mask, core::ptr::null_mut()) };
    check(Step::Mask, set.into())
}

/// Copies descriptors to their numbers, after the streams have theirs.
fn redirect(prepared: &Prepared) -> Result<(), Failed> {
    let merged = prepared.fds.stderr_to_stdout.then_some((2, 1));
    for (number, fd) in merged.iter().chain(&prepared.fds.fds) {
        // SAFETY: plain call; the copy is inherited, and overwrites no descriptor that is still
        // needed: those are above all numbers
        check(Step::Stdio, unsafe { libc::dup2(*fd, *number) }.into())?;
    }
    Ok(())
}

/// Has everything beyond the standard streams and `fds` closed by exec, or now.
fn close_others(fds: &[(RawFd, RawFd)], kept: RawFd) -> Result<(), Failed> {
    const FIRST: RawFd = 3;
    let last = u32::MAX;
    // what is between those, in ascending order: `kept` is above all numbers
    let close_ranges = |flags: libc::c_uint, kept: RawFd| {
        let mut first = FIRST as u32;
        let kept = (kept >= FIRST).then_some(kept);
        for number in fds.iter().map(|(number, _)| *number).chain(kept) {
            let number = number as u32;
            if first < number && !close_range(first, number - 1, flags) {
                return false;
            }
            first = number + 1;
        }
        close_range(first, last, flags)
    };
    // a descriptor that has close-on-exec loses nothing by it
    if close_ranges(libc::CLOSE_RANGE_CLOEXEC, -1) {
        return Ok(());
    }
    // Linux 5.9 and 5.10 can only close them
    if close_ranges(0, kept) {
        return Ok(());
    }
    // older, or a filter forbids it: one after the other, as many as there may be
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is ours to fill
    let got = unsafe {
        let (resource, none) = (libc::RLIMIT_NOFILE, core::ptr::null::<u8>());
        libc::syscall(libc::SYS_prlimit64, 0, resource, none, &mut limit)
    };
    check(Step::Stdio, got)?;
    let last = libc::c_int::try_from(limit.rlim_cur).unwrap_or(libc::c_int::MAX);
    for fd in FIRST..last {
        if fds.iter().any(|(number, _)| *number == fd) {
            continue;
        }
        // SAFETY: plain call; EBADF where there is none
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> bool {
    // SAFETY: plain call; nothing that is needed is closed
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) >= 0 }
}

/// In the cgroup before anything of the program runs.
fn enter(procs: RawFd) -> Result<(), Failed> {
    // 0 is the writer itself
    // SAFETY: one byte of a constant
    let written = unsafe { libc::write(procs, c"0".as_ptr().cast(), 1) };
    check(Step::Cgroup, written as libc::c_long)
}

/// Handlers point into memory that exec takes away, and must not run in this process before. A
/// signal that the owner ignores stays ignored, as nohup(1) and the shell's `&` rely on it, unless
/// all are to have their default action. SIGPIPE alone is always reset: Rust's runtime ignores it
/// at start.
/// `are_reset`: the kernel has reset the handlers, and what is ignored is left.
fn reset_handlers(all: bool, are_reset: bool) {
    // the kernel's own struct, of which nothing is larger: zeroes are SIG_DFL without flags
    let default = [0u64; 8];
    for signal in 1..=SIGNALS {
        if are_reset && !all && is_ignored_on_purpose(signal) {
            continue;
        }
        // handler, flags, restorer, mask
        let mut present = [0u64; 8];
        // SAFETY: the struct is ours to fill, and large enough
        unsafe {
            let none = core::ptr::null::<u8>();
            libc::syscall(libc::SYS_rt_sigaction, signal, none, &mut present, size_of::<u64>());
        }
        let is_meant = is_ignored_on_purpose(signal);
        if present[0] == libc::SIG_IGN as u64 && !all && is_meant {
            continue;
        }
        // SAFETY: the struct is only read; those that cannot be set fail without effect. The call
        // itself, as the C library's keeps accounts in memory that is the owner's, and leaves out
        // the signals that it uses
        unsafe {
            let none = core::ptr::null_mut::<u8>();
            libc::syscall(libc::SYS_rt_sigaction, signal, &default, none, size_of::<u64>());
        }
    }
}

/// Whether a caller can mean it if this signal is ignored: 32 and 33 are the C library's.
fn is_ignored_on_purpose(signal: i32) -> bool {
    ![libc::SIGPIPE, 32, 33].contains(&signal)
}

fn place(prepared: &Prepared) -> Result<(), Failed> {
    if prepared.session {
        // SAFETY: no arguments
        check(Step::Session, unsafe { libc::setsid() }.into())?;
    }
    if let Some(group) = prepared.group {
        // SAFETY: plain call
        check(Step::Group, unsafe { libc::setpgid(0, group) }.into())?;
    }
    Ok(())
}

/// Groups, group, user: raw calls, as the C library would change all threads of the owner.
fn become_user(prepared: &Prepared) -> Result<(), Failed> {
    if let Some(groups) = &prepared.groups {
        // SAFETY: a slice and its length
        let set = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        check(Step::Groups, set)?;
    }
    if let Some(gid) = prepared.gid {
        // SAFETY: plain call
        check(Step::Gid, unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    }
    if let Some(uid) = prepared.uid {
        // SAFETY: plain call
        check(Step::Uid, unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    }
    Ok(())
}

/// After the change of user, which clears it. If the owner has died since, the parent is another
/// process, whatever its number.
fn arm_parent_death(plan: &Plan) -> Result<(), Failed> {
    let Some(signal) = plan.prepared.parent_death else { return Ok(()) };
    // SAFETY: plain calls
    unsafe {
        check(Step::ParentDeath, libc::prctl(libc::PR_SET_PDEATHSIG, signal).into())?;
        if libc::getppid() != plan.owner {
            return Err(Failed { step: Step::ParentDeath, errno: libc::ESRCH });
        }
    }
    Ok(())
}

/// Tries each place where the program may be, as execvp(3) does, up to the end of PATH. It comes
/// back only if none is.
fn execute(plan: &mut Plan) -> Failed {
    name_listener(plan);
    let mut errno_seen = libc::ENOENT;
    for path in &plan.prepared.candidates {
        // SAFETY: strings and lists that end in zero
        unsafe { libc::execve(path.as_ptr(), plan.args.as_ptr(), plan.env.as_ptr()) };
        if errno() == libc::ENOEXEC {
            if let Some(name) = plan.shell_args.get_mut(1) {
                *name = path.as_ptr();
            }
            // SAFETY: as before; the list has the name of the file now, and ends in zero
            unsafe { libc::execve(SHELL.as_ptr(), plan.shell_args.as_ptr(), plan.env.as_ptr()) };
        }
        match errno() {
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
            // another place may have one that can be executed
            libc::EACCES => errno_seen = libc::EACCES,
            other => return Failed { step: Step::Exec, errno: other },
        }
    }
    Failed { step: Step::Exec, errno: errno_seen }
}

/// sd_listen_fds(3): the sockets are for the process that LISTEN_PID names.
fn name_listener(plan: &mut Plan) {
    const NAME: &[u8] = b"LISTEN_PID=";
    let place = plan.prepared.listen_pid.and_then(|place| plan.env.get_mut(place));
    let Some(place) = place else { return };
    // SAFETY: no arguments
    let mut number = unsafe { libc::getpid() }.unsigned_abs();
    // from its end: the last byte stays zero, and a number has at most ten digits
    let mut start = plan.listen_pid.len() - 1;
    loop {
        start -= 1;
        plan.listen_pid[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    start -= NAME.len();
    plan.listen_pid[start..start + NAME.len()].copy_from_slice(NAME);
    *place = plan.listen_pid[start..].as_ptr().cast();
}

/// Whether the caller is the thread that the program began with.
pub(super) fn is_main_thread() -> bool {
    // SAFETY: no arguments
    unsafe { libc::getpid() == libc::gettid() }
}
