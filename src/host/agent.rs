//! The code that runs in the processes of a test namespace.
//!
//! An agent is a thread that sleeps until its mailbox has a command, performs exactly that system
//! call and writes the result. It must not allocate, panic or call the C library: it may run in a
//! handler, in its parent's memory, beside other threads and without thread-local storage, or under
//! a limit that forbids most calls.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char, c_int};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64};

use super::raw;
use super::shared_memory::{
    ArgKind, INPUT_WORDS, Mailbox, OUTPUT_WORDS, Op, RecordKind, SharedMemory,
};
use super::terminal_files::{FILE_FD, FILES};
use super::{AGENT_ARG, CATCHER, RESTORER, ZYGOTE_ARG};
use crate::abi::{Resource, SaFlags};
use crate::syscall::MEMORY;

/// The descriptor of the shared memory in an agent.
pub(super) const WIRE_FD: i32 = 100;
/// The descriptor of an agent's own program.
pub(super) const EXE_FD: i32 = 101;
/// The path of that descriptor, through the thread's own directory, because a leader that has ended
/// has no descriptors (TG-87).
const EXE_PATH: &CStr = c"/proc/thread-self/fd/101";
/// The size of the stack of a thread, or of a process that shares its parent's memory. Several
/// handler frames are set up before the first handler runs (SIG-36), and a frame with AVX-512
/// registers takes 3 KiB.
const STACK: u64 = 1 << 20;
/// The number of words of struct clone_args, the whole input of clone3.
const CLONE_ARGS: usize = 8;
/// Below this address nothing is mapped.
const PAGE: u64 = 4096;
/// In the argument of a child's function: the child shares the descriptors.
const SHARES_FILES: u64 = 1 << 32;
/// The exit code of an agent that cannot continue.
const BROKEN: i32 = 99;

static WIRE: AtomicPtr<SharedMemory> = AtomicPtr::new(core::ptr::null_mut());
/// Whether this process is the zygote, which creates the first process of each test namespace.
static ZYGOTE: AtomicBool = AtomicBool::new(false);
/// Where the zygote's short-lived child stores the number of the first process.
static INIT_PID: AtomicU64 = AtomicU64::new(0);

/// Runs the agent and never returns, if this process was started as an agent; returns at once if
/// not.
///
/// A constructor calls this, before the Rust runtime ignores SIGPIPE and installs its handlers
/// for SIGSEGV and SIGBUS: execve has to be seen as the kernel left it (EXEC-01). See
/// [`host_entry`](crate::host_entry).
///
/// # Safety
///
/// `argv` is the argument vector that the C library passes to constructors, of `argc` strings.
pub unsafe fn agent_entry(argc: c_int, argv: *const *const c_char) {
    if argc < 2 {
        return;
    }
    // SAFETY: there are at least two arguments, each a string
    let first = unsafe { CStr::from_ptr(*argv.add(1)) };
    if first == AGENT_ARG && argc > 2 {
        // SAFETY: there are at least three
        let command = unsafe { CStr::from_ptr(*argv.add(2)) };
        map();
        resume_after_exec(number(command.to_bytes()));
        serve(0);
    } else if first == ZYGOTE_ARG {
        map();
        ZYGOTE.store(true, Relaxed);
        prepare();
        birth(0, 0);
        serve(0);
    }
}

/// Maps the shared memory, and its words a second time at the address that programs use.
fn map() {
    WIRE.store(map_at(0, size_of::<SharedMemory>() as u64, 0) as *mut SharedMemory, Relaxed);
    map_at(MEMORY, PAGE, libc::MAP_FIXED_NOREPLACE);
}

/// Maps the first `length` bytes of the shared memory.
fn map_at(address: u64, length: u64, flags: c_int) -> i64 {
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let flags = (libc::MAP_SHARED | flags) as u64;
    let args = [address, length, protection, flags, WIRE_FD as u64, 0];
    // SAFETY: a new mapping, at an address that is not in use
    let mapped = unsafe { raw::syscall(libc::SYS_mmap as u64, args) };
    if (-4095..0).contains(&mapped) || address != 0 && mapped as u64 != address {
        raw::exit(BROKEN);
    }
    mapped
}

fn memory() -> &'static SharedMemory {
    // SAFETY: `map` ran before everything else, the mapping is never removed, its fields are
    // atomic and zero is a valid value of each
    unsafe { &*WIRE.load(Relaxed) }
}

/// This thread's number and mailbox. The caller has to call it again after every system call, which
/// may have been a fork.
fn mailbox() -> (u32, &'static Mailbox) {
    let tid = if ZYGOTE.load(Relaxed) { 0 } else { raw::gettid() };
    match memory().slot(tid) {
        Some(slot) => (tid, slot),
        None => {
            memory().too_large.store(tid, Relaxed);
            raw::exit(BROKEN)
        }
    }
}

/// Sets the state that every program begins with.
fn prepare() {
    let action = [0u64; 4];
    for signal in 1..=64 {
        // KILL and STOP fail with EINVAL, and have no action to reset SAFETY: the kernel reads the
        // action
        unsafe {
            let args = [signal, action.as_ptr() as u64, 0, 8, 0, 0];
            raw::syscall(libc::SYS_rt_sigaction as u64, args);
        }
    }
    let empty = 0u64;
    let core = [memory().core_limit.load(Relaxed), u64::MAX];
    let none = [u64::MAX; 2];
    // SAFETY: the kernel reads the set
    unsafe {
        let args = [libc::SIG_SETMASK as u64, &raw const empty as u64, 0, 8, 0, 0];
        raw::syscall(libc::SYS_rt_sigprocmask as u64, args);
        raw::syscall(libc::SYS_umask as u64, [0o022, 0, 0, 0, 0, 0]);
    }
    limit(Resource::CORE, &core);
    limit(Resource::NPROC, &none);
    limit(Resource::SIGPENDING, &none);
}

/// Sets a limit; a value that the kernel refuses to raise is only lowered.
fn limit(resource: Resource, new: &[u64; 2]) {
    let resource = u64::from(resource.0);
    let mut old = [0u64; 2];
    let call = libc::SYS_prlimit64 as u64;
    // SAFETY: the kernel reads one of the buffers and writes the other
    unsafe {
        if raw::syscall(call, [0, resource, new.as_ptr() as u64, 0, 0, 0]) < 0 {
            raw::syscall(call, [0, resource, 0, old.as_mut_ptr() as u64, 0, 0]);
            let lower = [new[0].min(old[1]), old[1]];
            raw::syscall(call, [0, resource, lower.as_ptr() as u64, 0, 0, 0]);
        }
    }
}

/// Registers this new thread in the shared memory, as created by that command.
fn birth(depth: u32, command: u32) {
    let (tid, slot) = mailbox();
    slot.taken.store(slot.command.load(Acquire), Relaxed);
    slot.busy.store(0, Relaxed);
    slot.depth.store(depth, Relaxed);
    slot.tgid.store(raw::getpid(), Relaxed);
    slot.created_by.store(command, Relaxed);
    slot.host_pid.store(host_pid(), Release);
    // no agent creates the zygote
    if tid != 0 {
        memory().new_tasks.enter(tid);
    }
}

/// This thread's number in /proc, in the pid namespace for which /proc is mounted.
fn host_pid() -> u32 {
    let mut text = [0u8; 40];
    let path = c"/proc/thread-self";
    let args = [path.as_ptr() as u64, text.as_mut_ptr() as u64, text.len() as u64, 0, 0, 0];
    // SAFETY: the kernel writes at most that many bytes
    let length = unsafe { raw::syscall(libc::SYS_readlink as u64, args) };
    let length = usize::try_from(length).unwrap_or(0);
    text.get(..length).map_or(0, number)
}

/// The decimal number at the end of a text, such as 34 in "12/task/34".
fn number(text: &[u8]) -> u32 {
    text.iter().fold(0, |number: u32, byte| match byte {
        b'0'..=b'9' => number.wrapping_mul(10).wrapping_add(u32::from(byte.wrapping_sub(b'0'))),
        _ => 0,
    })
}

/// Completes a successful execve, which started this image. The calling thread, whichever it was,
/// has the leader's number now (EXEC-12), and the leader's mailbox: the last command of the old
/// leader completes no more.
fn resume_after_exec(command: u32) {
    let (tid, slot) = mailbox();
    slot.depth.store(0, Relaxed);
    slot.taken.store(slot.command.load(Acquire), Relaxed);
    memory().record(RecordKind::Returned, tid, command, 0, &[]);
}

/// Performs commands, without end or until the handler that runs this function receives the command
/// to return.
fn serve(depth: u32) {
    loop {
        let (_, slot) = mailbox();
        let command = slot.command.load(Acquire);
        if command == slot.taken.load(Relaxed) {
            slot.busy.store(0, Relaxed);
            raw::futex_wait(&slot.command, command);
            continue;
        }
        slot.busy.store(1, Relaxed);
        slot.taken.store(command, Relaxed);
        for _ in 0..slot.delay.load(Relaxed) {
            core::hint::spin_loop();
        }
        let op = Op::from_raw(slot.op.load(Relaxed));
        if op == Op::HandlerReturn && depth > 0 {
            return;
        }
        perform(slot, op, command, depth);
    }
}

/// The function of a new thread, and of a child in its parent's memory, which `command` created.
extern "C" fn child(command: u64) -> ! {
    if command & SHARES_FILES == 0 {
        close_masters();
    }
    birth(0, command as u32);
    serve(0);
    raw::exit(BROKEN)
}

/// Performs one command.
fn perform(slot: &Mailbox, op: Op, command: u32, depth: u32) {
    let mut input = [0u64; INPUT_WORDS];
    let words = slot.input_len.load(Relaxed) as usize;
    for (to, from) in input.iter_mut().zip(&slot.input).take(words) {
        *to = from.load(Relaxed);
    }
    let mut output = [0u64; OUTPUT_WORDS];
    let number = slot.number.load(Relaxed);
    let mut args = [0u64; 6];
    resolve(slot, &mut args, input.as_mut_ptr() as u64, output.as_mut_ptr() as u64);
    let value = match op {
        // SAFETY: pointers of these calls point to `input`, to `output`, to null or to addresses
        // that are never mapped
        Op::Plain | Op::HandlerReturn => unsafe { raw::syscall(number, args) },
        Op::Fork => {
            // SAFETY: the child gets a copy of this memory and returns from here as well
            let value = unsafe { raw::syscall(number, args) };
            if value == 0 {
                if !shares_files(number, &args, &input) {
                    close_masters();
                }
                return birth(depth, command);
            }
            value
        }
        Op::ForkSharing => fork_sharing(number, &args, &input, command),
        Op::Action => action(args, [input[0], input[1], input[2], input[3]], &mut output),
        Op::ExecSelf => exec_self(command),
        Op::MakeInit => make_init(&mut output),
        Op::Open => open_terminal(&args, &mut output),
        Op::WriteMaster => write_master(number, args),
        Op::Poll => {
            // SAFETY: as of `Op::Plain`
            let value = unsafe { raw::syscall(number, args) };
            // the kernel stores the result beside the arguments
            output.iter_mut().zip(&input).for_each(|(to, from)| *to = *from);
            value
        }
    };
    let (tid, _) = mailbox();
    memory().record(RecordKind::Returned, tid, command, value as u64, &output);
}

/// Replaces places in the buffers by pointers.
fn resolve(slot: &Mailbox, args: &mut [u64; 6], input: u64, output: u64) {
    let kinds = slot.kinds.load(Relaxed);
    for (nth, (to, from)) in args.iter_mut().zip(&slot.args).enumerate() {
        let value = from.load(Relaxed);
        let kind = kinds >> (2 * nth) & 3;
        *to = if kind == ArgKind::Input as u32 {
            input.wrapping_add(value.wrapping_mul(8))
        } else if kind == ArgKind::Output as u32 {
            output.wrapping_add(value.wrapping_mul(8))
        } else {
            value
        };
    }
}

/// Allocates a stack for a thread or a child in this memory; 0 if there is no memory. It is never
/// released before its last user ends, and the memory with it.
fn new_stack() -> u64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let args = [0, STACK, protection as u64, flags as u64, u64::MAX, 0];
    // SAFETY: a new mapping at an address that the kernel chooses
    let address = unsafe { raw::syscall(libc::SYS_mmap as u64, args) };
    if (-4095..0).contains(&address) { 0 } else { address as u64 }
}

/// vfork, clone or clone3 with CLONE_VM: the thread or child runs on a new stack.
fn fork_sharing(number: u64, args: &[u64; 6], input: &[u64; INPUT_WORDS], command: u32) -> i64 {
    let base = new_stack();
    if base == 0 {
        return -i64::from(libc::ENOMEM);
    }
    let top = base.wrapping_add(STACK);
    let [first, second, third, fourth, fifth, _] = *args;
    let files = if shares_files(number, args, input) { SHARES_FILES } else { 0 };
    let command = u64::from(command) | files;
    let mut args = [first, second, third, fourth, fifth];
    let mut structure = [0u64; CLONE_ARGS];
    if number == libc::SYS_clone as u64 {
        args[1] = top;
    } else if number == libc::SYS_clone3 as u64 {
        structure.copy_from_slice(&input[..CLONE_ARGS]);
        // stack and stack_size
        (structure[5], structure[6]) = (base, STACK);
        args[0] = structure.as_ptr() as u64;
    }
    // SAFETY: one of the three calls; the stack is new
    unsafe { raw::clone_sharing_memory(number, args, top, child, command) }
}

/// Whether the child of a fork shares the descriptors of its creator.
fn shares_files(number: u64, args: &[u64; 6], input: &[u64; INPUT_WORDS]) -> bool {
    let flags = if number == libc::SYS_clone as u64 {
        args[0]
    } else if number == libc::SYS_clone3 as u64 {
        input[0]
    } else {
        0
    };
    flags & libc::CLONE_FILES as u64 != 0
}

/// A new process closes its masters: the opener alone has them.
fn close_masters() {
    let masters = memory().masters.load(Relaxed);
    for file in (0..FILES).filter(|file| masters >> file & 1 != 0) {
        // SAFETY: the descriptor is an agent's own
        unsafe { raw::syscall(libc::SYS_close as u64, [(FILE_FD + file).into(), 0, 0, 0, 0, 0]) };
    }
}

/// open of a terminal; the file gets the descriptor that the last argument chooses. Stores the
/// number of the pty.
fn open_terminal(args: &[u64; 6], output: &mut [u64; OUTPUT_WORDS]) -> i64 {
    // SAFETY: the path is in the input
    let opened = unsafe { raw::syscall(libc::SYS_open as u64, [args[0], args[1], 0, 0, 0, 0]) };
    if (-4095..0).contains(&opened) {
        return opened;
    }
    let (opened, file) = (opened as u64, args[5]);
    let target = u64::from(FILE_FD).wrapping_add(file);
    let mut pty = 0u32;
    let to = &raw mut pty as u64;
    // SAFETY: TIOCGPTN stores an int; the descriptors are this agent's own
    unsafe {
        let number = [opened, libc::TIOCGPTN, to, 0, 0, 0];
        if raw::syscall(libc::SYS_ioctl as u64, number) == 0 {
            memory().masters.fetch_or(1 << (file & 63), Relaxed);
            output[0] = u64::from(pty);
        }
        raw::syscall(libc::SYS_dup2 as u64, [opened, target, 0, 0, 0, 0]);
        raw::syscall(libc::SYS_close as u64, [opened, 0, 0, 0, 0, 0]);
    }
    file as i64
}

/// write to a master. poll of the slave, whose descriptor is the last argument, has the kernel
/// process what was written, unless the slave has input already (LD-19).
fn write_master(number: u64, args: [u64; 6]) -> i64 {
    // struct pollfd: the descriptor, then events and revents
    let mut poll = [args[5] as u32, libc::POLLIN as u32];
    // SAFETY: the bytes are in the input; poll reads and writes its structure
    unsafe {
        let written = raw::syscall(number, [args[0], args[1], args[2], 0, 0, 0]);
        raw::syscall(libc::SYS_poll as u64, [poll.as_mut_ptr() as u64, 1, 0, 0, 0, 0]);
        written
    }
}

/// The flags that a caught signal needs in addition to the program's flags: the kernel fills in a
/// siginfo only with SA_SIGINFO, and starts no handler without SA_RESTORER.
const NEEDED: [u64; 2] = [SaFlags::SIGINFO.0 as u64, SaFlags::RESTORER.0 as u64];

/// rt_sigaction: the handler of a caught signal becomes [`recorder`], and the old action shows
/// [`CATCHER`] for a caught signal.
///
/// The choice of the restorer stores, in the kernel's own table, which flags were added: so this is
/// inherited, shared and reset like the action.
fn action(mut args: [u64; 6], mut new: [u64; 4], output: &mut [u64; OUTPUT_WORDS]) -> i64 {
    let own = recorder as *const () as u64;
    let [handler, flags, restorer, _] = &mut new;
    if *handler > 1 {
        *handler = own;
        let added = NEEDED.map(|flag| u64::from(*flags & flag == 0));
        *flags |= NEEDED[0] | NEEDED[1];
        *restorer = raw::restorer(added[0] | added[1] << 1);
    }
    // NULL and invalid addresses stay as they are
    if args[1] > PAGE {
        args[1] = new.as_ptr() as u64;
    }
    if args[2] > PAGE {
        args[2] = output.as_mut_ptr() as u64;
    }
    // SAFETY: the kernel reads `new` and writes `output`
    let value = unsafe { raw::syscall(libc::SYS_rt_sigaction as u64, args) };
    let [handler, flags, restorer, ..] = output;
    if *handler == own {
        *handler = CATCHER;
    }
    if let Some(added) = raw::nth_restorer(*restorer) {
        *flags &= !((NEEDED[0] * (added & 1)) | (NEEDED[1] * (added >> 1)));
        *restorer = if added >> 1 == 0 { RESTORER } else { 0 };
    }
    value
}

/// The handler of every caught signal.
extern "C" fn recorder(_signal: c_int, info: *const [u64; 16], _context: *const ()) {
    let (tid, slot) = mailbox();
    let (busy, depth) = (slot.busy.load(Relaxed), slot.depth.load(Relaxed));
    // SAFETY: the kernel passes a siginfo of 128 bytes, on this stack, whether SA_SIGINFO is set
    // or not
    let info = unsafe { &*info };
    memory().record(RecordKind::Handler, tid, 0, 0, info);
    if memory().hold.load(Relaxed) != 0 {
        slot.depth.store(depth.wrapping_add(1), Relaxed);
        serve(depth.wrapping_add(1));
        // the process may have forked before the handler returned
        let (_, slot) = mailbox();
        slot.depth.store(depth, Relaxed);
        slot.busy.store(busy, Relaxed);
    }
}

/// execve of the agent's own program. It uses an open descriptor, which works in any directory and
/// for any user. The new image receives the number of the command: if several threads execute, one
/// succeeds (EXEC-20).
fn exec_self(command: u32) -> i64 {
    let mut digits = [0u8; 11];
    let mut rest = command;
    for digit in digits.iter_mut().take(10).rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let own = digits.as_ptr().cast::<c_char>();
    let argv = [c"agent".as_ptr(), AGENT_ARG.as_ptr(), own, core::ptr::null()];
    let envp: [*const c_char; 1] = [core::ptr::null()];
    let args = [
        EXE_FD as u64,
        c"".as_ptr() as u64,
        argv.as_ptr() as u64,
        envp.as_ptr() as u64,
        libc::AT_EMPTY_PATH as u64,
        0,
    ];
    // SAFETY: the kernel reads strings and vectors that are alive
    let value = unsafe { raw::syscall(libc::SYS_execveat as u64, args) };
    if value != -i64::from(libc::ENOENT) {
        return value;
    }
    // a security module looks for the file by a path below /dev/fd (TOMOYO on Linux 5.10), which
    // does not exist in every root directory, nor in a process whose leader has ended: the call
    // found no file, so it has changed nothing
    let args = [EXE_PATH.as_ptr() as u64, argv.as_ptr() as u64, envp.as_ptr() as u64, 0, 0, 0];
    // SAFETY: the kernel reads strings and vectors that are alive
    unsafe { raw::syscall(libc::SYS_execve as u64, args) }
}

/// Creates the first process of a namespace, on behalf of the zygote.
///
/// It begins in a process group and a session that are not visible to it (GRP-22), that have no
/// other member (its programs call kill(0), KILL-14) and whose leader has ended. Its parent is the
/// controller (FORK-21), not the zygote.
fn make_init(output: &mut [u64; OUTPUT_WORDS]) -> i64 {
    static TOP: AtomicU64 = AtomicU64::new(0);
    if TOP.load(Relaxed) == 0 {
        let base = new_stack();
        if base == 0 {
            return -i64::from(libc::ENOMEM);
        }
        TOP.store(base.wrapping_add(STACK), Relaxed);
    }
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT | libc::SIGCHLD;
    let args = [flags as u64, TOP.load(Relaxed), 0, 0, 0];
    let number = libc::SYS_clone as u64;
    // SAFETY: clone; the previous user of that stack has exited, as CLONE_VFORK waits for it
    let value = unsafe { raw::clone_sharing_memory(number, args, args[1], leader_of_init, 0) };
    output[0] = INIT_PID.load(Relaxed);
    value
}

/// The process between the zygote and the first process of a test namespace.
extern "C" fn leader_of_init(_: u64) -> ! {
    let flags = libc::CLONE_NEWPID | libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: setsid touches no memory; the child of clone gets a copy of this memory
    let value = unsafe {
        raw::syscall(libc::SYS_setsid as u64, [0; 6]);
        raw::syscall(libc::SYS_clone as u64, [flags as u64, 0, 0, 0, 0, 0])
    };
    if value == 0 {
        ZYGOTE.store(false, Relaxed);
        birth(0, 0);
        serve(0);
    }
    INIT_PID.store(value as u64, Relaxed);
    raw::exit(0)
}
