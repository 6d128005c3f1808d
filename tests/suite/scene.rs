//! A scenario: calls with expected results on the model, and then the same calls on the live
//! kernel, which must give the same results.

use proctable::abi::{
    Handler, Pid, Resource, Rlimit, SaFlags, SigAction, SigInfo, SigSet, Signal, Uid, WaitOptions,
    WaitStatus,
};
use proctable::diff::{Start, replay};
use proctable::host::{CATCHER, Mode, RESTORER, SELF_PATH, probe};
use proctable::kernel::{Canonical, Config, Kernel, Property, Rule, RunState, View};
use proctable::sim::{Action, Observable, Reaction, Step, react};
use proctable::syscall::text::{CallEnd, RestartCode};
use proctable::syscall::{self, Ptr, QueuedInfo, Ret, SIGSET_SIZE, Syscall, how};
use proctable::trace::{Entry, Log, LogEvent};

pub const NONE: WaitOptions = WaitOptions(0);
const EXE: &str = env!("CARGO_BIN_EXE_proctable");

/// The model, its last reaction, and the calls so far.
pub struct Scene {
    pub kernel: Kernel,
    last: Option<Reaction>,
    entries: Vec<Entry>,
    hold: bool,
    users: bool,
    /// The property on which the results depend, if any.
    depends_on: Option<Property>,
}

impl Scene {
    /// A fresh pid namespace.
    pub fn new() -> Scene {
        Scene::with(Config::default())
    }

    pub fn with(config: Config) -> Scene {
        let kernel = Kernel::new(config);
        let (last, entries, depends_on) = (None, Vec::new(), None);
        Scene { kernel, last, entries, hold: false, users: false, depends_on }
    }

    /// Declares that the results depend on a property: on a live kernel that differs in it the
    /// scenario prints `SKIPPED`.
    pub fn depends_on(mut self, property: Property) -> Scene {
        self.depends_on = Some(property);
        self
    }

    /// Handlers stay entered until the scenario calls rt_sigreturn.
    pub fn hold_handlers(mut self) -> Scene {
        self.hold = true;
        self
    }

    /// Makes a call, and runs the model until no task is runnable.
    pub fn call(&mut self, pid: u32, call: Syscall) -> &Reaction {
        let step = Step { tid: Pid(pid), action: Action::Call(call.clone()) };
        let reaction = self.react(&step);
        let result = returned(reaction, pid);
        let outcome = match (&call, result) {
            (Syscall::Exit(_) | Syscall::ExitGroup(_), _) => CallEnd::Returned(Ok(Ret::Never)),
            // the result of a call does not matter in the log of a replay
            (_, Some(result)) => CallEnd::Returned(result),
            (_, None) => CallEnd::Interrupted(RestartCode::Sys),
        };
        let event = LogEvent::Call { call, outcome };
        self.entries.push(Entry { line: 0, pid: Pid(pid), event });
        self.last.as_ref().expect("it was set just now")
    }

    /// Advances the time, on the model only.
    pub fn elapse(&mut self, nanos: u64) -> &Reaction {
        self.react(&Step { tid: Pid(0), action: Action::Elapse(nanos) })
    }

    fn react(&mut self, step: &Step) -> &Reaction {
        let reaction = react(&mut self.kernel, step, self.hold, &mut Canonical)
            .unwrap_or_else(|refused| panic!("{step:?}: {refused}"));
        self.kernel.check_invariants().expect("the invariants hold");
        reached::note(&reaction.effects);
        self.last.insert(reaction)
    }

    /// The result of a call that returns at once.
    pub fn result(&mut self, pid: u32, call: Syscall) -> syscall::Result {
        let text = format!("{pid} {call:?}");
        returned(self.call(pid, call), pid).unwrap_or_else(|| panic!("{text} does not return"))
    }

    pub fn value(&mut self, pid: u32, call: Syscall) -> i64 {
        self.result(pid, call).expect("the call succeeds").value()
    }

    pub fn fork(&mut self, pid: u32) -> u32 {
        self.value(pid, Syscall::Fork) as u32
    }

    pub fn exit(&mut self, pid: u32, code: i32) {
        self.call(pid, Syscall::ExitGroup(code));
    }

    /// Makes a permitted kill. It may stop or end the sender.
    pub fn kill(&mut self, pid: u32, target: i32, signal: Signal) {
        self.call(pid, kill(target, signal));
        let sent = returned(self.reaction(), pid);
        assert!(matches!(sent, None | Some(Ok(Ret::Value(0)))), "{sent:?}");
    }

    pub fn wait(&mut self, pid: u32, options: WaitOptions) -> syscall::Result {
        self.result(pid, wait_for(-1, options))
    }

    pub fn catch(&mut self, pid: u32, signal: Signal, flags: SaFlags, mask: SigSet) {
        let flags = flags.with(SaFlags::RESTORER).with(SaFlags::SIGINFO);
        let handler = Handler::Catch(CATCHER);
        self.action(pid, signal, SigAction { handler, flags, mask, restorer: RESTORER });
    }

    pub fn action(&mut self, pid: u32, signal: Signal, act: SigAction) {
        let sig = signal.number().into();
        let call = Syscall::RtSigaction { sig, act: Some(act), old: Ptr::Null, size: SIGSET_SIZE };
        assert_eq!(self.result(pid, call), Ok(Ret::Action(None)));
    }

    pub fn block(&mut self, pid: u32, set: SigSet) {
        self.mask(pid, how::BLOCK, set);
    }

    pub fn unblock(&mut self, pid: u32, set: SigSet) {
        self.mask(pid, how::UNBLOCK, set);
    }

    fn mask(&mut self, pid: u32, how: i32, set: SigSet) {
        let (set, size) = (Some(set), SIGSET_SIZE);
        self.call(pid, Syscall::RtSigprocmask { how, set, old: Ptr::Null, size });
    }

    pub fn setpgid(&mut self, caller: u32, pid: i32, pgid: i32) {
        assert_eq!(self.value(caller, Syscall::Setpgid { pid, pgid }), 0);
    }

    /// Sets all three users of `pid`. A scenario with users needs root on the live kernel.
    pub fn set_users(&mut self, pid: u32, [real, effective, saved]: [u32; 3]) {
        self.users = true;
        assert_eq!(self.value(pid, Syscall::Setresuid { real, effective, saved }), 0);
    }

    pub fn limit(&mut self, pid: u32, resource: Resource, soft: u64) {
        let new = Some(Rlimit { soft, hard: soft });
        let call = Syscall::Prlimit { pid: 0, resource, new, old: Ptr::Null };
        assert_eq!(self.result(pid, call), Ok(Ret::Limit(None)));
    }

    pub fn exec(&mut self, pid: u32) -> syscall::Result {
        self.result(pid, Syscall::Execve { path: SELF_PATH.into(), error: None })
    }

    pub fn view(&self, pid: u32) -> View {
        self.kernel.view(Pid(pid)).unwrap_or_else(|| panic!("there is no {pid}"))
    }

    pub fn run(&self, pid: u32) -> RunState {
        self.view(pid).run
    }

    pub fn is_gone(&self, pid: u32) -> bool {
        self.kernel.view(Pid(pid)).is_none()
    }

    pub fn reaction(&self) -> &Reaction {
        self.last.as_ref().expect("there was a step")
    }

    /// The result that `pid` got in the last step, of the call of this step or of an earlier one.
    pub fn returned(&self, pid: u32) -> Option<syscall::Result> {
        returned(self.reaction(), pid)
    }

    /// The handlers of `pid` that ran in the last step, in order.
    pub fn handled(&self, pid: u32) -> Vec<SigInfo> {
        let infos = self.reaction().seen.iter().filter_map(|(task, what)| match what {
            Observable::Handler(info) if task.0 == pid => Some(*info),
            _ => None,
        });
        infos.collect()
    }

    /// The numbers of their signals.
    pub fn handled_numbers(&self, pid: u32) -> Vec<u8> {
        self.handled(pid).iter().map(|info| info.signal.number()).collect()
    }

    /// Whether the last step followed the rule with that id.
    pub fn follows(&self, id: &str) -> bool {
        let rule = Rule::named(id).unwrap_or_else(|| panic!("there is no rule {id}"));
        self.reaction().effects.rules().contains(rule)
    }

    /// Runs the calls on the live kernel, and panics if its results differ.
    pub fn same_on_the_kernel(self) {
        if reached::is_recorded() {
            return;
        }
        let mode = match probe() {
            Err(reason) => return println!("SKIPPED on the live kernel: {reason}"),
            Ok(Mode::User) if self.users => {
                return println!("SKIPPED on the live kernel: other users need root");
            }
            Ok(mode) => mode,
        };
        let calls = self.entries.len() as u64;
        let config = self.kernel.config().clone();
        let fresh = Config::default();
        let given = |value, usual| (value != usual).then_some(value);
        let start = Start {
            first: given(config.first.0, fresh.first.0),
            pid_max: given(config.pid_max, fresh.pid_max),
            last_pid: given(config.last_pid, fresh.last_pid),
            stay_in_handlers: self.hold,
            concurrent: None,
        };
        let log = Log { entries: self.entries }.to_string();
        let timed = ["alarm(", "setitimer(", "rt_sigtimedwait("];
        let timed = timed.iter().any(|call| log.contains(call));
        let mut late = 0;
        loop {
            let summary = match replay(EXE.into(), mode, log.clone(), start) {
                Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
                    return println!("SKIPPED on the live kernel: {error}");
                }
                summary => summary.expect("the log is replayed"),
            };
            let differences: Vec<&str> =
                summary.differences.iter().map(|difference| &*difference.text).collect();
            assert!(differences.is_empty(), "{}", differences.join("\n"));
            let running = summary.version.expect("the worker reported it");
            let differs =
                |property: &Property| config.version.has(*property) != running.has(*property);
            if let Some(property) = self.depends_on.filter(differs) {
                let (own, what) = (config.version, property.name());
                return println!("SKIPPED on the live kernel, {running}: not as on {own}: {what}");
            }
            if summary.progress.programs == 1 {
                return assert_eq!(summary.progress.calls, calls, "all calls were made");
            }
            assert!(timed, "a scene without timers is never late");
            late += 1;
            if late == 20 {
                return println!("SKIPPED on the live kernel: timers fired late each time");
            }
        }
    }
}

/// Records the rules that the scenarios of each test follow (for
/// `semantics::the_scenario_of_a_rule_follows_it`).
pub mod reached {
    use std::fs::OpenOptions;
    use std::io::Write;

    use proctable::kernel::Effects;

    /// The environment variable with the path of the file to which each scenario appends lines of a
    /// test and a rule.
    pub const FILE: &str = "PROCTABLE_RULES_REACHED";

    /// Whether rules are recorded: then scenarios do not use the live kernel.
    pub fn is_recorded() -> bool {
        std::env::var_os(FILE).is_some()
    }

    pub fn note(effects: &Effects) {
        let Some(path) = std::env::var_os(FILE) else { return };
        let thread = std::thread::current();
        let test = thread.name().expect("a test has a name");
        let lines: String = effects.rules().iter().map(|rule| format!("{test} {rule}\n")).collect();
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(lines.as_bytes())).expect("the lines are written");
    }
}

fn returned(reaction: &Reaction, pid: u32) -> Option<syscall::Result> {
    reaction.seen.iter().find_map(|(task, what)| match what {
        Observable::Returned(result) if task.0 == pid => Some(result.clone()),
        _ => None,
    })
}

pub fn kill(target: i32, signal: Signal) -> Syscall {
    Syscall::Kill { pid: target, sig: signal.number().into() }
}

pub fn wait_for(pid: i32, options: WaitOptions) -> Syscall {
    Syscall::Wait4 { pid, status: Ptr::Valid, options }
}

pub fn waited(pid: u32, status: WaitStatus) -> syscall::Result {
    Ok(Ret::Waited { pid: Pid(pid), status: Some(status) })
}

pub fn queue(pid: i32, signal: Signal, code: i32, value: u64) -> Syscall {
    let info = Some(QueuedInfo { code, pid: 1, uid: 0, value });
    Syscall::RtSigqueueinfo { pid, sig: signal.number().into(), info }
}

pub fn killed(signal: Signal) -> WaitStatus {
    WaitStatus::killed(signal, false)
}

pub fn signal(number: i32) -> Signal {
    Signal::new(number).expect("a signal")
}

pub fn set(numbers: &[i32]) -> SigSet {
    numbers.iter().map(|number| signal(*number)).collect()
}

/// A user that no other run of the tests has at the same time, because the kernel counts by user
/// over the whole machine.
pub fn own_user(nth: u32) -> u32 {
    100_000 + std::process::id() % 10_000 * 100 + nth
}

pub fn users(number: u32) -> [u32; 3] {
    [number; 3]
}

pub fn user(number: u32) -> Uid {
    Uid(number)
}
