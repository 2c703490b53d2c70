//! Smooth weighted round robin, as nginx does it: everybody gains its weight, the richest is chosen and pays the sum.
//!
//! With 70 to 30 that is A B A A B A A B A A, not seventy A and then thirty B. What each has gained is kept by name over
//! a reload, so that a reload does not begin the turn anew.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::channels::UpstreamFacts;
use crate::engine::{ChannelId, ChannelSet};

/// What each channel has gained.
#[derive(Default)]
pub(super) struct Balance {
    gained: Mutex<Vec<(Arc<str>, i64)>>,
}

impl Balance {
    /// Where each channel of the upstream stands in this balance.
    pub(super) fn places(&self, upstream: &UpstreamFacts) -> Box<[usize]> {
        let mut gained = self.gained.lock();
        let mut place = |name: &Arc<str>| {
            gained.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                gained.push((name.clone(), 0));
                gained.len() - 1
            })
        };
        upstream.channels.iter().map(|channel| place(&channel.name)).collect()
    }

    /// Whose turn it is among `among`; `None` when that is empty.
    pub(super) fn next(&self, among: ChannelSet, upstream: &UpstreamFacts, places: &[usize]) -> Option<ChannelId> {
        let mut gained = self.gained.lock();
        let mut best: Option<(i64, ChannelId, usize)> = None;
        let mut sum = 0;
        for id in among.iter() {
            let at = usize::from(id.0);
            let (Some(channel), Some(&place)) = (upstream.channels.get(at), places.get(at)) else { continue };
            let Some((_, own)) = gained.get_mut(place) else { continue };
            *own += i64::from(channel.weight);
            sum += i64::from(channel.weight);
            if best.is_none_or(|(most, ..)| *own > most) {
                best = Some((*own, id, place));
            }
        }
        let (_, id, place) = best?;
        gained[place].1 -= sum;
        Some(id)
    }
}
