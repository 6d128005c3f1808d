//! The oracle: runs the calls of a program on the live kernel (Linux on x86-64).
//!
//! A *test namespace* is a separate pid namespace, so that numbers are the same in every run and
//! equal to the model's. Its threads are *agents*: each performs one raw system call per command,
//! and nothing else. After each call the controller waits until the test namespace is quiescent and
//! records what happened: an [`Observation`].
//!
//! ```text
//! program ── Worker::start ──▶ guard ──fork─▶ worker ─ Engine ──▶ zygote
//!                                            │ pid 1 of a namespace   │ clone
//!                                            └── TestNamespace ── shared memory ──▶ agent 1 (init)
//!                                                                 └── fork ──▶ agent 2 …
//! ```
//!
//! - `probe` determines whether the oracle can run here; `worker` creates the process in which it
//!   runs;
//! - `engine` starts the zygote; `test_namespace` is the run of one program; `task` is one of its
//!   threads, and whether it is at rest; `observation` is the result of a step;
//! - `shared_memory` is the shared memory; `agent` is the code on its other side; `raw` has the
//!   agent's system calls;
//! - `terminal` is a real pty; `terminal_files` are the terminals of a test namespace;
//!   `terminal_requests` has numbers of ioctl(2);
//! - `codec` translates calls; `procfs` reads /proc; `sysctl` writes the sysctls of the test
//!   namespace; `os` has the controller's own system calls.

mod agent;
mod codec;
mod engine;
mod observation;
mod os;
mod probe;
mod procfs;
mod raw;
mod shared_memory;
mod sysctl;
mod task;
mod terminal;
mod terminal_files;
mod terminal_requests;
mod test_namespace;
mod worker;

use core::ffi::CStr;

pub use agent::agent_entry;
pub use engine::{Engine, EngineConfig, OracleFeatures};
pub use observation::{Ended, Observation, ObservedEvent, ProcessEnd};
pub use probe::{Mode, Unavailable, probe};
pub use terminal::{Controlling, RealTerminal, lead_session, terminal_privilege};
pub use test_namespace::{TestNamespace, TestNamespaceConfig};
pub use worker::{Link, Worker, WorkerConfig, worker_entry};

/// The address that rt_sigaction shows for every handler.
pub const CATCHER: u64 = 0x40_1136;
/// The return address that rt_sigaction shows for every handler; 0 if the program installed the
/// handler without [`SaFlags::RESTORER`](crate::abi::SaFlags::RESTORER), with which the kernel
/// would not have started it.
pub const RESTORER: u64 = 0x40_1000;
/// The path with which execve runs an agent again. Any other path is passed to the kernel
/// unchanged.
pub const SELF_PATH: &str = "./agent";

/// The argument that makes a program an agent after execve.
const AGENT_ARG: &CStr = c"__agent";
/// The argument that makes a program the zygote.
const ZYGOTE_ARG: &CStr = c"__zygote";

/// Enables a program to be an agent, by a constructor that calls [`agent_entry`]. With an argument
/// the program can also be a worker that runs that function (see [`worker_entry`]); this form is
/// for programs without a `main` of their own, such as tests.
#[macro_export]
macro_rules! host_entry {
    ($($serve:path)?) => {
        const _: () = {
            #[used]
            #[allow(unsafe_code)]
            // SAFETY: the C library calls each function in this section with these arguments
            #[unsafe(link_section = ".init_array")]
            static ENTRY: extern "C" fn(
                ::core::ffi::c_int,
                *const *const ::core::ffi::c_char,
            ) = {
                extern "C" fn entry(
                    argc: ::core::ffi::c_int,
                    argv: *const *const ::core::ffi::c_char,
                ) {
                    // SAFETY: the C library's own arguments
                    #[allow(unsafe_code)]
                    unsafe {
                        $crate::host::agent_entry(argc, argv);
                    }
                    $($crate::host::worker_entry($serve);)?
                }
                entry
            };
        };
    };
}
