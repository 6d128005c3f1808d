//! Raw system calls.
//!
//! The C library hides signals 32 and 33, rewrites `si_code`, retries calls and keeps state of its
//! own: an agent must not call it, neither in a handler nor in a process that shares its parent's
//! memory.
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};

/// Performs system call `number`; the result is as the kernel returns it, errors negative.
///
/// # Safety
///
/// The kernel writes to the addresses that the arguments of this call contain.
pub(super) unsafe fn syscall(number: u64, args: [u64; 6]) -> i64 {
    let result;
    // SAFETY: the calling convention of the kernel: rcx and r11 are lost, all others are kept; the
    // caller is responsible for the effect of the arguments
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as i64 => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

global_asm!(
    // rdi is the number, rsi its five arguments, rdx the child's stack, rcx its function, r8 the
    // argument of that. The function and its argument are stored at the top of that stack. The
    // child of vfork shares the stack of its parent: it leaves that stack before it writes to it.
    ".hidden proctable_clone",
    ".global proctable_clone",
    ".type proctable_clone, @function",
    "proctable_clone:",
    "mov [rdx - 8], rcx",
    "mov [rdx - 16], r8",
    "mov r9, rdx",
    "mov rax, rdi",
    "mov r11, rsi",
    "mov rdi, [r11]",
    "mov rsi, [r11 + 8]",
    "mov rdx, [r11 + 16]",
    "mov r10, [r11 + 24]",
    "mov r8, [r11 + 32]",
    "syscall",
    "test rax, rax",
    "jnz 2f",
    "lea rsp, [r9 - 16]",
    "xor ebp, ebp",
    "pop rdi",
    "pop rax",
    "call rax",
    "ud2",
    "2: ret",
    ".size proctable_clone, . - proctable_clone",
    // The return addresses of handlers: rt_sigreturn, number 15. There are four of them, 16 bytes
    // apart.
    ".hidden proctable_restorers",
    ".global proctable_restorers",
    ".type proctable_restorers, @function",
    ".balign 16",
    "proctable_restorers:",
    ".rept 4",
    "mov eax, 15",
    "syscall",
    "ud2",
    ".balign 16",
    ".endr",
    ".size proctable_restorers, . - proctable_restorers",
);

unsafe extern "C" {
    fn proctable_clone(
        number: u64,
        args: *const [u64; 5],
        stack: u64,
        run: extern "C" fn(u64) -> !,
        with: u64,
    ) -> i64;
    fn proctable_restorers();
}

/// Performs a system call that creates a thread, or a process with the caller's memory; the new
/// task runs `run(with)` on the stack that ends at `stack`.
///
/// # Safety
///
/// `number` is clone, clone3 or vfork with arguments that fit it, and `stack` is the aligned end of
/// memory without another user.
pub(super) unsafe fn clone_sharing_memory(
    number: u64,
    args: [u64; 5],
    stack: u64,
    run: extern "C" fn(u64) -> !,
    with: u64,
) -> i64 {
    // SAFETY: the caller's promise; the child leaves the shared stack with its first instruction
    unsafe { proctable_clone(number, &raw const args, stack, run, with) }
}

/// The address of one of the four restorers.
pub(super) fn restorer(nth: u64) -> u64 {
    (proctable_restorers as *const () as u64).wrapping_add(nth.wrapping_mul(16))
}

/// The index of the restorer at this address.
pub(super) fn nth_restorer(address: u64) -> Option<u64> {
    let mut nth = 0;
    while nth < 4 {
        if restorer(nth) == address {
            return Some(nth);
        }
        nth += 1;
    }
    None
}

/// Ends the process.
pub(super) fn exit(code: i32) -> ! {
    loop {
        // SAFETY: exit_group touches no memory and does not return
        unsafe { syscall(libc::SYS_exit_group as u64, [code as u64, 0, 0, 0, 0, 0]) };
    }
}

/// The number of this process in its own namespace.
pub(super) fn getpid() -> u32 {
    // SAFETY: getpid touches no memory
    unsafe { syscall(libc::SYS_getpid as u64, [0; 6]) as u32 }
}

/// The number of this thread in its own namespace.
pub(super) fn gettid() -> u32 {
    // SAFETY: gettid touches no memory
    unsafe { syscall(libc::SYS_gettid as u64, [0; 6]) as u32 }
}

/// Sleeps while `word` is `expected`; may return early.
pub(super) fn futex_wait(word: &core::sync::atomic::AtomicU32, expected: u32) {
    let args = [word.as_ptr() as u64, libc::FUTEX_WAIT as u64, u64::from(expected), 0, 0, 0];
    // SAFETY: FUTEX_WAIT only reads the word, which is alive
    unsafe { syscall(libc::SYS_futex as u64, args) };
}

/// Wakes the threads that sleep on `word`.
pub(super) fn futex_wake(word: &core::sync::atomic::AtomicU32) {
    let args = [word.as_ptr() as u64, libc::FUTEX_WAKE as u64, i32::MAX as u64, 0, 0, 0];
    // SAFETY: FUTEX_WAKE touches no memory
    unsafe { syscall(libc::SYS_futex as u64, args) };
}
