//! Pages of points, judged by the condition where the filter alone finds too much.

use agentflow_storage::{
    condition::Condition,
    vector::{Collection, Point},
};
use agentflow_types::{Error, Map, Result};
use qdrant_client::qdrant::{
    Filter, PayloadIncludeSelector, RetrievedPoint, ScrollPoints, WithPayloadSelector,
    WithVectorsSelector, with_payload_selector, with_vectors_selector,
};
use uuid::Uuid;

use crate::{
    compile::{Compiled, scoped},
    link::{Call, Link},
    payload,
};

/// Most points of one answer.
const PAGE: u32 = 500;
/// About how many bytes of dense vectors one answer may have.
const PAGE_BYTES: usize = 32 << 20;
/// Most points that are looked at one by one for a condition that no filter can express.
pub(crate) const MAX_LOOKED_AT: usize = 100_000;

/// What of a point is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything.
    Whole,
    /// All but the vectors.
    Payload,
    /// Tenant and version.
    Mark,
}

impl Part {
    pub(crate) fn payload(self) -> WithPayloadSelector {
        use with_payload_selector::SelectorOptions::{Enable, Include};
        let options = match self {
            Self::Whole | Self::Payload => Enable(true),
            Self::Mark => Include(PayloadIncludeSelector {
                fields: vec![payload::TENANT.to_owned(), payload::VERSION.to_owned()],
            }),
        };
        WithPayloadSelector {
            selector_options: Some(options),
        }
    }

    pub(crate) fn vectors(self) -> WithVectorsSelector {
        let all = self == Self::Whole;
        WithVectorsSelector {
            selector_options: Some(with_vectors_selector::SelectorOptions::Enable(all)),
        }
    }

    /// Most points of an answer about this collection.
    pub(crate) fn page(self, shape: &Collection) -> u32 {
        let numbers: usize = shape
            .dense
            .values()
            .map(|dimension| *dimension as usize)
            .sum();
        let most = PAGE_BYTES / (numbers * size_of::<f32>()).max(1);
        match self {
            Self::Whole => u32::try_from(most).unwrap_or(PAGE).clamp(1, PAGE),
            Self::Payload | Self::Mark => PAGE,
        }
    }
}

/// Points of a collection, a page after the other.
pub(crate) struct Scan<'a> {
    pub(crate) link: &'a Link,
    /// The collection's name on the server.
    pub(crate) name: &'a str,
    pub(crate) page: u32,
    pub(crate) part: Part,
    /// Which; all of all tenants if absent.
    pub(crate) filter: Option<Filter>,
    /// After the one of this id.
    pub(crate) after: Option<Uuid>,
}

impl Scan<'_> {
    /// The next points, at most so many; fewer than that are the last.
    pub(crate) async fn next(&mut self, most: u32) -> Result<Vec<RetrievedPoint>> {
        // The offset is the first of the page.
        let first = match self.after {
            None => None,
            Some(after) => match after.as_u128().checked_add(1) {
                Some(next) => Some(payload::id(Uuid::from_u128(next))),
                None => return Ok(vec![]),
            },
        };
        let request = ScrollPoints {
            collection_name: self.name.to_owned(),
            filter: self.filter.clone(),
            offset: first,
            limit: Some(most.min(self.page)),
            with_payload: Some(self.part.payload()),
            with_vectors: Some(self.part.vectors()),
            ..ScrollPoints::default()
        };
        let sent = |mut stubs: crate::link::Stubs, request| async move {
            stubs.points.scroll(request).await
        };
        let answer = self.link.attempt(Call::Read, request, sent).await;
        let found =
            answer.map_err(|status| crate::index::refused(status, self.name, Call::Read))?;
        if let Some(last) = found.result.last() {
            self.after = Some(payload::uuid(last.id.clone())?);
        }
        Ok(found.result)
    }

    /// All points up to a number.
    pub(crate) async fn all(&mut self, limit: u32) -> Result<Vec<RetrievedPoint>> {
        let mut found = Vec::new();
        while found.len() < limit as usize {
            let left = limit - found.len() as u32;
            let page = self.next(left).await?;
            let is_last = page.len() < left.min(self.page) as usize;
            found.extend(page);
            if is_last {
                break;
            }
        }
        Ok(found)
    }
}

/// A condition over the points of one tenant.
pub(crate) struct Judge<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) condition: Option<&'a Condition>,
    pub(crate) compiled: Compiled,
}

impl Judge<'_> {
    /// Whether the filter says all that the condition does.
    pub(crate) fn is_exact(&self) -> bool {
        self.compiled.under.is_none()
    }

    /// The filter that finds all that meet the condition; `None` if nothing can.
    pub(crate) fn filter(&self) -> Option<Filter> {
        scoped(self.tenant, self.compiled.over.clone())
    }

    /// Whether a payload meets the condition.
    pub(crate) fn holds(&self, payload: &Map) -> bool {
        self.is_exact() || self.condition.is_none_or(|one| one.holds(payload))
    }

    /// Points that meet the condition, up to a number.
    ///
    /// # Errors
    /// `Invalid` if too many had to be looked at for it.
    pub(crate) async fn points(&self, scan: &mut Scan<'_>, limit: usize) -> Result<Vec<Point>> {
        let mut kept = Vec::new();
        let mut looked_at = 0;
        loop {
            let wanted = match self.is_exact() {
                true => (limit - kept.len()).min(scan.page as usize) as u32,
                false => scan.page,
            };
            let page = scan.next(wanted).await?;
            let is_last = page.len() < wanted as usize;
            looked_at += page.len();
            for found in page {
                let point = payload::point(self.tenant, found)?;
                if self.holds(&point.payload) {
                    kept.push(point);
                }
            }
            if kept.len() >= limit {
                kept.truncate(limit);
                return Ok(kept);
            }
            if is_last {
                return Ok(kept);
            }
            if !self.is_exact() && looked_at >= MAX_LOOKED_AT {
                return Err(too_much(looked_at));
            }
        }
    }
}

/// The answer to a condition for which too many points would have to be looked at.
pub(crate) fn too_much(looked_at: usize) -> Error {
    Error::invalid(
        "Qdrant cannot evaluate this filter, and too many points would have to be looked at for \
         it; narrow it down by equality or by the range of a number or moment",
    )
    .with("looked_at", looked_at)
}
