//! Comparison of the live kernel with the model. Without a usable kernel a test prints `SKIPPED`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use proctable::diff::{Campaign, Subject, Summary, TrialConfig};
use proctable::host::{Mode, probe};
use proctable::sim::Profile;

fn exe() -> PathBuf {
    env!("CARGO_BIN_EXE_proctable").into()
}

fn campaign(mode: Mode, programs: u64) -> Campaign {
    Campaign {
        exe: exe(),
        mode,
        cpus: vec![0],
        config: TrialConfig { seed: 42, steps: 60, shrink: true, concurrent: None, profile: None },
        programs,
        subject: Subject::Processes,
        shard: (0, 1),
        fault: None,
        max_differences: 3,
    }
}

fn run(campaign: &Campaign) -> Summary {
    campaign.run(|_| {}).expect("the oracle was probed")
}

/// The mode of the oracle here. Without one, prints a line `SKIPPED`.
pub fn modes() -> Vec<Mode> {
    match probe() {
        Ok(Mode::Root) => vec![Mode::Root, Mode::User],
        Ok(Mode::User) => vec![Mode::User],
        Err(reason) => {
            println!("SKIPPED: the live kernel cannot be asked: {reason}");
            Vec::new()
        }
    }
}

/// A fixed set of programs has no difference, and few programs need another order than the
/// canonical one.
#[test]
fn kernel_and_model_agree_on_random_programs() {
    for mode in modes() {
        let summary = run(&campaign(mode, 300));
        let shown: Vec<&str> = summary.differences.iter().map(|d| d.text.as_str()).collect();
        assert!(shown.is_empty(), "{mode:?}: {}", shown.join("\n"));
        let progress = summary.progress;
        assert_eq!(progress.programs, 300);
        assert!(progress.reordered * 20 < progress.programs, "{mode:?}: {progress:?}");
        println!("{mode:?}: {progress:?}");
    }
}

/// Calls at both ends of a pty.
#[test]
fn kernel_and_model_agree_on_programs_for_a_terminal() {
    for mode in modes() {
        let terminal = Campaign { subject: Subject::Terminal, ..campaign(mode, 400) };
        let summary = run(&terminal);
        let shown: Vec<&str> = summary.differences.iter().map(|d| d.text.as_str()).collect();
        assert!(shown.is_empty(), "{mode:?}: {}", shown.join("\n"));
        assert_eq!(summary.progress.programs, 400);
        println!("{mode:?}: {:?}", summary.progress);
    }
}

/// The results of calls at the same time on all CPUs are those of an order of the model (group
/// RACE).
#[test]
fn concurrent_calls_have_an_outcome_of_the_model() {
    for mode in modes() {
        let campaign = campaign(mode, 40);
        let config = TrialConfig { concurrent: Some(3), steps: 16, ..campaign.config.clone() };
        let summary = run(&Campaign { config, ..campaign });
        let shown: Vec<&str> = summary.differences.iter().map(|d| d.text.as_str()).collect();
        assert!(shown.is_empty(), "{mode:?}: {}", shown.join("\n"));
        assert_eq!(summary.progress.programs, 40);
        println!("{mode:?}: {:?}", summary.progress);
    }
}

/// Before Linux 6.14 pid_max is one number for the whole machine, so a small pid_max of a program
/// would concern all processes (PID-07).
#[test]
fn a_run_leaves_the_machine_s_pid_max_alone() {
    let pid_max = || std::fs::read_to_string("/proc/sys/kernel/pid_max").expect("there is /proc");
    for mode in modes() {
        let before = pid_max();
        let small = AtomicBool::new(false);
        // about every tenth program uses a small pid_max
        let summary = campaign(mode, 60).run(|_| {
            small.fetch_or(pid_max() != before, Relaxed);
        });
        summary.expect("the oracle was probed");
        assert!(!small.into_inner(), "{mode:?}: it was another one for a while");
        assert_eq!(pid_max(), before, "{mode:?}");
    }
}

/// The shards run disjoint sets of programs, and together all programs.
#[test]
fn each_program_belongs_to_one_shard() {
    let count = |shard| Campaign { shard, ..campaign(Mode::Root, 10) }.count();
    assert_eq!((count((0, 3)), count((1, 3)), count((2, 3))), (4, 3, 3));
    assert_eq!(count((0, 1)), 10);
}

/// Each wrong rule of the feature `faults` is found within 2,000 programs.
///
/// `cargo test --release --features cli,faults --test suite diff -- --nocapture` prints the number
/// of programs for each.
#[cfg(feature = "faults")]
#[test]
fn every_wrong_rule_is_found() {
    use proctable::kernel::Fault;
    let Some(mode) = modes().first().copied() else { return };
    let mut missed = Vec::new();
    let of_all = Fault::ALL.map(|fault| (fault, None));
    let of_terminals = Fault::OF_TERMINALS.map(|fault| (fault, Some(Profile::Terminals)));
    for (fault, profile) in of_all.into_iter().chain(of_terminals) {
        let wrong = Campaign {
            fault: Some(format!("{fault:?}")),
            max_differences: 1,
            config: TrialConfig { seed: 42, steps: 80, shrink: false, concurrent: None, profile },
            ..campaign(mode, 2000)
        };
        let summary = run(&wrong);
        match summary.differences.first() {
            Some(found) => {
                println!("{fault:?}: found by program {} ({})", found.index, found.profile);
            }
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// A terminal with processes: sessions, foreground groups, the background.
#[test]
fn kernel_and_model_agree_on_job_control() {
    for mode in modes() {
        let campaign = campaign(mode, 400);
        let config = TrialConfig { profile: Some(Profile::Terminals), ..campaign.config };
        let summary = run(&Campaign { config, ..campaign });
        let found = &summary.differences;
        assert!(found.is_empty(), "{mode:?}: {}", found[0].text);
        assert!(summary.progress.calls > 10_000, "{mode:?}: {:?}", summary.progress);
    }
}

/// The same for the rules of terminals.
#[cfg(feature = "faults")]
#[test]
fn every_wrong_rule_of_terminals_is_found() {
    use proctable::tty::TerminalFault;
    let Some(mode) = modes().first().copied() else { return };
    let mut missed = Vec::new();
    for fault in TerminalFault::ALL {
        let wrong = Campaign {
            fault: Some(format!("{fault:?}")),
            max_differences: 1,
            config: TrialConfig {
                seed: 42,
                steps: 80,
                shrink: false,
                concurrent: None,
                profile: None,
            },
            subject: Subject::Terminal,
            ..campaign(mode, 2000)
        };
        match run(&wrong).differences.first() {
            Some(found) => println!("{fault:?}: found by program {}", found.index),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
