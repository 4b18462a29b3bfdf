//! Cases of [`crate::vector::Vectors`].

mod collections;
mod pages;
mod points;
mod searches;

use std::{collections::BTreeMap, sync::Arc};

pub use collections::*;
pub use pages::*;
pub use points::*;
pub use searches::*;

use agentflow_types::{
    ErrorKind::{Conflict, Invalid, NotFound},
    Map, Result, Scope, Value, value,
};
use uuid::Uuid;

use super::{refused, sample::stranger, suite};
use crate::{
    condition::{Case, Condition, Field, MAX_DEPTH, Order},
    vector::{
        Collection, Hit, Kind, MAX_POINTS, MAX_VERSION, Point, Probe, Search, Sparse, Vectors,
        rarity,
    },
};

suite! {
    ($)
    /// Instantiates the cases of the vectors port.
    vector_conformance:
    a_collection_is_made_once,
    a_collection_with_other_vectors_is_refused,
    a_field_of_another_kind_is_refused,
    names_and_dimensions_are_checked,
    a_dropped_collection_is_gone,
    without_a_collection_nothing_is_found,
    a_point_is_read_back,
    a_point_that_has_no_place_is_refused_and_none_is_stored,
    a_moment_in_another_form_is_refused,
    odd_payloads_are_read_back,
    an_older_version_is_passed_over,
    the_same_version_replaces,
    points_go_by_id,
    points_go_by_condition,
    the_nearest_come_first,
    length_does_not_count,
    equal_scores_come_by_id,
    a_threshold_and_a_limit_cut,
    rare_words_count_more,
    a_removed_point_is_not_found_by_its_words,
    points_without_the_vector_are_not_found,
    searches_are_answered_in_their_order,
    whatever_meets_a_condition_comes_by_id,
    payloads_come_if_they_are_asked_for,
    a_search_obeys_its_condition,
    few_matches_among_many_are_found,
    conditions_are_evaluated_alike,
    moments_and_days_compare_as_text,
    many_conditions_are_evaluated_alike,
    the_deepest_condition_is_evaluated,
    texts_keep_their_characters,
    pages_follow_each_other,
    a_page_is_stable_while_points_come,
    points_are_counted,
    values_are_counted,
    values_of_an_indexed_field_are_of_its_kind,
    tenants_never_meet,
    an_id_of_another_tenant_is_refused,
    all_points_can_be_compared,
    bad_searches_are_refused,
    too_much_is_refused,
    writers_side_by_side_lose_nothing,
}

type Index = Arc<dyn Vectors>;

const NAME: &str = "notes";
/// Numbers of a dense vector.
const DIMENSION: usize = 4;

fn shape() -> Collection {
    Collection {
        name: NAME.into(),
        dense: BTreeMap::from([("text".into(), DIMENSION as u32)]),
        sparse: ["words".into()].into(),
        indexed: [
            (Field::of("user"), Kind::Text),
            (Field::of("n"), Kind::Number),
            (Field::of("made_at"), Kind::Moment),
            (Field::of("until"), Kind::Moment),
        ]
        .into(),
    }
}

fn id(n: u32) -> Uuid {
    Uuid::from_u128(u128::from(n) + (7 << 64))
}

fn numbers(ids: impl IntoIterator<Item = Uuid>) -> Vec<u32> {
    ids.into_iter().map(|id| id.as_u128() as u32).collect()
}

fn found(hits: &[Hit]) -> Vec<u32> {
    numbers(hits.iter().map(|hit| hit.id))
}

fn payload(value: &Value) -> Map {
    value.as_map().cloned().unwrap_or_default()
}

/// A point at an angle of `n` degrees.
fn point(n: u32, shown: &Value) -> Point {
    let angle = (n as f32).to_radians();
    Point {
        id: id(n),
        version: 1,
        dense: BTreeMap::from([("text".into(), vec![angle.cos(), angle.sin(), 0.0, 0.0])]),
        sparse: BTreeMap::new(),
        payload: payload(shown),
    }
}

/// A point with words.
fn worded(n: u32, words: &[(u32, f32)]) -> Point {
    Point {
        id: id(n),
        version: 1,
        sparse: BTreeMap::from([("words".into(), Sparse::of(words.iter().copied()))]),
        ..Point::default()
    }
}

async fn filled(index: &Index, points: Vec<Point>) -> Result<()> {
    index.ensure(&shape()).await?;
    index.upsert(&Scope::local(), NAME, points).await
}

fn near(condition: Option<Condition>) -> Search {
    Search {
        probe: Probe::Dense("text".into(), vec![1.0, 0.0, 0.0, 0.0]),
        condition,
        limit: 100,
        threshold: None,
        payload: true,
    }
}

fn words(words: &[(u32, f32)]) -> Search {
    Search {
        probe: Probe::Sparse("words".into(), Sparse::of(words.iter().copied())),
        ..near(None)
    }
}

async fn search(index: &Index, search: Search) -> Result<Vec<Hit>> {
    let mut hits = index.search(&Scope::local(), NAME, &[search]).await?;
    assert_eq!(hits.len(), 1);
    Ok(hits.remove(0))
}

#[track_caller]
fn close(found: f32, wanted: f32) {
    assert!((found - wanted).abs() < 1e-4, "{found} is not {wanted}");
}

fn user(name: &str) -> Condition {
    Condition::Equals(Field::of("user"), name.into())
}
