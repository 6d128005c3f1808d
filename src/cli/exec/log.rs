//! Events as JSON, an object a line.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use proctable::abi::WaitStatus;
use proctable::drivers::linux::{Child, Member, MemberChange};
use proctable::table::{TableEvent, What};
use serde_json::{Value, json};

/// The file.
pub(super) struct Log {
    file: File,
    /// The name of the command, as the kernel has it.
    command: String,
}

/// The longest name of a process: TASK_COMM_LEN without its zero.
const NAME_LENGTH: usize = 15;

impl Log {
    pub fn create(path: &Path, program: &OsStr) -> io::Result<Log> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("--events {}: {error}", path.display()))
        };
        let name = Path::new(program).file_name().unwrap_or(program).as_bytes();
        let name = &name[..name.len().min(NAME_LENGTH)];
        let command = String::from_utf8_lossy(name).into_owned();
        Ok(Log { file: File::create(path).map_err(named)?, command })
    }

    /// An event of the command.
    pub fn write(&mut self, event: &TableEvent, child: &Child) -> io::Result<()> {
        let mut line = json!({ "number": event.number, "pid": null });
        // the table's number of another process is of no use outside of this program
        if event.pid == child.process().pid() {
            let parent = std::process::id();
            let own = json!({ "pid": child.pid(), "parent": parent, "command": self.command });
            extend(&mut line, own);
        }
        extend(&mut line, what(&event.what));
        if let Some(cause) = event.cause {
            extend(&mut line, json!({ "rule": cause.rule.to_string() }));
        }
        self.write_line(line)
    }

    /// The start or the end of another process of the tree.
    pub fn write_member(&mut self, change: &MemberChange) -> io::Result<()> {
        let (member, event) = match change {
            MemberChange::Started(member) => (member, json!({ "event": "started" })),
            MemberChange::Ended { member, status: Some(status) } => (member, end(*status)),
            MemberChange::Ended { member, status: None } => {
                (member, json!({ "event": "exited", "code": null }))
            }
        };
        let Member { pid, ppid, command, .. } = member;
        let mut line = json!({ "pid": pid, "parent": ppid, "command": command });
        extend(&mut line, event);
        self.write_line(line)
    }

    /// A line with the time. Each is one write, so that a reader sees whole lines.
    pub fn write_line(&mut self, event: Value) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = json!({ "time": now.as_secs_f64() });
        extend(&mut line, event);
        self.file.write_all(format!("{line}\n").as_bytes())
    }
}

fn extend(line: &mut Value, more: Value) {
    if let (Value::Object(line), Value::Object(more)) = (line, more) {
        line.extend(more);
    }
}

fn what(what: &What) -> Value {
    match what {
        What::Created => json!({ "event": "created" }),
        What::ThreadCreated => json!({ "event": "thread_created" }),
        What::ThreadEnded => json!({ "event": "thread_ended" }),
        What::Executed => json!({ "event": "executed" }),
        What::Stopped(signal) => json!({ "event": "stopped", "signal": signal.to_string() }),
        What::Continued => json!({ "event": "continued" }),
        What::Exited(status) => end(*status),
        What::Reaped => json!({ "event": "reaped" }),
        What::Generated(info) => {
            json!({ "event": "generated", "signal": info.signal.to_string() })
        }
        What::DriverFault(op) => json!({ "event": "driver_fault", "operation": format!("{op:?}") }),
        What::Lost(count) => json!({ "event": "lost", "count": count }),
        // an event of a later version of the library
        other => json!({ "event": format!("{other:?}") }),
    }
}

fn end(status: WaitStatus) -> Value {
    match status.term_signal() {
        Some(signal) => {
            json!({ "event": "exited", "signal": signal.to_string(), "core": status.core() })
        }
        None => json!({ "event": "exited", "code": status.exit_code() }),
    }
}
