// Converse.js in a page of Chromium, for a walk: what a person clicks and types goes in, what they see comes out.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

// How long something that another did may take until it is shown.
export const SEEN_WITHIN_MS = 20_000;
const DIST = fileURLToPath(new URL("node_modules/converse.js/dist/", import.meta.url));
const KINDS = { ".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".json": "application/json", ".wasm": "application/wasm" };
const PAGE = `<!doctype html><meta charset="utf-8"><title>Converse</title>
<link rel="stylesheet" href="/dist/converse.min.css"><body class="converse-fullscreen">
<script type="module" src="/dist/converse.min.js"></script>`;
// Its menus come and go with animations, which nobody here waits for.
const STILL = "*, *::before, *::after { transition-duration: 0s !important; animation-duration: 0.001s !important; animation-delay: 0s !important; }";

export class Wrong extends Error {}

// Serves the program to the browser; its wasm lies beside it.
export async function serve() {
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://here").pathname);
    try {
      const body = path === "/" ? PAGE : await readFile(join(DIST, path.replace(/^\/dist\//, "")));
      response.writeHead(200, { "Content-Type": KINDS[extname(path) || ".html"] ?? "application/octet-stream" });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

export async function launch() {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  args.push("--ignore-certificate-errors");
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args });
}

// Somebody with Converse.
export class Converse {
  constructor(browser, address, base, name) {
    Object.assign(this, { browser, address, base, name, said: [], stanzas: [] });
  }

  // Addresses are looked up at the usual port of HTTPS, and only those with TLS are believed. A throw-away koine is elsewhere,
  // and tells of its port without TLS, which is one below the other.
  async discover(route) {
    const { port } = new URL(this.base);
    const plain = await (await fetch(`${this.base}/.well-known/host-meta`)).text();
    const body = plain.replace(/(http|ws)(:\/\/[^:/']+):(\d+)/g, (all, scheme, host, at) => (at === port ? `${scheme}s${host}:${Number(at) + 1}` : all));
    await route.fulfill({ status: 200, contentType: "application/xrd+xml", headers: { "Access-Control-Allow-Origin": "*" }, body });
  }

  async logIn(jid, password) {
    const context = await this.browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1400, height: 1000 } });
    this.page = await context.newPage();
    this.page.setDefaultTimeout(SEEN_WITHIN_MS);
    this.page.on("console", (message) => this.said.push(message.text()));
    this.page.on("websocket", (socket) => {
      this.socket = socket.url();
      socket.on("framereceived", ({ payload }) => this.stanzas.push(String(payload)));
    });
    await this.page.route("https://*/.well-known/host-meta", (route) => this.discover(route));
    // What the program would fetch from elsewhere.
    await this.page.route(/conversejs\.org/, (route) => route.abort());
    await this.page.goto(this.address);
    await this.page.addStyleTag({ content: STILL });
    await this.page.waitForFunction(() => window.converse?.initialize);
    const settings = {
      authentication: "login",
      auto_login: true,
      jid,
      password,
      discover_connection_methods: true,
      view_mode: "fullscreen",
      assets_path: "/dist/",
      i18n: "en",
      loglevel: "warn",
      allow_non_roster_messaging: true,
      message_archiving: "always",
      show_desktop_notifications: false,
      play_sounds: false,
      render_media: false,
      muc_instant_rooms: true,
      muc_nickname_from_jid: true,
      auto_join_on_invite: true,
      whitelisted_plugins: ["walk"],
    };
    await this.page.evaluate(async (settings) => {
      window.converse.plugins.add("walk", {
        initialize() {
          window.walk = this._converse;
        },
      });
      await window.converse.initialize(settings);
    }, settings);
    await this.page.waitForFunction(() => window.walk?.api.connection.connected());
  }

  // The chat or the room at an address, opened, in front.
  async open(jid) {
    await this.page.evaluate((jid) => window.walk.api.chats.open(jid, {}, true), jid);
    return this.shows(`converse-chat[jid="${jid}"] .chat-head, converse-muc[jid="${jid}"] .chat-head`);
  }

  // Waits until something is shown; `text` is what it has to say.
  async shows(selector, text) {
    const found = this.page.locator(selector, text === undefined ? {} : { hasText: text }).last();
    try {
      await found.waitFor({ state: "visible" });
    } catch {
      const there = await this.page.locator(".chat-content").last().innerText().catch(() => "");
      throw new Wrong(`${this.name} expected ${selector} ${JSON.stringify(text ?? "")}; seen ${JSON.stringify(there)}`);
    }
    return found;
  }

  async showsNot(selector, text) {
    const found = this.page.locator(selector, text === undefined ? {} : { hasText: text });
    try {
      await found.first().waitFor({ state: "detached" });
    } catch {
      throw new Wrong(`${this.name} expected ${selector} ${JSON.stringify(text ?? "")} to be gone`);
    }
  }

  hears(text) {
    return this.shows(".chat-msg", text);
  }

  field() {
    return this.page.locator("textarea.chat-textarea:visible").last();
  }

  async says(text) {
    await this.field().fill(text);
    await this.field().press("Enter");
  }

  // What can be done with a message is in a menu that opens beside it.
  async act(message, action) {
    await message.hover();
    const button = message.locator(`.chat-msg__action-${action}`).last();
    if (!(await button.isVisible())) await message.locator("converse-message-actions .dropdown-toggle, .chat-msg__actions .btn--standalone").first().click();
    await button.click();
  }

  async confirm() {
    const button = this.page.locator(".modal.show .btn-primary, .modal.show button[type=submit]").last();
    await button.click();
  }

  async enterRoom(jid, nick) {
    await this.page.evaluate(([jid, nick]) => window.walk.api.rooms.open(jid, { nick }, true), [jid, nick]);
    await this.shows(`converse-muc[jid="${jid}"] textarea.chat-textarea`);
  }

  // Under which nickname somebody is in a room.
  nickOf(room, jid) {
    const find = async ([room, jid]) => {
      const { occupants } = await window.walk.api.rooms.get(room);
      return occupants.find((occupant) => occupant.get("jid")?.startsWith(jid))?.get("nick");
    };
    return this.page.evaluate(find, [room, jid]);
  }

  // Waits until a stanza with all of these words has come.
  async receives(...words) {
    const deadline = Date.now() + SEEN_WITHIN_MS;
    while (!this.stanzas.some((stanza) => words.every((word) => stanza.includes(word)))) {
      if (Date.now() > deadline) throw new Wrong(`${this.name} expected a stanza with ${words.join(", ")}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  close() {
    return this.page?.context().close();
  }
}
