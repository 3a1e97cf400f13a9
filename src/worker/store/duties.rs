//! The SQL of duties: work that one process does for all.

use sqlx::PgExecutor;
use uuid::Uuid;

/// Takes or keeps the duty `name` for `holder`, for the next `seconds`; says whether it is theirs. A duty
/// that was done less than `seconds` ago by someone alive is not given to another; what bears a time that is still to
/// come was taken before the database's clock was set back.
pub async fn take_duty(
    db: impl PgExecutor<'_>,
    name: &str,
    holder: Uuid,
    seconds: f64,
) -> sqlx::Result<bool> {
    let taken = sqlx::query!(
        r#"
        INSERT INTO duties AS d (name, holder, until)
        VALUES ($1, $2, now() + make_interval(secs => $3))
        ON CONFLICT ON CONSTRAINT duties_pkey DO UPDATE
        SET holder = excluded.holder, until = excluded.until, last_at = now()
        WHERE d.holder = excluded.holder OR is_silent(d.until - make_interval(secs => $3), make_interval(secs => $3))
        "#,
        name,
        holder,
        seconds,
    )
    .execute(db)
    .await?;
    Ok(taken.rows_affected() > 0)
}

/// Gives the duty `name` back, if it is `holder`'s: the next who asks has it.
pub async fn leave_duty(db: impl PgExecutor<'_>, name: &str, holder: Uuid) -> sqlx::Result<()> {
    sqlx::query!("UPDATE duties SET until = now() WHERE name = $1 AND holder = $2", name, holder)
        .execute(db)
        .await?;
    Ok(())
}

/// Has the row of a duty that `holder` has say what it has not come to the end of; since when is kept.
pub async fn note_duty(
    db: impl PgExecutor<'_>,
    name: &str,
    holder: Uuid,
    note: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        UPDATE duties
        SET note = $3, noted_at = CASE WHEN $3::text IS NOT NULL THEN coalesce(noted_at, now()) END
        WHERE name = $1 AND holder = $2
        "#,
        name,
        holder,
        note,
    )
    .execute(db)
    .await?;
    Ok(())
}
