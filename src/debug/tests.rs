//! Plans: bytes and registers go to who wants them, and come back; nothing costs more for there being others.

use super::plan::MOST_GATES;
use super::*;

fn change(points: &Points, how: impl FnOnce(&mut Plan)) {
    let how = |plan: &mut Plan| {
        how(plan);
        Ok(())
    };
    points.change(how).expect("done");
}

fn wish(at: u64) -> Wish {
    Wish::at(Place::Linear(at))
}

#[test]
fn four_debug_registers_serve_code_and_data_and_a_fifth_is_refused() {
    let points = Points::default();
    let data = points.add(Wish { watch: Some(Watch { size: 4, reads: false }), ..wish(0x2000) });
    let code: Vec<_> = (0..4).map(|n| points.add(wish(n))).collect();
    points.change(|plan| plan.take_slot(&data, 0x2000)).expect("free");
    for point in &code[..3] {
        points.change(|plan| plan.take_slot(point, u64::from(point.id))).expect("free");
    }
    assert!(points.change(|plan| plan.take_slot(&code[3], 9)).is_err());
    let plan = points.outline();
    assert_eq!(plan.registers(0).map(|r| (r[0], r[7])), Some((0x2000, 0x000d_0400 | 0b1010_1010)));
    points.change(|plan| Ok(plan.drop_point(&data, true))).expect("there");
    points.change(|plan| plan.take_slot(&code[3], 9)).expect("free again");
}

#[test]
fn a_register_is_given_up_by_who_can_do_without_and_by_nobody_else() {
    let points = Points::default();
    let data = points.add(Wish { watch: Some(Watch { size: 4, reads: false }), ..wish(0x2000) });
    let fixed = points.add(Wish { hardware: Some(true), ..wish(0x3000) });
    let free = points.add(wish(0x4000));
    for (point, at) in [(&data, 0x2000), (&fixed, 0x3000)] {
        points.change(|plan| plan.take_slot(point, at)).expect("room");
    }
    assert!(points.look(Plan::movable).is_none());
    points.change(|plan| plan.take_slot(&free, 0x4000)).expect("room");
    assert_eq!(points.look(Plan::movable).map(|(point, at)| (point.id, at)), Some((free.id, 0x4000)));
    points
        .change(|plan| {
            plan.give_slot(&free);
            Ok(())
        })
        .expect("done");
    assert_eq!(points.outline().registers(0).map(|words| (words[0], words[1], words[2])), Some((0x2000, 0x3000, 0)));
}

#[test]
fn a_byte_stays_for_as_long_as_one_of_its_points_does() {
    let points = Points::default();
    let (a, b) = (points.add(wish(1)), points.add(wish(1)));
    let plant = |point| change(&points, |plan| plan.take_site(point, 0x1000, Mechanism::Int3));
    [&a, &b, &b].into_iter().for_each(plant);
    assert_eq!(points.site(0x1000).map(|site| site.points.len()), Some(2));
    let dropped = |point| points.change(|plan| Ok(plan.drop_point(point, true))).expect("done");
    assert_eq!((dropped(&a), dropped(&b)), (vec![], vec![0x1000]));
    assert!(a.is_removed() && points.look(Plan::is_empty));
}

#[test]
fn a_byte_in_memory_that_is_gone_is_planted_again_when_it_is_back() {
    let points = Points::default();
    let (gone, there) = (points.add(wish(1)), points.add(wish(2)));
    let plant = |point, at| change(&points, |plan| plan.take_site(point, at, Mechanism::Int3));
    plant(&gone, 0x1000);
    plant(&there, 0x2000);
    let forget = |plan: &mut Plan| {
        plan.forget_sites(|at| at == 0x1000);
        Ok(())
    };
    points.change(forget).expect("done");
    assert_eq!((gone.mechanism(), there.mechanism()), (Mechanism::Pending, Mechanism::Int3));
    assert!(points.look(|plan| plan.is_waiting(&gone) && plan.site(0x1000).is_none()));
    plant(&gone, 0x1000);
    assert!(points.look(|plan| !plan.is_waiting(&gone) && plan.site(0x1000).is_some()));
}

#[test]
fn registers_that_are_waited_for_are_counted() {
    let points = Points::default();
    for n in 0..4 {
        points.add(Wish { hardware: Some(true), ..wish(n) });
    }
    assert!(points.look(Plan::check_registers).is_ok());
    points.add(Wish { hardware: Some(true), ..wish(4) });
    assert!(points.look(Plan::check_registers).is_err());
}

#[test]
fn a_gate_stays_for_as_long_as_a_point_needs_it() {
    let points = Points::default();
    let a = points.add(wish(1));
    change(&points, |plan| plan.take_site(&a, 0x1000, Mechanism::Gate));
    change(&points, |plan| plan.take_gate(0x5000, 3, Mechanism::PortRead));
    assert!(points.look(Plan::wants_gate));
    let dropped = points.change(|plan| Ok(plan.drop_point(&a, true))).expect("done");
    assert_eq!(dropped, [0x1000, 0x5000]);
}

#[test]
fn a_guest_that_moves_its_handlers_about_fills_no_memory() {
    let points = Points::default();
    let mut dropped = 0;
    let most = 10 * u64::try_from(MOST_GATES).expect("small");
    for at in 0..most {
        points
            .change(|plan| {
                dropped += plan.drop_gates().len();
                plan.take_gate(at, 3, Mechanism::Int3);
                Ok(())
            })
            .expect("done");
    }
    let left = points.look(|plan| (0..most).filter(|at| plan.site(*at).is_some()).count());
    assert!(dropped > 0 && left <= MOST_GATES);
}

#[test]
fn a_point_that_goes_at_its_first_hit_has_one() {
    let point = Point::new(1, Wish { once: true, ..wish(1) });
    assert!(point.hit() && !point.hit());
    assert_eq!(point.hits(), 1);
}

#[test]
fn those_of_one_unmapped_page_are_asked_about_once() {
    let points = Points::default();
    let others =
        [Wish { cr3: Some(0x5000), ..wish(0x1001) }, Wish::at(Place::Physical(crate::addr::GuestPhys(0x1001)))];
    for at in (0x1000..0x1800).chain(0x2000..0x2800) {
        points.add(wish(at));
    }
    for wish in others {
        points.add(wish);
    }
    let (mut turn, mut looks) = (None, 0);
    while let Some((at, _)) = points.look(|plan| plan.next_waiting(turn)) {
        (turn, looks) = (Some(at.last_of_page()), looks + 1);
    }
    assert_eq!(looks, 4);
}

#[test]
fn each_point_has_its_turn_and_leaves_the_queue_when_it_is_planted() {
    let points = Points::default();
    let all: Vec<_> = (0..100).map(|n| points.add(wish(n * 0x800))).collect();
    let mut turn = None;
    let mut seen = Vec::new();
    while let Some((at, point)) = points.look(|plan| plan.next_waiting(turn)) {
        turn = Some(at);
        let place = point.linear().expect("linear");
        change(&points, |plan| plan.take_site(&point, place, Mechanism::Int3));
        seen.push(point.id);
    }
    assert_eq!(seen, all.iter().map(|point| point.id).collect::<Vec<_>>());
    assert!(!points.outline().has_waiting && points.outline().wants_int3);
    let idle: Vec<_> =
        all.iter().map(|point| points.change(|plan| Ok(plan.drop_point(point, true))).expect("done")).collect();
    assert!(idle.iter().all(|idle| idle.len() == 1));
    assert!(points.outline().is_empty && !points.outline().wants_int3);
}
