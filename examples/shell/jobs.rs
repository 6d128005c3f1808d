//! The jobs of the shell, by their numbers.

use proctable::abi::{Pid, Signal, WaitStatus};

/// The state of a process or a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Running,
    Stopped(Signal),
    Ended(WaitStatus),
}

impl From<WaitStatus> for State {
    fn from(status: WaitStatus) -> State {
        match status.stop_signal() {
            Some(signal) => State::Stopped(signal),
            None if status.continued() => State::Running,
            None => State::Ended(status),
        }
    }
}

impl State {
    fn is_stopped(self) -> bool {
        matches!(self, State::Stopped(_))
    }

    /// As `jobs` shows it.
    fn text(self) -> String {
        match self {
            State::Running => "Running".into(),
            State::Stopped(_) => "Stopped".into(),
            State::Ended(status) => match status.exit_code() {
                Some(0) => "Done".into(),
                Some(code) => format!("Exit {code}"),
                None => describe(status),
            },
        }
    }
}

/// What a shell says of a process that a signal has ended: strsignal(3).
pub fn describe(status: WaitStatus) -> String {
    let text = match status.term_signal() {
        Some(Signal::HUP) => "Hangup".into(),
        Some(Signal::INT) => "Interrupt".into(),
        Some(Signal::QUIT) => "Quit".into(),
        Some(Signal::ABRT) => "Aborted".into(),
        Some(Signal::KILL) => "Killed".into(),
        Some(Signal::PIPE) => "Broken pipe".into(),
        Some(Signal::ALRM) => "Alarm clock".into(),
        Some(Signal::TERM) => "Terminated".into(),
        Some(Signal::USR1) => "User defined signal 1".into(),
        Some(Signal::USR2) => "User defined signal 2".into(),
        Some(signal) => signal.to_string(),
        None => String::new(),
    };
    if status.core() { format!("{text} (core dumped)") } else { text }
}

/// A pipeline that runs or is stopped.
#[derive(Clone, Debug)]
pub struct Job {
    pub number: usize,
    /// The process group: the number of its first process.
    pub group: Pid,
    /// In the order of the pipeline.
    processes: Vec<(Pid, State)>,
    pub text: String,
    /// Whether the user knows its state.
    pub is_known: bool,
}

impl Job {
    pub fn state(&self) -> State {
        let states = || self.processes.iter().map(|(_, state)| *state);
        let running = states().find(|state| *state == State::Running);
        let unfinished = running.or_else(|| states().find(|state| state.is_stopped()));
        // the last command decides how a pipeline has ended
        unfinished.or(states().next_back()).unwrap_or(State::Running)
    }

    /// The job was sent SIGCONT.
    pub fn note_continue(&mut self) {
        for (_, state) in &mut self.processes {
            if state.is_stopped() {
                *state = State::Running;
            }
        }
    }

    /// The status as `$?` has it.
    pub fn status(&self) -> i32 {
        match self.state() {
            State::Running => 0,
            State::Stopped(signal) => 128 + i32::from(signal.number()),
            State::Ended(status) => match (status.exit_code(), status.term_signal()) {
                (Some(code), _) => code.into(),
                (None, signal) => 128 + signal.map_or(0, |signal| i32::from(signal.number())),
            },
        }
    }
}

/// The jobs, and which of them `fg` and `bg` mean.
#[derive(Default, Debug)]
pub struct Jobs {
    jobs: Vec<Job>,
    current: Option<usize>,
    previous: Option<usize>,
}

impl Jobs {
    /// A new job gets the number after the highest one.
    pub fn add(&mut self, processes: &[Pid], text: String) -> usize {
        let number = self.jobs.last().map_or(0, |job| job.number) + 1;
        let processes: Vec<_> = processes.iter().map(|pid| (*pid, State::Running)).collect();
        let group = processes.first().map_or(Pid(0), |(pid, _)| *pid);
        self.jobs.push(Job { number, group, processes, text, is_known: true });
        number
    }

    pub fn iter(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter()
    }

    pub fn get(&self, number: usize) -> Option<&Job> {
        self.jobs.iter().find(|job| job.number == number)
    }

    pub fn get_mut(&mut self, number: usize) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.number == number)
    }

    /// The number of a job that a user names: `%1`, `%%`, `%+`, `%-`; the current one without a
    /// name.
    pub fn find(&self, name: Option<&str>) -> Option<usize> {
        match name {
            None | Some("%%" | "%+" | "%") => self.current,
            Some("%-") => self.previous.or(self.current),
            Some(name) => {
                let number = name.strip_prefix('%').unwrap_or(name).parse().ok()?;
                self.get(number).map(|job| job.number)
            }
        }
    }

    /// What wait(2) has returned of a process.
    pub fn update(&mut self, pid: Pid, status: WaitStatus) {
        for job in &mut self.jobs {
            let before = job.state();
            for (_, state) in job.processes.iter_mut().filter(|(of, _)| *of == pid) {
                *state = status.into();
            }
            if job.state() != before {
                job.is_known = job.state() == State::Running;
                if job.state().is_stopped() {
                    let number = job.number;
                    return self.set_current(number);
                }
                return;
            }
        }
    }

    /// The job becomes the current one: it was stopped, or brought to the foreground.
    pub fn set_current(&mut self, number: usize) {
        if self.current != Some(number) {
            self.previous = self.current.replace(number);
        }
        self.choose_previous();
    }

    /// Chooses the current job anew: a stopped one before those that run, newer ones first.
    pub fn choose_current(&mut self) {
        let stopped =
            |number: &usize| self.get(*number).is_some_and(|job| job.state().is_stopped());
        let chosen = self.current.filter(stopped).or(self.previous.filter(stopped));
        let chosen = chosen.or_else(|| self.newest(|job| job.state().is_stopped()));
        let chosen = chosen.or_else(|| self.newest(|job| job.state() == State::Running));
        match chosen {
            Some(number) => self.set_current(number),
            None => (self.current, self.previous) = (None, None),
        }
    }

    fn choose_previous(&mut self) {
        let current = self.current.and_then(|number| self.get(number));
        let Some(current) = current else { return };
        let (number, is_running) = (current.number, current.state() == State::Running);
        let is_stopped_one =
            |of: &usize| *of != number && self.get(*of).is_some_and(|job| job.state().is_stopped());
        let previous = self.previous.filter(is_stopped_one);
        let previous = previous.or_else(|| {
            self.newest(|job| !is_running && job.number < number && job.state().is_stopped())
        });
        self.previous = previous.or_else(|| {
            let is_older = |job: &Job| if is_running { job.number < number } else { true };
            self.newest(|job| is_older(job) && job.state() == State::Running)
        });
    }

    fn newest(&self, is_one: impl Fn(&Job) -> bool) -> Option<usize> {
        self.jobs.iter().rev().find(|job| is_one(job)).map(|job| job.number)
    }

    /// The mark of a job in a list.
    pub fn mark(&self, number: usize) -> char {
        match number {
            _ if self.current == Some(number) => '+',
            _ if self.previous == Some(number) => '-',
            _ => ' ',
        }
    }

    /// The line of a job in a list.
    pub fn line(&self, job: &Job) -> String {
        let (mark, state) = (self.mark(job.number), job.state());
        let end = if state == State::Running { " &" } else { "" };
        format!("[{}]{mark}  {:<24}{}{end}\n", job.number, state.text(), job.text)
    }

    /// The lines about jobs whose state the user does not know, and the jobs that have ended are
    /// forgotten.
    pub fn news(&mut self) -> String {
        let mut news = String::new();
        for job in &self.jobs {
            match job.state() {
                // the user has continued it
                State::Running => {}
                _ if job.is_known => {}
                // the line of the cursor is not empty
                State::Stopped(_) => news.push_str(&format!("\n{}", self.line(job))),
                State::Ended(_) => news.push_str(&self.line(job)),
            }
        }
        self.forget_ended();
        self.jobs.iter_mut().for_each(|job| job.is_known = true);
        news
    }

    /// Forgets the jobs that have ended, and chooses the current job anew if it was one of them.
    pub fn forget_ended(&mut self) {
        self.jobs.retain(|job| !matches!(job.state(), State::Ended(_)));
        let is_gone = |number: Option<usize>| number.is_some_and(|of| self.get(of).is_none());
        let (current, previous) = (is_gone(self.current), is_gone(self.previous));
        if previous {
            self.previous = None;
        }
        if current {
            self.current = None;
            self.choose_current();
        } else if previous {
            self.choose_previous();
        }
    }
}
