//! x
use crate::connect::Opener; use agentflow_types::Result;
pub(crate) async fn apply(o: &Opener) -> Result<()> { let c = o.client().await?;
 let e = c.query_typed("select 1 from pg_namespace where nspname='agentflow'", &[]).await.map_err(crate::error::from)?;
 if e.is_empty() { c.batch_execute("create schema agentflow").await.map_err(crate::error::from)?; for m in crate::records::MIGRATIONS { c.batch_execute(m).await.map_err(crate::error::from)?; } }
 Ok(()) }
pub(crate) async fn check(_o: &Opener) -> Result<()> { Ok(()) }
