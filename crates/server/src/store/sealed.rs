//! Every sealed value, to be sealed with another key.

use anyhow::Context as _;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::{Store, StoreError};
use crate::seal::Broken;

/// A column of sealed values.
struct Sealed {
    table: &'static str,
    column: &'static str,
    /// What values are sealed to: this, and what names their row.
    place: &'static str,
    /// The columns that name a row.
    key: &'static [&'static str],
}

const fn sealed(
    table: &'static str,
    column: &'static str,
    place: &'static str,
    key: &'static [&'static str],
) -> Sealed {
    Sealed { table, column, place, key }
}

const SEALED: [Sealed; 9] = [
    sealed("images", "credential", "images.credential", &["id"]),
    sealed("vms", "env", "vms.env", &["id"]),
    sealed("builds", "secrets", "builds.secrets", &["id"]),
    sealed("builds", "token", "builds.token", &["id"]),
    sealed("registries", "password", "registries.password", &["account_id", "host"]),
    sealed("webhooks", "secret", "webhooks.secret", &["id"]),
    sealed("webhooks", "old_secret", "webhooks.secret", &["id"]),
    sealed("keyed_requests", "request", "keyed_requests.request", &["account_id", "key", "tenant"]),
    sealed("keyed_requests", "answer", "keyed_requests.answer", &["account_id", "key", "tenant"]),
];

impl Store {
    /// Seals every value anew, all or none; answers how many. `reseal` is given what a value is sealed to, and the value.
    pub(crate) async fn reseal(
        &self,
        reseal: impl Fn(&str, &[u8]) -> Result<Vec<u8>, Broken> + Send + Sync,
    ) -> anyhow::Result<u64> {
        let mut transaction = self.begin().await?;
        let mut count = 0;
        for Sealed { table, column, place, key } in SEALED {
            let mut all: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT ");
            all.push(column).push(", ").push(key.join(", ")).push(" FROM ").push(table);
            all.push(" WHERE length(").push(column).push(") > 0");
            let rows = all.build().fetch_all(&mut *transaction).await.map_err(StoreError::from)?;
            for row in rows {
                let value: Vec<u8> = row.try_get(0).map_err(StoreError::from)?;
                let names = (1..=key.len()).map(|at| row.try_get::<String, _>(at));
                let names = names.collect::<Result<Vec<_>, _>>().map_err(StoreError::from)?;
                let place = format!("{place}/{}", names.join("/"));
                let value = reseal(&place, &value).with_context(|| format!("{place} can't be sealed anew"))?;
                let mut update: QueryBuilder<Sqlite> = QueryBuilder::new("UPDATE ");
                update.push(table).push(" SET ").push(column).push(" = ").push_bind(value);
                for (at, (name, text)) in key.iter().zip(names).enumerate() {
                    update.push(if at == 0 { " WHERE " } else { " AND " }).push(*name).push(" = ").push_bind(text);
                }
                update.build().execute(&mut *transaction).await.map_err(StoreError::from)?;
                count += 1;
            }
        }
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_column_of_bytes_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let columns: Vec<(String, String)> = sqlx::query_as(
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND \
             c.type = 'BLOB' AND m.name <> '_sqlx_migrations'",
        )
        .fetch_all(&store.readers)
        .await
        .unwrap();
        let mut columns: Vec<_> = columns.iter().map(|(table, column)| (table.as_str(), column.as_str())).collect();
        let mut known: Vec<_> = SEALED.iter().map(|sealed| (sealed.table, sealed.column)).collect();
        columns.sort_unstable();
        known.sort_unstable();
        assert_eq!(columns, known);
    }
}
