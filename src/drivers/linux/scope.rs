//! A scope of systemd: where the owner's own cgroup is not its to divide, the service manager makes
//! one that is (`Delegate=yes`), asked over the bus as `systemd-run --scope` does.
//!
//! A scope begins with processes. The process is a small helper of this library, and the owner
//! itself only where that was permitted: no other process is ever moved.

use std::io::{self, Write};
use std::path::PathBuf;

use super::command::{Command, Stdio};
use super::spawn_error::Step;
use super::{cgroup, pidfd, spawner};

/// A scope that was started, until it is dropped.
#[derive(Debug)]
pub(super) struct Scope {
    /// Its cgroup.
    pub directory: PathBuf,
    member: ScopeMember,
}

/// The member that it has from the beginning.
#[derive(Debug)]
enum ScopeMember {
    Helper(Helper),
    /// The owner, which was in that cgroup before.
    Owner(PathBuf),
}

/// The helper's cgroup in the scope: one that has processes itself cannot pass on controllers.
const LEAF: &str = "proctable-helper";

impl Scope {
    /// One that has a helper in it.
    ///
    /// # Errors
    ///
    /// What stands in the way, in words.
    pub fn with_helper() -> io::Result<Scope> {
        let helper = Helper::start()?;
        let directory = bus::start_scope(helper.pid)?;
        let scope = Scope { directory, member: ScopeMember::Helper(helper) };
        // it is still there: then the number is its own
        let leaf = scope.directory.join(LEAF);
        std::fs::create_dir(&leaf)?;
        if let ScopeMember::Helper(helper) = &scope.member {
            cgroup::write(&leaf.join("cgroup.procs"), &helper.pid.to_string())?;
        }
        Ok(scope)
    }

    /// One that the owner is moved into, with all its threads.
    ///
    /// # Errors
    ///
    /// What stands in the way, in words. Then it is where it was.
    pub fn with_owner() -> io::Result<Scope> {
        let before = cgroup::own_directory()?;
        let directory = bus::start_scope(std::process::id() as i32)?;
        Ok(Scope { directory, member: ScopeMember::Owner(before) })
    }
}

impl Drop for Scope {
    /// The manager removes it when it has no members any more. An owner that may not go back (one
    /// that is not root) stays.
    fn drop(&mut self) {
        match &self.member {
            ScopeMember::Helper(_) => {}
            ScopeMember::Owner(before) => drop(cgroup::write(&before.join("cgroup.procs"), "0")),
        }
    }
}

/// A process that only waits for the end of a pipe, which its owner holds.
#[derive(Debug)]
struct Helper {
    pipe: Option<std::fs::File>,
    pid: i32,
    pidfd: std::os::fd::OwnedFd,
}

impl Helper {
    fn start() -> io::Result<Helper> {
        let command = Command::new("/bin/sh")
            .args(["-c", "trap '' HUP INT TERM; read -r line", "proctable-scope"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/")
            .stdin(Stdio::Piped)
            .stdout(Stdio::Null)
            .stderr(Stdio::Null)
            .close_others()
            .session();
        let failed = |(step, error): (Step, io::Error)| {
            io::Error::new(error.kind(), format!("helper: {step:?}: {error}"))
        };
        let (prepared, mut pipes) = command.prepare().map_err(failed)?;
        let spawned = spawner::spawn(prepared).map_err(failed)?;
        Ok(Helper { pipe: pipes.stdin.take(), pid: spawned.pid, pidfd: spawned.pidfd })
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // one that is dead already needs no telling
            let _ = pipe.write_all(b"go\n");
        }
        let _ = pidfd::reap(self.pid, &self.pidfd, 0);
    }
}

#[cfg(not(feature = "systemd"))]
mod bus {
    use super::*;

    pub fn start_scope(_: i32) -> io::Result<PathBuf> {
        let why = "this was built without the feature systemd";
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }
}

#[cfg(feature = "systemd")]
mod bus {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use rustbus::RpcConn;
    use rustbus::connection::Timeout;
    use rustbus::connection::ll_conn::force_finish_on_error;
    use rustbus::message_builder::{MarshalledMessage, MessageBuilder, MessageType};
    use rustbus::wire::errors::MarshalError;

    use super::*;
    use crate::drivers::linux::attributes;
    use crate::drivers::linux::procfs::{self, Proc};

    /// How long the manager may take, each time it is waited for.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// The values of a scope's properties.
    #[allow(missing_debug_implementations)]
    mod value {
        rustbus::dbus_variant_sig!(Value, Text => String; Flag => bool; Pids => Vec<u32>);
    }
    use value::Value;

    fn failed(what: &str, error: impl std::fmt::Display) -> io::Error {
        io::Error::other(format!("{what}: {error}"))
    }

    /// Has the manager put a process into a scope of its own, and returns the directory of its
    /// cgroup. It is the system's manager for root, and the user's own for other users.
    pub fn start_scope(pid: i32) -> io::Result<PathBuf> {
        if !Path::new("/run/systemd/system").exists() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "systemd does not run here"));
        }
        let root = attributes::is_root();
        let timeout = Timeout::Duration(PATIENCE);
        // the user's is at DBUS_SESSION_BUS_ADDRESS, which each login has
        let connected =
            if root { RpcConn::system_conn(timeout) } else { RpcConn::session_conn(timeout) };
        let mut bus = connected.map_err(|error| failed("no bus", error))?;
        let name = name_of(pid);
        let mut call = call(&name, pid).map_err(|error| failed("StartTransientUnit", error))?;
        let asked = bus.send_message(&mut call).map_err(|error| failed("the bus", error))?;
        let serial = asked.write_all().map_err(force_finish_on_error);
        let serial = serial.map_err(|error| failed("the bus", error))?;
        let reply = bus.wait_response(serial, timeout).map_err(|error| failed("the bus", error))?;
        if reply.typ == MessageType::Error {
            let kind = reply.dynheader.error_name.clone().unwrap_or_default();
            let text: String = reply.body.parser().get().unwrap_or_default();
            return Err(failed(&kind, text));
        }
        await_directory(pid, &name)
    }

    /// A name that no other unit has.
    fn name_of(pid: i32) -> String {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let owner = std::process::id();
        format!("proctable-{owner}-{}-{number}-{pid}.scope", procfs::own_start().unwrap_or(0))
    }

    /// org.freedesktop.systemd1(5): name, mode, properties, and no other units.
    fn call(name: &str, pid: i32) -> Result<MarshalledMessage, MarshalError> {
        let mut call = MessageBuilder::new()
            .call("StartTransientUnit")
            .with_interface("org.freedesktop.systemd1.Manager")
            .on("/org/freedesktop/systemd1")
            .at("org.freedesktop.systemd1")
            .build();
        let properties = vec![
            ("Description".to_owned(), Value::Text("cgroups for trees of processes".into())),
            ("PIDs".into(), Value::Pids(vec![pid as u32])),
            ("Delegate".into(), Value::Flag(true)),
            ("CollectMode".into(), Value::Text("inactive-or-failed".into())),
        ];
        let others: &[(String, Vec<(String, Value)>)] = &[];
        call.body.push_param2(name, "fail")?;
        call.body.push_param2(properties, others)?;
        Ok(call)
    }

    /// Waits until the process is in the scope's cgroup: the job runs after the reply.
    fn await_directory(pid: i32, name: &str) -> io::Result<PathBuf> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let groups = Proc::own()?.cgroups(pid)?;
            let path = groups.lines().find_map(|line| line.strip_prefix("0::"));
            if path.is_some_and(|path| path.ends_with(&format!("/{name}"))) {
                return cgroup::directory_of(&groups, pid);
            }
            if Instant::now() > deadline {
                return Err(failed("the scope", "the manager does not move the process into it"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
