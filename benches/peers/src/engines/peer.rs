//! The peers. Both have the same interface, in separate crates.

/// An engine on the `process_table` of a crate.
macro_rules! table {
    ($module:ident, $krate:ident) => {
        pub mod $module {
            use std::collections::BTreeMap;
            use std::sync::Arc;
            use std::time::Duration;

            use $krate::process_table::{
                DriverProcess, ProcessContext, ProcessExitCallback, ProcessTable, WaitPidFlags,
            };

            use crate::engines::{CHILDREN, Concurrent, Engine, JOB, Op, look};

            const TERM: i32 = 15;

            /// A driver that does nothing.
            struct Null;

            impl DriverProcess for Null {
                fn kill(&self, _: i32) {}
                fn wait(&self, _: Duration) -> Option<i32> {
                    None
                }
                fn set_on_exit(&self, _: ProcessExitCallback) {}
            }

            struct Job {
                shell: u32,
                children: [u32; CHILDREN],
            }

            pub struct Table {
                table: ProcessTable,
                driver: Arc<dyn DriverProcess>,
                jobs: Vec<Job>,
                extra: u32,
            }

            impl Table {
                pub fn new(jobs: usize) -> Table {
                    let mut world = Table {
                        table: ProcessTable::new(),
                        driver: Arc::new(Null),
                        jobs: Vec::new(),
                        extra: 0,
                    };
                    world.spawn(0, BTreeMap::new());
                    world.jobs = (0..jobs).map(|nth| world.job(nth)).collect();
                    world
                }

                /// The size of the table alone.
                pub fn bytes_of(jobs: usize) -> usize {
                    let mut world = None;
                    let bytes = crate::alloc::bytes_of(|| world = Some(Table::new(jobs)));
                    bytes - world.map_or(0, |world| world.jobs.capacity() * size_of::<Job>())
                }

                fn job(&mut self, nth: usize) -> Job {
                    let variables = if nth == 0 { 20 } else { 0 };
                    let environment = (0..variables)
                        .map(|nth| (format!("VARIABLE_{nth}"), format!("value-of-variable-{nth}")))
                        .collect();
                    let shell = self.spawn(1, environment);
                    self.table.setpgid(shell, 0).expect("a group of its own");
                    let mut children = [0; CHILDREN];
                    for at in 0..CHILDREN {
                        children[at] = self.spawn(shell, BTreeMap::new());
                        self.table.setpgid(children[at], children[0]).expect("the job's group");
                    }
                    Job { shell, children }
                }

                #[inline]
                fn spawn(&self, parent: u32, env: BTreeMap<String, String>) -> u32 {
                    let pid = self.table.allocate_pid().expect("there is room");
                    let context = ProcessContext { pid, ppid: parent, env, ..Default::default() };
                    let driver = self.driver.clone();
                    look(self.table.register(pid, "d", "c", Vec::new(), context, driver));
                    pid
                }

                #[inline]
                fn exit_and_wait(&self, shell: u32, child: u32) {
                    self.table.mark_exited(child, 0);
                    let waited = self.table.waitpid_for(shell, -1, WaitPidFlags::WNOHANG);
                    look(waited);
                }
            }

            impl Engine for Table {
                fn name(&self) -> &'static str {
                    stringify!($module)
                }

                fn before(&mut self, op: Op, job: usize) {
                    if op == Op::ExitWait {
                        self.extra = self.spawn(self.jobs[job].shell, BTreeMap::new());
                    }
                }

                #[inline]
                fn run(&mut self, op: Op, job: usize, child: usize) {
                    let Job { shell, ref children } = self.jobs[job];
                    let pid = children[child];
                    match op {
                        Op::Fork => self.extra = self.spawn(shell, BTreeMap::new()),
                        Op::Probe => look(self.table.kill(pid as i32, 0)),
                        Op::KillGroup | Op::KillGroupDelivered => {
                            look(self.table.kill(-(children[0] as i32), TERM));
                        }
                        Op::WaitNone => {
                            let waited = self.table.waitpid_for(shell, -1, WaitPidFlags::WNOHANG);
                            look(waited);
                        }
                        Op::ExitWait => self.exit_and_wait(shell, self.extra),
                        Op::SpawnExitReap => {
                            let child = self.spawn(shell, BTreeMap::new());
                            self.exit_and_wait(shell, child);
                        }
                        Op::JoinGroup => {
                            for group in [shell, children[0]] {
                                look(self.table.setpgid(pid, group));
                            }
                        }
                        Op::Getpgid => look(self.table.getpgid(pid)),
                        Op::GetpgidEnv => look(self.table.getpgid(self.jobs[0].shell)),
                        Op::List => look(self.table.list_processes()),
                        Op::Churn(_)
                        | Op::ExitBeside(_)
                        | Op::ExitToReturn(_)
                        | Op::ExitToAny(_) => {}
                    }
                }

                fn after(&mut self, op: Op, job: usize) {
                    if op == Op::Fork {
                        self.exit_and_wait(self.jobs[job].shell, self.extra);
                    }
                }

                fn concurrent(&self) -> Option<&dyn Concurrent> {
                    Some(self)
                }

                fn check(&mut self) {
                    let Job { shell, children } = self.jobs[0];
                    let processes = 1 + self.jobs.len() * JOB;
                    assert_eq!(self.table.list_processes().len(), processes);
                    assert_eq!(self.table.getpgid(children[7]).ok(), Some(children[0]));
                    let none = self.table.waitpid_for(shell, -1, WaitPidFlags::WNOHANG);
                    assert!(matches!(none, Ok(None)));
                    let child = self.spawn(shell, BTreeMap::new());
                    self.exit_and_wait(shell, child);
                    assert!(self.table.get(child).is_none());
                }
            }

            impl Concurrent for Table {
                fn churn(&self, job: usize) {
                    let pid = Concurrent::spawn(self, job);
                    self.exit(pid);
                    self.reap(job, pid);
                }

                fn spawn(&self, job: usize) -> u32 {
                    self.spawn(self.jobs[job].shell, BTreeMap::new())
                }

                fn exit(&self, pid: u32) {
                    self.table.mark_exited(pid, 0);
                }

                fn reap(&self, job: usize, pid: u32) {
                    let shell = self.jobs[job].shell;
                    look(self.table.waitpid_for(shell, pid as i32, WaitPidFlags::WNOHANG));
                }

                fn wait(&self, job: usize, pid: u32) {
                    let shell = self.jobs[job].shell;
                    look(self.table.waitpid_for(shell, pid as i32, WaitPidFlags::empty()));
                }

                fn wait_for_any(&self, job: usize) {
                    let shell = self.jobs[job].shell;
                    look(self.table.waitpid_for(shell, -1, WaitPidFlags::empty()));
                }
            }
        }
    };
}
pub(super) use table;
