//! Events of a watch whose objects somebody has to convert: they wait for that, in their order.

use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_store::{Event, Stored};
use futures::FutureExt as _;

use super::{Feed, INITIAL_CHUNK_OBJECTS, Turn, seen};
use crate::call::Filter;
use crate::context::Hub;
use crate::piece::PIECE_BYTES;

impl Feed {
    /// These come next, once they are in the version that is watched; whether somebody has to make that of them.
    pub(super) fn take(&mut self, events: Vec<Event>) -> bool {
        let kind = &self.encoder.view.served;
        if kind.converter().is_none() || events.is_empty() {
            self.events = events.into_iter();
            return false;
        }
        let (hub, kind, filter) = (self.hub.clone(), kind.clone(), self.filter.clone());
        self.converting = Some(converted(hub, kind, filter, events).boxed());
        true
    }

    /// What has become of those that are on their way, where there are such.
    pub(super) fn poll_converted(&mut self, cx: &mut Context<'_>) -> Option<Poll<Turn>> {
        let converting = self.converting.as_mut()?;
        let Poll::Ready(converted) = converting.poll_unpin(cx) else { return Some(Poll::Pending) };
        self.converting = None;
        Some(Poll::Ready(match converted {
            Ok(events) => {
                self.events = events.into_iter();
                Turn::Events
            }
            Err(why) => Turn::Broken(why),
        }))
    }

    /// Of those that are there at the beginning, the next that have to be converted.
    pub(super) fn convert_initial(&mut self) {
        if self.initial.is_none() {
            return;
        }
        let waits = self.encoder.view.served.converter().is_some()
            && self.converting.is_none()
            && self.events.as_slice().is_empty();
        let Some(initial) = self.initial.as_mut().filter(|_| waits) else { return };
        let (mut events, mut bytes, mut last) = (Vec::new(), 0, None);
        let page = initial.snapshot.range(&self.scope, initial.after.as_ref());
        for stored in page.take(INITIAL_CHUNK_OBJECTS) {
            last = Some(stored.key.clone());
            if self.filter.matches(&stored) {
                bytes += stored.object.body.len();
                let revision = stored.revision;
                events.push(Event { revision, now: Some(stored), before: None });
            }
            if PIECE_BYTES <= bytes {
                break;
            }
        }
        // At its end there is a mark to be sent, which needs nobody.
        let Some(last) = last else { return };
        initial.after = Some(last);
        if events.is_empty() {
            // Nothing of this page is watched, and others have their turn before the next.
            self.converting = Some(ready(Ok(events)).boxed());
        } else {
            self.take(events);
        }
    }
}

/// Those of these events that a watcher sees, in the version that it watches.
async fn converted(
    hub: Arc<Hub>,
    kind: Arc<Kind>,
    filter: Filter,
    mut events: Vec<Event>,
) -> Result<Vec<Event>, ApiError> {
    events.retain(|event| seen(event, &filter).is_some());
    let shown = |event: &Event| {
        let now = event.now.clone().filter(|stored| filter.matches(stored));
        now.or_else(|| event.before.clone())
    };
    let shown: Vec<Arc<Stored>> = events.iter().filter_map(shown).collect();
    let converted = hub.converted.for_watcher(&kind, shown).await?;
    for (event, stored) in events.iter_mut().zip(converted) {
        let slot = match &event.now {
            Some(now) if filter.matches(now) => &mut event.now,
            _ => &mut event.before,
        };
        *slot = Some(stored);
    }
    Ok(events)
}
