//! Rows with several threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::engines::{Concurrent, Op};
use crate::measure::median;

/// The time that threads get to fall asleep in their waits, because it is not visible from outside
/// whether they sleep.
const TO_FALL_ASLEEP: Duration = Duration::from_micros(200);

/// The number of rounds of the rows with waiters, or as many as the time allows, at least
/// `AT_LEAST`.
const ROUNDS: usize = 1001;
const AT_LEAST: usize = 7;
const TIME: Duration = Duration::from_millis(1500);

/// Nanoseconds per operation.
pub fn measure(engine: &dyn Concurrent, op: Op, job: usize, large: bool, quick: bool) -> f64 {
    match op {
        Op::Churn(threads) => {
            let span = Duration::from_millis(if large { 60 } else { 10 });
            let rounds = if large || quick { 9 } else { 21 };
            let times = (0..rounds).map(|_| churn(engine, job, threads, span));
            median(&mut times.collect::<Vec<f64>>())
        }
        Op::ExitBeside(waiters) => exit_beside(engine, job, waiters),
        Op::ExitToReturn(waiters) => exit_to_return(engine, job, waiters),
        Op::ExitToAny(waiters) => exit_to_any(engine, job, waiters),
        _ => f64::NAN,
    }
}

/// The median of the results of `round`, which receives the number of earlier rounds.
fn median_of_rounds(mut round: impl FnMut(usize) -> f64) -> f64 {
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < AT_LEAST || times.len() < ROUNDS && start.elapsed() < TIME {
        times.push(round(times.len()));
    }
    median(&mut times)
}

/// The time of one operation of a thread, while several threads perform the same for that long.
pub fn churn(engine: &dyn Concurrent, job: usize, threads: usize, span: Duration) -> f64 {
    let start = Barrier::new(threads);
    let over = AtomicBool::new(false);
    let work = || {
        start.wait();
        let begin = Instant::now();
        let mut done = 0u32;
        while !over.load(Ordering::Relaxed) {
            engine.churn(job);
            done += 1;
            // the clock is read rarely, so that its cost is negligible
            if done.is_multiple_of(64) || done < 4 {
                over.fetch_or(begin.elapsed() >= span, Ordering::Relaxed);
            }
        }
        (f64::from(done), begin.elapsed())
    };
    let results: Vec<(f64, Duration)> = thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().map(|thread| thread.join().expect("it churns")).collect()
    });
    let operations: f64 = results.iter().map(|(done, _)| done).sum();
    let time: f64 = results.iter().map(|(_, time)| time.as_nanos() as f64).sum();
    time / operations
}

/// An exit and its wait in this thread, while other threads sleep in waits for other children.
fn exit_beside(engine: &dyn Concurrent, job: usize, waiters: usize) -> f64 {
    let children: Vec<u32> = (0..waiters).map(|_| engine.spawn(job)).collect();
    thread::scope(|scope| {
        for child in &children {
            scope.spawn(|| engine.wait(job, *child));
        }
        thread::sleep(20 * TO_FALL_ASLEEP);
        let time = median_of_rounds(|_| {
            let child = engine.spawn(job);
            thread::sleep(TO_FALL_ASLEEP);
            let start = Instant::now();
            engine.exit(child);
            engine.reap(job, child);
            start.elapsed().as_nanos() as f64
        });
        children.iter().for_each(|child| engine.exit(*child));
        time
    })
}

/// From an exit to the return of the wait for it, in one of several threads that sleep in waits.
fn exit_to_return(engine: &dyn Concurrent, job: usize, waiters: usize) -> f64 {
    let (tell_return, returned) = mpsc::channel();
    thread::scope(|scope| {
        let next: Vec<_> = (0..waiters)
            .map(|_| {
                let (next, children) = mpsc::channel::<u32>();
                let tell_return = tell_return.clone();
                scope.spawn(move || {
                    for child in children {
                        engine.wait(job, child);
                        // the last messages have no receiver
                        let _ = tell_return.send(Instant::now());
                    }
                });
                next
            })
            .collect();
        let begin = |nth: usize| {
            let child = engine.spawn(job);
            next[nth].send(child).expect("the thread waits for children");
            child
        };
        let mut children: Vec<u32> = (0..waiters).map(begin).collect();
        let time = median_of_rounds(|round| {
            thread::sleep(TO_FALL_ASLEEP);
            let nth = round % waiters;
            let start = Instant::now();
            engine.exit(children[nth]);
            let end = returned.recv().expect("its wait returns");
            children[nth] = begin(nth);
            (end - start).as_nanos() as f64
        });
        children.iter().for_each(|child| engine.exit(*child));
        drop(next);
        time
    })
}

/// The same if all threads wait for any child: one of them returns, and waits again.
fn exit_to_any(engine: &dyn Concurrent, job: usize, waiters: usize) -> f64 {
    let (tell_return, returned) = mpsc::channel();
    let over = AtomicBool::new(false);
    let mut last = Vec::new();
    let time = thread::scope(|scope| {
        for _ in 0..waiters {
            let (tell_return, over) = (tell_return.clone(), &over);
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    engine.wait_for_any(job);
                    // the last messages have no receiver
                    let _ = tell_return.send(Instant::now());
                }
            });
        }
        thread::sleep(20 * TO_FALL_ASLEEP);
        let time = median_of_rounds(|_| {
            let child = engine.spawn(job);
            thread::sleep(TO_FALL_ASLEEP);
            let start = Instant::now();
            engine.exit(child);
            let end = returned.recv().expect("a wait returns");
            (end - start).as_nanos() as f64
        });
        over.store(true, Ordering::SeqCst);
        last.extend((0..waiters).map(|_| engine.spawn(job)));
        last.iter().for_each(|child| engine.exit(*child));
        time
    });
    // the children that no thread has reaped: not all threads had to wait again
    last.into_iter().for_each(|child| engine.reap(job, child));
    time
}
