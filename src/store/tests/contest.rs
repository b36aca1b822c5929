//! Tests of several processes on one database.

use super::fold::advance;
use super::*;

on_both! {
    of_two_that_fold_the_same_step_one_changes_nothing,
}

async fn of_two_that_fold_the_same_step_one_changes_nothing(fixture: Fixture) {
    let other = Store::open(&fixture.config).await.unwrap();
    for round in 0..20 {
        let mine = notifications(round, round + 1, vec![notified(2 * round as u128, round)]);
        let theirs = notifications(round, round + 1, vec![notified(2 * round as u128 + 1, round)]);
        let retention = retention();
        let (mine, theirs) = tokio::join!(fixture.store.fold(EPOCH, &retention, &mine), other.fold(EPOCH, &retention, &theirs));
        let outcomes = [mine.unwrap(), theirs.unwrap()];
        let committed = Folded::Committed { conflicts: Vec::new(), crowded_out: 0, lapsed: 0 };
        assert!(outcomes.contains(&committed) && outcomes.contains(&Folded::Moved), "{outcomes:?}");
    }
    let offsets = kept(&fixture.store).await.into_iter().map(|(offset, ..)| offset);
    assert_eq!(offsets.collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn on_postgres_who_stalls_in_a_transaction_loses_it_and_holds_nobody_up() {
    let Some(fixture) = Fixture::postgres().await else { return };
    let mut config = fixture.config.clone();
    config.answer_timeout = Delay(Duration::from_millis(200));
    let stalls = Store::open(&config).await.unwrap();
    let mut transaction = stalls.writer().await.unwrap().begin_writing().await.unwrap();
    assert!(advance(transaction.connection(), EPOCH, &[step("notifications", 0, 9)]).await.unwrap());

    let fold = notifications(0, 5, vec![notified(1, 4)]);
    let folded = loop {
        match fixture.store.fold(EPOCH, &retention(), &fold).await {
            Ok(folded) => break folded,
            Err(error) => assert_eq!(error.cause(), Cause::Dependency, "{error:?}"),
        }
    };
    assert_eq!(folded, Folded::Committed { conflicts: Vec::new(), crowded_out: 0, lapsed: 0 });
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(error.cause(), Cause::Dependency, "{error:?}");
    assert_eq!(fixture.store.positions(EPOCH).await.unwrap()[1], standing("notifications", 5));
    // It goes on from where the store stands.
    let late = notifications(0, 9, vec![notified(2, 8)]);
    assert_eq!(stalls.fold(EPOCH, &retention(), &late).await.unwrap(), Folded::Moved);
}

#[tokio::test]
async fn on_postgres_of_two_epochs_that_fold_one_id_at_once_both_places_are_known() {
    let Some(fixture) = Fixture::postgres().await else { return };
    let later = Epoch(EPOCH.0 + 1);
    fixture.store.claim(later, &[standing("notifications.e4", 0)]).await.unwrap();
    for (id, (first, second)) in (1..).zip([(EPOCH, later), (later, EPOCH)]) {
        let of = |epoch: Epoch| {
            let offset = if epoch == later { 20 + id as i64 } else { id as i64 };
            Fold { notifications: vec![notified(id, offset)], ..Fold::default() }
        };
        let mut quick = fixture.store.writer().await.unwrap().begin_writing().await.unwrap();
        notified::add(quick.connection(), first, &retention(), &of(first)).await.unwrap();
        let me = pid(quick.connection()).await;
        let slow = Store::open(&fixture.config).await.unwrap();
        let (retention, fold) = (retention(), of(second));
        let folding = slow.fold(second, &retention, &fold);
        let finishing = async {
            until_waited_for(&fixture, me).await;
            quick.commit().await.unwrap();
        };
        let (folded, ()) = tokio::join!(folding, finishing);
        assert!(matches!(folded.unwrap(), Folded::Committed { .. }));
        let course = Course { epoch: later, topic: "notifications.e4".into(), ..super::recover::course() };
        let newest = fixture.store.newest(&course, 1).await.unwrap();
        assert_eq!(super::recover::offsets(&newest), [20 + id as i64], "positions of the later epoch lead to it");
        assert_eq!(fixture.evidence(id, id as i64).await.first_offset, Some(id as i64), "and its place in the earlier is known");
    }
}

async fn pid(connection: &mut connection::Connection) -> i32 {
    run!(connection, |it| sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(it).await.unwrap())
}

async fn until_waited_for(fixture: &Fixture, pid: i32) {
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
    loop {
        let waiting: i64 = run!(&mut fixture.store.reader().await.unwrap(), |it| {
            sqlx::query_scalar(waits).bind(pid).fetch_one(it).await.unwrap()
        });
        if waiting > 0 {
            return;
        }
    }
}

#[tokio::test]
async fn on_postgres_an_attempt_and_what_ends_it_are_not_folded_past_each_other() {
    let Some(fixture) = Fixture::postgres().await else { return };
    fixture.fold(notifications(0, 10, vec![notified(1, 3), notified(2, 6)])).await;
    let attempt = |id, offset| super::attempts::ladder(vec![super::attempts::tried(id, offset, 1)]);
    let said = |from, to| cursors(vec![cursor("a", &[(from, to)], &[(from, to)])]);
    for (first, second) in [(said(0, 4), attempt(1, 3)), (attempt(2, 6), said(0, 8))] {
        // All that a fold does but its end.
        let mut quick = fixture.store.writer().await.unwrap().begin_writing().await.unwrap();
        crate::store::attempts::take_turns(quick.connection(), &first).await.unwrap();
        stretches::merge(quick.connection(), &retention(), &first.cursors).await.unwrap();
        crate::store::attempts::add(quick.connection(), &first.attempts).await.unwrap();
        crate::store::attempts::close(quick.connection(), &first.cursors, &first.receipts).await.unwrap();
        let me = pid(quick.connection()).await;
        let slow = Store::open(&fixture.config).await.unwrap();
        let retention = retention();
        let finishing = async {
            until_waited_for(&fixture, me).await;
            quick.commit().await.unwrap();
        };
        let (folded, ()) = tokio::join!(slow.fold(EPOCH, &retention, &second), finishing);
        assert!(matches!(folded.unwrap(), Folded::Committed { .. }));
        let open = fixture.store.pending_counts(Timestamp::from_millis(0)).await.unwrap();
        assert_eq!(open, PendingCounts::default());
    }
}

#[tokio::test]
async fn on_postgres_a_server_that_does_not_answer_is_unavailable() {
    let Some(mut fixture) = Fixture::postgres().await else { return };
    fixture.config.answer_timeout = Delay(Duration::from_millis(300));
    fixture.config.busy_timeout = Delay(Duration::from_secs(20));
    let waits = Store::open(&fixture.config).await.unwrap();
    let mut held = fixture.store.writer().await.unwrap().begin_writing().await.unwrap();
    assert!(advance(held.connection(), EPOCH, &[step("notifications", 0, 9)]).await.unwrap());
    let error = waits.fold(EPOCH, &retention(), &notifications(0, 5, Vec::new())).await.unwrap_err();
    assert!(matches!(error, StoreError::Silent(_)) && error.cause() == Cause::Dependency, "{error:?}");
    held.rollback().await.unwrap();
    let folded = waits.fold(EPOCH, &retention(), &notifications(0, 5, Vec::new())).await.unwrap();
    assert_ne!(folded, Folded::Moved);
}

#[tokio::test]
async fn on_postgres_a_database_that_is_not_there_is_told_at_once() {
    let Some(fixture) = Fixture::postgres().await else { return };
    let mut config = fixture.config.clone();
    let Database::Postgres(url) = &config.url else { panic!("{config:?}") };
    config.url = url.replacen("/postgres?", "/no_such_database?", 1).parse().unwrap();
    assert_eq!(Store::open(&config).await.unwrap_err().cause(), Cause::Bug);
}
