//! The table of descriptors, and the kernel's: the same numbers, errors, files and flags.
#![allow(unsafe_code)]

use std::io::Read;
use std::os::fd::AsRawFd;

use proctable::abi::Errno;
use proctable::kernel::{Choose, Seeded};
use proctable::syscall::DescriptorTable;

/// The limit of descriptors, and one beyond it for the results.
const LIMIT: u32 = 12;
const RESULTS: i32 = 900;

/// How many descriptors are compared at the end.
const COMPARED: i32 = 16;

/// A call on descriptors.
#[derive(Clone, Copy, Debug)]
enum Call {
    /// A new file, close-on-exec or not.
    Open(bool),
    Dup(i32),
    DupFrom(i32, i32, bool),
    Dup2(i32, i32),
    Dup3(i32, i32, bool),
    Close(i32),
    SetCloseOnExec(i32, bool),
}

fn draw(choose: &mut Seeded) -> Call {
    let descriptor = |choose: &mut Seeded| choose.choose(15) as i32 - 1;
    let flag = choose.choose(2) == 0;
    match choose.choose(10) {
        0..4 => Call::Open(flag),
        4 => Call::Dup(descriptor(choose)),
        5 => Call::DupFrom(descriptor(choose), descriptor(choose), flag),
        6 => Call::Dup2(descriptor(choose), descriptor(choose)),
        7 => Call::Dup3(descriptor(choose), descriptor(choose), flag),
        8 => Call::Close(descriptor(choose)),
        _ => Call::SetCloseOnExec(descriptor(choose), flag),
    }
}

/// A call on the table: the result as the kernel returns it. A file is the number of the `Open`
/// that created it.
fn on_table(table: &mut DescriptorTable<usize>, call: Call, opened: usize) -> i32 {
    let result = match call {
        Call::Open(flag) => table.open(opened, flag),
        Call::Dup(of) => table.dup(of),
        Call::DupFrom(of, from, flag) => table.dup_from(of, from, flag),
        Call::Dup2(of, to) => table.dup2(of, to).map(|_| to),
        Call::Dup3(of, to, flag) => table.dup3(of, to, flag).map(|_| to),
        Call::Close(of) => table.close(of).map(|_| 0),
        Call::SetCloseOnExec(of, flag) => table.set_close_on_exec(of, flag).map(|()| 0),
    };
    result.unwrap_or_else(|errno: Errno| -i32::from(errno.0))
}

/// The same on the descriptors of this process.
///
/// # Safety
///
/// The descriptors of the process belong to nobody else.
unsafe fn on_kernel(call: Call) -> i64 {
    let (cloexec, setfd) = (libc::FD_CLOEXEC, libc::F_SETFD);
    let flags = |flag: bool, value: i32| if flag { value } else { 0 };
    // SAFETY: as the caller promises
    let result = unsafe {
        match call {
            Call::Open(flag) => {
                libc::memfd_create(c"file".as_ptr(), flags(flag, libc::MFD_CLOEXEC as i32) as u32)
            }
            Call::Dup(of) => libc::dup(of),
            Call::DupFrom(of, from, true) => libc::fcntl(of, libc::F_DUPFD_CLOEXEC, from),
            Call::DupFrom(of, from, false) => libc::fcntl(of, libc::F_DUPFD, from),
            Call::Dup2(of, to) => libc::dup2(of, to),
            Call::Dup3(of, to, flag) => libc::dup3(of, to, flags(flag, libc::O_CLOEXEC)),
            Call::Close(of) => libc::close(of),
            Call::SetCloseOnExec(of, flag) => libc::fcntl(of, setfd, flags(flag, cloexec)),
        }
    };
    match result {
        // SAFETY: the number of this thread's last error
        -1 => -i64::from(unsafe { *libc::__errno_location() }),
        result => result.into(),
    }
}

/// The number of the file of a descriptor and its flags; -1 if it is closed.
fn state_on_kernel(descriptor: i32) -> [i64; 2] {
    // SAFETY: the structure is ours to fill, and the calls only read
    unsafe {
        let mut stat: libc::stat = core::mem::zeroed();
        match libc::fstat(descriptor, &mut stat) {
            0 => [stat.st_ino as i64, libc::fcntl(descriptor, libc::F_GETFD).into()],
            _ => [-1, -1],
        }
    }
}

/// Runs the calls in a child, where no descriptor but that of the results is open. Returns the
/// results, then the file after each `Open`, then the states.
fn run_on_kernel(calls: &[Call]) -> Vec<i64> {
    let (mut read, write) = std::io::pipe().unwrap();
    let mut results = vec![0i64; 2 * calls.len() + 2 * COMPARED as usize];
    // SAFETY: the child makes system calls only, and ends without running anything else
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: the descriptors are those of the child alone, and the buffer was there before
        unsafe {
            let limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
            let small = libc::rlimit { rlim_cur: LIMIT.into(), rlim_max: 1024 };
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            libc::dup2(write.as_raw_fd(), RESULTS);
            // close_range(2) is from Linux 5.9 on
            libc::syscall(libc::SYS_close_range, 0, RESULTS - 1, 0);
            libc::syscall(libc::SYS_close_range, RESULTS + 1, u32::MAX, 0);
            libc::setrlimit(libc::RLIMIT_NOFILE, &small);
            for (nth, call) in calls.iter().enumerate() {
                results[nth] = on_kernel(*call);
                if let (Call::Open(_), 0..) = (call, results[nth]) {
                    results[calls.len() + nth] = state_on_kernel(results[nth] as i32)[0];
                }
            }
            for descriptor in 0..COMPARED {
                let at = 2 * calls.len() + 2 * descriptor as usize;
                results[at..at + 2].copy_from_slice(&state_on_kernel(descriptor));
            }
            let size = size_of_val(&results[..]);
            libc::write(RESULTS, results.as_ptr().cast(), size);
            libc::_exit(0);
        }
    }
    assert!(child > 0);
    drop(write);
    let mut bytes = Vec::new();
    read.read_to_end(&mut bytes).unwrap();
    let mut status = 0;
    // SAFETY: it is our child
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!((status, bytes.len()), (0, size_of_val(&results[..])));
    bytes.chunks_exact(8).map(|number| i64::from_ne_bytes(number.try_into().unwrap())).collect()
}

/// open(2), dup(2), dup2(2), dup3(2), fcntl(2), close(2): 200 programs of 40 calls.
#[test]
fn descriptors_are_those_of_the_kernel() {
    for seed in 0..200 {
        let mut choose = Seeded::new(seed);
        let calls: Vec<Call> = (0..40).map(|_| draw(&mut choose)).collect();
        let kernel = run_on_kernel(&calls);
        let mut table = DescriptorTable::new();
        table.set_limit(LIMIT);
        for (nth, call) in calls.iter().enumerate() {
            let result = on_table(&mut table, *call, nth);
            assert_eq!(i64::from(result), kernel[nth], "call {nth} of {calls:#?}");
        }
        for descriptor in 0..COMPARED {
            let file = table.get(descriptor).map_or(-1, |nth| kernel[calls.len() + nth]);
            let flags = table.is_close_on_exec(descriptor).map_or(-1, i64::from);
            let at = 2 * calls.len() + 2 * descriptor as usize;
            assert_eq!([file, flags], kernel[at..at + 2], "descriptor {descriptor} of {calls:#?}");
        }
    }
}

/// execve(2) closes what is close-on-exec; the next open takes the lowest number.
#[test]
fn execve_closes_descriptors() {
    let mut table = DescriptorTable::new();
    for (file, flag) in [true, false, true, false].into_iter().enumerate() {
        assert_eq!(table.open(file, flag), Ok(file as i32));
    }
    assert_eq!(table.exec(), [0, 2]);
    let left: Vec<_> = table.iter().map(|(descriptor, file)| (descriptor, *file)).collect();
    assert_eq!(left, [(1, 1), (3, 3)]);
    assert_eq!([4, 5, 6].map(|file| table.open(file, false)), [Ok(0), Ok(2), Ok(4)]);
}
