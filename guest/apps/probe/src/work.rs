//! Work for the event loop and the heap, which checks itself.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::hint::{black_box, spin_loop};
use core::time::Duration;
use libos::clock::Instant;
use libos::{println, spawn, time, yield_now};

/// Sleepers wake in the order of their moments, none too early.
pub(crate) async fn timers() {
    let order = Rc::new(RefCell::new(Vec::new()));
    let tasks: Vec<_> = [30u64, 10, 50, 20, 40]
        .into_iter()
        .map(|ms| {
            let order = Rc::clone(&order);
            spawn(async move {
                let start = Instant::now();
                time::sleep(Duration::from_millis(ms)).await;
                let late = start.elapsed().checked_sub(Duration::from_millis(ms));
                order.borrow_mut().push(ms);
                late.expect("no timer fires early")
            })
        })
        .collect();
    let mut latest = Duration::ZERO;
    for task in tasks {
        latest = latest.max(task.await);
    }
    assert_eq!(*order.borrow(), [10, 20, 30, 40, 50]);
    println!("timers in order, at most {} us late", latest.as_micros());
    let never = core::future::pending::<()>();
    assert_eq!(
        time::timeout(Duration::from_millis(5), never).await,
        Err(time::Elapsed)
    );
    assert_eq!(
        time::timeout(Duration::from_millis(5), async { 7 }).await,
        Ok(7)
    );
    println!("timeouts hold");
}

/// Tasks take turns, and hand over what they made.
pub(crate) async fn tasks() {
    let turns = Rc::new(RefCell::new(Vec::new()));
    let tasks: Vec<_> = (0..3)
        .map(|name| {
            let turns = Rc::clone(&turns);
            spawn(async move {
                for _ in 0..3 {
                    turns.borrow_mut().push(name);
                    yield_now().await;
                }
                name * 10
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await;
    }
    assert_eq!(sum, 30);
    assert_eq!(*turns.borrow(), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    println!("tasks take turns");
    let start = Instant::now();
    let many: Vec<_> = (0..10_000u64).map(|i| spawn(async move { i })).collect();
    let mut total = 0;
    for task in many {
        total += task.await;
    }
    assert_eq!(total, 10_000 * 9_999 / 2);
    println!("10000 tasks in {} us", start.elapsed().as_micros());
}

/// Blocks of many sizes, each filled with its own pattern and checked before it goes.
pub(crate) fn heap() {
    let start = Instant::now();
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for round in 0..100_000u64 {
        if blocks.len() < 500 && !random().is_multiple_of(3) {
            let size = (random() % (1 << (random() % 16))) as usize;
            blocks.push(alloc::vec![round as u8; size]);
        } else if !blocks.is_empty() {
            let at = (random() % blocks.len() as u64) as usize;
            let mut block = blocks.swap_remove(at);
            let pattern = block.first().copied();
            assert!(
                block.iter().all(|byte| Some(*byte) == pattern),
                "a block has changed"
            );
            block.extend_from_slice(&[pattern.unwrap_or(0); 100]);
            assert!(
                block.iter().all(|byte| *byte == pattern.unwrap_or(0)),
                "a block has changed as it grew"
            );
        }
    }
    drop(blocks);
    println!("100000 allocations in {} us", start.elapsed().as_micros());
    // Nearly all of memory at once, to see that the heap reaches it.
    let most = libos::memory_bytes() / 8 * 7 - (4 << 20);
    let mut big: Vec<u64> = Vec::with_capacity((most / 16) as usize);
    big.resize(1 << 16, 7);
    black_box(&big);
    println!("reserved {} MiB in one block", most >> 21);
}

/// Never returns, never yields.
pub(crate) fn spin() {
    println!("spinning");
    libos::console::flush();
    loop {
        spin_loop();
    }
}

/// Never returns, but yields.
pub(crate) async fn busy() {
    println!("busy");
    loop {
        yield_now().await;
    }
}
