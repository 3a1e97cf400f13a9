//! Hears what other processes of the instance tell (`abroad.rs`).

use super::abroad::Note;
use super::wake::Wake;
use crate::db::{Database, session};
use sqlx::postgres::PgListener;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Hears the other processes, where a session is ours alone. Behind a transaction-mode pooler nothing is heard,
/// and polling does it all.
pub(super) async fn listen(
    wake: &Wake,
    db: &Database,
    channel: &str,
    heard: impl Fn(Note),
    stop: &CancellationToken,
) {
    let pool = db.listen.as_ref().unwrap_or(&db.worker);
    let mut pause = Duration::from_millis(250);
    let mut told = false;
    while !stop.is_cancelled() {
        let listening = async {
            // Looked at again for each connection: what stands in between may be another by now.
            if session::is_shared(pool).await? {
                return Ok(true);
            }
            let mut listener = PgListener::connect_with(pool).await?;
            listener.eager_reconnect(false);
            listener.listen(channel).await?;
            // What came before the connection was there, the next look finds.
            wake.look();
            while let Some(note) = listener.try_recv().await? {
                if note.payload().is_empty() {
                    wake.look();
                } else {
                    _ = Note::read(note.payload()).map(&heard);
                }
            }
            Ok(false)
        };
        let Some(ended) = stop.run_until_cancelled(listening).await else { return };
        let ended: sqlx::Result<bool> = ended;
        match ended {
            Ok(true) if !told => {
                told = true;
                tracing::warn!(
                    setting = db.listen.as_ref().map_or("DATABASE_URL", |_| "POSTRIDER_LISTEN_URL"),
                    "a pooler shares sessions between connections: other processes are not heard, and their \
                     news is found by polling; POSTRIDER_LISTEN_URL names a direct connection for that"
                );
            }
            Ok(true) => {}
            Ok(false) => tracing::debug!("the connection that listens has ended; polling goes on"),
            Err(error) => tracing::debug!(%error, "cannot listen for other processes; polling goes on"),
        }
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}
