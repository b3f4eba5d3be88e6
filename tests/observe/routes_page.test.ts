import assert from "node:assert/strict";
import { serveStatus } from "../../src/observe/http.ts";
import { Sender } from "../../src/sender/sender.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { seen, SenderBench } from "../support/sender_bench.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { Browser, browserAvailable } from "./browser.ts";
import { answerOf } from "./helpers.ts";

const HOSTILE = '<img src="x">&"';
/** A directory of pictures, to look at: `deno test … -- --pictures=DIRECTORY`. */
const PICTURES = Deno.args.find((argument) => argument.startsWith("--pictures="))?.slice(11);

const browser = await browserAvailable();
// deno-lint-ignore no-console -- an ignored test has to say why
if (!browser.ok) console.warn(`the list of routes ignored: ${browser.reason}`);

/** Four routes: two that deliver, one that cannot connect, one that was not started. */
async function routes() {
  const bench = new SenderBench({ connect: "always" });
  const nobody = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  bench.server.readAll();
  const well = await bench.open({ queue: bench.dir.file("well.db") });
  const hostile = await bench.open({ queue: bench.dir.file("hostile.db") });
  const refused = await bench.open({ queue: bench.dir.file("refused.db"), remote: nobody });
  await refused.enqueueMany(["one", "two", "three"]);
  for (const sender of [well, hostile]) await seen(sender, ({ state }) => state === "connected");
  await seen(refused, ({ outage }) => outage !== undefined);
  const status = serveStatus({
    "well-10": well,
    [HOSTILE]: hostile,
    "refused-2": refused,
    "broken-1": new Error("the file is not a queue"),
  }, { port: 0 });
  return {
    status,
    nobody,
    async [Symbol.asyncDispose]() {
      await status.close();
      await bench[Symbol.asyncDispose]();
    },
  };
}

Deno.test("/routes has a row for each route", async () => {
  await using served = await routes();
  const { status, text } = await answerOf(fetch(new URL("routes", served.status.url)));
  assert.equal(status, 200);
  const { atMs, routes: rows } = JSON.parse(text);
  assert.equal(typeof atMs, "number");
  assert.deepEqual(
    // deno-lint-ignore no-explicit-any -- as it comes from the network
    rows.map(({ route, tone, queuedPackets }: any) => [route, tone, queuedPackets]),
    [["well-10", "good", 0], [HOSTILE, "good", 0], ["refused-2", "bad", 3], ["broken-1", "bad", 0]],
  );
  const { detail, oldestAgeMs, ...refused } = rows[2];
  assert.match(detail, /refused/i);
  assert.ok(oldestAgeMs >= 0);
  assert.deepEqual(refused, {
    route: "refused-2",
    tone: "bad",
    headline: "Not delivering",
    remote: served.nobody,
    queuedPackets: 3,
    drainedPerSecond: 0,
    deadPackets: 0,
  });
  assert.deepEqual(rows[3], {
    route: "broken-1",
    tone: "bad",
    headline: "Not started",
    detail: "the file is not a queue",
    remote: "",
    queuedPackets: 0,
    oldestAgeMs: null,
    drainedPerSecond: 0,
    deadPackets: 0,
  });
});

Deno.test("a route may have no sender yet, and another one later", async () => {
  await using bench = new SenderBench({ connect: "always" });
  bench.server.readAll();
  const [first, second] = await Promise.all([
    bench.open({ queue: bench.dir.file("first.db") }),
    bench.open({ queue: bench.dir.file("second.db") }),
  ]);
  const waiting = {
    tone: "idle",
    headline: "Standing by",
    detail: "process 7 sends from this queue",
  } as const;
  await using status = serveStatus({ first, waiting }, { port: 0 });
  const get = (path: string) => answerOf(fetch(new URL(path, status.url)));
  const health = await get("healthz");
  assert.equal(health.status, 200);
  assert.match(health.text, /^waiting: Standing by: process 7 sends from this queue$/m);
  for (const [path, code] of [["", 200], ["healthz", 200], ["status", 503], ["none", 503]]) {
    const answer = await get(`r/waiting/${path}`);
    assert.deepEqual([answer.status, answer.text], [code, `Standing by: ${waiting.detail}\n`]);
  }
  assert.deepEqual(JSON.parse((await get("status")).text).routes.waiting, { condition: waiting });
  assert.doesNotMatch((await get("metrics")).text, /route="waiting"/);

  // A stream of one that is shown no longer ends.
  const events = await fetch(new URL("r/first/events", status.url));
  status.show("waiting", second);
  status.show("first", { ...waiting, tone: "bad" });
  await events.text();
  assert.match((await get("metrics")).text, /^sendq_queue_packets\{route="waiting",/m);
  assert.doesNotMatch((await get("metrics")).text, /route="first"/);
  assert.equal(JSON.parse((await get("r/waiting/status")).text).queuePath, second.queue.path);
  const after = await get("healthz");
  assert.equal(after.status, 503);
  assert.match(after.text, /^first: Standing by: /);
  await status.close();
  // Nothing is watched any more that nobody would end.
  status.show("first", first);
});

Deno.test({
  name: "the list of routes shows the worst first, sorts and filters, and leads to each page",
  ignore: !browser.ok,
  async fn() {
    await using served = await routes();
    const { url } = served.status;
    await using page = await Browser.start();
    const names = () => page.readAll("#routes a");
    const shows = (what: string, expected: readonly string[]) =>
      until(what, async () => JSON.stringify(await names()) === JSON.stringify(expected));

    await page.open(url);
    await page.wait("#summary", /^2 of 4 routes do not deliver$/);
    await shows("the worst first, then by name", ["refused-2", "broken-1", HOSTILE, "well-10"]);
    await page.wait('tr[data-tone="bad"] .detail', /the file is not a queue/);
    await page.wait('[data-tone="good"] b', /^2$/);
    if (PICTURES !== undefined) await page.screenshot(`${PICTURES}/routes.png`);

    await page.click('[data-sort="route"]');
    await shows("by name", [HOSTILE, "broken-1", "refused-2", "well-10"]);
    await page.click('[data-sort="route"]');
    await shows("the other way round", ["well-10", "refused-2", "broken-1", HOSTILE]);
    await page.click('[data-sort="queued"]');
    await shows("the fullest first", ["refused-2", HOSTILE, "broken-1", "well-10"]);

    await page.click('.tones [data-tone="bad"]');
    await shows("the bad ones", ["refused-2", "broken-1"]);
    await page.fill("#words", "QUEUE not");
    await shows("both words", ["broken-1"]);
    await page.wait("#shown", /^1 of 4 routes$/);
    await page.fill("#words", "nothing has this");
    await page.wait("#none", /^No route fits the filter\.$/);
    await shows("none", []);
    await page.fill("#words", "refused");
    // A reload, and whoever is sent the address, sees the same.
    const chosen = await page.address();
    assert.match(chosen, /#sort=queued&tones=bad&words=refused$/);
    await page.open("about:blank");
    await page.open(chosen, { dark: true, widthPx: 360 });
    await shows("what was chosen", ["refused-2"]);
    assert.equal(await page.overflowPx(), 0, "nothing sticks out of a phone's screen");
    if (PICTURES !== undefined) await page.screenshot(`${PICTURES}/routes-phone.png`);

    await page.click("#routes a");
    await page.wait("#route-name", /^refused-2$/);
    await page.wait("#headline", /^Not delivering$/);
    if (PICTURES !== undefined) await page.screenshot(`${PICTURES}/route-phone.png`);
    await page.click("#all");
    await page.wait("#summary", /^2 of 4 routes do not deliver$/);
    assert.equal(await page.address(), url);
    assert.deepEqual(page.complaints, []);
    const { origin } = new URL(url);
    const asked = page.requests.filter((request) => !request.startsWith("data:"));
    assert.deepEqual(asked.filter((request) => new URL(request).origin !== origin), []);

    await page.wait("#feed", /^live$/);
    await served.status.close();
    await page.wait("#feed", /^no word from sendq/);
  },
});

Deno.test({
  name: "a route's page that is left open goes on once the route has a sender again",
  ignore: !browser.ok,
  async fn() {
    await using bench = new SenderBench({ connect: "always" });
    bench.server.readAll();
    const sender = await bench.open({ queue: bench.dir.file("route.db") });
    const route = "W".repeat(64);
    await using status = serveStatus({ [route]: sender }, { port: 0 });
    await using page = await Browser.start();
    await page.open(new URL(`r/${route}/`, status.url).href, { widthPx: 360 });
    await page.wait("#feed", /^live$/);
    assert.equal(await page.overflowPx(), 0, "nothing sticks out of a phone's screen");
    const asked = () => page.requests.filter((url) => url.endsWith("/events")).length;
    status.show(route, { tone: "idle", headline: "Standing by", detail: "another sends" });
    await page.wait("#feed", /^no word from sendq/);
    // It has asked while there was no stream, which is the last that a browser asks by itself.
    await until("it was told that there is no stream", async () => {
      await page.read("#feed");
      return asked() > 1;
    });
    status.show(route, sender);
    await page.wait("#feed", /^live$/);
  },
});

Deno.test({
  name: "a thousand routes are sorted and filtered as well",
  ignore: !browser.ok,
  async fn() {
    await using served = serveStatus(
      Object.fromEntries(
        Array.from({ length: 1000 }, (_, i) => [`route-${i}`, new Error(`fault-${i % 7}`)]),
      ),
      { port: 0 },
    );
    await using page = await Browser.start();
    await page.open(served.url);
    await page.wait("#shown", /^1,000 of 1,000 routes$/);
    const names = await page.readAll("#routes a");
    assert.deepEqual(names, Array.from({ length: 1000 }, (_, i) => `route-${i}`));
    await page.fill("#words", "fault-3");
    await page.wait("#shown", /^143 of 1,000 routes$/);
    assert.deepEqual(page.complaints, []);
  },
});

Deno.test("a route whose name has no page of its own is refused, and nothing listens", async () => {
  using dir = new TempDir();
  await using sender = await Sender.open(dir.queue, "tcp://127.0.0.1:9");
  const port = ScriptedServer.freePort();
  for (const name of ["", ".", "..", "half \ud800"]) {
    const routes = { sound: sender, [name]: sender };
    assert.throws(() => serveStatus(routes, { port }), /name must not be empty/);
  }
  await using status = serveStatus({ "...": sender }, { port });
  assert.equal((await answerOf(fetch(new URL("r/.../healthz", status.url)))).status, 200);
  assert.throws(() => status.show("..", sender), /name must not be empty/);
});

Deno.test("a route's name with a colon in it leads to its page, and to no other scheme", async () => {
  await using status = serveStatus({ "plc:1": new Error("no file") }, { port: 0 });
  const url = new URL("r/plc:1", status.url);
  const answer = await fetch(url, { redirect: "manual" });
  await answer.body?.cancel();
  assert.equal(answer.status, 308);
  assert.equal(new URL(answer.headers.get("location") ?? "", url).href, `${url}/`);
});
