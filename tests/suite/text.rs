//! The text format of strace: printer and parser, also on recorded logs.
//!
//! Long because each call, structure and error of the text format has its test here.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proctable::abi::*;
use proctable::syscall::text::{self, CallEnd, CallPrefix, ParseError, RestartCode};
use proctable::syscall::{
    MEMORY, Prctl, Ptr, QueuedInfo, Ret, Syscall, TerminalPath, TerminalRequest, clone,
};
use proctable::trace::{self, Entry, Log, LogEvent};
use proctable::tty::{FlowAction, Queue, SetTermios, Termios, Winsize};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// The recorded logs of a directory.
fn logs(directory: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces").join(directory);
    let paths = fs::read_dir(directory).expect("the directory of logs");
    let mut paths: Vec<_> = paths.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("a log"))).collect()
}

fn assert_same_lines(path: &Path, printed: &str, original: &str) {
    for (nth, (printed, original)) in printed.lines().zip(original.lines()).enumerate() {
        assert_eq!(printed, original, "{}:{}", path.display(), nth + 1);
    }
    assert_eq!(printed.len(), original.len(), "{}", path.display());
}

#[test]
fn sequential_logs_come_back_byte_for_byte() {
    let logs = logs("sequential");
    assert_eq!(logs.len(), 90);
    for (path, bytes) in logs {
        let log = trace::read(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let original = std::str::from_utf8(&bytes).expect("UTF-8");
        assert_same_lines(&path, &log.to_string(), original);
        let unknown = log
            .entries
            .iter()
            .any(|e| matches!(e.event, LogEvent::Other { .. } | LogEvent::OtherSignal { .. }));
        assert!(!unknown, "{}", path.display());
    }
}

#[test]
fn single_calls_of_the_logs_come_back_byte_for_byte() {
    let mut calls = 0;
    for (path, bytes) in logs("sequential") {
        for line in std::str::from_utf8(&bytes).expect("UTF-8").lines() {
            let (_, line) = line.split_once(' ').expect("a number");
            if !line.contains("unfinished") && !line.starts_with(['<', '-', '+']) {
                let (call, outcome) = text::parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
                // the mask is not a part of the call
                if call != Syscall::RtSigreturn {
                    assert_eq!(text::print(&call, &outcome).to_string(), line, "{path:?}");
                }
                calls += 1;
            }
        }
    }
    assert!(calls > 5000, "{calls}");
}

#[test]
fn real_logs_are_read() {
    let logs = logs("real");
    assert_eq!(logs.len(), 9);
    for (path, bytes) in logs {
        let log = trace::read(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(log.entries.len(), lines, "{}", path.display());
        for entry in &log.entries {
            if let LogEvent::Other { name, text } = &entry.event {
                assert_eq!(&**name, "ioctl", "{}: {text}", path.display());
            }
        }
        let again = trace::read(log.to_string().as_bytes()).expect("what was printed");
        assert_eq!(again, log, "{}", path.display());
    }
}

/// Lines of strace 6.1, or of the recorder where the two differ.
#[test]
fn calls_are_written_as_strace_does() {
    let lines = include_str!("../traces/calls.strace");
    for line in lines.lines() {
        let (call, outcome) = text::parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(text::print(&call, &outcome).to_string(), line);
    }
}

fn parsed(line: &str) -> (Syscall, CallEnd) {
    text::parse(line).unwrap_or_else(|e| panic!("{line}: {e}"))
}

#[test]
fn null_and_bad_pointers_differ() {
    for (pointer, ptr) in [("NULL", Ptr::Null), ("0x1", Ptr::Bad), ("0x5", Ptr::Valid)] {
        let (call, _) = parsed(&format!("wait4(-1, {pointer}, 0, NULL) = -1 ECHILD (No child)"));
        assert_eq!(call, Syscall::Wait4 { pid: -1, status: ptr, options: WaitOptions(0) });
    }
}

#[test]
fn a_missing_program_is_an_error_of_its_path() {
    let (call, outcome) = parsed(
        "execve(\"./missing\", [\"a\", \"b\"...], 0x7f /* 3 vars */) = -1 ENOENT (No such file or directory)",
    );
    assert_eq!(call, Syscall::Execve { path: "./missing".into(), error: Some(Errno::ENOENT) });
    assert_eq!(outcome, Err(Errno::ENOENT).into());
    let (call, _) = parsed("execve(\"/bin/\\303\\251\", NULL, NULL) = 0");
    assert_eq!(call, Syscall::Execve { path: "/bin/é".into(), error: None });
}

#[test]
fn foreign_forms_are_understood() {
    for (line, canonical) in [
        ("getpid()                          = 20726", "getpid() = 20726"),
        (
            "waitid(P_ALL, -1, NULL, WEXITED|WSTOPPED, {ru_utime={tv_sec=0, tv_usec=5}, ...}) = 0",
            "waitid(P_ALL, -1, NULL, WSTOPPED|WEXITED, NULL) = 0",
        ),
        (
            "wait4(-1, NULL, WUNTRACED|0x100 /* W??? */, NULL) = -1 EINVAL (Invalid argument)",
            "wait4(-1, NULL, WSTOPPED|0x100, NULL) = -1 EINVAL (Invalid argument)",
        ),
        (
            "rt_sigtimedwait([USR1], NULL, NULL, 8) = 10 (SIGUSR1)",
            "rt_sigtimedwait([USR1], NULL, NULL, 8) = 10",
        ),
        (
            "clone3({flags=CLONE_PARENT_SETTID, child_tid=0x7f, parent_tid=0x7e0000, exit_signal=SIGCHLD, stack=0x5, stack_size=0x9000, tls=0x7} => {parent_tid=[7]}, 88) = 7",
            "clone3({flags=CLONE_PARENT_SETTID, parent_tid=0x7e0000, exit_signal=SIGCHLD, stack=NULL, stack_size=0} => {parent_tid=[7]}, 88) = 7",
        ),
    ] {
        let (call, outcome) = parsed(line);
        assert_eq!(text::print(&call, &outcome).to_string(), canonical);
    }
}

#[test]
fn errors_name_the_place_and_what_was_expected() {
    for (log, line, column, what) in [
        ("1 kill(2, SIGTERM) = 0\n1 kill(x, 9) = 0", 2, 8, "expected a number"),
        ("1 kill(2, SIGFOO) = 0", 1, 11, "expected a signal"),
        ("1 kill(2, SIGHUP = 0", 1, 18, "expected `)`"),
        ("1 kill(2, SIGHUP) 0", 1, 19, "expected `=`"),
        ("1 kill(2, SIGHUP) = 0 x", 1, 23, "expected the end of the line"),
        ("1 kill(2, SIGHUP) = -1 EFOO (Foo)", 1, 24, "expected the name of an error"),
        ("1 kill(99999999999, 0) = 0", 1, 8, "expected a number of 32 bits"),
        ("\n\n1 hello", 3, 3, "expected a call, `<...`, `---` or `+++`"),
        (
            "1 <... wait4 resumed>0x5, 0, NULL) = 2",
            1,
            3,
            "expected an unfinished call of this process before",
        ),
        (
            "1 pause( <unfinished ...>\n1 <... wait4 resumed>) = 2",
            2,
            8,
            "expected `pause`, unfinished since line 1",
        ),
        (
            "1 pause( <unfinished ...>\n1 pause( <unfinished ...>",
            2,
            3,
            "expected the unfinished pause of line 1 to be resumed first",
        ),
        (
            "1 wait4(-1,  <unfinished ...>\n1 <... wait4 resumed>0x5, FOO, NULL) = 2",
            2,
            27,
            "expected flags",
        ),
        ("1 wait4(x,  <unfinished ...>\n", 1, 9, "expected a number"),
        ("1 --- SIGFOO {} ---", 1, 7, "expected a signal"),
        ("1 --- SIGHUP {si_signo=SIGHUP ---", 1, 30, "expected `,`"),
        (
            "1 +++ gone +++",
            1,
            7,
            "expected `exited with`, `killed by` or `superseded by execve in pid`",
        ),
        ("99999999999 pause() = 1", 1, 1, "expected the number of a process"),
        (
            "1 fork(strace: Process 2 attached\n",
            1,
            8,
            "expected the rest of the call on the next line",
        ),
    ] {
        let error = trace::read(log.as_bytes()).expect_err(log);
        assert_eq!((error.line, error.column, &*error.what), (line, column, what), "{log}");
    }
    let error = trace::read(b"1 pause() = 1\n1 ca\xfft").expect_err("not UTF-8");
    assert_eq!(error, ParseError { line: 2, column: 5, what: "expected UTF-8".into() });
    assert_eq!(error.to_string(), "line 2, column 5: expected UTF-8");
}

fn events(log: &str) -> Vec<(u32, u32, LogEvent)> {
    let log = trace::read(log.as_bytes()).unwrap_or_else(|e| panic!("{log}: {e}"));
    log.entries.into_iter().map(|e| (e.line, e.pid.0, e.event)).collect()
}

#[test]
fn unfinished_and_resumed_lines_form_one_call() {
    let call = Syscall::Wait4 { pid: -1, status: Ptr::Valid, options: WaitOptions::NOHANG };
    let ret = Ret::Waited { pid: Pid(2), status: Some(WaitStatus::exited(3)) };
    assert_eq!(
        events(
            "1 wait4(-1,  <unfinished ...>\n2 +++ exited with 3 +++\n\n1 <... wait4 resumed>[{WIFEXITED(s) && WEXITSTATUS(s) == 3}], WNOHANG, NULL) = 2\n"
        ),
        [
            (1, 1, LogEvent::Unfinished(CallPrefix::Complete(call.clone()))),
            (2, 2, LogEvent::Exited(3)),
            (4, 1, LogEvent::Resumed { call, outcome: Ok(ret).into() }),
        ]
    );
}

#[test]
fn an_unfinished_call_keeps_its_unseen_arguments_unknown() {
    let wait = Syscall::Wait4 { pid: -1, status: Ptr::Valid, options: WaitOptions::default() };
    let cut = CallPrefix::Partial(wait);
    assert_eq!(
        events("1 wait4(-1,  <unfinished ...>\n1 +++ killed by SIGKILL +++\n"),
        [
            (1, 1, LogEvent::Unfinished(cut.clone())),
            (2, 1, LogEvent::Killed { signal: Signal::KILL, core: false }),
        ]
    );
    assert_eq!(
        events("1 wait4(-1,  <unfinished ...>\n1 <... wait4 resumed> <unfinished ...>) = ?\n"),
        [(1, 1, LogEvent::Unfinished(cut.clone())), (2, 1, LogEvent::ResumedCut(cut.clone())),]
    );
    assert_eq!(events("1 wait4(-1,  <unfinished ...>)        = ?\n"), [(1, 1, LogEvent::Cut(cut))]);
}

#[test]
fn lines_may_begin_with_pids_and_times() {
    let pause = || LogEvent::Call { call: Syscall::Getpid, outcome: Ok(Ret::Value(1)).into() };
    for (line, pid) in [
        ("getpid() = 1", 0),
        ("12345 getpid() = 1", 12345),
        ("123   getpid() = 1", 123),
        ("[pid   123] getpid() = 1 <0.000012>", 123),
        ("12:34:56 getpid() = 1", 0),
        ("7 12:34:56.123456 getpid() = 1", 7),
        ("7 1700000000.123456 getpid() = 1", 7),
        ("7 1700000000 getpid() = 1", 7),
        ("1700000000.123456 getpid() = 1", 0),
        ("     0.000123 getpid() = 1", 0),
        ("7      0.000123 getpid() = 1 <0.000012>", 7),
        ("7 12:34:56 (+     0.000123) getpid() = 1", 7),
    ] {
        assert_eq!(events(line), [(1, pid, pause())], "{line}");
    }
}

#[test]
fn the_remarks_of_strace_are_recognised() {
    let log = "\
strace: Process 5 attached
1 +++ superseded by execve in pid 5 +++
1 --- stopped by SIGSTOP ---
1 +++ killed by SIGSEGV (core dumped) +++
1 --- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=NULL} ---
1 rt_sigreturn({mask=[HUP]}) = -1 EINTR (Interrupted system call)
1 rt_sigreturn({mask=[]} <unfinished ...>
1 <... rt_sigreturn resumed>) = 39
1 openat(AT_FDCWD, \"x\", O_RDONLY <unfinished ...>
1 <... openat resumed>) = 3
1 prctl(PR_SET_NAME, \"x\") = 0
";
    let read = trace::read(log.as_bytes()).expect("a log");
    assert_eq!(read.to_string(), log);
    let others = read.entries.iter().filter(|e| matches!(e.event, LogEvent::Other { .. }));
    assert_eq!(others.count(), 3);
    assert_eq!(read.entries[0].event, LogEvent::Notice("strace: Process 5 attached".into()));
    assert_eq!(read.entries[1].event, LogEvent::Superseded(Pid(5)));
}

#[test]
fn an_exec_by_a_thread_moves_its_call() {
    let log = "\
6 execve(\"./x\", [\"x\"], 0x7ffc0000 /* 0 vars */ <unfinished ...>
5 pause( <unfinished ...>
5 +++ superseded by execve in pid 6 +++
5 <... execve resumed>) = 0
";
    let call = Syscall::Execve { path: "./x".into(), error: None };
    assert_eq!(
        events(log)[3],
        (4, 5, LogEvent::Resumed { call, outcome: Ok(Ret::Value(0)).into() })
    );
}

#[test]
fn a_thread_keeps_its_calls_when_its_number_changes() {
    let log = "\
6 execve(\"./x\", [\"x\"], 0x7ffc0000 /* 0 vars */ <pid changed to 5 ...>
5 +++ superseded by execve in pid 6 +++
5 <... execve resumed>) = 0
7 ???( <unfinished ...>
7 +++ exited with 0 +++
8 ???() = ?
";
    let call = Syscall::Execve { path: "./x".into(), error: None };
    let events = events(log);
    assert_eq!(events[0].2, LogEvent::Unfinished(CallPrefix::Complete(call.clone())));
    assert_eq!(events[2], (3, 5, LogEvent::Resumed { call, outcome: Ok(Ret::Value(0)).into() }));
    // a call that a thread did not make because it had to end
    assert!(matches!(events[3].2, LogEvent::Other { .. }));
    assert!(matches!(events[5].2, LogEvent::Other { .. }));
}

/// The lines of strace 6.1 for calls that create and address threads.
const THREADS: &str = "\
6 set_tid_address(0x7f9b10179a10)         = 6
6 clone3({flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD|CLONE_SYSVSEM|\
CLONE_SETTLS|CLONE_PARENT_SETTID|CLONE_CHILD_CLEARTID, child_tid=0x7f9b10178990, \
parent_tid=0x7f9b10178990, exit_signal=0, stack=0x7f9b0f978000, stack_size=0x7fff80, \
tls=0x7f9b101786c0} => {parent_tid=[7]}, 88) = 7
6 rt_tgsigqueueinfo(6, 7, SIGUSR1, {si_signo=SIGUSR1, si_code=SI_QUEUE, si_pid=5, si_uid=0, \
si_int=7, si_ptr=0x7}) = 0
6 clone(child_stack=0x557d8cb3e0b0, flags=CLONE_VM|CLONE_SIGHAND|CLONE_THREAD|CLONE_SETTLS|\
CLONE_PARENT_SETTID|CLONE_CHILD_CLEARTID <unfinished ...>
6 <... clone resumed>, parent_tid=[8], tls=0x7ffdaa510ac0, child_tidptr=0x557d8cb3e0c4) = 8
6 clone3({flags=CLONE_PARENT_SETTID|CLONE_CHILD_SETTID, child_tid=0x8, parent_tid=0x8, \
exit_signal=SIGCHLD, stack=NULL, stack_size=0} <unfinished ...>
6 <... clone3 resumed> => {parent_tid=0x8}, 88) = 9
6 clone(child_stack=NULL, flags=CLONE_PARENT_SETTID|0x400000|SIGCHLD, parent_tid=NULL) = 10
6 unshare(CLONE_NEWTIME|CLONE_FS|0x4)     = -1 EINVAL (Invalid argument)
6 set_tid_address(0)                      = 6
";

#[test]
fn calls_that_create_and_signal_threads_are_read() {
    let thread = clone::VM | clone::SIGHAND | clone::THREAD;
    let ids = clone::SETTLS | clone::PARENT_SETTID | clone::CHILD_CLEARTID;
    let shared = clone::FS | clone::FILES | clone::SYSVSEM;
    let to_both = clone::PARENT_SETTID | clone::CHILD_SETTID;
    let info = QueuedInfo { code: -1, pid: 5, uid: 0, value: 7 };
    let call = |flags, clone3, parent_tid, child_tid| Syscall::Clone {
        flags,
        clone3,
        parent_tid,
        child_tid,
    };
    let detached = clone::PARENT_SETTID | clone::DETACHED | 17;
    let expected = [
        Syscall::SetTidAddress(0x7f9b_1017_9a10),
        call(thread | shared | ids, Some(0), 0x7f9b_1017_8990, 0x7f9b_1017_8990),
        Syscall::RtTgsigqueueinfo { tgid: 6, tid: 7, sig: 10, info: Some(info) },
        // the log shows the number that was stored at an address, and not the address
        call(thread | ids, None, MEMORY, 0x557d_8cb3_e0c4),
        call(to_both, Some(17), 8, 8),
        call(detached, None, 0, 0),
        Syscall::Unshare(clone::NEWTIME | clone::FS | 4),
        Syscall::SetTidAddress(0),
    ];
    let calls: Vec<Syscall> = events(THREADS)
        .into_iter()
        .filter_map(|(_, _, event)| match event {
            LogEvent::Call { call, .. } | LogEvent::Resumed { call, .. } => Some(call),
            _ => None,
        })
        .collect();
    assert_eq!(calls, expected);
    // a call that was not resumed: only its flags are known
    let cut =
        events("6 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD <unfinished ...>\n");
    let flags = clone::CHILD_SETTID | 17;
    assert_eq!(cut[0].2, LogEvent::Unfinished(CallPrefix::Partial(Syscall::clone_call(flags))));
}

#[test]
fn a_result_that_fits_in_no_word_was_not_stored() {
    for flags in [clone::PARENT_SETTID, clone::PIDFD] {
        let call = Syscall::Clone { flags, clone3: None, parent_tid: MEMORY, child_tid: 0 };
        for number in [i64::from(i32::MIN) - 1, -1, 7, i64::from(i32::MAX) + 1] {
            let outcome: CallEnd = Ok(Ret::Value(number)).into();
            let line = text::print(&call, &outcome).to_string();
            assert_eq!(text::parse(&line), Ok((call.clone(), outcome)), "{line}");
        }
    }
}

#[test]
fn a_line_that_a_terminal_notice_interrupts_is_read() {
    let log = "\
clone(child_stack=NULL, flags=SIGCHLDstrace: Process 7 attached
, child_tidptr=0x7f) = 7
vfork(strace: Process 8 attached
 <unfinished ...>
[pid     8] exit_group(0) = ?
[pid     8] +++ exited with 0 +++
<... vfork resumed>) = 8
";
    let fork = Syscall::clone_call;
    let events = events(log);
    assert_eq!(
        events[1],
        (2, 0, LogEvent::Call { call: fork(17), outcome: Ok(Ret::Value(7)).into() })
    );
    let outcome = Ok(Ret::Value(8)).into();
    assert_eq!(events[6].2, LogEvent::Resumed { call: Syscall::Vfork, outcome });
}

#[test]
fn parse_time_is_linear_in_the_length_of_a_line() {
    let long = 4_000_000;
    for line in [
        format!("1 {}", "(".repeat(long)),
        format!("1 write({}", "\"".repeat(long)),
        format!("1 {}", "7".repeat(long)),
        "7 ".repeat(long),
        format!("1 execve(\"a\", {}", "/*".repeat(long)),
        format!("1 execve(\"a\", {}", "[".repeat(long)),
        format!("1 rt_sigpending([{}], 8) = 0", " ".repeat(long)),
        format!("1 rt_sigpending([{}], 8) = 0", "HUP ".repeat(long)),
        format!("1 wait4(1, 0x5, {}0, NULL) = 0", "0|".repeat(long)),
        format!("1 x{}", " <1>".repeat(long)),
        format!("1 <... {}", " resumed>".repeat(long)),
    ] {
        // the line need not be a call
        drop(trace::read(line.as_bytes()));
    }
}

fn ptr() -> impl Strategy<Value = Ptr> {
    prop_oneof![Just(Ptr::Null), Just(Ptr::Valid), Just(Ptr::Bad)]
}

fn signal() -> impl Strategy<Value = Signal> {
    (1..=64).prop_map(|n| Signal::new(n).expect("1 to 64"))
}

fn sigset() -> impl Strategy<Value = SigSet> {
    let sparse = (any::<u64>(), any::<u64>()).prop_map(|(a, b)| a & b);
    let dense = (any::<u64>(), any::<u64>()).prop_map(|(a, b)| a | b);
    prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), sparse, dense].prop_map(SigSet::from_bits)
}

fn i32s() -> impl Strategy<Value = i32> {
    prop_oneof![-2..70, any::<i32>()]
}

fn u64s() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..70, any::<u64>(), Just(u64::MAX), (0_u64..1 << 54).prop_map(|n| n * 1024)]
}

fn i64s() -> impl Strategy<Value = i64> {
    prop_oneof![-2_i64..70, any::<i64>()]
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![Just(8), any::<usize>()]
}

fn paths() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![".*", "[\\x00-\\x7f]*", "[./a-z0-9\"\\\\]*"].prop_map(Arc::from)
}

fn errnos() -> impl Strategy<Value = Errno> {
    prop_oneof![proptest::sample::select(Errno::NAMED), any::<u16>().prop_map(Errno)]
}

fn actions() -> impl Strategy<Value = SigAction> {
    (u64s(), any::<u32>(), sigset(), any::<u64>()).prop_map(|(handler, flags, mask, restorer)| {
        let flags = SaFlags(flags);
        // strace does not show a restorer without its flag
        let restorer = if flags.contains(SaFlags::RESTORER) { restorer } else { 0 };
        SigAction { handler: Handler::from_raw(handler), flags, mask, restorer }
    })
}

fn infos() -> impl Strategy<Value = SigInfo> {
    let codes = prop_oneof![-7..8, Just(0x80), any::<i32>()];
    (signal(), codes, any::<u32>(), any::<u32>(), u64s()).prop_map(
        |(signal, code, pid, uid, value)| SigInfo {
            signal,
            code: SiCode(code),
            pid: Pid(pid),
            uid: Uid(uid),
            value,
        },
    )
}

fn timevals() -> impl Strategy<Value = Timeval> {
    (i64s(), i64s()).prop_map(|(sec, usec)| Timeval { sec, usec })
}

fn timers() -> impl Strategy<Value = Itimerval> {
    (timevals(), timevals()).prop_map(|(interval, value)| Itimerval { interval, value })
}

fn limits() -> impl Strategy<Value = Rlimit> {
    (u64s(), u64s()).prop_map(|(soft, hard)| Rlimit { soft, hard })
}

fn statuses() -> impl Strategy<Value = WaitStatus> {
    prop_oneof![
        any::<u32>().prop_map(WaitStatus),
        (0..0x10000_u32).prop_map(WaitStatus),
        (0..256).prop_map(WaitStatus::exited),
        signal().prop_map(WaitStatus::stopped),
        (signal(), any::<bool>()).prop_map(|(signal, core)| WaitStatus::killed(signal, core)),
    ]
}

fn options() -> impl Strategy<Value = WaitOptions> {
    prop_oneof![(0..16_u32), any::<u32>()].prop_map(WaitOptions)
}

/// The end of a call that does not succeed.
fn ends() -> impl Strategy<Value = CallEnd> {
    let restart = prop_oneof![
        Just(RestartCode::Sys),
        Just(RestartCode::NoIntr),
        Just(RestartCode::NoHand),
        Just(RestartCode::Block)
    ];
    prop_oneof![
        errnos().prop_map(|errno| Err(errno).into()),
        restart.prop_map(CallEnd::Interrupted),
        Just(Ok(Ret::Never).into()),
    ]
}

/// A call with a result of its type, or another end.
fn ending<C, R>(
    calls: impl Strategy<Value = C> + 'static,
    make: impl Fn(&C) -> (Syscall, Ptr) + 'static,
    stored: impl Strategy<Value = R> + 'static,
    ret: impl Fn(Option<R>) -> Ret + 'static,
) -> BoxedStrategy<(Syscall, CallEnd)>
where
    C: std::fmt::Debug,
    R: std::fmt::Debug + Clone,
{
    (calls, option::of(ends()), option::of(stored))
        .prop_map(move |(parts, end, stored)| {
            let (call, ptr) = make(&parts);
            // the kernel stores only to memory of the caller
            let stored = stored.filter(|_| ptr == Ptr::Valid);
            (call, end.unwrap_or_else(|| Ok(ret(stored)).into()))
        })
        .boxed()
}

/// A call that returns a number.
fn number(calls: impl Strategy<Value = Syscall> + 'static) -> BoxedStrategy<(Syscall, CallEnd)> {
    (calls, option::of(ends()), i64s())
        .prop_map(|(call, end, n)| (call, end.unwrap_or_else(|| Ok(Ret::Value(n)).into())))
        .boxed()
}

/// Addresses that the parser reads as they are printed: of a valid address strace prints only its
/// value.
fn addresses() -> impl Strategy<Value = u64> {
    proptest::sample::select(vec![0, 8, MEMORY])
}

/// A clone with the addresses that its flags use.
fn clones((flags, clone3, parent, child): (u64, Option<u64>, u64, u64)) -> Syscall {
    let to_parent = match clone3 {
        Some(_) => clone::PARENT_SETTID,
        None => clone::PARENT_SETTID | clone::PIDFD,
    };
    let parent_tid = if flags & to_parent != 0 { parent } else { 0 };
    let to_child = clone::CHILD_SETTID | clone::CHILD_CLEARTID;
    let child_tid = if flags & to_child != 0 { child } else { 0 };
    Syscall::Clone { flags, clone3, parent_tid, child_tid }
}

fn plain_calls() -> impl Strategy<Value = Syscall> {
    use Syscall::*;
    prop_oneof![
        proptest::sample::select(vec![
            Fork,
            Vfork,
            Getpgrp,
            Setsid,
            Getpid,
            Gettid,
            Getppid,
            Pause,
            Getuid,
            Geteuid,
            RtSigreturn,
        ]),
        (u64s(), option::of(u64s()), addresses(), addresses()).prop_map(clones),
        u64s().prop_map(Unshare),
        u64s().prop_map(SetTidAddress),
        i32s().prop_map(Exit),
        i32s().prop_map(ExitGroup),
        (i32s(), i32s()).prop_map(|(pid, pgid)| Setpgid { pid, pgid }),
        i32s().prop_map(Getpgid),
        i32s().prop_map(Getsid),
        (i32s(), i32s()).prop_map(|(pid, sig)| Kill { pid, sig }),
        (i32s(), i32s()).prop_map(|(tid, sig)| Tkill { tid, sig }),
        (i32s(), i32s(), i32s()).prop_map(|(tgid, tid, sig)| Tgkill { tgid, tid, sig }),
        (i32s(), i32s(), option::of((i32s(), any::<u32>(), any::<u32>(), u64s()))).prop_map(
            |(pid, sig, info)| RtSigqueueinfo {
                pid,
                sig,
                info: info.map(|(code, pid, uid, value)| QueuedInfo { code, pid, uid, value }),
            }
        ),
        (i32s(), i32s(), i32s(), option::of((i32s(), any::<u32>(), any::<u32>(), u64s())))
            .prop_map(|(tgid, tid, sig, info)| RtTgsigqueueinfo {
                tgid,
                tid,
                sig,
                info: info.map(|(code, pid, uid, value)| QueuedInfo { code, pid, uid, value }),
            }),
        (sigset(), sizes()).prop_map(|(mask, size)| RtSigsuspend { mask, size }),
        any::<u32>().prop_map(Alarm),
        u64s().prop_map(|n| Prctl(self::Prctl::SetPdeathsig(n))),
        u64s().prop_map(|n| Prctl(self::Prctl::SetChildSubreaper(n))),
        u64s().prop_map(|n| Prctl(self::Prctl::SetDumpable(n))),
        Just(Prctl(self::Prctl::GetDumpable)),
        any::<u32>().prop_map(Setuid),
        (any::<u32>(), Just(u32::MAX)).prop_map(|(real, effective)| Setreuid { real, effective }),
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(real, effective, saved)| Setresuid {
            real,
            effective,
            saved
        }),
        any::<u32>().prop_map(Umask),
    ]
}

fn settings() -> impl Strategy<Value = Termios> {
    let flags = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    let rest = (any::<u8>(), any::<[u8; 19]>(), any::<u32>(), any::<u32>());
    (flags, rest).prop_map(|((iflag, oflag, cflag, lflag), (line, cc, ispeed, ospeed))| Termios {
        iflag,
        oflag,
        cflag,
        lflag,
        line,
        cc,
        ispeed,
        ospeed,
    })
}

fn window_sizes() -> impl Strategy<Value = Winsize> {
    let sizes = (any::<u16>(), any::<u16>(), any::<u16>(), any::<u16>());
    sizes.prop_map(|(rows, cols, xpixel, ypixel)| Winsize { rows, cols, xpixel, ypixel })
}

fn byte_strings() -> impl Strategy<Value = Arc<[u8]>> {
    vec(any::<u8>(), 0..40).prop_map(Arc::from)
}

/// Requests that store nothing.
fn requests() -> impl Strategy<Value = TerminalRequest> {
    use TerminalRequest::*;
    prop_oneof![
        (any::<bool>(), settings()).prop_map(|(flush, termios)| {
            let when = if flush { SetTermios::Flush } else { SetTermios::Now };
            Tcsets(when, Box::new(termios))
        }),
        proptest::sample::select(vec![
            Tcflsh(Queue::Input),
            Tcflsh(Queue::Output),
            Tcflsh(Queue::Both),
            Tcxonc(FlowAction::StopOutput),
            Tcxonc(FlowAction::StartOutput),
            Tcxonc(FlowAction::SendStop),
            Tcxonc(FlowAction::SendStart),
            Tiocnotty,
            Tiocvhangup,
        ]),
        i32s().prop_map(Tcsbrk),
        i32s().prop_map(Tiocsctty),
        i32s().prop_map(Tiocspgrp),
        window_sizes().prop_map(Tiocswinsz),
        any::<u8>().prop_map(Tiocsti),
        i32s().prop_map(Tiocsig),
        any::<bool>().prop_map(Tiocpkt),
        any::<bool>().prop_map(Tiocsptlck),
        any::<bool>().prop_map(Tiocexcl),
    ]
}

fn terminal_calls() -> impl Strategy<Value = (Syscall, CallEnd)> {
    use Syscall::*;
    let path = prop_oneof![
        Just(TerminalPath::Ptmx),
        Just(TerminalPath::Tty),
        any::<u32>().prop_map(TerminalPath::Pts),
    ];
    let asking = |request: TerminalRequest| {
        move |(file, end): (u32, Option<CallEnd>), ret: Ret| {
            let call = Ioctl { file, request: request.clone() };
            (call, end.unwrap_or_else(|| Ok(ret).into()))
        }
    };
    let whole = || (any::<u32>(), option::of(ends()));
    let number = proptest::sample::select(vec![
        TerminalRequest::Tiocgpgrp,
        TerminalRequest::Tiocgsid,
        TerminalRequest::Fionread,
        TerminalRequest::Tiocgptn,
    ]);
    prop_oneof![
        self::number((path, any::<u32>()).prop_map(|(path, flags)| Open { path, flags })),
        self::number(any::<u32>().prop_map(Close)),
        self::number(
            (any::<u32>(), byte_strings()).prop_map(|(file, bytes)| Write { file, bytes })
        ),
        self::number(
            (any::<u32>(), requests()).prop_map(|(file, request)| Ioctl { file, request })
        ),
        (any::<u32>(), sizes(), option::of(ends()), byte_strings()).prop_map(
            |(file, len, end, bytes)| {
                (Read { file, len }, end.unwrap_or_else(|| Ok(Ret::Bytes(bytes)).into()))
            }
        ),
        (number, whole(), i32s())
            .prop_map(move |(request, whole, n)| asking(request)(whole, Ret::Stored(n))),
        (whole(), settings()).prop_map(move |(whole, termios)| {
            asking(TerminalRequest::Tcgets)(whole, Ret::Termios(Box::new(termios)))
        }),
        (whole(), window_sizes()).prop_map(move |(whole, size)| {
            asking(TerminalRequest::Tiocgwinsz)(whole, Ret::Winsize(size))
        }),
    ]
}

/// Calls whose result depends on their path.
fn path_calls() -> impl Strategy<Value = (Syscall, CallEnd)> {
    (paths(), any::<bool>(), option::of(ends())).prop_map(|(path, exec, end)| {
        let outcome = end.unwrap_or(Ok(Ret::Value(0)).into());
        let error = match outcome {
            CallEnd::Returned(Err(errno)) => Some(errno),
            _ => None,
        };
        let call = match exec {
            true => Syscall::Execve { path, error },
            false => Syscall::Chdir { path, error },
        };
        (call, outcome)
    })
}

fn storing_calls() -> impl Strategy<Value = (Syscall, CallEnd)> {
    use Syscall::*;
    prop_oneof![
        ending(
            (i32s(), ptr(), options(), any::<u32>()),
            |&(pid, status, options, _)| (Wait4 { pid, status, options }, status),
            (any::<u32>(), statuses()),
            |stored| match stored {
                Some((pid, status)) => Ret::Waited { pid: Pid(pid), status: Some(status) },
                None => Ret::Waited { pid: Pid(0), status: None },
            }
        ),
        ending(
            (i32s(), i32s(), ptr(), options()),
            |&(idtype, id, info, options)| {
                (Waitid { idtype: IdType(idtype), id, info, options }, info)
            },
            option::of(infos()),
            Ret::WaitInfo
        ),
        ending(
            (i32s(), option::of(actions()), ptr(), sizes()),
            |&(sig, act, old, size)| (RtSigaction { sig, act, old, size }, old),
            actions(),
            Ret::Action
        ),
        ending(
            (i32s(), option::of(sigset()), ptr(), sizes()),
            |&(how, set, old, size)| (RtSigprocmask { how, set, old, size }, old),
            sigset(),
            Ret::Mask
        ),
        ending(
            (i32s(), option::of(timers()), ptr()),
            |&(which, new, old)| (Setitimer { which, new, old }, old),
            timers(),
            Ret::Itimer
        ),
        ending(i32s(), |&which| (Getitimer { which }, Ptr::Valid), timers(), Ret::Itimer),
        ending(
            (i32s(), any::<u32>(), option::of(limits()), ptr()),
            |&(pid, resource, new, old)| {
                (Prlimit { pid, resource: Resource(resource), new, old }, old)
            },
            limits(),
            Ret::Limit
        ),
    ]
}

/// Calls that succeed only if they store something.
fn giving_calls() -> impl Strategy<Value = (Syscall, CallEnd)> {
    use Syscall::*;
    prop_oneof![
        (sigset(), sizes()).prop_map(|(set, size)| {
            (RtSigpending { set: Ptr::Valid, size }, Ok(Ret::Pending(set)).into())
        }),
        (ptr(), sizes(), ends()).prop_map(|(set, size, end)| (RtSigpending { set, size }, end)),
        (sigset(), any::<bool>(), option::of((i64s(), i64s())), sizes(), infos()).prop_map(
            |(set, wanted, timeout, size, info)| {
                let timeout = timeout.map(|(sec, nsec)| Timespec { sec, nsec });
                let (ptr, info) = match wanted {
                    true => (Ptr::Valid, info),
                    // the value is unknown if it is not stored
                    false => (Ptr::Null, SigInfo::lost(info.signal)),
                };
                (RtSigtimedwait { set, info: ptr, timeout, size }, Ok(Ret::Signal(info)).into())
            }
        ),
        (sigset(), ptr(), ends()).prop_map(|(set, info, end)| {
            (RtSigtimedwait { set, info, timeout: None, size: 8 }, end)
        }),
        i32s().prop_map(|n| {
            (Prctl(self::Prctl::GetPdeathsig(Ptr::Valid)), Ok(Ret::Stored(n)).into())
        }),
        i32s().prop_map(|n| {
            (Prctl(self::Prctl::GetChildSubreaper(Ptr::Valid)), Ok(Ret::Stored(n)).into())
        }),
        (ptr(), ends()).prop_map(|(ptr, end)| (Prctl(self::Prctl::GetPdeathsig(ptr)), end)),
        (ptr(), ends()).prop_map(|(ptr, end)| (Prctl(self::Prctl::GetChildSubreaper(ptr)), end)),
        any::<[u32; 3]>().prop_map(|users| (Getresuid, Ok(Ret::Users(users.map(Uid))).into())),
        ends().prop_map(|end| (Getresuid, end)),
        paths().prop_map(|path| (Getcwd, Ok(Ret::Path(path)).into())),
        ends().prop_map(|end| (Getcwd, end)),
    ]
}

fn calls() -> impl Strategy<Value = (Syscall, CallEnd)> {
    prop_oneof![
        4 => number(plain_calls()),
        1 => path_calls(),
        2 => terminal_calls(),
        3 => storing_calls(),
        2 => giving_calls(),
    ]
}

/// The events of a call of one thread.
fn call_events() -> impl Strategy<Value = Vec<LogEvent>> {
    (calls(), 0..4, sigset()).prop_map(|((call, outcome), form, mask)| {
        let sigreturn = call == Syscall::RtSigreturn;
        let begun = match sigreturn {
            true => LogEvent::Sigreturn { mask, returned: None },
            false => LogEvent::Unfinished(CallPrefix::Complete(call.clone())),
        };
        match form {
            0 => vec![begun, LogEvent::Resumed { call, outcome }],
            1 if !sigreturn => {
                vec![
                    LogEvent::Unfinished(CallPrefix::of(&call)),
                    LogEvent::ResumedCut(CallPrefix::of(&call)),
                ]
            }
            2 if !sigreturn => vec![LogEvent::Cut(CallPrefix::of(&call))],
            _ if sigreturn => vec![LogEvent::Sigreturn { mask, returned: Some(outcome) }],
            _ => vec![LogEvent::Call { call, outcome }],
        }
    })
}

fn other_events() -> impl Strategy<Value = LogEvent> {
    prop_oneof![
        infos().prop_map(LogEvent::Signal),
        signal().prop_map(LogEvent::Stopped),
        any::<u8>().prop_map(LogEvent::Exited),
        (signal(), any::<bool>()).prop_map(|(signal, core)| LogEvent::Killed { signal, core }),
        Just(LogEvent::Other { name: "ioctl".into(), text: "ioctl(1, TCGETS) = 0".into() }),
        Just(LogEvent::Notice("strace: Process 5 attached".into())),
    ]
}

/// A log of two threads that alternate, with blank lines.
fn whole_logs() -> impl Strategy<Value = Log> {
    let events = || prop_oneof![3 => call_events(), 1 => other_events().prop_map(|e| vec![e])];
    let thread = || vec(events(), 0..6).prop_map(|events| events.concat());
    (thread(), thread(), vec((any::<bool>(), 1..3_u32), 24)).prop_map(|(one, two, turns)| {
        let mut threads = [(Pid(7), one.into_iter()), (Pid(8), two.into_iter())];
        let (mut line, mut entries) = (0, vec![]);
        for (second, gap) in turns {
            let (pid, thread) = &mut threads[usize::from(second)];
            if let Some(event) = thread.next() {
                line += gap;
                entries.push(Entry { line, pid: *pid, event });
            }
        }
        // a missing second part is the same as the end of the log: only the first part is known
        for nth in 0..entries.len() {
            let resumed = entries[nth + 1..]
                .iter()
                .any(|e| e.pid == entries[nth].pid && matches!(e.event, LogEvent::Resumed { .. }));
            if let LogEvent::Unfinished(CallPrefix::Complete(call)) = &entries[nth].event
                && !resumed
            {
                entries[nth].event = LogEvent::Unfinished(CallPrefix::of(call));
            }
        }
        Log { entries }
    })
}

/// Deletes, inserts and replaces bytes.
fn mutate(line: &[u8], changes: &[(usize, u8, u8)]) -> Vec<u8> {
    let mut bytes = line.to_vec();
    for &(at, kind, byte) in changes {
        let at = at % (bytes.len() + 1);
        match kind % 3 {
            0 => bytes.insert(at, byte),
            1 if at < bytes.len() => bytes[at] = byte,
            _ if at < bytes.len() => drop(bytes.remove(at)),
            _ => {}
        }
    }
    bytes
}

proptest! {
    #[test]
    fn printed_and_parsed_is_the_same_call((call, outcome) in calls()) {
        let line = text::print(&call, &outcome).to_string();
        let again = text::parse(&line);
        prop_assert_eq!(again, Ok((call, outcome)), "{}", line);
    }

    #[test]
    fn printed_and_read_is_the_same_log(log in whole_logs()) {
        let printed = log.to_string();
        let again = trace::read(printed.as_bytes());
        prop_assert_eq!(again, Ok(log), "{}", printed);
    }

    #[test]
    fn arbitrary_bytes_cause_no_panic(bytes in vec(any::<u8>(), 0..200)) {
        drop(trace::read(&bytes));
    }

    #[test]
    fn a_changed_line_causes_no_panic(
        log in whole_logs(),
        changes in vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..6),
        printable in any::<bool>(),
    ) {
        let changes: Vec<_> = changes
            .into_iter()
            .map(|(at, kind, byte)| (at, kind, if printable { b' ' + byte % 95 } else { byte }))
            .collect();
        let changed = mutate(log.to_string().as_bytes(), &changes);
        // a log that can be read can be printed and read again without a loss
        if let Ok(read) = trace::read(&changed) {
            let printed = read.to_string();
            prop_assert_eq!(trace::read(printed.as_bytes()), Ok(read), "{}", printed);
        }
    }

    #[test]
    fn a_log_with_a_changed_line_causes_no_panic(
        nth in any::<usize>(),
        changes in vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..4),
    ) {
        let log = include_bytes!("../traces/sequential/mixed-500001.strace");
        let lines: Vec<_> = log.split(|byte| *byte == b'\n').collect();
        drop(trace::read(&mutate(lines[nth % lines.len()], &changes)));
    }
}
