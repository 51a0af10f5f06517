//! The capacity law, call by call.

use std::{collections::HashMap, time::Duration};

use eyebolt_admission::{Ask, Capacity, CapacitySettings, Refusal, Ticket, Verdict};
use eyebolt_types::Class;
use proptest::prelude::*;

type Law = Capacity<&'static str>;

fn law(workers: usize) -> Law {
    Capacity::new(CapacitySettings::new(workers))
}

fn ask(tenant: &'static str, class: Class, service: f64) -> Ask<&'static str> {
    Ask { tenant, caller: 0, class, service, promised: false, chance: 0.5 }
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn let_in(law: &mut Law, ask: Ask<&'static str>, now: Duration) -> Ticket {
    match law.offer(ask, now) {
        Verdict::Admitted { ticket, evicted: None } => ticket,
        other => panic!("{other:?}"),
    }
}

fn refused(law: &mut Law, ask: Ask<&'static str>, now: Duration) -> Refusal {
    match law.offer(ask, now) {
        Verdict::Refused(refusal) => refusal,
        admitted @ Verdict::Admitted { .. } => panic!("{admitted:?}"),
    }
}

fn started(law: &mut Law, now: Duration) -> Ticket {
    law.next(now).expect("somebody waits, and a worker is free")
}

#[test]
fn an_idle_worker_takes_whatever_comes() {
    let mut law = law(2);
    for n in 0..2 {
        let ticket = let_in(&mut law, ask("a", Class::Batch, 3600.0), at(n));
        assert_eq!(started(&mut law, at(n)), ticket);
    }
    assert_eq!((law.next(at(2)), law.running(), law.waiting()), (None, 2, 0));
}

/// How many items of a batch run at once that take so long, when somebody last called at the first of these times and it is the
/// other one now.
fn items_beside_calls(service: f64, (called, now): (Option<Duration>, Duration)) -> usize {
    let settings = CapacitySettings { batch_workers: 3, long_batch_workers: 1, ..CapacitySettings::new(6) };
    let mut law = Capacity::new(settings);
    if let Some(called) = called {
        let_in(&mut law, ask("a", Class::Interactive, 0.01), called);
        let call = started(&mut law, called);
        law.complete(call, called + at(10));
    }
    for _ in 0..5 {
        law.take_up(ask("b", Class::Batch, service), now);
    }
    std::iter::from_fn(|| law.next(now)).count()
}

#[test]
fn long_items_leave_a_thread_to_calls_as_long_as_some_come() {
    let beside = (Some(at(1_000)), at(10_900));
    assert_eq!([0.005, 0.05, 0.051, 2.0].map(|service| items_beside_calls(service, beside)), [3, 3, 1, 1]);
    let later = (Some(at(1_000)), at(11_000));
    assert_eq!((items_beside_calls(2.0, later), items_beside_calls(2.0, (None, at(5)))), (3, 3));
}

#[test]
fn a_short_item_does_not_begin_beside_a_long_one_that_leaves_no_thread() {
    let settings = CapacitySettings { batch_workers: 3, long_batch_workers: 1, ..CapacitySettings::new(6) };
    let mut law = Capacity::new(settings);
    let call = let_in(&mut law, ask("a", Class::Interactive, 0.01), at(0));
    assert_eq!(started(&mut law, at(0)), call);
    let long = law.take_up(ask("b", Class::Batch, 1.0), at(1));
    let short = law.take_up(ask("c", Class::Batch, 0.01), at(2));
    assert_eq!((started(&mut law, at(2)), law.next(at(2))), (long, None));
    law.complete(long, at(900));
    assert_eq!(law.next(at(900)), Some(short));
}

#[test]
fn batches_leave_a_quarter_of_the_workers_to_others() {
    let mut law = law(8);
    for _ in 0..20 {
        law.take_up(ask("a", Class::Batch, 1.0), at(0));
    }
    let first = started(&mut law, at(0));
    for _ in 1..6 {
        started(&mut law, at(0));
    }
    assert_eq!((law.next(at(0)), law.running()), (None, 6));
    let urgent = let_in(&mut law, ask("b", Class::Interactive, 1.0), at(0));
    assert_eq!(started(&mut law, at(0)), urgent);
    assert_eq!(law.next(at(0)), None);
    law.complete(first, at(1));
    started(&mut law, at(1));
    assert_eq!((law.next(at(1)), law.running()), (None, 7));
}

#[test]
fn less_urgent_work_is_turned_away_first() {
    let mut law = law(1);
    let_in(&mut law, ask("a", Class::Interactive, 1.0), at(0));
    started(&mut law, at(0));
    for (waiting, goes) in [(0.24, [true; 3]), (0.15, [true, true, false]), (0.05, [true, false, false])] {
        let_in(&mut law, ask("a", Class::Interactive, waiting), at(0));
        let classes = [Class::Interactive, Class::Standard, Class::Batch];
        let admitted = classes.map(|class| {
            // A tenant that has one waiting gets no standing.
            match law.offer(ask("a", class, 0.0), at(0)) {
                Verdict::Admitted { ticket, .. } => {
                    law.leave(ticket);
                    true
                }
                Verdict::Refused(_) => false,
            }
        });
        assert_eq!(admitted, goes, "{} s wait", law.work(Class::Batch));
    }
}

#[test]
fn a_tenant_with_many_makes_room_for_one_with_none() {
    let mut law = law(1);
    let_in(&mut law, ask("many", Class::Interactive, 1.0), at(0));
    started(&mut law, at(0));
    let many: Vec<_> =
        (0..5).map(|_| let_in(&mut law, ask("many", Class::Interactive, 0.1), at(1))).collect();
    refused(&mut law, ask("many", Class::Interactive, 0.1), at(2));
    let Verdict::Admitted { evicted: Some((out, refusal)), .. } =
        law.offer(ask("one", Class::Interactive, 0.1), at(2))
    else {
        panic!("it makes room")
    };
    assert_eq!(out, many[4]);
    assert!(refusal.retry_in >= Duration::from_secs(1));
    assert_eq!(law.waiting(), 5);
}

#[test]
fn what_was_promised_is_never_turned_away() {
    let mut law = law(1);
    let_in(&mut law, ask("many", Class::Interactive, 1.0), at(0));
    started(&mut law, at(0));
    for _ in 0..5 {
        let ticket = let_in(&mut law, ask("many", Class::Interactive, 0.1), at(1));
        law.promise(ticket);
    }
    let_in(&mut law, ask("one", Class::Interactive, 0.1), at(2));
    assert_eq!(law.waiting(), 6, "nobody made room");
}

#[test]
fn promises_are_bounded_and_no_tenant_takes_them_all() {
    let mut law = law(1);
    let_in(&mut law, ask("many", Class::Interactive, 1.0), at(0));
    started(&mut law, at(0));
    let promise = |tenant, service| Ask { promised: true, ..ask(tenant, Class::Standard, service) };
    let_in(&mut law, promise("many", 80.0), at(1));
    let refusal = refused(&mut law, promise("many", 0.1), at(1));
    assert_eq!((refusal.work, refusal.bound), (80.0, 144.0), "it fills half of the bound");
    assert!(refusal.retry_in >= Duration::from_secs(80), "{refusal:?}");
    let_in(&mut law, promise("other", 70.0), at(1));
    assert!(!law.would_admit(&"other", Class::Standard, true));
    // Whoever has none yet is promised one all the same.
    assert!(law.would_admit(&"third", Class::Standard, true));
    let_in(&mut law, promise("third", 0.1), at(1));
    assert!(!law.would_admit(&"third", Class::Standard, true));
}

#[test]
fn who_was_served_least_is_next() {
    let mut law = law(1);
    let_in(&mut law, ask("large", Class::Interactive, 0.3), at(0));
    let running = started(&mut law, at(0));
    let large = let_in(&mut law, ask("large", Class::Interactive, 0.1), at(1));
    let small: Vec<_> =
        (0..3).map(|_| let_in(&mut law, ask("small", Class::Interactive, 0.1), at(2))).collect();
    law.complete(running, at(300));
    let mut order = Vec::new();
    while let Some(ticket) = law.next(at(300)) {
        order.push(ticket);
        law.complete(ticket, at(400));
    }
    assert_eq!(order, [small[0], small[1], small[2], large]);
}

#[test]
fn who_was_away_has_saved_nothing_up() {
    let mut law = law(1);
    for n in 0..50 {
        let_in(&mut law, ask("busy", Class::Interactive, 0.1), at(100 * n));
        let ticket = started(&mut law, at(100 * n));
        law.complete(ticket, at(100 * n + 100));
    }
    let_in(&mut law, ask("back", Class::Interactive, 0.1), at(6000));
    let running = started(&mut law, at(6000));
    let busy = let_in(&mut law, ask("busy", Class::Interactive, 0.1), at(6000));
    let back = let_in(&mut law, ask("back", Class::Interactive, 0.1), at(6000));
    law.complete(running, at(6100));
    let first = started(&mut law, at(6100));
    law.complete(first, at(6200));
    let second = started(&mut law, at(6200));
    assert!([first, second].contains(&busy) && [first, second].contains(&back));
}

#[test]
fn each_class_gets_its_share_of_a_busy_machine() {
    let (mut law, mut now, mut served) = (law(1), Duration::ZERO, [0; 3]);
    let mut waiting = HashMap::new();
    for _ in 0..1000 {
        for class in Class::ALL {
            while law.work(class) < 0.1 * (5.0 + f64::from(class as u8)) {
                let promised = Ask { promised: class != Class::Interactive, ..ask("t", class, 0.1) };
                waiting.insert(law.take_up(promised, now), class);
            }
        }
        let ticket = started(&mut law, now);
        served[waiting.remove(&ticket).expect("it waits") as usize] += 1;
        now += at(100);
        law.complete(ticket, now);
    }
    let off = served.iter().zip([700, 200, 100]).map(|(served, share)| i32::abs(served - share));
    assert!(off.max() <= Some(1), "{served:?} of a thousand");
}

#[test]
fn a_worker_that_hangs_is_not_counted_on() {
    let mut law = law(2);
    for _ in 0..2 {
        let_in(&mut law, ask("a", Class::Interactive, 0.1), at(0));
    }
    let (_, other) = (started(&mut law, at(0)), started(&mut law, at(0)));
    assert_eq!(law.bound_of(Class::Interactive, false), 1.0);
    law.complete(other, at(100));
    law.tick(at(6000));
    assert_eq!((law.hung(), law.bound_of(Class::Interactive, false)), (1, 0.5));
}

/// What may happen.
#[derive(Debug, Clone)]
enum Step {
    Offer { tenant: usize, class: usize, service: f64, promised: bool, chance: f64 },
    Complete(usize),
    Leave(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let offer = (0..4usize, 0..3usize, 0.001..2.0f64, prop::bool::weighted(0.2), 0.0..1.0f64).prop_map(
        |(tenant, class, service, promised, chance)| Step::Offer { tenant, class, service, promised, chance },
    );
    let step = prop_oneof![
        6 => offer,
        3 => any::<usize>().prop_map(Step::Complete),
        1 => any::<usize>().prop_map(Step::Leave),
        2 => (1..400u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #[test]
    fn nobody_is_lost_and_no_worker_idles_beside_work(steps in steps(), workers in 1..9usize) {
        const TENANTS: [&str; 4] = ["a", "b", "c", "d"];
        let (mut law, mut now) = (law(workers), Duration::ZERO);
        let (mut waiting, mut running): (HashMap<Ticket, bool>, Vec<Ticket>) = (HashMap::new(), Vec::new());
        for step in steps {
            match step {
                Step::Offer { tenant, class, service, promised, chance } => {
                    let class = [Class::Interactive, Class::Standard, Class::Batch][class];
                    // Of batches a part of the workers is kept free.
                    let idle = running.len() < workers && class != Class::Batch;
                    let asked = Ask { promised, chance, ..ask(TENANTS[tenant], class, service) };
                    match law.offer(asked, now) {
                        Verdict::Admitted { ticket, evicted } => {
                            prop_assert!(waiting.insert(ticket, promised).is_none());
                            if let Some((out, _)) = evicted {
                                prop_assert!(!idle);
                                prop_assert_eq!(waiting.remove(&out), Some(false), "it waits, unpromised");
                            }
                        }
                        Verdict::Refused(refusal) => {
                            prop_assert!(!idle, "refused beside an idle worker");
                            prop_assert!(refusal.retry_in >= Duration::from_secs(1));
                            prop_assert!(promised || refusal.work >= refusal.bound);
                        }
                    }
                }
                Step::Complete(which) if !running.is_empty() => {
                    let ticket = running.swap_remove(which % running.len());
                    law.complete(ticket, now);
                }
                Step::Leave(which) if !waiting.is_empty() => {
                    let mut tickets: Vec<_> = waiting.keys().copied().collect();
                    tickets.sort_unstable();
                    let ticket = tickets[which % tickets.len()];
                    waiting.remove(&ticket);
                    law.leave(ticket);
                }
                Step::Complete(_) | Step::Leave(_) => {}
                Step::Wait(millis) => {
                    now += at(millis);
                    law.tick(now);
                }
            }
            while let Some(ticket) = law.next(now) {
                prop_assert!(waiting.remove(&ticket).is_some());
                running.push(ticket);
            }
            prop_assert_eq!((law.running(), law.waiting()), (running.len(), waiting.len()));
            let urgent = [Class::Interactive, Class::Standard].iter().any(|class| law.lines(*class).next().is_some());
            let busy = if urgent { workers } else { workers - workers / 4 };
            prop_assert!(running.len() >= busy || waiting.is_empty(), "a worker idles beside work");
            prop_assert!(law.work(Class::Batch) >= 0.0);
        }
    }
}
