//! A host of WASM guests with the processes of a table: three guests, each a module that runs in an
//! interpreter, create processes, send signals, wait for children and share a pipe of the host. A
//! seed decides which guest runs next. The whole world can be saved as text between two steps, and
//! goes on from there.
//!
//! The stack of an interpreter cannot be saved. But a guest is deterministic: its state follows
//! from the results of its calls, and the restored guest runs through these once more.
//!
//! ```text
//! $ cargo run --example wasm_host --features serde
//! $ cargo test --example wasm_host --features serde
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};

use proctable::abi::{Pid, Signal, WaitOptions, WaitStatus};
use proctable::driver::{Delivery, DriverProcess};
use proctable::kernel::Seeded;
use proctable::syscall::{Ptr, Ret, Syscall};
use proctable::table::{
    Call, Checkpoint, DispatchMode, Image, ManualClock, Process, ProcessTable, Snapshot, Spawn,
    TableConfig, TimerMode,
};
use serde::{Deserialize, Serialize};
use wasmi::errors::HostError;
use wasmi::{Engine, Linker, Module, ResumableCall, ResumableCallHostTrap, Store, Val};

/// The guests: name and module. The first one creates the others.
const PROGRAMS: [(&str, &str); 3] = [
    (
        "supervisor",
        r#"(module
            (import "host" "spawn" (func $spawn (param i32) (result i32)))
            (import "host" "kill" (func $kill (param i32 i32) (result i32)))
            (import "host" "waitpid" (func $waitpid (param i32) (result i32)))
            (import "host" "exit" (func $exit (param i32) (result i32)))
            (func (export "start") (local $producer i32) (local $consumer i32) (local $status i32)
                (local.set $producer (call $spawn (i32.const 1)))
                (local.set $consumer (call $spawn (i32.const 2)))
                ;; SIGSTOP and SIGCONT: the consumer pauses
                (drop (call $kill (local.get $consumer) (i32.const 19)))
                (drop (call $kill (local.get $consumer) (i32.const 18)))
                (local.set $status (call $waitpid (local.get $consumer)))
                ;; SIGTERM
                (drop (call $kill (local.get $producer) (i32.const 15)))
                (drop (call $waitpid (local.get $producer)))
                ;; the code with which the consumer exited
                (drop (call $exit (i32.shr_u (local.get $status) (i32.const 8))))))"#,
    ),
    (
        "producer",
        r#"(module
            (import "host" "write" (func $write (param i32) (result i32)))
            (func (export "start") (local $number i32)
                (loop $again
                    (local.set $number (i32.add (local.get $number) (i32.const 1)))
                    (drop (call $write (local.get $number)))
                    (br $again))))"#,
    ),
    (
        "consumer",
        r#"(module
            (import "host" "read" (func $read (result i32)))
            (import "host" "exit" (func $exit (param i32) (result i32)))
            (func (export "start") (local $sum i32) (local $count i32)
                (loop $again
                    (local.set $sum (i32.add (local.get $sum) (call $read)))
                    (local.set $count (i32.add (local.get $count) (i32.const 1)))
                    (br_if $again (i32.lt_u (local.get $count) (i32.const 10))))
                (drop (call $exit (local.get $sum)))))"#,
    ),
];

/// How many bytes the pipe holds.
const PIPE: usize = 4;

/// What a guest asks of the host. It interrupts the interpreter, which the result continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Request {
    Spawn(usize),
    Kill(i32, i32),
    Waitpid(i32),
    Write(u8),
    Read,
    Exit(i32),
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl HostError for Request {}

/// A module in the interpreter, at a request.
struct Instance {
    store: Store<()>,
    paused: Option<ResumableCallHostTrap>,
}

impl Instance {
    /// Runs a program up to its first request.
    fn start(program: usize) -> Result<(Instance, Request), wasmi::Error> {
        let engine = Engine::default();
        let module = Module::new(&engine, PROGRAMS[program].1)?;
        let mut linker = <Linker<()>>::new(&engine);
        let ask = |request| Err::<i32, _>(wasmi::Error::host(request));
        let spawn = move |program: i32| ask(Request::Spawn(program as usize));
        linker.func_wrap("host", "spawn", spawn)?;
        linker.func_wrap("host", "kill", move |pid, signal| ask(Request::Kill(pid, signal)))?;
        linker.func_wrap("host", "waitpid", move |pid| ask(Request::Waitpid(pid)))?;
        linker.func_wrap("host", "write", move |byte: i32| ask(Request::Write(byte as u8)))?;
        linker.func_wrap("host", "read", move || ask(Request::Read))?;
        linker.func_wrap("host", "exit", move |code| ask(Request::Exit(code)))?;
        let mut store = Store::new(&engine, ());
        let instance = linker.instantiate_and_start(&mut store, &module)?;
        let start = instance.get_func(&store, "start").ok_or(wasmi::Error::new("no start"))?;
        let call = start.call_resumable(&mut store, &[], &mut [])?;
        let mut instance = Instance { store, paused: None };
        let request = instance.pause(call)?;
        Ok((instance, request))
    }

    /// The request that has interrupted the interpreter; a program that returns exits.
    fn pause(&mut self, call: ResumableCall) -> Result<Request, wasmi::Error> {
        match call {
            ResumableCall::HostTrap(trap) => {
                let request = trap.host_error().downcast_ref::<Request>().copied();
                self.paused = Some(trap);
                request.ok_or(wasmi::Error::new("another trap"))
            }
            ResumableCall::Finished | ResumableCall::OutOfFuel(_) => Ok(Request::Exit(0)),
        }
    }

    /// Continues with the result of the request, up to the next one.
    fn resume(&mut self, result: i32) -> Result<Request, wasmi::Error> {
        let Some(paused) = self.paused.take() else { return Ok(Request::Exit(0)) };
        let call = paused.resume(&mut self.store, &[Val::I32(result)], &mut [])?;
        self.pause(call)
    }
}

/// What is saved of a guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedGuest {
    program: usize,
    /// The results of its requests so far.
    results: Vec<i32>,
    /// The call of its present request was made.
    is_made: bool,
    /// That call has this result, which the guest has not seen yet.
    result: Option<i32>,
}

struct Guest {
    process: Process,
    program: usize,
    results: Vec<i32>,
    instance: Instance,
    request: Request,
    call: Option<Call>,
    result: Option<i32>,
}

fn number(result: proctable::syscall::Result) -> i32 {
    match result {
        Ok(Ret::Waited { status, .. }) => status.map_or(0, |status| status.0 as i32),
        Ok(ret) => ret.value() as i32,
        Err(errno) => -i32::from(errno.0),
    }
}

impl Guest {
    fn new(process: Process, saved: SavedGuest) -> Result<Guest, wasmi::Error> {
        let SavedGuest { program, results, is_made, result } = saved;
        let (mut instance, mut request) = Instance::start(program)?;
        for result in &results {
            request = instance.resume(*result)?;
        }
        let call = if is_made { process.calls_in_progress().pop() } else { None };
        Ok(Guest { process, program, results, instance, request, call, result })
    }

    fn save(&self) -> SavedGuest {
        SavedGuest {
            program: self.program,
            results: self.results.clone(),
            is_made: self.call.is_some(),
            result: self.call.as_ref().and_then(Call::result).map(number).or(self.result),
        }
    }

    /// Whether the guest can go on: it is not stopped, and what it waits for is there.
    fn can_run(&self, pipe: &VecDeque<u8>) -> bool {
        if self.process.checkpoint() != Checkpoint::GoOn {
            return false;
        }
        match (self.request, &self.call) {
            _ if self.result.is_some() => true,
            (Request::Read, _) => !pipe.is_empty(),
            (Request::Write(_), _) => pipe.len() < PIPE,
            (_, Some(call)) => call.result().is_some(),
            (_, None) => true,
        }
    }
}

/// A driver that tells what becomes of its process.
struct Teller {
    name: &'static str,
    trace: Arc<Mutex<Vec<String>>>,
}

impl Teller {
    fn tell(&self, what: impl fmt::Display) {
        self.trace.lock().expect("no holder panics").push(format!("{} {what}", self.name));
    }
}

impl DriverProcess for Teller {
    fn deliver(&self, delivery: Delivery) {
        self.tell(format_args!("gets {}", delivery.info.signal));
    }

    fn stop(&self, signal: Signal) {
        self.tell(format_args!("stops ({signal})"));
    }

    fn resume(&self) {
        self.tell("continues");
    }

    fn terminate(&self, status: WaitStatus) {
        self.tell(status);
    }
}

/// The host: the table, the guests, a pipe, and the scheduler.
struct World {
    table: ProcessTable,
    guests: Vec<Guest>,
    pipe: VecDeque<u8>,
    choose: Seeded,
    trace: Arc<Mutex<Vec<String>>>,
}

/// A world as text.
#[derive(Serialize, Deserialize)]
struct SavedWorld {
    table: Snapshot<Option<SavedGuest>>,
    pipe: VecDeque<u8>,
    choose: Seeded,
    trace: Vec<String>,
}

fn config() -> TableConfig {
    // a loop of the host's drives everything
    TableConfig::new()
        .clock(ManualClock::new())
        .timer_mode(TimerMode::Caller)
        .dispatch_mode(DispatchMode::Request)
}

impl World {
    fn new(seed: u64) -> Result<World, Box<dyn Error>> {
        let table = ProcessTable::with_config(config());
        let (pipe, trace) = Default::default();
        let mut world = World { table, guests: Vec::new(), pipe, choose: Seeded::new(seed), trace };
        world.spawn(&world.table.init(), 0)?;
        Ok(world)
    }

    fn spawn(&mut self, parent: &Process, program: usize) -> Result<Pid, Box<dyn Error>> {
        let (name, _) = PROGRAMS[program];
        let driver = Arc::new(Teller { name, trace: self.trace.clone() });
        let process = parent.spawn(Spawn::new(Image::new(name)).driver(driver))?;
        let pid = process.pid();
        let saved = SavedGuest { program, results: Vec::new(), is_made: false, result: None };
        self.guests.push(Guest::new(process, saved)?);
        Ok(pid)
    }

    /// One request of one guest; `false` if no guest is left.
    fn step(&mut self) -> Result<bool, Box<dyn Error>> {
        self.table.dispatch();
        self.guests.retain(|guest| guest.process.checkpoint() != Checkpoint::Ended);
        if self.guests.is_empty() {
            return Ok(false);
        }
        let able = |nth: &usize| self.guests[*nth].can_run(&self.pipe);
        let able: Vec<usize> = (0..self.guests.len()).filter(able).collect();
        if able.is_empty() {
            return Err("all guests wait for each other".into());
        }
        let nth = able[self.choose.below(able.len())];
        if let Some(result) = self.perform(nth)? {
            let guest = &mut self.guests[nth];
            let (name, _) = PROGRAMS[guest.program];
            let line = format!("{name}: {} = {result}", guest.request);
            self.trace.lock().expect("no holder panics").push(line);
            (guest.call, guest.result) = (None, None);
            guest.results.push(result);
            guest.request = guest.instance.resume(result)?;
        }
        Ok(true)
    }

    /// Performs the request of a guest, or begins it; its result, if it has one already.
    fn perform(&mut self, nth: usize) -> Result<Option<i32>, Box<dyn Error>> {
        let guest = &mut self.guests[nth];
        if let Some(result) = guest.result.or_else(|| guest.call.as_ref()?.result().map(number)) {
            return Ok(Some(result));
        }
        let call = match guest.request {
            Request::Spawn(program) => {
                let parent = guest.process.clone();
                return Ok(Some(self.spawn(&parent, program)?.0 as i32));
            }
            Request::Write(byte) => {
                self.pipe.push_back(byte);
                return Ok(Some(1));
            }
            Request::Read => return Ok(self.pipe.pop_front().map(i32::from)),
            Request::Kill(pid, sig) => Syscall::Kill { pid, sig },
            Request::Waitpid(pid) => {
                let (status, options) = (Ptr::Valid, WaitOptions::default());
                Syscall::Wait4 { pid, status, options }
            }
            Request::Exit(code) => Syscall::ExitGroup(code),
        };
        let call = guest.process.submit(call);
        let result = call.result().map(number);
        guest.call = Some(call);
        Ok(result)
    }

    fn save(&self) -> Result<String, Box<dyn Error>> {
        let table = self.table.snapshot(|process| {
            let guest = self.guests.iter().find(|guest| guest.process.id() == process.id());
            guest.map(Guest::save)
        })?;
        let trace = self.trace.lock().expect("no holder panics").clone();
        let (pipe, choose) = (self.pipe.clone(), self.choose.clone());
        Ok(serde_json::to_string(&SavedWorld { table, pipe, choose, trace })?)
    }

    fn restore(text: &str) -> Result<World, Box<dyn Error>> {
        let SavedWorld { table, pipe, choose, trace } = serde_json::from_str(text)?;
        let trace = Arc::new(Mutex::new(trace));
        let mut guests = Vec::new();
        let table = ProcessTable::restore(table, config(), |process, saved| {
            // the host's own process, and guests that have ended, have nothing saved
            let saved = saved?;
            let (name, _) = PROGRAMS[saved.program];
            guests.push(Guest::new(process.clone(), saved));
            Some(Arc::new(Teller { name, trace: trace.clone() }))
        })?;
        let guests = guests.into_iter().collect::<Result<_, _>>()?;
        Ok(World { table, guests, pipe, choose, trace })
    }

    /// Runs to the end, and returns what happened.
    fn run(mut self) -> Result<Vec<String>, Box<dyn Error>> {
        while self.step()? {}
        Ok(self.trace.lock().expect("no holder panics").clone())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut world = World::new(7)?;
    for _ in 0..20 {
        world.step()?;
    }
    let text = world.save()?;
    println!("after 20 steps the world has {} bytes", text.len());
    drop(world);
    for line in World::restore(&text)?.run()? {
        println!("{line}");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_determines_what_happens() {
        let traces: Vec<_> = (0..20).map(|seed| World::new(seed).unwrap().run().unwrap()).collect();
        for (seed, trace) in traces.iter().enumerate() {
            assert_eq!(*trace, World::new(seed as u64).unwrap().run().unwrap());
            assert!(trace.contains(&"consumer exited 55".into()), "{trace:#?}");
            assert!(trace.contains(&"producer killed by SIGTERM".into()), "{trace:#?}");
            assert_eq!(trace.last().unwrap(), "supervisor exited 55");
        }
        assert!(traces.iter().any(|trace| *trace != traces[0]));
    }

    #[test]
    fn a_world_goes_on_from_every_step() {
        for seed in 0..5 {
            let expected = World::new(seed).unwrap().run().unwrap();
            let mut world = World::new(seed).unwrap();
            while {
                let text = world.save().unwrap();
                assert_eq!(World::restore(&text).unwrap().run().unwrap(), expected);
                world.step().unwrap()
            } {}
        }
    }
}
