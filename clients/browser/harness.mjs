// Pages on an origin of their own, a browser, and a proxy that can cut connections.

import { createServer } from "node:http";
import { connect, createServer as createListener } from "node:net";
import { build } from "esbuild";
import { chromium } from "playwright-core";

/** The server under test. */
export const api = process.env.AGENTFLOW_URL;

/** Longest wait for anything on a page, in milliseconds. */
export const PATIENCE = 30_000;

const CHROMIUM = process.env.AGENTFLOW_CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

function listening(server) {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => resolve(server.address().port));
  });
}

/** Bundles the pages and serves them. */
export async function servePages() {
  const built = await build({
    entryPoints: ["pages/v1.jsx", "pages/legacy.jsx"],
    bundle: true,
    write: false,
    outdir: "/",
    format: "esm",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"production"' },
    logLevel: "error",
  });
  const scripts = new Map(built.outputFiles.map((file) => [file.path, file.contents]));
  const server = createServer((request, response) => {
    const path = request.url.split("?")[0];
    const script = scripts.get(path);
    if (script) {
      response.setHeader("content-type", "text/javascript");
      response.end(script);
      return;
    }
    response.setHeader("content-type", "text/html");
    response.end(
      `<!doctype html><title>chat</title><div id="root"></div>` +
        `<script type="module" src="${path}.js"></script>`,
    );
  });
  const port = await listening(server);
  return { origin: `http://127.0.0.1:${port}`, close: () => server.close() };
}

/** A browser without a screen. */
export function launch() {
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
}

/** A proxy in front of the server, whose connections can be cut. */
export async function cuttable() {
  const target = new URL(api);
  const sockets = new Set();
  const server = createListener((near) => {
    const far = connect(Number(target.port), target.hostname);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => sockets.delete(socket));
    }
    near.pipe(far);
    far.pipe(near);
    near.on("close", () => far.destroy());
    far.on("close", () => near.destroy());
  });
  const port = await listening(server);
  const cut = () => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    url: `http://127.0.0.1:${port}`,
    cut,
    close() {
      cut();
      server.close();
    },
  };
}

/** One page with the chat, and what a person does on it. */
export class Chat {
  /** Bodies of the event streams that the page asked for. */
  subscriptions = [];
  /** Headers of the run streams that the page joined. */
  joins = [];

  static async open(browser, origin, { page = "v1", url = api, assistant = "chat" } = {}) {
    const chat = new Chat();
    chat.context = await browser.newContext();
    chat.page = await chat.context.newPage();
    chat.page.setDefaultTimeout(PATIENCE);
    chat.page.on("pageerror", (error) => chat.faults.push(error));
    chat.page.on("request", (request) => chat.#note(request));
    const query = new URLSearchParams({ api: url, assistant });
    await chat.page.goto(`${origin}/${page}?${query}`);
    await chat.page.locator("main").waitFor();
    return chat;
  }

  faults = [];

  #note(request) {
    if (request.method() === "POST" && request.url().endsWith("/stream/events")) {
      this.subscriptions.push(request.postDataJSON());
    }
    if (request.method() === "GET" && /\/runs\/[^/]+\/stream/.test(request.url())) {
      this.joins.push(request.headers());
    }
  }

  async send(text) {
    await this.page.locator(".composer input").fill(text);
    await this.page.locator(".composer button").click();
  }

  async stop() {
    await this.page.locator(".stop").click();
  }

  async reload() {
    await this.page.reload();
    await this.page.locator("main").waitFor();
  }

  /** Waits until the page's script says yes; returns what it said. */
  async until(script, argument) {
    try {
      const found = await this.page.waitForFunction(script, argument, { polling: 20 });
      return await found.jsonValue();
    } catch (error) {
      const shown = await this.page.locator("#root").innerHTML();
      throw new Error(`${error.message}\nthe page shows: ${shown}`);
    }
  }

  /** Waits until the last answer has at least so many words. */
  words(count) {
    return this.until((count) => {
      const said = [...document.querySelectorAll('.said[data-type="ai"] .text')].at(-1);
      const words = said ? said.textContent.split(" ").filter(Boolean) : [];
      return words.length >= count ? words.length : null;
    }, count);
  }

  /** Waits until nothing is loading. */
  idle() {
    return this.until(() => {
      const { loading, hydrating } = document.querySelector("main").dataset;
      return loading === "false" && hydrating === "false";
    });
  }

  /** Waits until the last message says this. */
  says(text) {
    return this.until(
      (text) => [...document.querySelectorAll(".said .text")].at(-1)?.textContent === text,
      text,
    );
  }

  /** Waits until a message says this. */
  shows(text) {
    return this.until(
      (text) => [...document.querySelectorAll(".said .text")].some((one) => one.textContent === text),
      text,
    );
  }

  /** Messages as `type: text`. */
  said() {
    return this.page
      .locator(".said")
      .evaluateAll((all) =>
        all.map((one) => `${one.dataset.type}: ${one.querySelector(".text").textContent}`),
      );
  }

  question() {
    return this.page.locator(".question");
  }

  async answer(text) {
    await this.question().locator("input").fill(text);
    await this.question().locator("button").click();
  }

  /** Edits the human message at `place` and sends it again. */
  async edit(place, text) {
    const edit = this.page.locator('.said[data-type="human"]').nth(place).locator(".edit");
    await edit.locator("input").fill(text);
    await edit.locator("button").click();
  }

  threadId() {
    return new URL(this.page.url()).searchParams.get("thread");
  }

  async get(path) {
    const answer = await fetch(`${api}/threads/${this.threadId()}${path}`);
    return answer.json();
  }

  runs() {
    return this.get("/runs");
  }

  close() {
    return this.context.close();
  }
}

/** `word1 … wordN` */
export function words(count) {
  return Array.from({ length: count }, (_, place) => `word${place + 1}`).join(" ");
}
