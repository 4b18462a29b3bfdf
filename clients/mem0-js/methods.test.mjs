// Every public method of Mem0's JavaScript client. They are enumerated from the client, so that one
// that is new, or gone, fails here with its name.
//
// It works against any server that speaks Mem0's platform surface, AGENTFLOW_URL and
// AGENTFLOW_MEM0_KEY, and removes everything that its project remembers. AGENTFLOW_DEPLOYMENT, if
// set, is the column of docs/mem0-methods.md that the run stands for. The server's chat model
// answers as clients/mem0/script.json says.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import test from "node:test";
import { cells, section, updates } from "../js/documented.mjs";

// Read when the client is imported: nothing is told to others.
process.env.MEM0_TELEMETRY = "false";
const { AuthenticationError, MemoryClient, MemoryNotFoundError, ValidationError } = await import(
  "mem0ai"
);

const host = process.env.AGENTFLOW_URL.replace(/\/$/, "");
const apiKey = process.env.AGENTFLOW_MEM0_KEY;
const DEPLOYMENTS = ["SQLite", "PostgreSQL and Qdrant"];
const HERE = process.env.AGENTFLOW_DEPLOYMENT ?? DEPLOYMENTS[0];
const PAGE = "mem0-methods.md";
const SCHEMA = {
  type: "object",
  properties: { home_town: { type: "string", description: "Where the user lives" } },
};
const CATEGORIES = [{ family_life: "Relatives and pets" }, { food: "What is eaten" }];
const client = new MemoryClient({ apiKey, host });

// --- what was sent

const sent = {};
let called = null;
const NAMES = [
  [/^\/v1\/memories\/(?!events\/|add\/)[^/]+\//, "/v1/memories/{id}/"],
  [/^(\/v[12]\/entities)\/([^/]+)\/[^/]+\//, "$1/{type}/{name}/"],
  [/^\/v2\/profiles\/jobs\/[^/]+\//, "/v2/profiles/jobs/{id}/"],
  [/\/organizations\/[^/]+\//, "/organizations/{org}/"],
  [/\/projects\/[^/]+\//, "/projects/{project}/"],
  [/^\/api\/v1\/webhooks\/(?!projects\/)[^/]+\//, "/api/v1/webhooks/{id}/"],
];
const plainFetch = globalThis.fetch;
globalThis.fetch = (address, options) => {
  if (called) {
    let { pathname: path } = new URL(address);
    for (const [pattern, name] of NAMES) path = path.replace(pattern, name);
    (sent[called] ??= new Set()).add(`\`${options?.method ?? "GET"} ${path}\``);
  }
  return plainFetch(address, options);
};

/** Public methods of the client. */
function surface() {
  const names = Object.getOwnPropertyNames(MemoryClient.prototype);
  return names.filter((name) => name !== "constructor" && !name.startsWith("_")).sort();
}

// Calls are made one after the other, so that each request is of the one that is under way.
for (const name of surface()) {
  const method = client[name];
  client[name] = async (...args) => {
    const before = called;
    called ??= name;
    try {
      return await method.apply(client, args);
    } finally {
      called = before;
    }
  };
}

// --- helpers

const fresh = (what = "user") => `${what}-${randomUUID()}`;
const ids = ({ results }) => results.map(({ id }) => id).sort();
const texts = ({ results }) => results.map(({ memory }) => memory);
const human = (content) => [{ role: "user", content }];

async function asked(path) {
  const answer = await plainFetch(`${host}${path}`, { headers: { Authorization: `Token ${apiKey}` } });
  assert.equal(answer.status, 200);
  return answer.json();
}

async function until(condition) {
  for (let tries = 0; tries < 400; tries += 1) {
    const found = await condition();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail("it did not come true");
}

/** Stores a text as it is; the memory's id. */
async function kept(content, options) {
  const answer = await client.add(human(content), { infer: false, ...options });
  assert.equal(answer.status, "SUCCEEDED");
  assert.deepEqual(answer.results.map(({ event, data }) => [event, data.memory]), [["ADD", content]]);
  return answer.results[0].id;
}

async function ended(event) {
  return until(async () => {
    const found = await asked(`/v1/event/${event}/`);
    return ["SUCCEEDED", "FAILED"].includes(found.status) ? found : null;
  });
}

/** Lets the model read facts; the results of the event. */
async function learned(content, options) {
  const answer = await client.add(human(content), options);
  assert.equal(answer.status, "PENDING");
  const event = await ended(answer.eventId);
  assert.equal(event.status, "SUCCEEDED", JSON.stringify(event));
  return event.results;
}

const gone = (memory) => assert.rejects(client.get(memory), MemoryNotFoundError);
const all = (filters) => client.getAll({ filters });

async function enabled() {
  await client.updateProfileSettings({ enabled: true, schema: SCHEMA, customInstructions: "Brief." });
}

/** A user with enough memories for a profile. */
async function known(userId = fresh()) {
  for (const text of ["lives in Bern", "likes tea", "plays chess"]) await kept(text, { userId });
  return userId;
}

async function jobEnded(job) {
  return until(async () => {
    const found = (await client.getProfileJob(job)).job;
    return found.enumerationComplete && found.completed === found.total ? found : null;
  });
}

/** A place that webhooks can be sent to. */
async function receiver() {
  const calls = [];
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    calls.push(JSON.parse(Buffer.concat(parts).toString()));
    response.writeHead(204).end();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${server.address().port}/hook`;
  return { calls, url, close: () => server.close() };
}

const hooks = async () =>
  Object.fromEntries((await client.getWebhooks()).map((hook) => [hook.webhookId, hook]));
const hook = () =>
  client.createWebhook({
    name: "made",
    url: "https://example.com/hook",
    eventTypes: ["memory_add"],
  });

// --- the checks

const checks = {
  ping: async () => {
    await client.ping();
    assert.ok(client.organizationId && client.projectId);
    const stranger = new MemoryClient({ apiKey: "m0-nobody", host });
    await assert.rejects(stranger.ping(), AuthenticationError);
    await assert.rejects(stranger.get(randomUUID()), AuthenticationError);
  },

  add: async () => {
    const userId = fresh();
    const metadata = { deep_key: { camelKey: 1 } };
    const answer = await client.add(
      [
        { role: "user", content: "likes rain" },
        { role: "assistant", content: "sold an umbrella" },
      ],
      { userId, agentId: "g", infer: false, metadata, expirationDate: "2999-01-01" },
    );
    assert.deepEqual(answer.results.map(({ event }) => event), ["ADD", "ADD"]);
    const one = await client.get(answer.results[0].id);
    assert.deepEqual([one.memory, one.userId, one.agentId], ["likes rain", userId, "g"]);
    assert.deepEqual([one.metadata, one.expirationDate], [metadata, "2999-01-01"]);
    const old = await kept("ran a marathon", { userId, timestamp: 1_600_000_000 });
    assert.match((await client.get(old)).createdAt, /^2020-09-13/);
    const [fact] = await learned("My daughter is called Nora.", {
      userId,
      customCategories: [{ family: "Relatives" }],
      customInstructions: "Only facts.",
      agentCustomInstructions: "Short.",
      structuredDataSchema: { type: "object" },
    });
    assert.equal(fact.data.memory, "Has a daughter called Nora");
    assert.deepEqual((await client.get(fact.id)).categories, ["family"]);
    await assert.rejects(client.add(human("belongs to nobody"), { infer: false }), ValidationError);
    await assert.rejects(client.add([], { userId }), /empty messages/);
  },

  get: async () => {
    const owner = { userId: fresh(), agentId: fresh("agent"), appId: fresh("app"), runId: fresh("run") };
    const memory = await kept("likes tea", { ...owner, metadata: { k: 1 } });
    const one = await client.get(memory);
    assert.deepEqual([one.id, one.memory, one.metadata], [memory, "likes tea", { k: 1 }]);
    const { userId, agentId, appId, runId } = one;
    assert.deepEqual({ userId, agentId, appId, runId }, owner);
    assert.ok(one.createdAt && one.updatedAt);
    await gone(randomUUID());
    await assert.rejects(client.get("a/b c"), ValidationError);
  },

  getAll: async () => {
    const userId = fresh();
    const stored = [];
    for (const what of ["a", "b", "c", "d", "e"]) stored.push(await kept(`likes ${what}`, { userId }));
    const seen = [];
    for (let page = 1; page; ) {
      const answer = await client.getAll({ filters: { user_id: userId }, page, pageSize: 2 });
      assert.equal(answer.count, 5);
      assert.equal(Boolean(answer.previous), page > 1);
      seen.push(...ids(answer));
      page = answer.next ? page + 1 : 0;
    }
    assert.deepEqual(seen.sort(), stored.sort());
    // Names as they are written in JavaScript.
    assert.equal((await all({ userId })).count, 5);
    const day = 86_400_000;
    const options = { filters: { user_id: userId }, showExpired: true, latestOnly: true };
    const startDate = new Date(Date.now() + day).toISOString();
    assert.equal((await client.getAll({ ...options, startDate })).count, 0);
    const endDate = startDate;
    assert.equal((await client.getAll({ ...options, endDate })).count, 5);
    assert.equal((await client.getAll({ ...options, categories: ["food"] })).count, 0);
    await assert.rejects(client.getAll({ filters: {} }), ValidationError);
    await assert.rejects(client.getAll({ ...options, pageSize: 201 }), ValidationError);
  },

  search: async () => {
    const userId = fresh();
    const filters = { user_id: userId };
    const tea = await kept("drinks green tea", { userId, metadata: { k: "tea" } });
    await kept("plays chess", { userId, appId: "p" });
    const found = await client.search("green tea", { filters });
    assert.equal(found.results[0].id, tea);
    assert.ok(found.results[0].score > 0.1 && found.results[0].score <= 1);
    const options = { filters, topK: 1, threshold: 0, rerank: true, latestOnly: true };
    const more = { showExpired: true, referenceDate: "2026-01-01", source: "OPENCLAW" };
    assert.deepEqual(ids(await client.search("green tea", { ...options, ...more })), [tea]);
    const words = await client.search("chess", { filters, keywordSearch: true });
    assert.deepEqual(texts(words), ["plays chess"]);
    const by = {
      AND: [{ userId }, { NOT: { app_id: "*" } }, { OR: [{ metadata: { k: "tea" } }] }],
    };
    assert.deepEqual(ids(await client.search("tea or chess", { filters: by, threshold: 0 })), [tea]);
    const none = { filters: { userId: fresh() } };
    assert.deepEqual((await client.search("tea", none)).results, []);
    await assert.rejects(client.search("tea", {}), ValidationError);
    await assert.rejects(client.search("tea", { filters, topK: 0 }), ValidationError);
    await assert.rejects(client.search("tea", { userId }), /not supported in search/);
  },

  update: async () => {
    const userId = fresh();
    const memory = await kept("likes tea", { userId });
    const metadata = { snake_key: 1, camelKey: 2 };
    const changed = await client.update(memory, {
      text: "likes milk",
      metadata,
      timestamp: "2020-09-13T12:26:40Z",
      expirationDate: "2999-01-01",
    });
    assert.equal(changed.memory, "likes milk");
    const one = await client.get(memory);
    assert.deepEqual([one.memory, one.metadata], ["likes milk", metadata]);
    assert.equal(one.expirationDate, "2999-01-01");
    await client.update(memory, { expirationDate: null });
    assert.equal((await client.get(memory)).expirationDate, null);
    assert.deepEqual(ids(await client.search("milk", { filters: { userId } })), [memory]);
    await assert.rejects(client.update(randomUUID(), { text: "x" }), MemoryNotFoundError);
    await assert.rejects(client.update(memory, {}), /At least one/);
  },

  delete: async () => {
    const userId = fresh();
    const memory = await kept("likes tea", { userId });
    assert.match((await client.delete(memory)).message, /deleted/);
    await gone(memory);
    await assert.rejects(client.delete(memory), MemoryNotFoundError);
    const [bern] = await learned("I live in Bern.", { userId });
    const results = await learned("I moved to Zug.", { userId });
    const zug = results.find(({ data }) => data.memory === "Lives in Zug");
    assert.equal((await client.delete(zug.id, { deleteLinked: true })).cascadeCount, 1);
    await gone(bern.id);
  },

  deleteAll: async () => {
    const [userId, appId] = [fresh(), fresh("app")];
    const one = await kept("likes tea", { userId });
    const two = await kept("likes milk", { userId, appId });
    const answer = await client.deleteAll({ userId, appId });
    if (answer.eventId) await ended(answer.eventId);
    await gone(two);
    assert.equal((await client.get(one)).memory, "likes tea");
    // What names no scope removes nothing.
    await assert.rejects(client.deleteAll(), ValidationError);
    await assert.rejects(client.deleteAll({ filters: { user_id: userId } }), ValidationError);
    assert.equal((await client.get(one)).memory, "likes tea");
    const rest = await client.deleteAll({ userId: "*", agentId: "*", appId: "*", runId: "*" });
    if (rest.eventId) await ended(rest.eventId);
    await gone(one);
  },

  history: async () => {
    const userId = fresh();
    const memory = await kept("likes tea", { userId });
    await client.update(memory, { text: "likes milk" });
    await client.delete(memory);
    const rows = await client.history(memory);
    const changes = rows.map(({ event, oldMemory, newMemory }) => [event, oldMemory, newMemory]);
    assert.deepEqual(changes.slice(0, 2), [
      ["ADD", null, "likes tea"],
      ["UPDATE", "likes tea", "likes milk"],
    ]);
    assert.equal(changes[2][0], "DELETE");
    assert.deepEqual(rows[0].input, human("likes tea"));
    assert.ok(rows.every((row) => row.memoryId === memory && row.userId === userId));
  },

  users: async () => {
    const owner = { user: fresh(), agent: fresh("agent"), app: fresh("app"), run: fresh("run") };
    await kept("likes tea", {
      userId: owner.user,
      agentId: owner.agent,
      appId: owner.app,
      runId: owner.run,
    });
    const found = await client.users();
    const ours = found.results.filter(({ name }) => Object.values(owner).includes(name));
    assert.deepEqual(Object.fromEntries(ours.map(({ type, name }) => [type, name])), owner);
    assert.deepEqual(ours.map((one) => one.totalMemories), [1, 1, 1, 1]);
    const paged = await client.users({ page: 1, pageSize: 2 });
    assert.equal(paged.results.length, 2);
    assert.ok(paged.count >= 4 && paged.next);
  },

  deleteUser: async () => {
    const name = fresh();
    const memory = await kept("likes tea", { userId: name });
    const { results } = await client.users();
    const { id } = results.find((one) => one.name === name);
    await client.deleteUser({ entity_id: id, entity_type: "user" });
    await until(async () => (await all({ userId: name })).count === 0);
    await gone(memory);
  },

  deleteUsers: async () => {
    const odd = `a b/c?d#e%2F+ü&${randomUUID()}`;
    for (const kind of ["user", "agent", "app", "run"]) {
      const memory = await kept("likes tea", { [`${kind}Id`]: odd });
      assert.match((await client.deleteUsers({ [`${kind}Id`]: odd })).message, /deleted/);
      await until(async () =>
        (await client.users()).results.every((one) => one.type !== kind || one.name !== odd),
      );
      await gone(memory);
    }
    const memory = await kept("likes tea", { userId: fresh() });
    assert.match((await client.deleteUsers()).message, /All users/);
    await until(async () => (await client.users()).count === 0);
    await gone(memory);
    await assert.rejects(client.deleteUsers(), /No entities/);
  },

  batchUpdate: async () => {
    const userId = fresh();
    const [one, two] = [await kept("likes a", { userId }), await kept("likes b", { userId })];
    const answer = await client.batchUpdate([
      { memoryId: one, text: "likes c" },
      { memoryId: two, text: "likes d" },
    ]);
    assert.equal(answer.message, "Successfully updated 2 memories");
    assert.deepEqual(texts(await all({ userId })).sort(), ["likes c", "likes d"]);
  },

  batchDelete: async () => {
    const userId = fresh();
    const [one, two] = [await kept("likes a", { userId }), await kept("likes b", { userId })];
    assert.equal((await client.batchDelete([one])).message, "Successfully deleted 1 memories");
    assert.deepEqual(ids(await all({ userId })), [two]);
  },

  getProject: async () => {
    const found = await client.getProject({ fields: ["customInstructions"] });
    assert.ok("customInstructions" in found);
    const whole = await client.getProject({});
    assert.equal(whole.projectId, client.projectId);
    assert.ok(whole.name);
  },

  updateProject: async () => {
    const answer = await client.updateProject({
      customInstructions: "Only facts.",
      agentCustomInstructions: "Short.",
      customCategories: CATEGORIES,
      multilingual: true,
      decay: true,
    });
    assert.ok(answer.message);
    const found = await client.getProject({});
    assert.deepEqual(found.customCategories, CATEGORIES);
    assert.equal(found.customInstructions, "Only facts.");
    assert.deepEqual([found.multilingual, found.decay], [true, true]);
    await client.updateProject({ customInstructions: "", multilingual: false, decay: false });
  },

  createWebhook: async () => {
    const place = await receiver();
    try {
      const eventTypes = ["memory_add", "memory_update", "memory_delete"];
      const made = await client.createWebhook({ name: "all", url: place.url, eventTypes });
      assert.deepEqual([made.name, made.url, made.isActive], ["all", place.url, true]);
      const memory = await kept("likes tea", { userId: fresh() });
      await client.update(memory, { text: "likes milk" });
      await client.delete(memory);
      const ours = () =>
        place.calls.map((call) => call.event_details).filter(({ id }) => id === memory);
      await until(() => ours().length >= 3);
      assert.deepEqual(new Set(ours().map(({ event }) => event)), new Set(["ADD", "UPDATE", "DELETE"]));
      await client.deleteWebhook({ webhookId: made.webhookId });
    } finally {
      place.close();
    }
  },

  getWebhooks: async () => {
    const made = await hook();
    const found = (await hooks())[made.webhookId];
    assert.deepEqual([found.name, found.eventTypes], ["made", ["memory_add"]]);
    const { projectId } = client;
    assert.ok((await client.getWebhooks({ projectId })).some((one) => one.webhookId === made.webhookId));
    await client.deleteWebhook({ webhookId: made.webhookId });
  },

  updateWebhook: async () => {
    const { webhookId } = await hook();
    await client.updateWebhook({ webhookId, name: "new", eventTypes: ["memory_delete"] });
    const found = (await hooks())[webhookId];
    assert.deepEqual([found.name, found.eventTypes], ["new", ["memory_delete"]]);
    assert.equal(found.url, "https://example.com/hook");
    await client.deleteWebhook({ webhookId });
  },

  deleteWebhook: async () => {
    const { webhookId } = await hook();
    assert.ok((await client.deleteWebhook({ webhookId })).message);
    assert.equal((await hooks())[webhookId], undefined);
    await assert.rejects(client.deleteWebhook({ webhookId }), MemoryNotFoundError);
  },

  feedback: async () => {
    const memoryId = await kept("likes tea", { userId: fresh() });
    const given = { memoryId, feedback: "VERY_NEGATIVE", feedbackReason: "because" };
    const answer = await client.feedback(given);
    assert.deepEqual([answer.feedback, answer.feedbackReason], ["VERY_NEGATIVE", "because"]);
    await assert.rejects(client.feedback({ ...given, feedback: "GREAT" }), ValidationError);
    await assert.rejects(client.feedback({ ...given, memoryId: randomUUID() }), MemoryNotFoundError);
  },

  createMemoryExport: async () => {
    const userId = fresh();
    await kept("lives in Bern", { userId });
    const filters = { user_id: userId };
    const made = await client.createMemoryExport({ schema: SCHEMA, filters, exportInstructions: "Brief." });
    assert.ok(made.id && made.message);
    await assert.rejects(client.createMemoryExport({ schema: SCHEMA }), /Missing filters/);
  },

  getMemoryExport: async () => {
    const userId = fresh();
    await kept("lives in Bern", { userId });
    const filters = { user_id: userId };
    const { id } = await client.createMemoryExport({ schema: SCHEMA, filters });
    for (const by of [{ memoryExportId: id }, { filters }]) {
      const found = await until(() => client.getMemoryExport(by).catch(() => null));
      assert.match(JSON.stringify(found), /Bern/);
    }
    await assert.rejects(client.getMemoryExport({ memoryExportId: randomUUID() }), MemoryNotFoundError);
  },

  getProfile: async () => {
    const entityId = fresh("a b/c");
    await assert.rejects(client.getProfile({ entityId }), MemoryNotFoundError);
    await known(entityId);
    await client.updateProfileSettings({ enabled: false });
    assert.equal((await client.getProfile({ entityId })).status, "not_enabled");
    await enabled();
    await client.generateProfile({ entityId });
    const found = await until(async () => {
      const profile = await client.getProfile({ entityId });
      return profile.status === "pending" ? null : profile;
    });
    assert.deepEqual([found.status, found.profile], ["succeeded", { home_town: "Bern" }]);
    assert.deepEqual([found.entityType, found.entityId, found.generationCount], ["user", entityId, 1]);
  },

  generateProfile: async () => {
    const entityId = await known();
    await enabled();
    const idempotencyKey = randomUUID();
    const job = await client.generateProfile({ entityId, idempotencyKey });
    assert.deepEqual([job.operation, job.entityType, job.replayed], ["trigger", "user", false]);
    const again = await client.generateProfile({ entityId, idempotencyKey });
    assert.deepEqual([again.jobId, again.replayed], [job.jobId, true]);
    await assert.rejects(client.generateProfile({ entityId: fresh() }), MemoryNotFoundError);
  },

  sampleProfiles: async () => {
    await known();
    await known();
    await enabled();
    const job = await client.sampleProfiles({ limit: 2 });
    assert.equal(job.operation, "sample");
    assert.deepEqual([job.sampled, new Set(job.entityIds).size], [2, 2]);
    assert.equal((await jobEnded(job.statusUrl)).total, 2);
    await assert.rejects(client.sampleProfiles({ limit: 11 }), ValidationError);
  },

  getProfileJob: async () => {
    const entityId = await known();
    await enabled();
    const { jobId, statusUrl } = await client.generateProfile({ entityId });
    for (const name of [jobId, statusUrl]) {
      const { total, succeeded, failed, skipped } = await jobEnded(name);
      assert.deepEqual([total, succeeded, failed, skipped], [1, 1, 0, 0]);
    }
    await assert.rejects(client.getProfileJob(randomUUID()), MemoryNotFoundError);
  },

  getProfileSettings: async () => {
    await enabled();
    const found = await client.getProfileSettings();
    assert.equal(found.enabled, true);
    assert.deepEqual(found.entities.user, { schema: SCHEMA, customInstructions: "Brief." });
    assert.equal(typeof found.capabilities, "object");
  },

  updateProfileSettings: async () => {
    await enabled();
    const changed = await client.updateProfileSettings({ customInstructions: null });
    assert.deepEqual(changed.entities.user.schema, SCHEMA);
    assert.equal((await client.getProfileSettings()).entities.user.customInstructions, null);
    await client.updateProfileSettings({ enabled: false, schema: null });
    const found = await client.getProfileSettings();
    assert.deepEqual([found.enabled, found.entities.user.schema], [false, null]);
  },
};

// --- the tests

const passed = new Set();

test("every method has a check", () => {
  const names = Object.keys(checks);
  assert.deepEqual(surface().filter((name) => !names.includes(name)), [], "nothing checks these");
  assert.deepEqual(names.filter((name) => !surface().includes(name)), [], "these are gone");
});

for (const [name, check] of Object.entries(checks)) {
  test(name, { timeout: 60_000 }, async () => {
    await check();
    passed.add(name);
  });
}

test("the table is current", () => {
  assert.deepEqual(Object.keys(checks).filter((name) => !passed.has(name)), []);
  const place = createRequire(import.meta.url).resolve("mem0ai");
  const folder = place.slice(0, place.lastIndexOf("/dist/"));
  const { version } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const known = cells("js", PAGE);
  // What the other deployment wrote stays.
  const found = (name) =>
    DEPLOYMENTS.map((at) => (at === HERE ? "works" : (known[name]?.[at] ?? "untested")));
  const row = (name) =>
    `| \`${name}\` | ${[[...(sent[name] ?? [])].join(", ") || "none", ...found(name)].join(" | ")} |\n`;
  const head = `\`mem0ai\` ${version}: ${Object.keys(checks).length} methods.\n\n`;
  const columns = `| method | request | ${DEPLOYMENTS.join(" | ")} |\n|---|---|---|---|\n`;
  const text = head + columns + surface().map(row).join("");
  section("js", text, PAGE);
  assert.ok(updates || !text.includes("untested"), "the other deployment is not tested");
});
