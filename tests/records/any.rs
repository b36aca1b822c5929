//! Any record: strategies that cover every field, also where it is absent. Long because every type of record is here.

use std::str::FromStr;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tidings_core::channel::Channel;
use tidings_core::ids::{ConnectionId, Incarnation, NotificationId, UserId};
use tidings_core::locale::Locale;
use tidings_core::notification::{Notification, Priority, Texts};
use tidings_core::position::{Epoch, Position};
use tidings_core::record::audit::{
    self, AuditRecord, BreakerReset, Decided, EventSelection, Reached, Redrive, RedriveCounts, RedriveStep, Redriven, Replay,
    ReplayCounts, ReplayPlan, ReplaySpan, ReplayStep,
};
use tidings_core::record::cursor::CursorRecord;
use tidings_core::record::meta::EpochRecord;
use tidings_core::record::notified::{NotificationRecord, Origin};
use tidings_core::record::receipt::{MarkState, ReadState, ReceiptItem, ReceiptRecord, Source, WithdrawalCause};
use tidings_core::record::request::{Asked, AskedEvent, Audience, RequestRecord, Words};
use tidings_core::record::retry::{Attempt, Delivery, Outcome, RetryRecord, Sink, UndeliveredRecord};
use tidings_core::record::signal::SignalRecord;
use tidings_core::record::signal::nodes::{
    About, Announcement, Answer, Found, Lease, Members, OpenConnection, Question, Recount, SnapshotPage, UserDevice,
};
use tidings_core::stretch::{Stretch, Stretches};
use tidings_core::time::{Delay, Timestamp};
use uuid::Uuid;

fn parsed<T: FromStr + std::fmt::Debug>(pattern: &'static str) -> impl Strategy<Value = T> {
    pattern.prop_filter_map("it does not read as what it is to be", |text: String| text.parse().ok())
}

pub(crate) fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

fn data() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), ".{0,8}".prop_map(Value::from)];
    let value = prop_oneof![leaf.clone(), vec(leaf, 0..3).prop_map(|items| json!({ "items": items }))];
    btree_map(".{0,6}", value, 0..3).prop_map(|fields| fields.into_iter().collect())
}

fn priority() -> impl Strategy<Value = Priority> {
    prop_oneof![Just(Priority::Low), Just(Priority::Medium), Just(Priority::High), Just(Priority::Urgent)]
}

fn texts() -> impl Strategy<Value = Texts> {
    let text = || option::of(".{1,12}");
    (text(), text(), text()).prop_map(|(title, message, action_url)| Texts { title, message, action_url })
}

fn locales() -> impl Strategy<Value = std::collections::BTreeMap<Locale, Texts>> {
    btree_map(parsed("[a-z]{2,8}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?"), texts(), 0..3)
}

pub(crate) fn notification() -> impl Strategy<Value = Notification> {
    let text = || option::of(".{0,12}");
    let fixed = (any::<u128>(), parsed(".{1,12}"), ".{0,12}", timestamp(), texts());
    let more = (data(), priority(), text(), text(), option::of(timestamp()), any::<bool>(), locales());
    (fixed, more).prop_map(
        |((id, event_id, kind, created_at, texts), (data, priority, source, category, expires_at, once, locales))| {
            let Texts { title, message, action_url } = texts;
            let id = NotificationId(Uuid::from_u128(id));
            Notification {
                id,
                event_id,
                kind,
                created_at,
                title,
                message,
                data,
                priority,
                action_url,
                source,
                category,
                expires_at,
                once,
                locales,
            }
        },
    )
}

pub(crate) fn channel() -> impl Strategy<Value = Channel> {
    prop_oneof![parsed("user-.{1,10}"), parsed("role-.{1,10}"), parsed(".{1,20}")]
}

fn ladder() -> impl Strategy<Value = Option<Vec<Delay>>> {
    option::of(vec((1..u64::from(u32::MAX)).prop_map(|millis| Delay(Duration::from_millis(millis))), 0..3))
}

pub(crate) fn users() -> impl Strategy<Value = Vec<UserId>> {
    vec(parsed(".{1,10}"), 0..3)
}

pub(crate) fn notification_record() -> impl Strategy<Value = NotificationRecord> {
    let place = (".{1,10}", 0..i32::MAX, 0..i64::MAX, option::of(timestamp()));
    let origin = place.prop_map(|(topic, partition, offset, timestamp)| Origin { topic, partition, offset, timestamp });
    let tried = (0..1_000_u32, vec(attempt(), 0..3));
    (channel(), notification(), ".{0,10}", origin, users(), ladder(), tried).prop_map(
        |(channel, notification, rule, origin, exclude, ladder, (attempts_forgotten, attempts))| NotificationRecord {
            channel,
            notification,
            rule,
            origin,
            exclude,
            ladder,
            attempts_forgotten,
            attempts,
        },
    )
}

fn stretches() -> impl Strategy<Value = Stretches> {
    vec((0..1000_i64, 1..10_i64), 0..5)
        .prop_map(|ranges| ranges.into_iter().map(|(from, length)| Stretch { from, to: from + length }).collect())
}

pub(crate) fn cursor() -> impl Strategy<Value = CursorRecord> {
    let said = (option::of(0..i64::MAX), stretches(), stretches());
    (parsed(".{1,10}"), parsed(".{1,10}"), any::<bool>(), channel(), any::<u64>(), said).prop_map(
        |(user_id, device_id, drawn, channel, epoch, (began, offered, acknowledged))| CursorRecord {
            user_id,
            device_id,
            drawn,
            channel,
            epoch: Epoch(epoch),
            began,
            offered,
            acknowledged,
        },
    )
}

pub(crate) fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), 0..i64::MAX).prop_map(|(epoch, offset)| Position { epoch: Epoch(epoch), offset })
}

pub(crate) fn source() -> impl Strategy<Value = Option<Source>> {
    let source = (parsed(".{1,10}"), any::<u128>())
        .prop_map(|(device_id, connection)| Source { device_id, connection_id: ConnectionId(Uuid::from_u128(connection)) });
    option::of(source)
}

pub(crate) fn id() -> impl Strategy<Value = NotificationId> {
    any::<u128>().prop_map(|id| NotificationId(Uuid::from_u128(id)))
}

pub(crate) fn receipt() -> impl Strategy<Value = ReceiptRecord> {
    use ReadState::{Dismissed, Read, Seen, Unread};
    let state = prop_oneof![Just(Read), Just(Unread), Just(Seen), Just(Dismissed)];
    let mark = prop_oneof![Just(MarkState::Read), Just(MarkState::Seen)];
    let cause = prop_oneof![Just(WithdrawalCause::Once), Just(WithdrawalCause::Service)];
    let item = (id(), option::of((channel(), position()))).prop_map(|(id, place)| {
        let (channel, position) = place.unzip();
        ReceiptItem { id, channel, position }
    });
    prop_oneof![
        (parsed(".{1,10}"), state, vec(item, 0..3), source())
            .prop_map(|(user_id, state, items, source)| { ReceiptRecord::State { user_id, state, items, source } }),
        (parsed(".{1,10}"), mark, channel(), position(), source()).prop_map(|(user_id, state, channel, position, source)| {
            ReceiptRecord::UpTo { user_id, state, channel, position, source }
        }),
        (channel(), id(), option::of(position()), cause, source()).prop_map(|(channel, id, position, cause, source)| {
            ReceiptRecord::Withdrawn { channel, id, position, cause, source }
        }),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(Outcome::Offline), Just(Outcome::Unacknowledged)]
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let more = (option::of(timestamp()), option::of(parsed(".{1,10}")));
    (timestamp(), parsed(".{1,10}"), outcome(), more).prop_map(|(at, node, outcome, (next_at, by))| Attempt {
        at,
        node,
        sink: Sink::Websocket,
        outcome,
        next_at,
        by,
    })
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let place = (any::<u64>(), any::<i64>(), option::of(timestamp()));
    (channel(), notification(), place, ladder(), 0..=1_000_000_u32, vec(attempt(), 0..3)).prop_map(
        |(channel, notification, (epoch, offset, appended_at), ladder, attempts_forgotten, attempts)| Delivery {
            channel,
            notification,
            epoch: Epoch(epoch),
            offset,
            appended_at,
            ladder,
            attempts_forgotten,
            attempts,
        },
    )
}

pub(crate) fn retry() -> impl Strategy<Value = RetryRecord> {
    delivery().prop_map(RetryRecord)
}

pub(crate) fn undelivered() -> impl Strategy<Value = UndeliveredRecord> {
    let parts = (delivery(), outcome(), timestamp(), prop::option::of("[a-z_]{1,12}"));
    parts.prop_map(|(delivery, reason, ended_at, refused)| UndeliveredRecord { delivery, reason, ended_at, refused })
}

pub(crate) fn signal() -> impl Strategy<Value = SignalRecord> {
    prop_oneof![
        (delivery(), 1..u32::MAX)
            .prop_map(|(delivery, redelivery)| SignalRecord::Redeliver { delivery: Box::new(delivery), redelivery }),
        (parsed(".{1,10}"), parsed(".{1,10}")).prop_map(|(user_id, by)| SignalRecord::Disconnect { user_id, by }),
        reset().prop_map(SignalRecord::ResetBreaker),
        (lease(), user_devices(), user_devices(), any::<bool>())
            .prop_map(|(lease, came, left, ends)| { SignalRecord::Announcement(Announcement { lease, came, left, ends }) }),
        (lease(), option::of(user_device()), option::of(user_device()), user_devices())
            .prop_map(|(lease, after, to, present)| SignalRecord::Snapshot(SnapshotPage { lease, after, to, present })),
        (incarnation(), option::of(incarnation())).prop_map(|(by, of)| SignalRecord::Recount(Recount { by, of })),
        question().prop_map(SignalRecord::Question),
        answer().prop_map(|answer| SignalRecord::Answer(Box::new(answer))),
    ]
}

fn incarnation() -> impl Strategy<Value = Incarnation> {
    any::<u128>().prop_map(|run| Incarnation(Uuid::from_u128(run)))
}

fn user_device() -> impl Strategy<Value = UserDevice> {
    (parsed(".{1,10}"), parsed(".{1,10}")).prop_map(|(user_id, device_id)| UserDevice { user_id, device_id })
}

fn user_devices() -> impl Strategy<Value = Vec<UserDevice>> {
    vec(user_device(), 0..3)
}

fn lease() -> impl Strategy<Value = Lease> {
    (parsed(".{1,10}"), incarnation(), any::<u64>(), any::<u64>()).prop_map(|(node, incarnation, number, lasts_ms)| Lease {
        node,
        incarnation,
        number,
        lasts_ms,
    })
}

fn question() -> impl Strategy<Value = Question> {
    let members = (channel(), option::of(parsed(".{1,10}")), any::<u64>()).prop_map(|(channel, after, limit)| About::Members {
        channel,
        after,
        limit,
    });
    let about = prop_oneof![members, parsed(".{1,10}").prop_map(|user_id| About::Connections { user_id })];
    (any::<u128>(), incarnation(), vec(incarnation(), 0..3), about).prop_map(|(id, by, to, about)| {
        let id = Uuid::from_u128(id);
        Question { id, by, to, about }
    })
}

fn connection() -> impl Strategy<Value = OpenConnection> {
    let locale = option::of(parsed("[a-z]{2,8}(-[A-Z]{2})?"));
    let device = (parsed(".{1,10}"), any::<bool>());
    (any::<u128>(), device, any::<std::net::IpAddr>(), timestamp(), locale, vec(channel(), 0..3)).prop_map(
        |(id, (device_id, drawn), address, since, locale, channels)| {
            let connection_id = ConnectionId(Uuid::from_u128(id));
            OpenConnection { connection_id, device_id, drawn, address, since, locale, channels }
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    let members = (any::<u64>(), vec(any::<u64>(), 0..3), any::<bool>(), users(), any::<bool>())
        .prop_map(|(alone, shared, clipped, users, more)| Found::Members(Members { alone, shared, clipped, users, more }));
    let found = prop_oneof![members, vec(connection(), 0..3).prop_map(|connections| Found::Connections { connections })];
    (any::<u128>(), incarnation(), incarnation(), parsed(".{1,10}"), found).prop_map(|(id, to, by, node, found)| Answer {
        id: Uuid::from_u128(id),
        to,
        by,
        node,
        found,
    })
}

pub(crate) fn epoch() -> impl Strategy<Value = EpochRecord> {
    let said = || (any::<u64>(), 1..i32::MAX, timestamp(), "(\\.e[0-9]{1,3})?");
    let record = |(epoch, partitions, created_at, suffix), earlier| EpochRecord {
        epoch: Epoch(epoch),
        partitions,
        created_at,
        suffix,
        earlier,
    };
    let earlier = option::of(said().prop_map(move |said| Box::new(record(said, None))));
    (said(), earlier).prop_map(move |(said, earlier)| record(said, earlier))
}

fn words() -> impl Strategy<Value = Words> {
    let to = prop_oneof![vec(parsed(".{1,10}"), 1..3).prop_map(Audience::Users), channel().prop_map(Audience::Channel)];
    let name = || option::of("[a-z]{1,12}");
    let more = (data(), priority(), name(), name(), option::of(timestamp()), locales());
    (to, "[a-z]{1,12}", texts(), more).prop_map(|(to, kind, texts, (data, priority, source, category, expires_at, locales))| {
        let Texts { title, message, action_url } = texts;
        Words { to, kind, title, message, data, priority, action_url, source, category, expires_at, locales }
    })
}

pub(crate) fn request() -> impl Strategy<Value = RequestRecord> {
    let event = (".{1,10}", data(), option::of(parsed(".{1,10}")), option::of(timestamp()))
        .prop_map(|(kind, data, id, time)| Asked::Event { event: AskedEvent { kind, data, id, time } });
    let asked = prop_oneof![words().prop_map(|words| Asked::Words(Box::new(words))), event];
    (option::of(parsed(".{1,10}")), users(), asked).prop_map(|(id, exclude, asked)| RequestRecord { id, exclude, asked })
}

fn redrive_step() -> impl Strategy<Value = RedriveStep> {
    let begun = (".{0,20}", ".{0,12}").prop_map(|(selection, rules)| RedriveStep::Begun { selection, rules });
    let redriven = (0..i32::MAX, stretches()).prop_map(|(partition, offsets)| Redriven { partition, offsets });
    let progress = vec(redriven, 0..3).prop_map(|redriven| RedriveStep::Progress { redriven });
    let outcome = ended();
    let counts = any::<[u32; 6]>().prop_map(|counts| {
        let [letters, notified, notifications, ignored, buried, skipped] = counts.map(u64::from);
        RedriveCounts { letters, decided: Decided { notified, notifications, ignored, buried, skipped } }
    });
    let ended =
        (outcome, option::of(".{0,20}"), counts).prop_map(|(outcome, why, counts)| RedriveStep::Ended { outcome, why, counts });
    prop_oneof![begun, progress, ended]
}

fn ended() -> impl Strategy<Value = audit::Ending> {
    use audit::Ending::{Done, Failed, Interrupted, Paused};
    prop_oneof![Just(Done), Just(Paused), Just(Interrupted), Just(Failed)]
}

fn words_of() -> impl Strategy<Value = Vec<String>> {
    vec(".{0,10}", 0..3)
}

fn plan() -> impl Strategy<Value = ReplayPlan> {
    let span = (0..i32::MAX, 0..i64::MAX, 0..i64::MAX).prop_map(|(partition, from, to)| ReplaySpan { partition, from, to });
    let words = (words_of(), words_of(), words_of(), option::of(".{0,10}"), option::of(timestamp()), option::of(timestamp()));
    let events = words.prop_map(|(keys, headers, types, expression, since, until)| EventSelection {
        keys,
        headers,
        types,
        expression,
        since,
        until,
    });
    let parts = (".{1,10}", vec(span, 0..3), events, option::of(".{1,10}"), option::of(parsed(".{1,10}")), any::<bool>());
    parts.prop_map(|(topic, spans, events, to_topic, to_user, new_ids)| ReplayPlan {
        topic,
        spans,
        events,
        to_topic,
        to_user,
        new_ids,
    })
}

fn replay_step() -> impl Strategy<Value = ReplayStep> {
    let reached = (0..i32::MAX, 0..i64::MAX).prop_map(|(partition, next)| Reached { partition, next });
    let counts = any::<[u32; 7]>().prop_map(|counts| {
        let [read, selected, notified, notifications, ignored, buried, skipped] = counts.map(u64::from);
        ReplayCounts { read, selected, decided: Decided { notified, notifications, ignored, buried, skipped } }
    });
    prop_oneof![
        (plan(), ".{0,12}").prop_map(|(plan, rules)| ReplayStep::Begun { plan: Box::new(plan), rules }),
        vec(reached, 0..3).prop_map(|reached| ReplayStep::Progress { reached }),
        (ended(), option::of(".{0,20}"), counts).prop_map(|(outcome, why, counts)| ReplayStep::Ended { outcome, why, counts }),
    ]
}

fn reset() -> impl Strategy<Value = BreakerReset> {
    (any::<u128>(), parsed(".{1,10}"), parsed(".{1,10}"), option::of(".{1,10}")).prop_map(|(id, who, node, topic)| BreakerReset {
        id: Uuid::from_u128(id),
        who,
        node,
        topic,
    })
}

pub(crate) fn act() -> impl Strategy<Value = AuditRecord> {
    let by = || (any::<u128>().prop_map(Uuid::from_u128), parsed(".{1,10}"), parsed(".{1,10}"));
    let redriven = vec((0..i32::MAX, stretches()).prop_map(|(partition, offsets)| Redriven { partition, offsets }), 0..3);
    let signed = || (any::<u128>(), parsed(".{1,10}"), parsed(".{1,10}"));
    prop_oneof![
        (signed(), redrive_step()).prop_map(|((id, who, node), step)| AuditRecord::Redrive(Redrive {
            id: Uuid::from_u128(id),
            who,
            node,
            step
        })),
        (signed(), replay_step()).prop_map(|((id, who, node), step)| AuditRecord::Replay(Replay {
            id: Uuid::from_u128(id),
            who,
            node,
            step
        })),
        reset().prop_map(AuditRecord::BreakerReset),
        (by(), ".{0,10}", any::<u64>(), any::<u64>()).prop_map(|((id, who, node), selection, sent, users)| AuditRecord::Retry(
            audit::Retry { id, who, node, selection, sent, users }
        )),
        (by(), ".{0,10}", redriven).prop_map(|((id, who, node), selection, redriven)| {
            AuditRecord::Undelivered(audit::UndeliveredRedriven { id, who, node, selection, redriven })
        }),
    ]
}
