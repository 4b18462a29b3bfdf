//! Small BERT models in this process: sentence embeddings and a reranker.
//!
//! [`Files`] says where a model is, [`Embedder`] answers the embedding port with it,
//! [`CrossEncoder`] the reranking port. The network is written here over one matrix product
//! ([`gemm`]), because general tensor libraries bring thread pools of their own that spin while
//! they wait; a server has better use for its cores. Texts of a batch are laid end to end, so
//! nothing is computed for padding.

mod bert;
mod cross;
mod embedder;
mod files;
mod math;
mod workers;

pub use cross::CrossEncoder;
pub use embedder::Embedder;
pub use files::Files;
pub use workers::Workers;
