//! Schemas of other releases.

use super::*;

on_both! {
    a_newer_schema_is_worked_on_as_long_as_it_takes_this_release,
}

/// What a later release leaves: a migration that this one does not know, and from which version on releases may work on its tables.
async fn migrate_later(store: &Store, oldest: i64) {
    let mut writer = store.writer().await.unwrap();
    for sql in [
        "DELETE FROM _sqlx_migrations WHERE version = 9000",
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9000, 'later', true, 'x', 0)",
        "CREATE TABLE IF NOT EXISTS added_later (a bigint)",
    ] {
        run!(&mut writer, |it| sqlx::raw_sql(sql).execute(it).await.map(|_| ())).unwrap();
    }
    let oldest = oldest.to_string();
    run!(&mut writer, |it| {
        sqlx::query("UPDATE compatibility SET oldest = CAST($1 AS bigint)").bind(&oldest).execute(it).await.map(|_| ())
    })
    .unwrap();
}

async fn a_newer_schema_is_worked_on_as_long_as_it_takes_this_release(fixture: Fixture) {
    let known = fixture.store.schema_version();
    migrate_later(&fixture.store, known).await;
    fixture.fold(notifications(0, 3, vec![notified(1, 2)])).await;
    fixture.store.close().await;
    for migrate in [true, false] {
        let config = StoreConfig { migrate, ..fixture.config.clone() };
        let store = Store::open(&config).await.unwrap();
        assert_eq!(kept(&store).await.len(), 1, "whether or not it may migrate: {migrate}");
        store.close().await;
    }
    Store::migrate(&fixture.config).await.unwrap().close().await;

    let store = Store::open(&fixture.config).await.unwrap();
    migrate_later(&store, known + 1).await;
    store.close().await;
    let refused = Store::open(&fixture.config).await.unwrap_err();
    let named =
        format!("version 9000, on which no release older than that of version {} may work; this one's is {known}", known + 1);
    assert!(refused.to_string().contains(&named), "{refused}");
    assert_eq!(refused.cause(), Cause::Bug, "waiting does not mend it");
}
