//! Snapshots of a table: the model, what the table knows of each process, and the operations that
//! drivers have not carried out.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::clock::LaterClock;
use super::commit::{TableInner, TableState};
use super::config::{Init, TableConfig};
use super::driver_queue::DriverQueue;
use super::guest::SavedCalls;
use super::outbox::{NextOp, Outbox, Requests};
use super::registry::{Image, Phase, ProcessEntry, ProcessKey, ProcessRegistry, RunBy, SERIALS};
use super::usage::Usages;
use super::zombies::ZombieQueue;
use super::{Process, ProcessTable, TableHandle};
use crate::abi::{Errno, Pid, Time};
use crate::driver::{DriverProcess, NullDriver, Op};
use crate::kernel::{Id, Kernel};

/// The version of the form; a snapshot of another one is refused.
const FORM: u32 = 2;

/// The state of a table at one moment, with a value of the runtime's for each process: see
/// [`ProcessTable::snapshot`].
///
/// Calls in progress are part of it, and [`Process::calls_in_progress`] returns them in the
/// restored table. What waits on behalf of the runtime is not: waits, joins, receivers of events
/// and the exit callback begin anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot<D> {
    form: u32,
    table: SavedTable,
    processes: Vec<SavedProcess<D>>,
}

/// All but the processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedTable {
    kernel: Kernel,
    init: Init,
    now: Time,
    last_serial: u64,
    images: Vec<Arc<Image>>,
    /// The threads that are not leaders: number, process, calls.
    threads: Vec<(Pid, Pid, Option<SavedCalls>)>,
    has_safe_points: bool,
    /// The zombies of the init, with the times at which they are reaped.
    zombies: Vec<(Time, Pid)>,
    usages: Usages,
    /// What drivers have to do next, in each of the steps that wait for a dispatch.
    steps: Vec<Step>,
    /// What drivers do after that, by the serials of their processes.
    operations: Vec<(u64, Op)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedProcess<D> {
    pid: Pid,
    serial: u64,
    has_driver: bool,
    /// `None` for a process that is reaped, whose driver has operations to carry out.
    entry: Option<SavedEntry>,
    data: D,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedEntry {
    image: usize,
    started: Time,
    calls: Option<SavedCalls>,
    run_by: RunBy,
    phase: Phase,
    leader_ended: bool,
}

/// Why a snapshot cannot be restored.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RestoreError {
    /// It has the form of another version of this library.
    Form(u32),
    /// Its parts do not fit together: the first contradiction, in words.
    Contradiction(String),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Form(form) => {
                write!(f, "the snapshot has form {form}, and this version reads form {FORM}")
            }
            RestoreError::Contradiction(what) => {
                write!(f, "the snapshot contradicts itself: {what}")
            }
        }
    }
}

impl core::error::Error for RestoreError {}

/// The programs of a snapshot, each of them once.
#[derive(Default)]
pub(super) struct SavedImages {
    images: Vec<Arc<Image>>,
    places: BTreeMap<usize, usize>,
}

impl SavedImages {
    pub fn place(&mut self, image: &Arc<Image>) -> usize {
        *self.places.entry(Arc::as_ptr(image) as usize).or_insert_with(|| {
            self.images.push(image.clone());
            self.images.len() - 1
        })
    }
}

impl<D> Snapshot<D> {
    /// The time of the snapshot, by the clock of its table.
    pub fn now(&self) -> Time {
        self.table.now
    }

    /// The processes of the snapshot, zombies included, with the values of the runtime's.
    pub fn processes(&self) -> impl Iterator<Item = (Pid, &D)> {
        let present = self.processes.iter().filter(|process| process.entry.is_some());
        present.map(|process| (process.pid, &process.data))
    }
}

impl ProcessTable {
    /// Takes a snapshot. `save` returns what the runtime needs to restore a process: the state of
    /// its engine, the value of [`Process::set_data`]. It is called without the lock, also for a
    /// process that is reaped and whose driver has operations to carry out; other threads leave the
    /// table alone until this returns, or the values are of later moments than the rest.
    ///
    /// Costs a copy of the model. Guests on threads of their own
    /// ([`ThreadDriver`](crate::drivers::ThreadDriver)) cannot be restored, as their stacks are not
    /// in it; a call whose result the runtime has not taken yet is not in progress, and its
    /// [`Call`](super::Call) alone has the result.
    ///
    /// # Errors
    ///
    /// EBUSY while a driver carries out an operation, and while an exit callback has not run. With
    /// [`DispatchMode::Request`](super::DispatchMode::Request) operations that wait are part of the
    /// snapshot, and an exit callback runs in the next [`ProcessTable::dispatch`].
    ///
    /// ```
    /// use proctable::abi::{Signal, WaitOptions, WaitStatus};
    /// use proctable::table::{Image, ProcessTable, Snapshot, Spawn, TableConfig};
    ///
    /// let table = ProcessTable::new();
    /// let guest = table.spawn(Spawn::new(Image::new("guest")))?;
    /// guest.set_data(7_u32)?;
    /// let snapshot = table.snapshot(|process| process.data::<u32>().map(|data| *data))?;
    /// let text = serde_json::to_string(&snapshot).expect("it has only plain values");
    ///
    /// let snapshot: Snapshot<Option<u32>> = serde_json::from_str(&text).expect("it is one");
    /// let copy = ProcessTable::restore(snapshot, TableConfig::new(), |process, data| {
    ///     let _ = data.map(|data| process.set_data(data));
    ///     None
    /// });
    /// let copy = copy.expect("it was not changed");
    /// let guest = copy.process(guest.pid()).expect("it is in the snapshot");
    /// assert_eq!(guest.data::<u32>().as_deref(), Some(&7));
    /// guest.send(Signal::TERM)?;
    /// let waited = copy.init().wait(&guest, WaitOptions::EXITED)?;
    /// assert_eq!(waited.status, WaitStatus::killed(Signal::TERM, false));
    /// # Ok::<(), proctable::abi::Errno>(())
    /// ```
    pub fn snapshot<D>(&self, mut save: impl FnMut(&Process) -> D) -> Result<Snapshot<D>, Errno> {
        let (table, processes) = self.shared().save()?;
        let processes = processes.into_iter().map(|process| {
            let SavedProcess { pid, serial, has_driver, entry, data: key } = process;
            let data = save(&Process::new(self.clone(), key));
            SavedProcess { pid, serial, has_driver, entry, data }
        });
        Ok(Snapshot { form: FORM, table, processes: processes.collect() })
    }

    /// Creates a table from a snapshot. It continues as the table of the snapshot would have.
    ///
    /// The model and the kind of process 1 are those of the snapshot; the other settings are those
    /// of `config`. Time continues at that of the snapshot: where the clock of `config` is behind
    /// it, the table adds the difference ([`ProcessTable::now`]).
    ///
    /// `reattach` restores each process from the value that was saved of it, and returns its
    /// driver. It may call the table, in which all processes are, and no driver is before it has
    /// returned for all. A process has no driver if it returns `None`, and then its operations are
    /// dropped.
    ///
    /// A snapshot is trusted like the memory that it was: the parts are checked against each other,
    /// but the ids inside of the model are followed as they are. Do not restore what others could
    /// have changed.
    ///
    /// # Errors
    ///
    /// [`RestoreError`], if the form is another one, or parts contradict each other.
    pub fn restore<D>(
        snapshot: Snapshot<D>,
        config: TableConfig,
        mut reattach: impl FnMut(&Process, D) -> Option<Arc<dyn DriverProcess>>,
    ) -> Result<ProcessTable, RestoreError> {
        if snapshot.form != FORM {
            return Err(RestoreError::Form(snapshot.form));
        }
        let Restored { table, steps, processes } = snapshot.build(config)?;
        let handle = Arc::new(TableHandle(table));
        handle.0.state.lock().handle = Arc::downgrade(&handle);
        let table = ProcessTable(handle);
        let mut drivers = BTreeMap::new();
        for (key, queue, data) in processes {
            let driver = reattach(&Process::new(table.clone(), key), data);
            drivers.insert(key.serial, (key, queue, driver));
        }
        let steps = table.shared().commit(|state| state.reattach(drivers, steps));
        steps.into_iter().for_each(|step| table.shared().carry_out(step));
        Ok(table)
    }
}

/// What drivers have to do next, by the serials of their processes; `None` for a driver that is not
/// made yet.
type Step = Vec<(u64, Option<Op>)>;

/// A table whose drivers are not there yet.
struct Restored<D> {
    table: Arc<TableInner>,
    steps: Vec<Step>,
    /// The processes with the queues of their drivers and the values that were saved of them.
    processes: Vec<(ProcessKey, Option<Id<DriverQueue>>, D)>,
}

/// The drivers by the serials of their processes.
type Drivers = BTreeMap<u64, (ProcessKey, Option<Id<DriverQueue>>, Option<Arc<dyn DriverProcess>>)>;

impl ProcessRegistry {
    /// A process for a snapshot. EBUSY if its driver carries out an operation: one that has begun,
    /// and is in none of the queues `waiting`.
    fn save_process(
        &self,
        pid: Pid,
        images: &mut SavedImages,
        waiting: &HashSet<Id<DriverQueue>>,
    ) -> Result<SavedProcess<ProcessKey>, Errno> {
        let entry = self.entries.get(pid).ok_or(Errno::ESRCH)?;
        let key = ProcessKey { pid, serial: entry.serial };
        let is_idle =
            |queue: &Id<DriverQueue>| self.queues.has_driver(*queue) || waiting.contains(queue);
        if !entry.driver_queue.iter().all(is_idle) {
            return Err(Errno::EBUSY);
        }
        let saved = SavedEntry {
            image: images.place(&entry.image),
            started: entry.started,
            calls: self.save_calls(pid, images),
            run_by: entry.run_by,
            phase: entry.phase,
            leader_ended: entry.leader_ended,
        };
        Ok(SavedProcess::new(key, entry.driver_queue.is_some(), Some(saved)))
    }

    /// The operations that wait in a queue, with the serial of the process.
    fn save_operations(
        &self,
        key: ProcessKey,
        queue: Id<DriverQueue>,
    ) -> impl Iterator<Item = (u64, Op)> + '_ {
        self.queues.waiting(queue).map(move |op| (key.serial & SERIALS, op))
    }
}

impl SavedProcess<ProcessKey> {
    fn new(key: ProcessKey, has_driver: bool, entry: Option<SavedEntry>) -> Self {
        let ProcessKey { pid, serial } = key;
        SavedProcess { pid, serial: serial & SERIALS, has_driver, entry, data: key }
    }
}

impl TableInner {
    /// The parts of a snapshot, with the keys of the processes for their values.
    fn save(&self) -> Result<(SavedTable, Vec<SavedProcess<ProcessKey>>), Errno> {
        let state = self.state.lock();
        let registry = &state.process_registry;
        if !registry.pending_exits.is_empty() || state.is_closed() {
            return Err(Errno::EBUSY);
        }
        let steps = self.requests.as_ref().map(Requests::steps).unwrap_or_default();
        let waiting: HashSet<_> = steps.iter().flatten().map(|(_, queue, _)| *queue).collect();
        let mut images = SavedImages::default();
        let (mut processes, mut operations) = (Vec::new(), Vec::new());
        for pid in registry.entries.pids() {
            let process = registry.save_process(pid, &mut images, &waiting)?;
            let queue = registry.entries.get(pid).and_then(|entry| entry.driver_queue);
            let later = queue.map(|queue| registry.save_operations(process.data, queue));
            operations.extend(later.into_iter().flatten());
            processes.push(process);
        }
        for (key, queue, _) in steps.iter().flatten() {
            if registry.entry(*key).is_none() {
                // it is reaped, and its driver is to carry out its last operations
                processes.push(SavedProcess::new(*key, true, None));
                operations.extend(registry.save_operations(*key, *queue));
            }
        }
        let saved = |step: Vec<NextOp>| {
            step.into_iter().map(|(key, _, op)| (key.serial & SERIALS, op)).collect()
        };
        let steps = steps.into_iter().map(saved).collect();
        let threads = registry.threads.list();
        let threads = threads
            .map(|(tid, process)| (tid, process, registry.save_calls(tid, &mut images)))
            .collect();
        let table = SavedTable {
            kernel: state.kernel.clone(),
            init: self.init,
            now: self.clock.now(),
            last_serial: registry.last_serial() & SERIALS,
            images: images.images,
            threads,
            has_safe_points: registry.has_safe_points,
            zombies: registry.zombies.list(&registry.entries),
            usages: registry.usages.clone(),
            steps,
            operations,
        };
        Ok((table, processes))
    }
}

impl<D> Snapshot<D> {
    fn build(self, config: TableConfig) -> Result<Restored<D>, RestoreError> {
        self.check().map_err(RestoreError::Contradiction)?;
        let SavedTable { kernel, init, now, images, mut steps, .. } = self.table;
        let mut registry = ProcessRegistry::new(ZombieQueue::new(
            config.zombie_ttl.filter(|_| init == Init::Table),
        ));
        let table = registry.last_serial();
        registry.has_factory = config.drivers.is_some();
        registry.restore_serial(table | self.table.last_serial);
        registry.has_safe_points = self.table.has_safe_points;
        registry.usages = self.table.usages;
        let (mut processes, mut queues) = (Vec::new(), BTreeMap::new());
        // `check` has found process 1
        let mut first = ProcessKey { pid: Pid(1), serial: table };
        for SavedProcess { pid, serial, has_driver, entry, data } in self.processes {
            let key = ProcessKey { pid, serial: table | serial };
            let driver_queue = has_driver.then(|| registry.queues.add(key, None));
            queues.extend(driver_queue.map(|queue| (serial, queue)));
            if let Some(saved) = entry {
                let SavedEntry { image, started, calls, run_by, phase, leader_ended } = saved;
                let (serial, image) = (key.serial, images[image].clone());
                let entry = ProcessEntry {
                    serial,
                    image,
                    started,
                    driver_queue,
                    calls: None,
                    run_by,
                    phase,
                    leader_ended,
                    expires: false,
                };
                registry.restore_entry(pid, entry);
                registry.restore_calls(pid, calls, &images, table);
                first = if pid == Pid(1) { key } else { first };
            }
            processes.push((key, driver_queue, data));
        }
        for (tid, process, calls) in self.table.threads {
            registry.threads.restore(&kernel, tid, process);
            registry.restore_calls(tid, calls, &images, table);
        }
        for (due, pid) in self.table.zombies {
            registry.restore_zombie(due, pid);
        }
        for (serial, op) in self.table.operations {
            if let Some(queue) = queues.get(&serial) {
                registry.queues.push(*queue, op);
            }
        }
        steps.iter_mut().flatten().for_each(|(serial, _)| *serial |= table);
        let clock = LaterClock::at_least(config.time(), now);
        let state = TableState::new(kernel, registry, &config);
        let table = TableInner::with_state(state, clock, first, config.init(init));
        Ok(Restored { table, steps, processes })
    }
}

impl<D> Snapshot<D> {
    /// Checks that the parts fit together, so that no later step meets a contradiction.
    fn check(&self) -> Result<(), String> {
        let require = |holds: bool, what: &str| {
            if holds { Ok(()) } else { Err(String::from(what)) }
        };
        self.table.kernel.check_invariants()?;
        let mut pids: Vec<Pid> = self.table.kernel.pids().collect();
        let present = self.processes.iter().filter(|process| process.entry.is_some());
        let mut saved: Vec<Pid> = present.map(|process| process.pid).collect();
        pids.sort_unstable();
        saved.sort_unstable();
        require(pids == saved, "the model has other processes than the table")?;
        require(pids.first() == Some(&Pid(1)), "there is no process 1")?;
        let mut tids: Vec<(Pid, Pid)> = Vec::new();
        for pid in &pids {
            tids.extend(
                self.table.kernel.tids(*pid).filter(|tid| tid != pid).map(|tid| (tid, *pid)),
            );
        }
        let mut saved: Vec<(Pid, Pid)> =
            self.table.threads.iter().map(|(tid, process, _)| (*tid, *process)).collect();
        tids.sort_unstable();
        saved.sort_unstable();
        require(tids == saved, "the model has other threads than the table")?;
        let mut serials: Vec<u64> = self.processes.iter().map(|process| process.serial).collect();
        serials.sort_unstable();
        serials.dedup();
        let is_serial = |serial: &u64| *serial != 0 && *serial <= self.table.last_serial;
        require(
            serials.len() == self.processes.len()
                && serials.iter().all(is_serial)
                && self.table.last_serial <= SERIALS,
            "the serials of processes are not theirs alone",
        )?;
        for process in &self.processes {
            let Some(entry) = &process.entry else { continue };
            require(entry.image < self.table.images.len(), "a process has no program")?;
            let has_ended = self.table.kernel.exit_status(process.pid).is_some();
            require(
                has_ended == (entry.phase == Phase::Zombie),
                "the model and the table differ about which processes are zombies",
            )?;
        }
        let entries = self.processes.iter().filter_map(|process| process.entry.as_ref());
        let calls = entries.filter_map(|entry| entry.calls.as_ref());
        let mut calls =
            calls.chain(self.table.threads.iter().filter_map(|(_, _, calls)| calls.as_ref()));
        let has_images =
            |calls: &SavedCalls| calls.images().all(|nth| nth < self.table.images.len());
        require(calls.all(has_images), "a call has no program")?;
        let is_one = |pid: &Pid| self.table.kernel.exit_status(*pid).is_some();
        require(self.table.zombies.iter().all(|(_, pid)| is_one(pid)), "a zombie to reap is none")
    }
}

impl TableState {
    /// Gives the processes their drivers, and returns the steps that these carry out next.
    fn reattach(&mut self, drivers: Drivers, steps: Vec<Step>) -> Vec<Outbox> {
        let registry = &mut self.process_registry;
        let mut queues = BTreeMap::new();
        for (serial, (key, queue, driver)) in drivers {
            let queue = queue.or_else(|| {
                // a process that had no driver
                driver.as_ref()?;
                let entry = registry.entries.get_mut(key.pid);
                let entry = entry.filter(|entry| entry.serial == serial)?;
                entry.driver_queue = Some(registry.queues.add(key, None));
                entry.driver_queue
            });
            let driver = driver.unwrap_or_else(|| Arc::new(NullDriver));
            queues.extend(queue.map(|queue| (serial, (queue, driver))));
        }
        let mut outboxes = Vec::new();
        for step in steps {
            let mut outbox = Outbox::default();
            let (begun, births): (Vec<_>, Vec<_>) =
                step.into_iter().partition(|(_, op)| op.is_some());
            for (serial, op) in begun.into_iter().chain(births) {
                let Some((queue, driver)) = queues.remove(&serial) else { continue };
                if let Some(op) = op {
                    registry.queues.push_first(queue, op);
                }
                registry.queues.furnish(queue, driver, &mut outbox.dispatches);
            }
            outboxes.push(outbox);
        }
        // those of the other drivers were caused since
        for (queue, driver) in queues.into_values() {
            registry.queues.furnish(queue, driver, &mut registry.outbox.dispatches);
        }
        outboxes
    }
}
