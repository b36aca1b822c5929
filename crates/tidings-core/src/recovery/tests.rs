//! Recovery as a whole, without sockets: a log, two nodes that read it at their own pace, a projection behind it, retention, and
//! connections that come with any earlier position, or with what they acknowledged. Whatever the order of all that, each is sent
//! everything that is kept from where it begins, in order and once, or is told what it is not.

mod world;

use proptest::prelude::*;

use self::world::{Answers, Heard, Kind, Of, Op, Places, Said, With, World};
use super::Archive;

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let node = 0..2_usize;
    let connection = 0..6_usize;
    let with = prop_oneof![
        8 => (-3..40_i64).prop_map(With::Position),
        1 => Just(With::OtherEpoch),
        2 => Just(With::Nothing),
    ];
    let said = prop_oneof![(0..6_i64).prop_map(Said::Below), (0..20_usize).prop_map(Said::One)];
    let heard = prop_oneof![3 => Just(Heard::All), 1 => Just(Heard::Nothing)];
    let answers = prop_oneof![2 => Just(Answers::Pages), 1 => Just(Answers::Errors), 1 => Just(Answers::Never)];
    let op = prop_oneof![
        6 => Just(Op::Append(Of::Channel)),
        3 => Just(Op::Append(Of::Other)),
        6 => (node.clone(), 1..6_i64).prop_map(|(node, records)| Op::Deliver { node, records }),
        3 => (node.clone(), 1..6_i64).prop_map(|(node, records)| Op::Evict { node, records }),
        4 => (1..6_i64).prop_map(Op::Project),
        2 => (0..4_usize).prop_map(Op::Trim),
        1 => (0..20_usize).prop_map(Op::Withdraw),
        1 => answers.prop_map(Op::Store),
        1 => prop_oneof![Just(Places::Free), Just(Places::Taken)].prop_map(Op::Places),
        1 => (1..200_u64).prop_map(Op::Pass),
        3 => (node.clone(), with).prop_map(|(node, with)| Op::Connect { node, with }),
        2 => (connection.clone(), node.clone(), 0..9_i64)
            .prop_map(|(connection, node, back)| Op::Reconnect { connection, node, back }),
        3 => (connection.clone(), said).prop_map(|(connection, said)| Op::Acknowledge { connection, said }),
        2 => (connection.clone(), node, heard).prop_map(|(connection, node, heard)| Op::Return { connection, node, heard }),
        12 => connection.prop_map(Op::Turn),
    ];
    prop::collection::vec(op, 0..200)
}

proptest! {
    #[test]
    fn everything_kept_comes_once_and_in_order_or_is_told_to_be_missing(
        ops in ops(),
        patience_ms in 0..400_u64,
        kind in prop_oneof![Just(Kind::Mailbox), Just(Kind::Other)],
        archive in prop_oneof![3 => Just(Archive::Store), 1 => Just(Archive::None)],
        at_last in prop_oneof![3 => Just(Answers::Pages), 1 => Just(Answers::Never)],
    ) {
        let mut world = World::new((kind, archive), patience_ms);
        ops.iter().for_each(|op| world.happens(op));
        world.settle(at_last);
    }
}
