//! The Linux process model: pids, process groups, sessions, signals and masks, wait, job control,
//! orphaned groups, zombies.
//!
//! The folders are the way of the data:
//!
//! - [`abi`]: the vocabulary. Numbers, signals, sets, statuses, errors.
//! - [`syscall`]: the request. A system call with a guest's raw arguments, and what it returns.
//! - [`kernel`]: the model. One pure state machine that takes events and gives effects.
//! - [`trace`]: the record. Logs as strace(1) writes them.
//! - [`sim`]: programs of calls: run on the model, generated, explained, shrunk.
//! - [`check`]: does the model explain a log?
//! - `table`: the facade. `ProcessTable` for runtimes, with blocking waits,
//!   events and a reaper (feature `table`).
//! - `driver`: what carries out for a process what the table decides (feature `table`).
//! - `host`: the live kernel, asked the same questions (feature `host`, Linux on x86-64).
//! - `diff`: random programs on both, compared (feature `cli`).
//!
//! The first five and `check` use neither threads, clocks, I/O nor unsafe code and build without
//! `std`.
//!
//! # A first program
//!
//! A shell's job is stopped, and then the shell exits: its group becomes orphaned, and the kernel
//! hangs it up (ORP-07, ORP-09).
//!
//! ```
//! use proctable::abi::{Pid, Signal};
//! use proctable::kernel::{Canonical, Config, Consequence, Effects, Kernel};
//! use proctable::syscall::Syscall;
//!
//! let mut kernel = Kernel::new(Config::default());
//! let mut fx = Effects::new();
//! let mut run = |tid, call| {
//!     fx.clear();
//!     kernel.call(Pid(tid), &call, &mut fx).expect("the process runs");
//!     kernel.settle(&mut Canonical, &mut fx);
//!     fx.list().to_vec()
//! };
//! run(1, Syscall::Fork); // 2, the shell
//! run(2, Syscall::Setsid);
//! run(2, Syscall::Fork); // 3, its job
//! run(2, Syscall::Setpgid { pid: 3, pgid: 3 });
//! run(2, Syscall::Kill { pid: 3, sig: 20 }); // SIGTSTP
//! let effects = run(2, Syscall::ExitGroup(0));
//!
//! let hung_up = effects
//!     .iter()
//!     .find(|effect| matches!(&effect.what, Consequence::Generated(info) if info.signal == Signal::HUP))
//!     .expect("the job is hung up");
//! assert_eq!(hung_up.to_string(), "3: SIGHUP generated (2 in exit_group, ORP-09)");
//! ```
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod abi;
pub mod check;
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
pub mod diff;
#[cfg(feature = "table")]
pub mod driver;
#[cfg(all(feature = "host", target_os = "linux", target_arch = "x86_64"))]
pub mod host;
pub mod kernel;
pub mod sim;
#[cfg(feature = "table")]
mod sync;
pub mod syscall;
#[cfg(feature = "table")]
pub mod table;
pub mod trace;

/// The programs of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The programs of docs/LIBRARY.md are tests.
#[cfg(all(doctest, feature = "linux", target_os = "linux"))]
#[doc = include_str!("../docs/LIBRARY.md")]
struct Library;
