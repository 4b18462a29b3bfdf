//! A statement with its typed values.
//!
//! Types are named by us, not asked of the server: a statement is then one round trip, and holds
//! nothing on the connection that a pooler would mix up.

use std::{borrow::Cow, error::Error as StdError, sync::Arc};

use bytes::BytesMut;
use tokio_postgres::{
    Row,
    types::{IsNull, ToSql, Type, accepts, to_sql_checked},
};
use uuid::Uuid;

use crate::column::Moment;

/// What a value of a statement may be.
pub(crate) trait Scalar: ToSql + Send + Sync + std::fmt::Debug + 'static {
    /// Its type.
    const TYPE: Type;
    /// The type of a list of it.
    const LIST: Type;
}

macro_rules! scalars {
    ($($rust:ty => $one:ident, $many:ident;)*) => {$(
        impl Scalar for $rust {
            const TYPE: Type = Type::$one;
            const LIST: Type = Type::$many;
        }

        impl Bound for $rust {
            const TYPE: Type = Type::$one;
        }
    )*};
}

/// Bytes.
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl ToSql for Blob {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(BYTEA);
    to_sql_checked!();
}

scalars! {
    Blob => BYTEA, BYTEA_ARRAY;
    bool => BOOL, BOOL_ARRAY;
    i64 => INT8, INT8_ARRAY;
    f64 => FLOAT8, FLOAT8_ARRAY;
    String => TEXT, TEXT_ARRAY;
    Uuid => UUID, UUID_ARRAY;
    Moment => TIMESTAMPTZ, TIMESTAMPTZ_ARRAY;
}

/// A scalar, one that may be absent, or a list.
pub(crate) trait Bound: ToSql + Send + Sync + std::fmt::Debug + 'static {
    /// Its type.
    const TYPE: Type;
}

impl<T: Scalar> Bound for Option<T> {
    const TYPE: Type = T::TYPE;
}

impl<T: Scalar> Bound for Vec<T> {
    const TYPE: Type = T::LIST;
}

/// SQL and the values of `$1`, `$2`, …
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    sql: Cow<'static, str>,
    values: Vec<(Arc<dyn ToSql + Send + Sync>, Type)>,
}

impl Statement {
    /// A statement whose values follow by [`Self::bind`].
    pub(crate) fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self {
            sql: sql.into(),
            values: Vec::new(),
        }
    }

    /// Adds the next value.
    #[must_use]
    pub(crate) fn bind<T: Bound>(mut self, value: T) -> Self {
        self.values.push((Arc::new(value), T::TYPE));
        self
    }

    /// Adds a value and the SQL around its number.
    #[must_use]
    pub(crate) fn and<T: Bound>(mut self, before: &str, value: T, after: &str) -> Self {
        self = self.bind(value);
        let number = self.values.len();
        self.text(&format!("{before}${number}{after}"))
    }

    /// Adds SQL.
    #[must_use]
    pub(crate) fn text(mut self, sql: &str) -> Self {
        self.sql.to_mut().push_str(sql);
        self
    }

    /// The same values under other SQL around this one.
    #[must_use]
    pub(crate) fn within(&self, before: &str, after: &str) -> Self {
        Self {
            sql: format!("{before}{}{after}", self.sql).into(),
            values: self.values.clone(),
        }
    }

    /// The SQL.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// The values with their types, as the driver takes them.
    pub(crate) fn values(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.values
            .iter()
            .map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone()))
            .collect()
    }
}

/// What a statement returned.
#[derive(Debug)]
pub(crate) struct Done {
    /// Rows.
    pub(crate) rows: Vec<Row>,
    /// Rows that it returned or changed.
    pub(crate) count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_as_they_come() {
        let found = Statement::new("SELECT 1 WHERE a = $1")
            .bind(1_i64)
            .and(" AND b @> ", "{}".to_owned(), "::jsonb")
            .and(" AND c = ANY(", vec![true], ")");
        assert_eq!(
            found.sql(),
            "SELECT 1 WHERE a = $1 AND b @> $2::jsonb AND c = ANY($3)"
        );
        let types: Vec<Type> = found.values().into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(types, [Type::INT8, Type::TEXT, Type::BOOL_ARRAY]);
        assert_eq!(found.within("(", ")").values().len(), 3);
    }
}
