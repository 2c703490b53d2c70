//! Batches of keys as a seller handles them: what is in them, taking keys off sale and putting them back, moving them to
//! another product; the rows, inside one operation of the writer.
//!
//! Only keys that belong to nobody change here: the rows of reserved and sold keys are never touched.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::allocator::{FreeList, Taken};
use super::catalogue::{self, Shelf};
use super::refusal::Refusal;
use super::rows::{State, Stored};

/// A batch and what became of its keys.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Batch {
    pub(super) id: i64,
    pub(super) sku: String,
    pub(super) name: String,
    /// `import`, `generate`, `move` or `by_hand`.
    pub(super) source: String,
    pub(super) created_ms: i64,
    /// Keys that were ever put in.
    pub(super) made: i64,
    /// Keys in it by state.
    #[serde(flatten)]
    pub(super) counts: Counts,
}

/// Keys by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) free: i64,
    pub(super) reserved: i64,
    pub(super) sold: i64,
    pub(super) shared: i64,
    pub(super) paused: i64,
    pub(super) recycled: i64,
}

impl Counts {
    /// Counts keys in one state.
    pub(super) fn add(&mut self, state: State, n: i64) {
        let place = match state {
            State::Free => &mut self.free,
            State::Reserved => &mut self.reserved,
            State::Sold => &mut self.sold,
            State::Shared => &mut self.shared,
            State::Paused => &mut self.paused,
            State::Recycled => &mut self.recycled,
        };
        *place += n;
    }

    /// All of them.
    pub(super) fn total(&self) -> i64 {
        self.free + self.reserved + self.sold + self.shared + self.paused + self.recycled
    }
}

/// Which batches are listed; what is absent does not matter.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Filter {
    pub(super) sku: Option<String>,
    /// A part of the name.
    pub(super) name: Option<String>,
    pub(super) source: Option<String>,
    /// Only those with keys in this state.
    pub(super) state: Option<State>,
    /// The list goes on behind this id.
    pub(super) after: Option<i64>,
    pub(super) limit: Option<u32>,
}

/// Batches, oldest first.
pub(super) fn list(connection: &Connection, filter: &Filter, limit: u32) -> rusqlite::Result<Vec<Batch>> {
    let mut rows = connection.prepare_cached(
        "SELECT id, sku, name, source, created_ms, made FROM batches b
         WHERE id > ?1 AND (?2 IS NULL OR sku = ?2) AND (?3 IS NULL OR instr(name, ?3) > 0)
         AND (?4 IS NULL OR source = ?4)
         AND (?5 IS NULL OR EXISTS (SELECT 1 FROM counts WHERE batch_id = b.id AND state = ?5 AND n > 0))
         ORDER BY id LIMIT ?6",
    )?;
    let values = params![filter.after.unwrap_or(0), filter.sku, filter.name, filter.source, filter.state, limit];
    let batches = rows.query_map(values, batch)?;
    batches.map(|batch| counted(connection, batch?)).collect()
}

/// One batch.
pub(super) fn get(connection: &Connection, id: i64) -> Result<Batch, Refusal> {
    let found = connection
        .prepare_cached("SELECT id, sku, name, source, created_ms, made FROM batches WHERE id = ?1")?
        .query_row([id], batch)
        .optional()?;
    Ok(counted(connection, found.ok_or(Refusal::UnknownBatch)?)?)
}

fn batch(row: &rusqlite::Row<'_>) -> rusqlite::Result<Batch> {
    Ok(Batch {
        id: row.get(0)?,
        sku: row.get(1)?,
        name: row.get(2)?,
        source: row.get(3)?,
        created_ms: row.get(4)?,
        made: row.get(5)?,
        counts: Counts::default(),
    })
}

fn counted(connection: &Connection, mut batch: Batch) -> rusqlite::Result<Batch> {
    let mut rows = connection.prepare_cached("SELECT state, n FROM counts WHERE batch_id = ?1")?;
    let mut rows = rows.query([batch.id])?;
    while let Some(row) = rows.next()? {
        batch.counts.add(row.get(0)?, row.get(1)?);
    }
    Ok(batch)
}

/// A key without its secret.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    id: i64,
    state: State,
    order_no: Option<String>,
    preview: Option<String>,
}

/// Keys of a batch behind id `after`; `state` absent means all.
pub(super) fn keys(
    connection: &Connection,
    batch: i64,
    state: Option<State>,
    after: i64,
    limit: u32,
) -> rusqlite::Result<Vec<Listed>> {
    connection
        .prepare_cached(
            "SELECT id, state, order_no, preview FROM keys WHERE batch_id = ?1 AND id > ?2
             AND (?3 IS NULL OR state = ?3) ORDER BY id LIMIT ?4",
        )?
        .query_map(params![batch, after, state, limit], |row| {
            Ok(Listed { id: row.get(0)?, state: row.get(1)?, order_no: row.get(2)?, preview: row.get(3)? })
        })?
        .collect()
}

/// Stored keys of a batch that belong to nobody and are in one of two states, behind id `after`.
pub(super) fn unsold(
    connection: &Connection,
    batch: i64,
    states: [State; 2],
    after: i64,
    limit: u32,
) -> rusqlite::Result<Vec<(i64, Stored)>> {
    connection
        .prepare_cached(
            "SELECT id, sku, fp, sealed FROM keys WHERE batch_id = ?1 AND id > ?2 AND state IN (?3, ?4)
             AND order_no IS NULL ORDER BY id LIMIT ?5",
        )?
        .query_map(params![batch, after, states[0], states[1], limit], |row| {
            Ok((row.get(0)?, Stored { sku: row.get(1)?, fp: row.get(2)?, sealed: row.get(3)? }))
        })?
        .collect()
}

/// What a seller does with the keys of a batch that belong to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shift {
    /// Off sale for a while.
    Pause,
    /// On sale again.
    Resume,
    /// Into the bin.
    Recycle,
    /// Out of the bin, on sale.
    Restore,
}

impl Shift {
    /// What the word stands for.
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "pause" => Some(Self::Pause),
            "resume" => Some(Self::Resume),
            "recycle" => Some(Self::Recycle),
            "restore" => Some(Self::Restore),
            _ => None,
        }
    }

    /// The states it takes keys from, and the one they get, when `on_sale` is the state of keys on sale.
    fn states(self, on_sale: State) -> ([State; 2], State) {
        match self {
            Self::Pause => ([on_sale, on_sale], State::Paused),
            Self::Resume => ([State::Paused, State::Paused], on_sale),
            Self::Recycle => ([on_sale, State::Paused], State::Recycled),
            Self::Restore => ([State::Recycled, State::Recycled], on_sale),
        }
    }
}

/// What one chunk of a change did.
#[derive(Debug, Default)]
pub(super) struct Shifted {
    /// Keys that were changed.
    pub(super) ids: Vec<i64>,
    /// Those of them that are on sale now.
    pub(super) on_sale: Vec<i64>,
    /// Keys that left the list of those on sale.
    pub(super) taken: Option<Taken>,
    /// The last id looked at; absent: there was none left.
    pub(super) last: Option<i64>,
    /// Keys that are on sale but not on the list yet: their commit is a moment old. They are left for another pass.
    pub(super) busy: usize,
}

/// Changes the states of at most `limit` keys of a batch behind id `after`.
pub(super) fn shift(
    connection: &Connection,
    list: &Arc<FreeList>,
    batch: i64,
    (shift, on_sale): (Shift, State),
    after: i64,
    limit: u32,
) -> Result<Shifted, Refusal> {
    let (from, to) = shift.states(on_sale);
    let found: Vec<(i64, State)> = connection
        .prepare_cached(
            "SELECT id, state FROM keys WHERE batch_id = ?1 AND id > ?2 AND state IN (?3, ?4) ORDER BY id LIMIT ?5",
        )?
        .query_map(params![batch, after, from[0], from[1], limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut taken = Taken::from(list);
    let mut done = Shifted { last: found.last().map(|(id, _)| *id), ..Shifted::default() };
    let mut change = connection.prepare_cached("UPDATE keys SET state = ?2 WHERE id = ?1")?;
    for (id, state) in found {
        if state == on_sale && !list.take_this(&mut taken, id) {
            done.busy += 1;
            continue;
        }
        change.execute(params![id, to])?;
        done.ids.push(id);
    }
    if to == on_sale {
        done.on_sale.clone_from(&done.ids);
    }
    done.taken = Some(taken);
    Ok(done)
}

/// A key sealed anew for another product.
#[derive(Debug)]
pub(super) struct Resealed {
    pub(super) id: i64,
    pub(super) sealed: Vec<u8>,
}

/// Moves keys that are on sale from the product of `list` to `shelf`.
pub(super) fn relocate(
    connection: &Connection,
    list: &Arc<FreeList>,
    from: &str,
    shelf: &Shelf,
    keys: &[Resealed],
    now_ms: i64,
) -> Result<Shifted, Refusal> {
    let batch = catalogue::batch(connection, shelf, now_ms)?;
    let mut taken = Taken::from(list);
    let mut done = Shifted { last: keys.last().map(|key| key.id), ..Shifted::default() };
    let mut change = connection.prepare_cached(
        "UPDATE keys SET sku = ?2, batch_id = ?3, sealed = ?4 WHERE id = ?1 AND sku = ?5 AND state = ?6",
    )?;
    for Resealed { id, sealed } in keys {
        // Not on the list: sold meanwhile, or its commit is a moment old.
        if !list.take_this(&mut taken, *id) {
            done.busy += 1;
        } else if change.execute(params![id, shelf.sku, batch, sealed, from, shelf.state])? == 1 {
            done.ids.push(*id);
        } else {
            taken.discard_last();
        }
    }
    catalogue::count_made(connection, batch, done.ids.len())?;
    done.on_sale.clone_from(&done.ids);
    done.taken = Some(taken);
    Ok(done)
}
