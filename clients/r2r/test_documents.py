"""Documents, chunks, collections and search by R2R's own client."""

import asyncio
import os
import urllib.parse
import uuid

import pytest
from r2r import R2RException

pytestmark = pytest.mark.asyncio


async def added(call, **options):
    made = await call("documents.create", **options)
    return str(made.results.document_id)


async def refused(status, awaited):
    with pytest.raises(R2RException) as caught:
        await awaited
    assert caught.value.status_code == status, caught.value
    return str(caught.value)


async def test_the_service_is_well(call):
    assert (await call("system.health")).results.message == "ok"
    me = (await call("users.me")).results
    assert me.email == "admin@example.com"
    assert me.is_superuser
    assert str(me.id) == "2acb499e-8428-543b-bd85-0d9098718220"


async def test_a_text_is_found_and_removed(call, word):
    text = f"Aristotle wrote about {word} long ago."
    id = await added(call, raw_text=text, metadata={"title": "Notes", "year": 2024})
    document = (await call("documents.retrieve", id)).results
    assert document.ingestion_status.value == "success"
    assert document.document_type.value == "txt"
    assert document.title == "Notes"
    assert document.size_in_bytes == len(text)
    assert document.metadata["year"] == 2024
    for settings in [
        {"use_semantic_search": False, "use_fulltext_search": True},
        {"use_hybrid_search": True},
    ]:
        found = await call("retrieval.search", query=word, search_settings=settings)
        hit = found.results.chunk_search_results[0]
        assert str(hit.document_id) == id
        assert hit.text == f"Document Title: Notes\n\nText: {text}"
    downloaded = await call("documents.download", id)
    assert downloaded.read() == text.encode()
    assert (await call("documents.delete", id)).results.success
    await refused(404, call("documents.retrieve", id))
    found = await call("retrieval.search", query=word, search_settings={"use_hybrid_search": True})
    assert all(str(hit.document_id) != id for hit in found.results.chunk_search_results)


async def test_a_file_is_read_by_what_it_is(call, word, tmp_path):
    path = tmp_path / f"{word}.html"
    path.write_text(f"<html><body><h1>Rivers</h1><p>The {word} is long.</p></body></html>")
    # A title without an extension does not hide what the file is.
    id = await added(call, file_path=str(path), metadata={"title": "My report"})
    document = (await call("documents.retrieve", id)).results
    assert document.document_type.value == "html"
    chunks = (await call("documents.list_chunks", id)).results
    assert word in chunks[0].text and "<p>" not in chunks[0].text
    broken = tmp_path / f"{word}.pdf"
    broken.write_bytes(b"%PDF-1.7 nothing " + word.encode())
    id = await added(call, file_path=str(broken))
    document = (await call("documents.retrieve", id)).results
    assert document.ingestion_status.value == "failed"
    assert document.metadata["failure"]


async def test_what_exists_is_not_replaced(call, word):
    id = str(uuid.uuid4())
    await added(call, id=id, raw_text=f"first {word}")
    await refused(409, call("documents.create", id=id, raw_text="second"))
    assert (await call("documents.download", id)).read() == f"first {word}".encode()
    await refused(422, call("documents.create", id="no id", raw_text="x"))


async def test_chunks_are_changed_one_by_one(call, word):
    id = await added(call, chunks=[f"one {word}", f"two {word}", f"three {word}"])
    listed = await call("documents.list_chunks", id)
    assert listed.total_entries == 3
    first, second, third = listed.results
    assert [chunk.metadata["chunk_order"] for chunk in listed.results] == [0, 1, 2]
    changed = await call("chunks.update", {"id": str(second.id), "text": f"pears {word}"})
    assert changed.results.text == f"pears {word}"
    assert (await call("chunks.retrieve", str(second.id))).results.text == f"pears {word}"
    assert (await call("chunks.delete", str(first.id))).results.success
    # The document stays.
    left = await call("documents.list_chunks", id)
    assert [chunk.text for chunk in left.results] == [f"pears {word}", f"three {word}"]
    assert (await call("documents.retrieve", id)).results.id
    found = await call("chunks.search", query=f"pears {word}")
    assert str(found.results[0].id) == str(second.id)
    assert third.id


async def test_filters_choose(call, word):
    ids = {
        year: await added(call, raw_text=f"{word} of {year}", metadata={"year": year})
        for year in (2023, 2024)
    }
    settings = {"use_hybrid_search": True, "filters": {"year": {"$gt": 2023}}}
    found = await call("retrieval.search", query=word, search_settings=settings)
    assert {str(hit.document_id) for hit in found.results.chunk_search_results} == {ids[2024]}
    changed = await call("documents.append_metadata", ids[2024], [{"year": 1999, "word": word}])
    assert changed.results.metadata["year"] == 1999
    settings["filters"] = {"word": {"$eq": word}, "year": {"$lt": 2000}}

    async def shown():
        found = await call("retrieval.search", query=word, search_settings=settings)
        return found.results.chunk_search_results

    for _ in range(200):
        if await shown():
            break
        await asyncio.sleep(0.05)
    assert {str(hit.document_id) for hit in await shown()} == {ids[2024]}
    replaced = await call("documents.replace_metadata", ids[2023], [{"word": word}])
    assert "year" not in replaced.results.metadata
    wrong = {"use_hybrid_search": True, "filters": {"year": {"$near": 1}}}
    await refused(400, call("retrieval.search", query=word, search_settings=wrong))
    await refused(400, call("retrieval.search", query=""))
    gone = await call("documents.delete_by_filter", {"word": {"$eq": word}})
    assert gone.results.success
    for id in ids.values():
        await refused(404, call("documents.retrieve", id))


async def test_collections_share_and_go(call, word):
    made = (await call("collections.create", f"name {word}", description="d")).results
    id = str(made.id)
    await refused(409, call("collections.create", f"name {word}"))
    document = await added(call, raw_text=f"text {word}", collection_ids=[id])
    told = (await call("collections.retrieve", id)).results
    assert (told.document_count, told.user_count) == (1, 1)
    listed = await call("collections.list_documents", id)
    assert [str(one.id) for one in listed.results] == [document]
    by_name = await call("collections.retrieve_by_name", f"name {word}")
    assert str(by_name.results.id) == id
    changed = await call("collections.update", id, name=f"other {word}")
    assert changed.results.name == f"other {word}"
    of_document = await call("documents.list_collections", document)
    assert [str(one.id) for one in of_document.results] == [id]
    assert (await call("collections.remove_document", id, document)).results.success
    assert (await call("collections.add_document", id, document)).results.message
    assert (await call("collections.delete", id)).results.success
    await refused(404, call("collections.retrieve", id))
    # Its documents stay, and their chunks.
    assert (await call("documents.list_chunks", document)).total_entries == 1
    me = (await call("users.me")).results
    await refused(400, call("collections.delete", str(uuid.uuid5(uuid.NAMESPACE_DNS, str(me.id)))))


async def test_pages_and_their_bounds(call, word):
    ids = [await added(call, raw_text=f"{word} {n}") for n in range(3)]
    listed = await call("documents.list", ids=ids, limit=2)
    assert (len(listed.results), listed.total_entries) == (2, 3)
    rest = await call("documents.list", ids=ids, limit=2, offset=2)
    assert {str(one.id) for one in [*listed.results, *rest.results]} == set(ids)
    await refused(422, call("documents.list", limit=0))
    assert (await call("chunks.list", limit=1)).results
    assert (await call("collections.list", limit=1)).total_entries >= 1


async def test_a_text_becomes_a_vector(call):
    vectors = [(await call("retrieval.embedding", text)).results for text in ("hello world", "hello world")]
    assert vectors[0] == vectors[1] and len(vectors[0]) > 1


async def test_who_sends_slowly_is_cut_off():
    place = urllib.parse.urlparse(os.environ["AGENTFLOW_R2R_URL"])
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = "POST /v3/documents HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    kind = "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    writer.write((head + kind).encode())
    assert b" 408 " in await reader.readline()
    writer.close()
