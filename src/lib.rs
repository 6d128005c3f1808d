//! The Linux process model: pids, process groups, sessions, signals and masks, wait, job control,
//! orphaned groups, zombies.
//!
//! The modules, in the order in which data passes through them:
//!
//! - [`abi`]: numbers, signals, sets, statuses, errors.
//! - [`syscall`]: a system call with the raw arguments of a guest, and its result.
//! - [`kernel`]: the model. One pure state machine: events in, effects out.
//! - [`trace`]: logs in the form of strace(1).
//! - [`sim`]: programs of calls: run on the model, generated, explained, shrunk.
//! - [`check`]: checks whether the model explains a log.
//! - [`tty`]: terminals: a pty and its line discipline.
//! - `table`: the facade. `ProcessTable` for runtimes, with blocking waits,
//!   events and a reaper (feature `table`).
//! - `driver`: the contract with the drivers of processes, which carry out the decisions of the
//!   table (feature `table`).
//! - `drivers`: drivers that are ready for use: guests on threads, and real children (features
//!   `table` and `linux`).
//! - `host`: runs programs on the live kernel (feature `host`, Linux on x86-64).
//! - `diff`: runs random programs on both, and compares the results (feature `cli`).
//!
//! The modules from `abi` to `check` use no threads, clocks, I/O or unsafe code, and build without
//! `std`.
//!
//! # A first program
//!
//! A job of a shell is stopped, and then the shell exits: the group of the job becomes orphaned,
//! and the kernel sends it SIGHUP (ORP-07, ORP-09).
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
//!     .find(|effect| match &effect.what {
//!         Consequence::Generated(info) => info.signal == Signal::HUP,
//!         _ => false,
//!     })
//!     .expect("the job gets SIGHUP");
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
#[cfg(feature = "table")]
pub mod drivers;
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
pub mod tty;

/// The programs of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The programs of docs/LIBRARY.md are tests.
#[cfg(all(doctest, feature = "linux", target_os = "linux"))]
#[doc = include_str!("../docs/LIBRARY.md")]
struct Library;
