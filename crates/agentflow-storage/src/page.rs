//! Paging of searches.

/// Most rows one page may hold.
pub const MAX_LIMIT: u32 = 1000;

/// Which part of a sorted result is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// Most rows, 1 to [`MAX_LIMIT`].
    pub limit: u32,
    /// Rows to skip.
    pub offset: u64,
    /// Column to sort by; the port documents which exist. Ties are broken by id, in the same
    /// direction. What is absent is smallest; text compares by its bytes.
    pub sort_by: String,
    /// Direction.
    pub order: Order,
}

/// Direction of a sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Smallest first.
    Ascending,
    /// Largest first.
    #[default]
    Descending,
}

impl Default for PageQuery {
    fn default() -> Self {
        Self {
            limit: 10,
            offset: 0,
            sort_by: "created_at".into(),
            order: Order::Descending,
        }
    }
}

/// One page, and how many rows match in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows, sorted.
    pub items: Vec<T>,
    /// Rows that match, regardless of paging.
    pub total: u64,
}

impl<T> Page<T> {
    /// Offset of the next page, if there is one.
    #[must_use]
    pub fn next_offset(&self, query: &PageQuery) -> Option<u64> {
        let end = query.offset + self.items.len() as u64;
        (end < self.total && !self.items.is_empty()).then_some(end)
    }
}
