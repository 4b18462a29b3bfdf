//! Bytes of uploads.

use agentflow_types::{
    ErrorKind::{Conflict, Invalid},
    Result, Scope,
};
use uuid::Uuid;

use super::{apply, document, get, id, put};
use crate::{
    Backend,
    conformance::{
        refused,
        sample::{at, stranger},
    },
    documents::{Change, EntryKind, MAX_PART_BYTES},
};

async fn write(backend: &Backend, blob: Uuid, part: u32, bytes: &[u8]) -> Result<()> {
    let documents = &backend.documents;
    documents
        .write_part(&Scope::local(), blob, part, bytes.to_vec(), at(5))
        .await
}

async fn read(backend: &Backend, blob: Uuid, part: u32) -> Result<Option<Vec<u8>>> {
    backend
        .documents
        .read_part(&Scope::local(), blob, part)
        .await
}

/// Parts come back as they were, in any order; a part may be sent again.
pub async fn bytes_are_read_back_part_by_part(backend: Backend) -> Result<()> {
    let large = vec![7_u8; MAX_PART_BYTES];
    write(&backend, id(1), 1, &large).await?;
    write(&backend, id(1), 0, b"wrong").await?;
    write(&backend, id(1), 0, b"\x00\xff").await?;
    write(&backend, id(2), 0, b"").await?;
    assert_eq!(read(&backend, id(1), 0).await?, Some(vec![0, 255]));
    assert_eq!(read(&backend, id(1), 1).await?, Some(large));
    assert_eq!(read(&backend, id(1), 2).await?, None);
    assert_eq!(read(&backend, id(2), 0).await?, Some(vec![]));
    assert_eq!(read(&backend, id(3), 0).await?, None);
    let many = vec![0_u8; MAX_PART_BYTES + 1];
    refused(write(&backend, id(3), 0, &many).await, Invalid);
    let blobs = backend.documents.blobs(None, 10).await?;
    let told: Vec<_> = blobs
        .iter()
        .map(|blob| (blob.blob_id, blob.bytes, blob.is_kept, blob.created_at))
        .collect();
    let size = MAX_PART_BYTES as u64 + 2;
    assert_eq!(
        told,
        [(id(1), size, false, at(5)), (id(2), 0, false, at(5))]
    );
    let later = backend.documents.blobs(Some(id(1)), 10).await?;
    assert_eq!(later, blobs[1..]);
    Ok(())
}

/// Bytes that a decision kept are as they were when it did.
pub async fn bytes_that_are_kept_do_not_change(backend: Backend) -> Result<()> {
    refused(
        apply(&backend, vec![Change::KeepBlob(id(1))]).await,
        Conflict,
    );
    write(&backend, id(1), 0, b"first").await?;
    apply(&backend, vec![put(document(1)), Change::KeepBlob(id(1))]).await?;
    refused(write(&backend, id(1), 0, b"second").await, Conflict);
    refused(write(&backend, id(1), 1, b"more").await, Conflict);
    refused(
        apply(&backend, vec![Change::KeepBlob(id(1))]).await,
        Conflict,
    );
    assert_eq!(read(&backend, id(1), 0).await?, Some(b"first".to_vec()));
    assert_eq!(read(&backend, id(1), 1).await?, None);
    assert!(backend.documents.blobs(None, 1).await?[0].is_kept);
    // A decision that is refused keeps nothing.
    write(&backend, id(2), 0, b"x").await?;
    let changes = vec![Change::KeepBlob(id(2)), put(document(1))];
    refused(apply(&backend, changes).await, Conflict);
    write(&backend, id(2), 0, b"y").await
}

/// Another tenant neither reads, writes, keeps nor removes them.
pub async fn strangers_read_no_bytes(backend: Backend) -> Result<()> {
    write(&backend, id(1), 0, b"own").await?;
    let documents = &backend.documents;
    assert_eq!(documents.read_part(&stranger(), id(1), 0).await?, None);
    let other = stranger();
    let written = documents.write_part(&other, id(1), 0, b"theirs".to_vec(), at(6));
    refused(written.await, Conflict);
    let kept = documents.apply(&other, vec![Change::KeepBlob(id(1))]);
    refused(kept.await, Conflict);
    documents
        .apply(&other, vec![Change::DropBlob(id(1))])
        .await?;
    assert_eq!(read(&backend, id(1), 0).await?, Some(b"own".to_vec()));
    Ok(())
}

/// What nobody kept goes after a while, what was kept stays.
pub async fn pending_bytes_are_swept(backend: Backend) -> Result<()> {
    for n in 1..=4 {
        write(&backend, id(n), 0, b"x").await?;
    }
    apply(&backend, vec![Change::KeepBlob(id(2))]).await?;
    let documents = &backend.documents;
    assert_eq!(documents.sweep_blobs(at(5), 10).await?, 0);
    assert_eq!(documents.sweep_blobs(at(6), 2).await?, 2);
    assert_eq!(documents.sweep_blobs(at(6), 2).await?, 1);
    assert_eq!(documents.sweep_blobs(at(6), 2).await?, 0);
    assert_eq!(read(&backend, id(1), 0).await?, None);
    assert_eq!(read(&backend, id(2), 0).await?, Some(b"x".to_vec()));
    assert_eq!(documents.blobs(None, 10).await?.len(), 1);
    Ok(())
}

/// A document and its bytes go in one decision.
pub async fn bytes_go_with_their_document(backend: Backend) -> Result<()> {
    write(&backend, id(1), 0, b"a").await?;
    write(&backend, id(1), 1, b"b").await?;
    apply(&backend, vec![put(document(1)), Change::KeepBlob(id(1))]).await?;
    let gone = Change::Remove {
        kind: EntryKind::Document,
        entry_id: id(1),
        version: 1,
    };
    let changes = vec![gone, Change::DropBlob(id(1)), Change::DropBlob(id(9))];
    apply(&backend, changes).await?;
    assert_eq!(get(&backend, EntryKind::Document, 1).await?, None);
    assert_eq!(read(&backend, id(1), 0).await?, None);
    assert_eq!(read(&backend, id(1), 1).await?, None);
    assert!(backend.documents.blobs(None, 10).await?.is_empty());
    Ok(())
}
