//! Pages of what people see: how far is looked, and where a page stopped.
//!
//! No page reads more than a bounded number of rows. Where an index has what is asked for, the page is read from it;
//! elsewhere rows are looked through from the newest on, and no more than [`WALK`] of them: such a page may end before
//! it is full, and says where to go on.

use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// The most rows that are looked through for one page.
pub const WALK: i64 = 5000;

/// The ids that a page may have, and how many.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// The first id.
    pub from: Uuid,
    /// The first that is too new.
    pub to: Uuid,
    /// The most rows.
    pub limit: i64,
}

/// A page.
#[derive(Debug)]
pub struct Page<T, C = Uuid> {
    /// The rows, newest first.
    pub rows: Vec<T>,
    /// What was looked through ended here, before the page was full.
    pub stopped_at: Option<C>,
}

/// Makes every statement of the transaction see one moment.
pub async fn one_moment(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(tx).await?;
    Ok(())
}
