//! `proctable sweep`: ends the trees that crashed owners left.

use std::process::ExitCode;

use proctable::drivers::linux::sweep;

use super::exec::FAILED;

/// Ends the trees that crashed owners left.
pub fn run() -> ExitCode {
    match sweep() {
        Err(error) => {
            complain!("proctable: {error}");
            ExitCode::from(FAILED)
        }
        Ok(swept) => {
            for member in &swept.killed {
                say!("killed {} ({})", member.pid, member.command);
            }
            for directory in &swept.removed {
                say!("removed {}", directory.display());
            }
            for (directory, why) in &swept.left {
                complain!("proctable: {}: {why}", directory.display());
            }
            ExitCode::from(u8::from(!swept.left.is_empty()))
        }
    }
}
