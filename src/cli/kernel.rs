//! `proctable kernel`: determines the properties of the running kernel.

use std::process::ExitCode;

use clap::Args;
use proctable::diff::running_kernel;
use proctable::host::{Mode, probe};
use proctable::kernel::Property;

use super::diff::UNAVAILABLE;

/// The arguments of the command.
#[derive(Args)]
pub struct Options {
    /// Show the calls that test each property, with the results of a kernel that has it
    #[arg(short, long)]
    verbose: bool,
    /// Use a user namespace also as root
    #[arg(long)]
    user_namespace: bool,
}

/// Prints one line for each property, and one for each thing that `diff` cannot use here.
pub fn run(options: &Options) -> ExitCode {
    let kernel = probe().map_err(|reason| reason.to_string()).and_then(|mode| {
        let mode = if options.user_namespace { Mode::User } else { mode };
        let exe = std::env::current_exe().map_err(|error| error.to_string())?;
        running_kernel(exe, mode).map_err(|error| error.to_string())
    });
    let kernel = match kernel {
        Ok(kernel) => kernel,
        Err(why) => {
            complain!("proctable: the live kernel cannot be asked here: {why}");
            return UNAVAILABLE.into();
        }
    };
    say!("kernel {}", kernel.version);
    for property in Property::ALL {
        let since = property
            .since()
            .map_or("by configuration".into(), |(major, minor)| format!("Linux {major}.{minor}"));
        let has = if kernel.version.has(property) { "yes" } else { "no" };
        say!("{has:3} {} ({since})", property.name());
        if options.verbose {
            for line in property.scenario().lines() {
                say!("      {line}");
            }
        }
    }
    for what in &kernel.left_out {
        say!("diff leaves out: {what}");
    }
    ExitCode::SUCCESS
}
