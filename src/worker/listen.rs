//! Hears what other processes of the instance tell (`abroad.rs`).

use super::abroad::{Note, channel};
use super::wake::Wake;
use crate::db::{Database, session};
use sqlx::postgres::{PgListener, PgNotification};
use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long after a bell the database is looked at again. What SQL enqueues shortly after another's bell, or while
/// another is about to ring it, rings none (`ring()` in the migrations), and is there when its transaction has committed:
/// most are soon, and on a slow disk a little later.
const AGAIN: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

/// The pause before the next connection, when one has ended: it doubles while none lasts.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// Hears the other processes, where a session is ours alone. Behind a transaction-mode pooler nothing is heard,
/// and polling does it all.
pub(super) async fn listen(wake: &Wake, db: &Database, heard: impl Fn(Note), stop: &CancellationToken) {
    let pool = db.listen.as_ref().unwrap_or(&db.worker);
    let mut pause = SHORTEST;
    let mut told = false;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let listening = async {
            // Looked at again for each connection: what stands in between may be another by now.
            if session::is_shared(pool).await? {
                return Ok(true);
            }
            let mut listener = PgListener::connect_with(pool).await?;
            listener.eager_reconnect(false);
            listener.listen(&channel(pool).await?).await?;
            // What came before the connection was there, the next look finds.
            wake.look();
            let mut again = VecDeque::new();
            while let Some(note) = next(&mut listener, &mut again, wake).await? {
                let Some(note) = Note::read(note.payload()) else { continue };
                if matches!(note, Note::Look | Note::Ready(..)) {
                    again = AGAIN.map(|after| Instant::now() + after).into();
                }
                heard(note);
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
        // Who has heard for longer than this pause begins anew, however often that is.
        if began.elapsed() > pause {
            pause = SHORTEST;
        }
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        pause = (pause * 2).min(LONGEST);
    }
}

/// The next notification. On the way, when it is time to look `again`, asks for those looks.
async fn next(
    listener: &mut PgListener,
    again: &mut VecDeque<Instant>,
    wake: &Wake,
) -> sqlx::Result<Option<PgNotification>> {
    let mut heard = pin!(listener.try_recv());
    while let Some(at) = again.front() {
        if let Ok(note) = tokio::time::timeout_at(*at, heard.as_mut()).await {
            return note;
        }
        again.pop_front();
        wake.look();
    }
    heard.await
}
