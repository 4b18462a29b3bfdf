//! Upserts in batches that the server takes well.

use std::collections::BTreeMap;

use agentflow_storage::vector::Point;
use qdrant_client::qdrant::{
    PointsUpdateOperation, UpdateBatchPoints,
    points_update_operation::{Operation, PointStructList},
};
use uuid::Uuid;

use crate::{compile, payload};

/// Most points of one request.
const MAX_BATCH: usize = 256;
/// About how many bytes of vectors one request may have.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// Of points with one id, the last of the highest version: what would be left of them.
pub(crate) fn once(points: Vec<Point>) -> Vec<Point> {
    let mut kept: BTreeMap<Uuid, Point> = BTreeMap::new();
    for point in points {
        let stored = kept.get(&point.id);
        if stored.is_none_or(|stored| stored.version <= point.version) {
            kept.insert(point.id, point);
        }
    }
    kept.into_values().collect()
}

/// Points in pieces, each of one request.
pub(crate) fn pieces(points: &[Point]) -> Vec<&[Point]> {
    let mut pieces = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, point) in points.iter().enumerate() {
        let size = size(point);
        if at > start && (at - start == MAX_BATCH || bytes + size > MAX_BATCH_BYTES) {
            pieces.push(&points[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += size;
    }
    if start < points.len() {
        pieces.push(&points[start..]);
    }
    pieces
}

fn size(point: &Point) -> usize {
    let dense = point.dense.values().map(|vector| vector.len() * 4);
    let sparse = point.sparse.values().map(|words| words.indices.len() * 8);
    dense.chain(sparse).sum()
}

/// The request that stores points, each unless there is a newer one.
///
/// A filter holds for all points of an operation, so each version has an operation of its own.
pub(crate) fn request(name: &str, tenant: &str, points: &[Point]) -> UpdateBatchPoints {
    let mut versions: BTreeMap<u64, PointStructList> = BTreeMap::new();
    for point in points {
        let list = versions
            .entry(point.version)
            .or_insert_with(|| PointStructList {
                update_filter: Some(compile::not_newer(tenant, point.version)),
                ..PointStructList::default()
            });
        list.points.push(payload::sent(tenant, point));
    }
    let operations = versions.into_values().map(|list| PointsUpdateOperation {
        operation: Some(Operation::Upsert(list)),
    });
    UpdateBatchPoints {
        collection_name: name.to_owned(),
        wait: Some(true),
        operations: operations.collect(),
        ..UpdateBatchPoints::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(n: u128, version: u64, numbers: usize) -> Point {
        Point {
            id: Uuid::from_u128(n),
            version,
            dense: [("d".to_owned(), vec![0.5; numbers])].into(),
            ..Point::default()
        }
    }

    #[test]
    fn what_would_be_left_is_sent() {
        let left = once(vec![
            point(2, 3, 1),
            point(1, 1, 1),
            point(2, 2, 2),
            point(1, 1, 3),
        ]);
        let left: Vec<_> = left
            .iter()
            .map(|p| (p.version, p.dense["d"].len()))
            .collect();
        assert_eq!(left, [(1, 3), (3, 1)]);
    }

    #[test]
    fn pieces_are_bounded_by_number_and_size() {
        let lengths = |points: &[Point]| -> Vec<usize> {
            pieces(points).iter().map(|piece| piece.len()).collect()
        };
        let many: Vec<Point> = (0..600).map(|n| point(n, 1, 3)).collect();
        assert_eq!(lengths(&many), [256, 256, 88]);
        let large: Vec<Point> = (0..3).map(|n| point(n, 1, 1_500_000)).collect();
        assert_eq!(lengths(&large), [1, 1, 1]);
        assert!(pieces(&[]).is_empty());
    }

    #[test]
    fn each_version_has_its_own_operation() {
        let points = [point(1, 7, 1), point(2, 9, 1), point(3, 7, 1)];
        let request = request("c", "t", &points);
        assert_eq!(request.operations.len(), 2);
    }
}
