//! Events as JSON, an object a line.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use proctable::abi::WaitStatus;
use proctable::driver::linux::Child;
use proctable::table::{TableEvent, What};
use serde_json::{Value, json};

/// The file.
pub(super) struct Log(File);

impl Log {
    pub fn create(path: &Path) -> io::Result<Log> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("--events {}: {error}", path.display()))
        };
        Ok(Log(File::create(path).map_err(named)?))
    }

    /// A line. Each is one write, so that a reader sees whole lines.
    pub fn write(&mut self, event: &TableEvent, child: &Child) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = json!({
            "time": now.as_secs_f64(),
            "number": event.number,
            // the table's number of it is of no use to anybody else
            "pid": (event.pid == child.process().pid()).then(|| child.pid()),
        });
        let cause = event.cause.map(|cause| json!({ "rule": cause.rule.to_string() }));
        for more in [what(&event.what), cause.unwrap_or_default()] {
            if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
                line.extend(more);
            }
        }
        self.0.write_all(format!("{line}\n").as_bytes())
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
